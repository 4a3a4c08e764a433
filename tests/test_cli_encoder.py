"""The commands refenc and refdec, end to end, on rendered scenes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import SCENES

import refdec.cli
import refenc.cli
from refenc.source import open_source
from tgv_format.clip import Clip
from tgv_format.end import EndOfSequence
from tgv_format.generator_hint import GeneratorHint
from tgv_format.keyframe import Keyframe, Role
from tgv_format.picture import Picture
from tgv_format.reader import Element, Reader

Render = Callable[[str, int, int, int], str]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """A scene as a Y4M file at 30 frames per second, rendered once."""
    folder = tmp_path_factory.mktemp("scenes")

    def render(scene: str, width: int, height: int, frames: int) -> str:
        path = folder / f"{scene}-{width}x{height}-{frames}.y4m"
        if not path.exists():
            write_y4m(path, SCENES[scene](0, width, height, frames).pictures)
        return str(path)

    return render


def write_y4m(path: Path, pictures: Sequence[Picture]) -> None:
    head = f"YUV4MPEG2 W{pictures[0].width} H{pictures[0].height} F30:1 Ip A1:1 C420mpeg2\n"
    path.write_bytes(head.encode() + b"".join(b"FRAME\n" + picture.to_bytes() for picture in pictures))


def status(main: Callable[[list[str]], int], *arguments: str) -> int:
    try:
        return main([*arguments])
    except SystemExit as end:
        return int(end.code or 0)


def encode(*arguments: str) -> int:
    return status(refenc.cli.main, *arguments)


def decode(*arguments: str) -> int:
    return status(refdec.cli.main, *arguments)


def report_of(folder: Path, *arguments: str) -> dict[str, Any]:
    """Encode to ``folder/out.tgv``; the report."""
    path = folder / "report.json"
    assert encode(*arguments, str(folder / "out.tgv"), "--report", str(path)) == 0
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def units(path: Path) -> list[Element]:
    with path.open("rb") as file:
        return list(Reader(file))


def clips(path: Path) -> list[Clip]:
    return [unit for unit in units(path) if isinstance(unit, Clip)]


def frames(path: str) -> list[Picture]:
    with open_source(path) as source:
        return list(source)


def psnr(a: Picture, b: Picture) -> float:
    return float(10 * np.log10(255**2 / np.mean(np.square(a.y.astype(float) - b.y))))


# --- round trips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scene", "width", "height", "count", "interval"),
    [
        ("pan", 127, 65, 9, 4),
        ("dolly", 64, 48, 1, 29),
        ("pan", 96, 64, 2, 29),
        ("zoom", 96, 64, 3, 29),
        ("oscillating", 96, 64, 12, 29),
        ("shake", 80, 64, 11, 3),
        ("pan", 64, 64, 6, 1),
        ("fine_texture", 17, 33, 5, 29),
        ("single_colour", 1, 1, 3, 2),
    ],
)
def test_every_frame_comes_back(
    rendered: Render, tmp_path: Path, scene: str, width: int, height: int, count: int, interval: int
) -> None:
    video, decoded = rendered(scene, width, height, count), tmp_path / "decoded.y4m"
    report = report_of(tmp_path, video, "--keyframe-interval", str(interval), "--quality", "60")
    assert decode(str(tmp_path / "out.tgv"), str(decoded)) == 0
    assert decoded.read_bytes().startswith(f"YUV4MPEG2 W{width} H{height} F30:1 ".encode())
    originals, pictures = frames(video), frames(str(decoded))
    assert len(pictures) == report["frames"] == count
    quality = [psnr(a, b) for a, b in zip(originals, pictures, strict=True)]
    assert min(quality) > 20
    lengths = [clip.frame_count for clip in clips(tmp_path / "out.tgv")]
    assert sum(lengths) == count - 1
    assert all(length <= interval for length in lengths)


def test_a_scene_cut_opens_with_a_leading_keyframe(rendered: Render, tmp_path: Path) -> None:
    assert encode(rendered("cut", 128, 96, 20), str(tmp_path / "cut.tgv"), "--keyframe-interval", "29") == 0
    shape = [
        (unit.role, unit.frame_number) if isinstance(unit, Keyframe) else unit.frame_count
        for unit in units(tmp_path / "cut.tgv")
        if isinstance(unit, Keyframe | Clip | EndOfSequence)
    ]
    assert shape == [(Role.LEADING, 0), (Role.TRAILING, 9), 9, (Role.LEADING, 10), (Role.TRAILING, 19), 9, 20]


def independent(path: Path) -> list[int]:
    """The frames of keyframes that are no dependent ones."""
    found = units(path)
    return [unit.frame_number for unit in found if isinstance(unit, Keyframe) and not unit.dependent]


def test_random_access(rendered: Render, tmp_path: Path) -> None:
    """Keyframes 4 frames apart at 30 frames per second, of which some depend on none before."""
    video, words = rendered("pan", 96, 64, 25), ("--keyframe-interval", "4")
    report_of(tmp_path, video, *words)
    assert independent(tmp_path / "out.tgv") == [0]
    report_of(tmp_path, video, *words, "--random-access", "0.3")
    # Periods are whole intervals of at most 9 frames; each begins with the keyframe after its first frame.
    assert independent(tmp_path / "out.tgv") == [0, 12, 20]
    report_of(tmp_path, video, *words, "--keyframe-codec", "av1")
    assert independent(tmp_path / "out.tgv") == [*range(0, 25, 4)]
    report_of(tmp_path, rendered("cut", 128, 96, 20), "--keyframe-interval", "3")
    assert independent(tmp_path / "out.tgv") == [0, 10]


def test_prediction_saves_bits(rendered: Render, tmp_path: Path) -> None:
    video, sizes, errors = rendered("pan", 192, 128, 25), [], []
    for codec, step in (("av1", "32"), ("av1-sequence", "34")):
        words = "--keyframe-interval", "4", "--max-points", "0", "--keyframe-codec", codec
        sizes.append(report_of(tmp_path, video, *words, "--quality", step)["bits"]["keyframes"])
        assert decode(str(tmp_path / "out.tgv"), str(tmp_path / "out.y4m")) == 0
        pairs = zip(frames(video), frames(str(tmp_path / "out.y4m")), strict=True)
        errors.append(np.mean([psnr(a, b) for n, (a, b) in enumerate(pairs) if n % 4 == 0]))
    assert errors[1] > errors[0] - 0.1
    assert sizes[1] < 0.8 * sizes[0], (sizes, errors)


def test_the_number_of_workers_does_not_change_the_bytes(rendered: Render, tmp_path: Path) -> None:
    video, paths = rendered("orbit", 128, 96, 24), [tmp_path / f"{n}.tgv" for n in (1, 2)]
    for workers, path in zip("12", paths, strict=True):
        options = "--keyframe-interval", "6", "--bitrate", "30"
        assert encode(video, str(path), "--workers", workers, *options) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_pipes_carry_the_same_bytes_as_files(rendered: Render, tmp_path: Path) -> None:
    video, stream, decoded = rendered("pan", 96, 64, 12), tmp_path / "pan.tgv", tmp_path / "pan.y4m"
    assert encode(video, str(stream)) == 0
    assert decode(str(stream), str(decoded)) == 0
    for tool, data, result, options in (
        ("refenc", Path(video), stream, []),
        ("refdec", stream, decoded, ["--format", "y4m"]),
    ):
        with data.open("rb") as file:
            command = [sys.executable, "-m", f"{tool}.cli", "-", "-", *options]
            run = subprocess.run(command, stdin=file, capture_output=True, check=True)
        assert run.stdout == result.read_bytes()
        assert not run.stderr


@pytest.mark.parametrize("tool", ["refenc", "refdec"])
def test_a_reader_that_goes_away_is_no_news(rendered: Render, tmp_path: Path, tool: str) -> None:
    source = rendered("pan", 96, 64, 12)
    if tool == "refdec":
        assert encode(source, str(tmp_path / "pan.tgv")) == 0
        source = str(tmp_path / "pan.tgv")
    command = [sys.executable, "-m", f"{tool}.cli", source, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


# --- what is spent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [[], ["--no-crc", "--text", "a caption", "--generator", "toy"], ["--guidance", "all"]]
)
def test_the_report_adds_up(rendered: Render, tmp_path: Path, options: list[str]) -> None:
    report = report_of(tmp_path, rendered("dolly", 128, 96, 20), "--keyframe-interval", "8", *options)
    size = (tmp_path / "out.tgv").stat().st_size
    assert report["bytes"] == size
    assert sum(report["bits"].values()) == 8 * size
    assert report["kbps"] == pytest.approx(8 * size / (20 / 30) / 1000)
    assert report["bpp"] == pytest.approx(8 * size / (20 * 128 * 96))
    assert [clip["first_frame"] for clip in report["clips"]] == [
        0,
        *(c["first_frame"] for c in report["clips"][1:]),
    ]
    assert sum(clip["frames"] for clip in report["clips"]) == report["frames"] == 20
    points = [clip.trajectories for clip in clips(tmp_path / "out.tgv")]
    assert [clip["points"] for clip in report["clips"]] == [0 if p is None else p.count for p in points]
    outside = ("signature", "sequence_header", "generator_hint", "end_of_sequence")
    in_clips = size - sum(report["bits"].get(part, 0) for part in outside) // 8
    assert sum(clip["total_bytes"] for clip in report["clips"]) == in_clips
    assert all(sum(clip["bytes"].values()) == clip["total_bytes"] for clip in report["clips"])


@pytest.mark.parametrize(
    ("preset", "kinds"), [("medium", "interpolation"), ("slow", "trajectory,interpolation")]
)
def test_what_is_sent_by_default(rendered: Render, tmp_path: Path, preset: str, kinds: str) -> None:
    video, words = rendered("dolly", 96, 64, 12), ("--preset", preset)
    report_of(tmp_path, video, *words)
    default = (tmp_path / "out.tgv").read_bytes()
    report_of(tmp_path, video, *words, "--guidance", kinds)
    assert (tmp_path / "out.tgv").read_bytes() == default


def test_the_interval_follows_the_motion(rendered: Render, tmp_path: Path) -> None:
    counts = []
    for scene in ("static", "shake"):
        report = report_of(tmp_path, rendered(scene, 192, 128, 31), "--bitrate", "20")
        counts.append(len(report["clips"]))
    assert counts[0] < counts[1]


SECTIONS = {
    "flow": {"flow_tokens"},
    "scene": {"camera_poses", "masks"},
    "flow,trajectory": {"flow_tokens", "trajectories"},
    "interpolation": {"interpolation", "flow_tokens"},
    "all": {"flow_tokens", "camera_poses", "masks", "trajectories", "interpolation"},
}


@pytest.mark.parametrize("kinds", SECTIONS)
def test_each_section_is_sent_or_said_to_be_dropped(rendered: Render, tmp_path: Path, kinds: str) -> None:
    video = rendered("shake", 192, 128, 16)
    report = report_of(tmp_path, video, "--guidance", kinds, "--keyframe-interval", "15")
    (clip,) = clips(tmp_path / "out.tgv")
    (told,) = report["clips"]
    sent = set(clip.to_json()) - {"unit", "frame_count"}
    assert sent <= SECTIONS[kinds]
    assert sent, "a shaking camera is worth some guidance"
    assert sent == set(told["bytes"]) - {"keyframes", "keyframe_framing", "group_framing"}
    assert set(told["dropped"]) == SECTIONS[kinds] - sent


@pytest.mark.parametrize("kinds", SECTIONS)
def test_what_is_sent_gains(rendered: Render, tmp_path: Path, kinds: str) -> None:
    """Between the same keyframes, a shaking camera is reconstructed much better with any guidance."""
    video = rendered("shake", 192, 128, 16)
    errors = []
    for options in (["--guidance", "trajectory", "--max-points", "0"], ["--guidance", kinds]):
        report_of(tmp_path, video, "--quality", "50", *options)
        assert decode(str(tmp_path / "out.tgv"), str(tmp_path / "out.y4m")) == 0
        pairs = zip(frames(video), frames(str(tmp_path / "out.y4m")), strict=True)
        errors.append(sum(float(np.square(a.y.astype(float) - b.y).sum()) for a, b in pairs))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("kbps", [6, 40])
def test_the_bitrate_is_met(
    rendered: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str], kbps: int
) -> None:
    report = report_of(tmp_path, rendered("pan", 256, 160, 60), "--bitrate", str(kbps))
    assert report["kbps"] == pytest.approx(kbps, rel=0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kbps", ["0.1", "5000"])
def test_a_bitrate_out_of_reach_is_remarked(
    rendered: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str], kbps: str
) -> None:
    report = report_of(tmp_path, rendered("pan", 64, 48, 12), "--bitrate", kbps)
    remark = capsys.readouterr().err
    assert remark.startswith(f"refenc: {report['kbps']:.2f} kbit/s: ")
    assert kbps in remark
    assert remark.count("\n") == 1


def test_quality_orders_sizes(rendered: Render, tmp_path: Path) -> None:
    video = rendered("pan", 96, 64, 2)
    sizes = [report_of(tmp_path, video, "--quality", str(q))["bytes"] for q in (0, 20, 100)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("scene", ["static", "single_colour"])
def test_what_does_not_move_needs_no_points(rendered: Render, tmp_path: Path, scene: str) -> None:
    report = report_of(tmp_path, rendered(scene, 128, 96, 20))
    assert [clip["points"] for clip in report["clips"]] == [0]
    assert "trajectories" not in report["bits"]


def test_no_points_on_request(rendered: Render, tmp_path: Path) -> None:
    video = rendered("cut", 128, 96, 20)
    points = "--guidance", "trajectory"
    assert report_of(tmp_path, video, *points)["bits"]["trajectories"] > 0
    assert "trajectories" not in report_of(tmp_path, video, *points, "--max-points", "0")["bits"]
    report = report_of(tmp_path, video, *points, "--max-points", "5")
    assert max(clip["points"] for clip in report["clips"]) in range(1, 6)


# --- options ----------------------------------------------------------------------------------------------


def test_size_keeps_the_shape_or_crops_it(rendered: Render, tmp_path: Path) -> None:
    video, headers = rendered("pan", 128, 96, 2), []
    for options in (["--size", "64x32"], ["--size", "64x32", "--crop"]):
        report_of(tmp_path, video, *options)
        with (tmp_path / "out.tgv").open("rb") as file:
            headers.append(Reader(file).header)
    assert [(h.width, h.height, h.sample_aspect) for h in headers] == [(64, 32, (2, 3)), (64, 32, (1, 1))]


def test_words_go_into_the_stream(rendered: Render, tmp_path: Path) -> None:
    # The é is written as two code points here; the stream has it as one.
    words = "--caption", "cafe\u0301", "--generator", "toy", "--seed", "7"
    report_of(tmp_path, rendered("cut", 64, 48, 8), *words)
    captions = [clip.text.text if clip.text else None for clip in clips(tmp_path / "out.tgv")]
    assert captions == ["caf\u00e9", None]
    hints = [unit for unit in units(tmp_path / "out.tgv") if isinstance(unit, GeneratorHint)]
    assert [(hint.name, hint.seed) for hint in hints] == [("toy", 7)]


def test_text_may_stand_in_a_file(rendered: Render, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("written down", encoding="utf-8")
    report_of(tmp_path, rendered("pan", 64, 48, 4), "--text", str(tmp_path / "words.txt"))
    assert [clip.text.text for clip in clips(tmp_path / "out.tgv") if clip.text] == ["written down"]


def test_options_may_stand_between_the_files(rendered: Render, tmp_path: Path) -> None:
    stream, decoded = str(tmp_path / "a.tgv"), tmp_path / "a.y4m"
    assert encode(rendered("pan", 64, 48, 2), "--quality", "9", stream) == 0
    assert decode(stream, "--frames", "1", str(decoded)) == 0
    assert len(frames(str(decoded))) == 1


def test_the_output_is_named_after_the_input(rendered: Render, tmp_path: Path) -> None:
    video = tmp_path / "video.y4m"
    video.write_bytes(Path(rendered("pan", 64, 48, 2)).read_bytes())
    assert encode(str(video)) == 0
    assert len(units(tmp_path / "video.tgv")) == 4


def test_a_default_output_replaces_only_what_refdec_made(
    rendered: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``refenc clip.mp4`` and then ``refdec clip.tgv`` shall not cost anybody the original."""
    original = tmp_path / "video.mp4"
    original.write_bytes(b"precious")
    stream = str(tmp_path / "video.tgv")
    assert encode(rendered("pan", 64, 48, 2), stream) == 0
    assert decode(stream) == 1
    assert original.read_bytes() == b"precious"
    assert "name the output" in capsys.readouterr().err
    original.unlink()
    assert decode(stream) == 0
    first = original.read_bytes()
    assert decode(stream) == 0
    assert original.read_bytes() == first


