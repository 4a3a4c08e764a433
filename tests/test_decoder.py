"""From units to frames, concealment, and the command line of the decoder."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    Stream,
    random_picture,
    raw_keyframe,
    replace_payload,
    settings,
    settle,
    small_header,
    spans,
    streams,
    write,
)

from refdec import cli, keyframes
from refdec.baseline import reconstruct
from refdec.decoder import Decoder
from refdec.interpolation import sharpened
from refenc.keyframes import CODECS
from tgv_format.clip import Clip
from tgv_format.container import UnitType
from tgv_format.errors import TgvError
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.picture import Picture
from tgv_format.reader import Reader
from tgv_format.sequence import SequenceHeader
from tgv_format.text import Text
from tgv_format.trajectories import Trajectories

WIDTH, HEIGHT = 24, 18
HEADER = small_header(WIDTH, HEIGHT)


def expected(header: SequenceHeader, units: list[Any]) -> list[str]:
    """MD5 of every frame, put together from the parts by the rules of clause 5.3."""
    out: list[Picture] = []
    # A clip starts from the last keyframe as it was decoded, whatever a section does to its frame.
    latest = pending = None
    leading = False
    for unit in units:
        if isinstance(unit, Keyframe):
            picture = keyframes.decode(unit, header.width, header.height)
            if unit.role is Role.TRAILING:
                pending = picture
            else:
                out.append(picture)
                latest = picture
                leading = True
        elif isinstance(unit, Clip):
            if pending is not None and unit.interpolation is not None and leading:
                out[-1] = sharpened(out[-1], unit.interpolation.sharp)
            out += list(reconstruct(unit, latest, pending))
            latest = pending or out[-1]
            pending, leading = None, False
    return [p.md5() for p in out]


def decode(
    data: bytes, start: int = 0, frames: int | None = None, errors: list[TgvError] | None = None
) -> list[str]:
    conceal = None if errors is None else errors.append
    reader = Reader(io.BytesIO(data), conceal=conceal)
    return [p.md5() for p in Decoder(reader.header, start, frames, conceal=conceal).pictures(reader)]


def moving_points(last: int, seed: int) -> Trajectories:
    rng = np.random.default_rng(seed)
    positions = np.repeat(rng.integers(0, 9, (3, 1, 2)), last + 1, 1).astype(np.int32)
    positions[:, 1:] += rng.integers(-2, 3, (3, last, 2)).cumsum(1).astype(np.int32)
    return settle(
        Trajectories(
            positions=positions,
            span=np.tile(np.array([0, last], np.int32), (3, 1)),
            visible=np.ones((3, last + 1), np.bool_),
            instance=np.arange(3, dtype=np.uint8),
            follows=np.zeros(3, np.bool_),
            precision=2,
            lattice_log2=0,
        ),
        WIDTH,
        HEIGHT,
    )


# --- Timeline


@given(streams())
def test_frames_of_a_stream(s: Stream) -> None:
    frames = decode(s.write())
    assert len(frames) == s.frames
    assert frames == expected(s.header, s.units)


@given(streams(), st.integers(0, 40), st.none() | st.integers(0, 40))
def test_a_selection_is_a_slice(s: Stream, start: int, frames: int | None) -> None:
    data = s.write()
    stop = None if frames is None else start + frames
    assert decode(data, start, frames) == decode(data)[start:stop]


def test_every_selection_of_one_stream() -> None:
    """Clips after one keyframe build on the last frame of the one before, also when that is not asked for."""
    units: list[Any] = [
        raw_keyframe(HEADER, 0, Role.LEADING, 0),
        Clip(3, moving_points(3, 1)),
        Clip(2, moving_points(2, 2)),
        raw_keyframe(HEADER, 8, Role.TRAILING, 3),
        Clip(3, moving_points(3, 4)),
        raw_keyframe(HEADER, 9, Role.LEADING, 5),
        Clip(2, moving_points(2, 6)),
    ]
    data = write(HEADER, units)
    whole = decode(data)
    assert len(whole) == 12
    assert len(set(whole)) == 12
    for start in range(14):
        assert decode(data, start) == whole[start:], start
        for frames in range(14):
            assert decode(data, start, frames) == whole[start : start + frames], (start, frames)


def test_a_selection_that_is_complete_does_not_read_on() -> None:
    """What comes after the last frame asked for may be missing, or damaged."""
    units: list[Any] = [raw_keyframe(HEADER, 0, Role.LEADING, 0), Clip(3), Clip(3)]
    data = write(HEADER, units)
    end = spans(data)[2].end
    assert decode(data[:end], frames=4) == decode(data)[:4]
    with pytest.raises(TgvError, match="truncated"):
        decode(data[:end], frames=5)


def test_threads_give_the_same_frames() -> None:
    units: list[Any] = [
        raw_keyframe(HEADER, 0, Role.LEADING, 0),
        raw_keyframe(HEADER, 20, Role.TRAILING, 1),
        Clip(20, moving_points(20, 2)),
    ]
    data = write(HEADER, units)
    for workers in (1, 4):
        with ThreadPoolExecutor(workers) as pool:
            reader = Reader(io.BytesIO(data))
            pictures = Decoder(reader.header, mapper=pool.map).pictures(reader)
            assert [p.md5() for p in pictures] == decode(data)


def test_an_undecodable_keyframe_is_an_error_with_its_number() -> None:
    bad = Keyframe(Codec.DIFFEIC, Role.TRAILING, 3, 0, b"x")
    data = write(HEADER, [raw_keyframe(HEADER, 0, Role.LEADING, 0), bad, Clip(3)])
    with pytest.raises(TgvError) as caught:
        decode(data)
    assert (caught.value.identifier, caught.value.path) == ("unsupported-codec", "keyframe[1].payload")
    assert data[caught.value.offset :].startswith(b"x")


# --- Concealment


def two_sided() -> list[Any]:
    """Six clips between keyframes."""
    units: list[Any] = [raw_keyframe(HEADER, 0, Role.LEADING, 0)]
    for n in range(6):
        units += [raw_keyframe(HEADER, 5 * n + 5, Role.TRAILING, n + 1), Clip(5, moving_points(5, n))]
    return units


def one_sided() -> list[Any]:
    """Six clips, each after a keyframe of its own."""
    units: list[Any] = []
    for n in range(6):
        units += [raw_keyframe(HEADER, 6 * n, Role.LEADING, n), Clip(5, moving_points(5, n))]
    return units


def mixed() -> list[Any]:
    """Clips that begin with the last frame of the one before, cuts, hints."""
    hint = GeneratorHint("svd", bytes(32), Sampler.DDIM, 1, 2, 3)
    return [
        raw_keyframe(HEADER, 0, Role.LEADING, 0),
        raw_keyframe(HEADER, 4, Role.TRAILING, 1),
        Clip(4, moving_points(4, 1)),
        hint,
        Clip(3, moving_points(3, 2)),
        raw_keyframe(HEADER, 8, Role.LEADING, 3),
        raw_keyframe(HEADER, 12, Role.TRAILING, 4),
        Clip(4, moving_points(4, 3)),
        raw_keyframe(HEADER, 13, Role.LEADING, 5),
        Clip(2, moving_points(2, 4)),
        raw_keyframe(HEADER, 18, Role.TRAILING, 6),
        Clip(3, moving_points(3, 5)),
        raw_keyframe(HEADER, 19, Role.LEADING, 7),
        Clip(4, moving_points(4, 6)),
    ]


def inputs(units: list[Any]) -> list[set[int]]:
    """For every frame, the units that it is made from.

    A trailing keyframe whose clip is missing takes the next clip for its own, so that a clip without a
    keyframe also depends on the one before.
    """
    out: list[set[int]] = []
    pending: int | None = None
    before: set[int] = set()
    for index, unit in enumerate(units):
        if isinstance(unit, Keyframe):
            if unit.role is Role.TRAILING:
                pending = index
            else:
                out.append({index})
                before = set()
        elif isinstance(unit, Clip):
            first = out[-1]
            both = first | {index} | (before if pending is None else {pending})
            out += [both] * (unit.frame_count - 1) + [both if pending is None else {pending}]
            before = set() if pending is None else {index}
            pending = None
    return out


def check_concealment(units: list[Any], damaged: set[int], data: bytes) -> None:
    """The frame count is right and every frame stands where it belongs if its inputs are undamaged."""
    good = expected(HEADER, units)
    errors: list[TgvError] = []
    frames = decode(data, errors=errors)
    assert len(frames) == len(good)
    wrong = [t for t, used in enumerate(inputs(units)) if not used & damaged and frames[t] != good[t]]
    assert not wrong, (damaged, wrong)
    assert errors


STREAMS = {"two_sided": two_sided, "one_sided": one_sided, "mixed": mixed}
KINDS = ["flip", "lose", "payload"]


def damage(data: bytes, index: int, kind: str) -> bytes:
    """Unit ``index`` after the sequence header damaged: a bit, all of it, or the payload alone."""
    span = spans(data)[index + 1]
    if kind == "flip":
        place = (span.begin + span.end) // 2
        return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
    if kind == "lose":
        return data[: span.begin] + b"\xa5" * 9 + data[span.end :]
    payload = data[span.payload : span.end - 4]
    bad = payload[:-1] if span.unit_type == UnitType.KEYFRAME else payload + b"\xff"
    return replace_payload(data, span, bad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STREAMS)
def test_one_damaged_unit(name: str, kind: str) -> None:
    units = STREAMS[name]()
    data = write(HEADER, units)
    for index, unit in enumerate(units):
        if not isinstance(unit, GeneratorHint):
            check_concealment(units, {index}, damage(data, index, kind))


@pytest.mark.parametrize("name", STREAMS)
def test_several_damaged_units(name: str) -> None:
    """A keyframe together with its clip, and neighbours of every kind."""
    units = STREAMS[name]()
    data = write(HEADER, units)
    places = [i for i, unit in enumerate(units) if not isinstance(unit, GeneratorHint)]
    for index in places[:-1]:
        pair = {index, places[places.index(index) + 1]}
        bad = data
        for place in sorted(pair, reverse=True):
            span = spans(data)[place + 1]
            bad = bad[: span.begin] + bad[span.end :]
        frames = decode(bad, errors=[])
        good = expected(HEADER, units)
        assert len(frames) == len(good), pair
        wrong = [t for t, used in enumerate(inputs(units)) if not used & pair and frames[t] != good[t]]
        assert not wrong, (pair, wrong)


def predicted() -> tuple[SequenceHeader, list[Any]]:
    """Two random-access periods of four keyframes each."""
    header = small_header(64, 48)
    pictures = [random_picture(64, 48, seed) for seed in range(4)]
    coded = CODECS["av1-sequence"].encode(pictures, 60) * 2
    units: list[Any] = [coded[0].keyframe(Role.LEADING, 0)]
    for number, one in enumerate(coded[1:], 1):
        units += [one.keyframe(Role.TRAILING, 2 * number), Clip(2)]
    return header, units


def test_a_selection_of_predicted_keyframes() -> None:
    header, units = predicted()
    data = write(header, units)
    whole = decode(data)
    assert len(set(whole)) == 8
    assert whole[8:] == whole[:7]
    for start in range(15):
        assert decode(data, start, 2) == whole[start : start + 2]


@pytest.mark.parametrize("kind", KINDS)
def test_keyframes_that_depend_on_a_damaged_one(kind: str) -> None:
    """The frames of the other period are what they were; those of the damaged one are there."""
    header, units = predicted()
    data = write(header, units)
    whole = decode(data)
    for index, keyframe in enumerate(units):
        if not isinstance(keyframe, Keyframe):
            continue
        errors: list[TgvError] = []
        frames = decode(damage(data, index, kind), errors=errors)
        assert len(frames) == len(whole)
        period = 0 if keyframe.frame_number < 8 else 8
        before = max(keyframe.frame_number - 1, 0)
        assert frames[:before] == whole[:before]
        if not period:
            assert frames[8:] == whole[8:]
        later = [unit.frame_number for unit in units[index:] if isinstance(unit, Keyframe)]
        # What was damaged inside its payload changes the digest too.
        found = [error for error in errors if error.identifier != "digest-mismatch"]
        assert len(found) == sum(number < period + 8 for number in later), (index, errors)


def test_concealment_changes_nothing_in_a_good_stream() -> None:
    for make in STREAMS.values():
        data = write(HEADER, make())
        errors: list[TgvError] = []
        assert decode(data, errors=errors) == decode(data)
        assert not errors


def test_a_lost_end_is_concealed() -> None:
    units = two_sided()
    data = write(HEADER, units)
    places = spans(data)
    errors: list[TgvError] = []
    assert decode(data[: places[-1].begin], errors=errors) == expected(HEADER, units)
    assert [e.identifier for e in errors] == ["truncated"]
    # Without its clip, the trailing keyframe still tells how many frames there are.
    short = decode(data[: places[-2].begin], errors=[])
    assert len(short) == 31
    assert short[-1] == expected(HEADER, units)[-1]


@settings(max_examples=60)
@given(streams(most=6), st.data())
def test_concealment_of_any_selection(s: Stream, data: st.DataObject) -> None:
    """Concealing and selecting go together: a selection is a slice of the concealed whole."""
    file = bytearray(s.write())
    first = spans(bytes(file))[0].end
    for _ in range(data.draw(st.integers(1, 3))):
        file[data.draw(st.integers(first, len(file) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    whole = decode(bytes(file), errors=[])
    start, frames = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30))
    assert decode(bytes(file), start, frames, errors=[]) == whole[start : start + frames]
    assert decode(bytes(file), start, errors=[]) == whole[start:]


# --- Command line


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "in.tgv"
    path.write_bytes(write(HEADER, mixed()))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def test_md5_of_the_frames(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = stream.with_name("frames.txt")
    assert run(capsys, stream, "--frames-md5", target) == (0, "", "")
    good = expected(HEADER, mixed())
    assert target.read_text() == "".join(f"{t} {md5}\n" for t, md5 in enumerate(good))
    for threads in (0, 1, 3):
        options = ["--start", 5, "--frames", 7, "--threads", threads]
        assert run(capsys, stream, "--frames-md5", target, *options) == (0, "", "")
        assert target.read_text() == "".join(f"{t} {good[t]}\n" for t in range(5, 12))
    assert listing(stream.parent) == ["frames.txt", "in.tgv"]


def test_y4m(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = stream.with_name("out.y4m")
    assert run(capsys, stream, target) == (0, "", "")
    header, *frames = target.read_bytes().split(b"FRAME\n")
    assert header.startswith(b"YUV4MPEG2 W24 H18 F25:1")
    assert [Picture.from_bytes(f, WIDTH, HEIGHT).md5() for f in frames] == expected(HEADER, mixed())


def test_parameters(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The canonical JSON of the header and all units, one to a line."""
    target = stream.with_name("params.json")
    assert run(capsys, stream, "--params", target) == (0, "", "")
    values = json.loads(target.read_text())
    units = mixed()
    assert values[:-1] == [HEADER.to_json(), *(u.to_json() for u in units)]
    assert values[-1]["frame_count"] == 24
    assert len(target.read_text().splitlines()) == len(values) + 2


