"""What README.md tells a newcomer to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from scenes import SCENES

from refdec.output import OutputInfo, open_writer
from refenc.source import open_source
from tgv_format.picture import Colour

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the clip.mp4 that the README begins with, and what its commands make of it."""
    path = tmp_path_factory.mktemp("readme")
    info = OutputInfo(128, 96, Fraction(25), Colour(), (1, 1))
    writer = open_writer(str(path / "clip.mp4"), info)
    for picture in SCENES["dolly"](0, 128, 96, 40).pictures:
        writer.write(picture)
    writer.close()
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ["PATH"]}
    for block in blocks("sh"):
        subprocess.run(["sh", "-e", "-c", block], cwd=path, check=True, env=environment)
    return path


def test_the_quick_start_gives_the_frames_back(folder: Path) -> None:
    with (
        open_source(str(folder / "clip.mp4")) as original,
        open_source(str(folder / "decoded.mp4")) as decoded,
    ):
        assert len(list(decoded)) == len(list(original)) == 40


def test_the_library_example_lists_the_units(folder: Path) -> None:
    (example,) = blocks("python")
    run = subprocess.run(
        [sys.executable, "-c", example], cwd=folder, check=True, capture_output=True, text=True
    )
    assert "128x96, 25 frames per second" in run.stdout
    assert "keyframe 39: AV1, " in run.stdout
    lengths = re.findall(r"clip of (\d+) frames: unit, frame_count.*, interpolation", run.stdout)
    assert sum(map(int, lengths)) == 39


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_paths_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    made = ("demo", ".venv", ".uv")
    paths = re.findall(r"(?:`|python )((?:\w[\w.-]*/)+[\w.-]*)", text)
    missing = {path for path in [*links, *paths] if not (ROOT / path).exists()}
    assert {path for path in missing if path.split("/")[0] not in made} == set()


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(
            r"(?:`|^    )make ([a-z]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), (name, target)