# --- faults -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing may be left behind."""
    (tmp_path / "kept").mkdir()
    yield tmp_path / "kept"
    assert list((tmp_path / "kept").iterdir()) == []


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Encode in vain; the one line that is said."""
    assert encode(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("refenc: ")
    assert err.count("\n") == 1
    return err


def test_no_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(folder / "missing.mp4")
    assert "missing.mp4" in fails(capsys, missing, str(folder / "out.tgv"))
    assert str(folder) in fails(capsys, str(folder), str(folder / "out.tgv"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no video",
        b"YUV4MPEG2 W64 H64 F30:1\n",
        b"YUV4MPEG2 W64 H64 F30:1\nFRAME\nxyz",
        b"\x89TGV\r\n\x1a\n",
    ],
)
def test_bad_input(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (tmp_path / "bad.mp4").write_bytes(data)
    assert "bad.mp4" in fails(capsys, str(tmp_path / "bad.mp4"), str(folder / "out.tgv"))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--size", "9000x9000"], "9000x9000"),
        (["--caption", "x" * 70000], "text"),
        (["--generator", "x" * 65], "name"),
        (["--keyframe-interval", "65"], "64"),
        (["--report", "/missing/report.json"], "/missing/report.json"),
    ],
)
def test_what_the_format_or_the_system_refuses(
    rendered: Render, folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], word: str
) -> None:
    assert word in fails(capsys, rendered("pan", 64, 48, 2), str(folder / "out.tgv"), *options)


def test_unwritable_output(rendered: Render, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = rendered("pan", 64, 48, 2)
    for target in (str(folder / "missing" / "out.tgv"), str(folder)):
        line = fails(capsys, video, target)
        assert f"{target}: " in line


def test_a_failure_leaves_an_older_output_alone(
    rendered: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / "out.tgv"
    older.write_bytes(b"older")
    fails(capsys, rendered("pan", 64, 48, 2), str(older), "--caption", "x" * 70000)
    assert older.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tgv"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-"],
        ["in", "out", "more"],
        ["in", "--unknown"],
        ["in", "--crop"],
        ["in", "--size", "64"],
        ["in", "--size", "0x64"],
        ["in", "--bitrate", "0"],
        ["in", "--bitrate", "nan"],
        ["in", "--max-points", "-1"],
        ["in", "--quality", "-1"],
        ["in", "--quality", "101"],
        ["in", "--preset", "best"],
        ["in", "--guidance", "trajectory,,flow"],
        ["in", "--guidance", "motion"],
        ["in", "--keyframe-interval", "0"],
        ["in", "--workers", "0"],
        ["in", "-", "--report", "-"],
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert encode(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: refenc ")


def test_side_outputs_are_whole_or_absent(
    rendered: Render, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, params = str(tmp_path / "pan.tgv"), folder / "params.json"
    assert encode(rendered("pan", 96, 64, 12), stream, "--keyframe-interval", "4") == 0
    assert decode(stream, str(tmp_path / "one.y4m"), "--frames", "1", "--params", str(params)) == 0
    assert [unit["unit"] for unit in json.loads(params.read_text())][-1] == "end_of_sequence"
    params.unlink()
    assert decode(stream, str(folder / "missing" / "out.mp4"), "--params", str(params)) == 1
    assert capsys.readouterr().err.count("\n") == 1