def test_parameters_of_a_selection_are_complete_json(
    stream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, md5 = stream.with_name("params.json"), stream.with_name("md5")
    assert run(capsys, stream, "--params", target, "--frames-md5", md5, "--frames", 2)[0] == 0
    values = json.loads(target.read_text())
    assert values[0] == HEADER.to_json()


def test_trace(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = stream.with_name("trace.jsonl")
    assert run(capsys, stream, "--trace", target) == (0, "", "")
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert {r["path"].split(".")[0] for r in records} == {f"clip[{n}]" for n in range(6)}
    assert {r["value"] for r in records} == {0, 1}


def pipe(data: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "refdec.cli", "-", "-"]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_raw_frames_through_pipes(stream: Path) -> None:
    result = pipe(stream.read_bytes())
    assert (result.returncode, result.stderr) == (0, b"")
    size = WIDTH * HEIGHT * 3 // 2
    frames = [result.stdout[n : n + size] for n in range(0, len(result.stdout), size)]
    assert [Picture.from_bytes(f, WIDTH, HEIGHT).md5() for f in frames] == expected(HEADER, mixed())


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "other file": lambda data: b"\x89PNG\r\n\x1a\n" + data,
    "truncated": lambda data: data[:-3],
    "first unit": lambda data: data[:14] + b"\xff" + data[15:],
    "keyframe": lambda data: damage(data, 0, "payload"),
    "clip": lambda data: damage(data, 4, "payload"),
    "crc": lambda data: damage(data, 7, "flip"),
    "trailing": lambda data: data + b"x",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_stream_takes_one_line(name: str, stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, one line, and nothing is left behind: neither output nor parts of it."""
    stream.write_bytes(BAD[name](stream.read_bytes()))
    with pytest.raises(TgvError) as caught:
        decode(stream.read_bytes())
    folder = stream.parent
    outputs = ["--frames-md5", folder / "m", "--params", folder / "p", "--trace", folder / "t"]
    for arguments in (
        [folder / "out.y4m"],
        [folder / "out.mp4"],
        [folder / "out.mkv"],
        [f"{folder / 'out'}/"],
        outputs,
        [folder / "out.y4m", *outputs],
    ):
        status, out, err = run(capsys, stream, *arguments)
        assert (status, out) == (1, "")
        assert err == f"refdec: {caught.value}\n"
        assert " at byte " in err
        assert listing(folder) == ["in.tgv"]


def test_bad_parameters_are_noticed_without_decoding(
    stream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream.write_bytes(damage(stream.read_bytes(), 2, "payload"))
    status, out, err = run(capsys, stream, "--params", stream.with_name("p"))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "clip[0]" in err
    assert listing(stream.parent) == ["in.tgv"]


def test_partial_files_reach_up_to_the_error(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On demand, and in a document that is whole but for its end."""
    folder, data = stream.parent, stream.read_bytes()
    outputs = ["--frames-md5", folder / "m", "--params", folder / "p", "--trace", folder / "t"]
    assert run(capsys, stream, *outputs)[0] == 0
    whole = {name: (folder / name).read_text() for name in "mpt"}
    stream.write_bytes(data + b"x")
    assert run(capsys, stream, "--partial", *outputs)[0] == 1
    found = {name: (folder / name).read_text() for name in "mpt"}
    assert found == whole | {"p": whole["p"][: whole["p"].index(',\n{"digest"')]}


def test_concealment_keeps_the_frames(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream.write_bytes(damage(stream.read_bytes(), 7, "flip"))
    target = stream.with_name("frames.txt")
    status, out, err = run(capsys, stream, "--conceal", "--frames-md5", target)
    assert (status, out) == (1, "")
    assert err.startswith("refdec: concealed: crc-mismatch at byte ")
    assert err.count("\n") == 1
    good = expected(HEADER, mixed())
    lines = target.read_text().splitlines()
    assert len(lines) == len(good)
    assert [n for n, line in enumerate(lines) if line != f"{n} {good[n]}"] == [9, 10, 11]
    assert run(capsys, stream, "--conceal", stream.with_name("out.y4m"))[0] == 1
    assert listing(stream.parent) == ["frames.txt", "in.tgv", "out.y4m"]


def test_a_traceback_is_never_printed(stream: Path) -> None:
    data = stream.read_bytes()
    for bad in (data[:40], b"", damage(data, 2, "payload")):
        result = pipe(bad)
        assert result.returncode == 1
        assert result.stderr.startswith(b"refdec: ")
        assert result.stderr.count(b"\n") == 1


def test_files_that_cannot_be_opened(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, folder = stream.with_name("missing.tgv"), stream.parent
    for arguments, name in (
        ([missing, folder / "out.y4m"], missing),
        ([folder, folder / "out.y4m"], folder),
        ([stream, "--params", folder / "no" / "p"], folder / "no" / "p"),
        ([stream, folder / "no" / "out.y4m"], folder / "no" / "out.y4m"),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (1, "")
        assert err.startswith(f"refdec: {name}")
        assert err.count("\n") == 1
    assert listing(folder) == ["in.tgv"]


def test_an_output_that_cannot_be_written_leaves_nothing(
    stream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stream.parent
    outputs = ["--params", folder / "p", "--frames-md5", folder / "m", "--trace", folder / "t"]
    for target in (folder / "out.gif", folder / "no" / "out.y4m"):
        status, _, err = run(capsys, stream, target, *outputs)
        assert status == 1
        assert err.count("\n") == 1
        assert listing(folder) == ["in.tgv"]


WRONG_USAGE = [[], ["-"], ["x", "--start", "-1"], ["x", "--frames", "y"], ["x", "--format", "gif"]]


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=str)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option, text in (("--help", "--conceal"), ("--version", "refdec ")):
        with pytest.raises(SystemExit) as caught:
            cli.main([option])
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'av', 'PIL', 'cv2', 'constriction', 'construct'}"
    code = f"import sys, refdec.cli; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert result.stdout == "[]\n"


def test_captions_reach_the_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.tgv"
    caption = "Ein Hündchen läuft 🐕"
    path.write_bytes(write(HEADER, [raw_keyframe(HEADER, 0, Role.LEADING, 0), Clip(2, text=Text(caption))]))
    assert run(capsys, path, "--params", tmp_path / "p")[0] == 0
    assert (tmp_path / "p").read_bytes().isascii()
    assert json.loads((tmp_path / "p").read_text())[2]["text"] == {"text": caption}


def test_random_pictures_differ() -> None:
    """What tells frames apart in these tests."""
    assert random_picture(WIDTH, HEIGHT, 0).md5() != random_picture(WIDTH, HEIGHT, 1).md5()
