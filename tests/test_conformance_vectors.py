"""The vectors of the suite: that they are what their recipes say, complete, and single in their faults."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conformance import cli, expect, faults, generate, manifest, patches, scenes, syntax_tree, trace
from conformance.manifest import Vector
from tgv_format import levels
from tgv_format.errors import IDENTIFIERS, TgvError
from tgv_format.tables import load

pytest.importorskip("av")

VECTORS = list(manifest.vectors())
BY_NAME = {vector.name: vector for vector in VECTORS}
VALID = [vector for vector in VECTORS if vector.valid]
INVALID = [vector for vector in VECTORS if not vector.valid]
REQUIREMENTS = {row["id"]: row for row in load("requirements")["requirements"]}
TOPICS = sorted({vector.topic for vector in VECTORS})


# --- What the suite holds


def test_the_suite_is_small() -> None:
    size = sum(path.stat().st_size for path in manifest.VECTORS.rglob("*.*"))
    assert size <= 20_000_000


def test_every_file_is_locked() -> None:
    locked = set(manifest.read_lock())
    files = {p.relative_to(manifest.ROOT).as_posix() for p in manifest.VECTORS.rglob("*.*") if p.is_file()}
    assert locked == files
    assert not manifest.changed_files()


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "vectors" / "valid" / "topic"
    folder.mkdir(parents=True)
    (folder / "a.tgv").write_bytes(b"a")
    (folder / "b.tgv").write_bytes(b"b")
    lock = tmp_path / "vectors.lock"
    manifest.write_lock(lock, tmp_path / "vectors")
    assert not manifest.changed_files(lock)
    (folder / "a.tgv").write_bytes(b"c")
    (folder / "b.tgv").unlink()
    assert manifest.changed_files(lock) == ["vectors/valid/topic/a.tgv", "vectors/valid/topic/b.tgv"]


def test_every_file_belongs_to_a_vector() -> None:
    known = {p for v in VECTORS for p in (v.recipe_path, v.stream_path, v.expectation_path)}
    known |= {v.recipe_path.with_suffix(".units.json") for v in VECTORS if "encode" in v.recipe}
    assets = manifest.VECTORS / "assets"
    rows = tomllib.loads((assets / "assets.toml").read_text("utf-8"))
    known |= {assets / f"{name}{scenes.suffix(row['encoder'])}" for name, row in rows.items()}
    assert {p for p in manifest.VECTORS.rglob("*.*") if p.is_file()} == known | {assets / "assets.toml"}


def test_names_are_stable_in_form() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", vector.name) for vector in VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_recipe_is_complete(vector: Vector) -> None:
    assert vector.description.endswith(".")
    assert vector.tests.endswith(".")
    assert set(vector.requirements) <= set(REQUIREMENTS)
    assert vector.requirements
    assert vector.clauses
    assert vector.level in levels.LEVELS
    assert set(vector.classes) <= {1, 2, 3, 4}
    assert vector.features
    if not vector.valid:
        assert set(vector.errors) <= set(IDENTIFIERS)
        assert REQUIREMENTS[vector.requirements[0]]["error"] in vector.errors


@pytest.mark.parametrize("vector", VALID, ids=lambda v: v.name)
def test_features_are_those_of_the_stream(vector: Vector) -> None:
    units = vector.expectation.units
    sections = {section.name.replace("_", "-") for unit in units for section in unit.sections}
    names = {"trajectories", "flow-tokens", "camera-poses", "masks", "text", "interpolation"}
    assert set(vector.features) & names == sections
    assert ("generator-hint" in vector.features) == any(unit.kind == "generator_hint" for unit in units)


def test_all_combinations_of_sections() -> None:
    names = ("trajectories", "flow_tokens", "camera_poses", "masks", "text")
    found = {
        tuple(section.name for section in unit.sections)
        for vector in VALID
        for unit in vector.expectation.units
        if unit.kind == "clip"
    }
    assert {c for n in range(6) for c in itertools.combinations(names, n)} <= found


def test_every_error_has_two_vectors() -> None:
    counts = Counter(vector.errors[0] for vector in INVALID)
    assert all(counts[identifier] >= 2 for identifier in IDENTIFIERS), counts


def test_every_requirement_with_an_error_has_an_invalid_vector() -> None:
    named = {vector.requirements[0] for vector in INVALID}
    assert {name for name, row in REQUIREMENTS.items() if row["error"]} <= named


def test_every_limit_of_levels_has_a_bomb() -> None:
    """The requirement that bounds each size by the limit of that name, and a vector that exceeds it."""
    bounds = {
        "luma_samples": "TGV-LVL-1",
        "dimension": "TGV-LVL-1",
        "clip_frames": "TGV-CLP-1",
        "trajectories": "TGV-TRJ-2",
        "flow_tokens": "TGV-FLW-3",
        "mask_samples": "TGV-MSK-2",
        "section_bytes": "TGV-TRJ-1",
        "text_bytes": "TGV-TXT-1",
        "unit_bytes": "TGV-CON-9",
    }
    assert set(load("levels")["levels"][0]) - {"level"} == set(bounds)
    bombs = {name for vector in INVALID if "bomb" in vector.features for name in vector.requirements}
    assert set(bounds.values()) <= bombs


# --- Regeneration


@pytest.mark.parametrize("topic", TOPICS)
def test_regeneration_is_byte_identical(topic: str) -> None:
    for vector in VECTORS:
        if vector.topic == topic:
            for path, content in generate.generated(vector.recipe_path).items():
                assert path.read_bytes() == content, path


def test_a_recipe_that_does_not_work_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "vectors" / "invalid" / "topic"
    folder.mkdir(parents=True)
    text = BY_NAME["raw-dependent"].recipe_path.read_text(encoding="utf-8")
    (folder / "broken.toml").write_text(text.replace("head.dependent", "head.preserved"), encoding="utf-8")
    found = manifest.read_recipe(folder / "broken.toml")
    monkeypatch.setattr(manifest, "vectors", lambda: [found, BY_NAME["trailing-keyframe"]])
    generate._recipes.cache_clear()
    assert cli.main(["generate", "--check", "broken"]) == 1
    generate._recipes.cache_clear()
    assert "broken.toml: KeyError('keyframe[0].head.preserved')" in capsys.readouterr().err


def test_a_tree_writes_what_it_was_read_from() -> None:
    for vector in VALID:
        data = vector.stream_path.read_bytes()
        assert syntax_tree.read(data).write() == data, vector.name


# --- Single faults


def _reported(vector: Vector) -> TgvError:
    with pytest.raises(TgvError) as caught:
        expect.decode(vector.stream_path.read_bytes(), vector.classes)
    return caught.value


@pytest.mark.requirement("TGV-ERR-1", "TGV-ERR-2")
@pytest.mark.parametrize("topic", TOPICS)
def test_invalid_vectors_have_one_fault(topic: str) -> None:
    """With the one check disabled that found the fault, the reference decoder accepts the stream.

    A fault may imply others: no stream that announces more bytes than a file can have has them. Those are
    declared by the recipe, and are found one after the other.
    """
    for vector in INVALID:
        if vector.topic != topic:
            continue
        error = _reported(vector)
        assert error.identifier in vector.errors, vector.name
        if _is_cut(vector, error):
            continue
        expected = [REQUIREMENTS[name]["error"] for name in vector.recipe.get("implied", ())]
        found = expect.faults(vector.stream_path.read_bytes(), vector.classes)
        assert [e.identifier for e in found] == [error.identifier, *expected], vector.name


def _is_cut(vector: Vector, error: TgvError) -> bool:
    """Whether the fault is that bytes of the base are missing: at the end of the file, or of one unit."""
    assert vector.base is not None
    data, base = vector.stream_path.read_bytes(), BY_NAME[vector.base]
    whole = base.stream_path.read_bytes()
    if whole.startswith(data):
        return base.valid
    # A section that announces more bytes than there are is complete otherwise.
    if error.identifier != "truncated" or ".section[" in error.path:
        return False
    sizes = [len(unit.write(True)) for unit in syntax_tree.read(whole).units]
    ends = list(itertools.accumulate(sizes, initial=8))
    return base.valid and any(
        data.startswith(whole[:begin]) and data.endswith(whole[end:]) and len(data) < len(whole)
        for begin, end in itertools.pairwise(ends)
    )


def test_a_second_fault_is_found() -> None:
    """The proof can fail: a stream with two faults shows both."""
    base = BY_NAME["trailing-keyframe"].stream_path.read_bytes()
    rows: list[dict[str, Any]] = [
        {"set": {"keyframe[0].head.dependent": 1}},
        {"set": {"keyframe[1].head.dependent": 1}},
    ]
    found = expect.faults(patches.apply(base, rows), (1, 2, 3, 4))
    assert [error.path for error in found] == ["keyframe[0].head.dependent", "keyframe[1].head.dependent"]


def test_checks_are_enabled_again() -> None:
    data = BY_NAME["raw-dependent"].stream_path.read_bytes()
    for _ in range(2):
        with pytest.raises(TgvError):
            expect.decode(data, (1,))
        assert len(expect.faults(data, (1,))) == 1


def test_other_errors_are_raised() -> None:
    def run() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        faults.tolerate(run)


# --- Traceability


def test_every_requirement_leads_somewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "trace.html"
    assert cli.main(["trace", "--html", str(page)]) == 0, capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert all(f'id="{name}"' in text for name in [*REQUIREMENTS, *BY_NAME])
    assert "http" not in text


def test_requirements_in_markers_exist() -> None:
    for name, named in trace.marked(trace.TESTS):
        assert set(named) <= set(REQUIREMENTS), name
