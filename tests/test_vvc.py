"""VVC keyframes: payloads, what is refused, and the encoder's use of vvencapp."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import SCENES
from strategies import random_picture, settings

import refdec.cli
import refenc.cli
from conformance.manifest import VECTORS
from refdec import keyframes
from refdec.keyframes import ffmpeg
from refenc import vvenc
from refenc.keyframes import CODECS
from tgv_format import vvc
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.picture import Picture
from tgv_format.reader import Reader

av = pytest.importorskip("av")

ASSETS = {
    name: ((VECTORS / "assets" / f"{name}.nal").read_bytes(), size)
    for name, size in {
        "vvc-gradient-64x48": (64, 48),
        "vvc-gradient-31x24": (31, 24),
        "vvc-gradient-128x128": (128, 128),
        "vvc-noise-33x17": (33, 17),
    }.items()
}
PAYLOAD, SIZE = ASSETS["vvc-gradient-64x48"]


def decode(payload: bytes, width: int, height: int) -> Picture:
    keyframe = Keyframe(Codec.VVC, Role.LEADING, 0, 0, payload, payload_offset=1000)
    return keyframes.decode(keyframe, width, height, "keyframe[4]")


def stream(payload: bytes, width: int, height: int) -> bytes:
    """What vvencapp would write: with an access unit delimiter, parameter sets and an SEI message."""
    units = vvc.split(payload, 0, "")
    if units[0].nal_type != vvc.NalType.SPS:
        units = [*vvc.default_parameter_sets(width, height), *units]
    return vvc.byte_stream([vvc.Nal(20, b"\x88"), *units, vvc.Nal(24, b"\x05\x10" + b"\x01" * 16 + b"\x80")])


# --- Payloads


@pytest.mark.requirement("TGV-VVC-2", "TGV-VVC-6")
@pytest.mark.parametrize("name", ASSETS)
def test_the_picture_is_that_of_ffmpeg_rounded(name: str) -> None:
    payload, (width, height) = ASSETS[name]
    context = av.CodecContext.create("vvc", "r")
    data = stream(payload, width, height)
    (frame,) = [*context.decode(av.Packet(data)), *context.decode(None)]
    assert frame.format.name == "yuv420p10le"
    picture = decode(payload, width, height)
    assert (picture.width, picture.height) == (width, height)
    for plane, shown in zip(frame.planes, picture.planes, strict=True):
        deep = np.frombuffer(bytes(plane), "<u2").reshape(-1, plane.line_size // 2)
        deep = deep[: shown.shape[0], : shown.shape[1]].astype(int)
        assert np.array_equal(shown, np.minimum(255, (deep + 2) // 4))


@pytest.mark.parametrize("name", ASSETS)
def test_of_a_byte_stream_what_a_keyframe_holds_remains(name: str) -> None:
    """Default parameter sets are left out, and come back."""
    payload, size = ASSETS[name]
    found = vvenc.payload(stream(payload, *size), *size)
    assert found[0] not in (vvc.NalType.SPS, vvc.NalType.PPS)
    assert payload.endswith(found)
    assert decode(found, *size).md5() == decode(payload, *size).md5()


def test_other_parameter_sets_stay() -> None:
    sps, pps, *rest = vvc.split(ASSETS["vvc-gradient-31x24"][0], 0, "")
    other = vvc.Nal(sps.nal_type, sps.rbsp[:3] + b"\x33" + sps.rbsp[4:])  # another level
    payload = vvc.join([other, pps, *rest])
    assert vvenc.payload(stream(payload, 31, 24), 31, 24) == payload
    assert decode(payload, 31, 24).md5() == decode(ASSETS["vvc-gradient-31x24"][0], 31, 24).md5()


@given(st.lists(st.tuples(st.sampled_from(vvc.NalType), st.lists(st.integers(0, 4), max_size=12))))
def test_units_survive_a_byte_stream(rows: list[tuple[vvc.NalType, list[int]]]) -> None:
    units = [vvc.Nal(int(kind), bytes([*data, 0x80])) for kind, data in rows]
    data = vvc.byte_stream(units)
    assert data.count(b"\x00\x00\x01") == len(units)
    assert b"\x00\x00\x02" not in data
    assert vvenc.payload(data, 8, 8) == vvc.join(units)
    assert [(u.nal_type, u.rbsp) for u in vvc.split(vvc.join(units), 7, "")] == [
        (u.nal_type, u.rbsp) for u in units
    ]


# --- What is not a keyframe


def survive(payload: bytes) -> None:
    try:
        picture = decode(payload, *SIZE)
    except TgvError as caught:
        error = caught
    else:
        assert (picture.width, picture.height) == SIZE
        return
    assert error.identifier in ("keyframe-invalid", "truncated", "uleb128-invalid")
    assert error.path.startswith("keyframe[4].payload")
    assert 1000 <= error.offset <= 1000 + len(payload)


def test_bit_errors() -> None:
    for payload in (PAYLOAD, stream_payload()):
        for bit in range(0, 8 * len(payload), 3):
            bad = bytearray(payload)
            bad[bit >> 3] ^= 1 << (bit & 7)
            survive(bytes(bad))


def stream_payload() -> bytes:
    """The picture with parameter sets in front."""
    return vvc.join([*vvc.default_parameter_sets(*SIZE), *vvc.split(PAYLOAD, 0, "")])


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=60), st.sampled_from([None, *vvc.NalType]))
def test_arbitrary_bytes(data: bytes, kind: vvc.NalType | None) -> None:
    survive(data if kind is None else vvc.join([vvc.Nal(int(kind), data)]))


def test_another_size() -> None:
    payload = stream_payload()
    for size in ((57, 41), (64, 48), (58, 48)):
        assert decode(payload, *size).width == size[0]
    for size in ((56, 48), (65, 48), (64, 40), (64, 49), (48, 64), (1, 1), (8192, 1088)):
        with pytest.raises(TgvError, match="does not hold one of"):
            decode(payload, *size)


def test_ffmpeg_says_nothing() -> None:
    """Its complaints would break the rule of one line for a bad stream."""
    bad = [PAYLOAD[:3] + b"\xff" * 132, vvc.join([vvc.Nal(8, b"\xc4\x01")]), PAYLOAD + PAYLOAD]
    code = f"""
from refdec import keyframes
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, Role
for payload in {bad!r}:
    try:
        keyframes.decode(Keyframe(Codec.VVC, Role.LEADING, 0, 0, payload), 64, 48)
    except TgvError:
        pass
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == ""


@pytest.mark.skipif("TGV_VVC_STREAMS" not in os.environ, reason="a folder of streams and their hashes")
def test_streams_of_vvenc() -> None:
    """The README.md of the folder says the MD5 of the 10-bit planes; 8-bit streams are refused."""
    folder = Path(os.environ["TGV_VVC_STREAMS"])
    table = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+_(\d+)x(\d+)_\S+) \| (yuv\w+) \| (\w{32}) \|", table, re.M)
    assert rows
    for name, columns, lines, pixel_format, md5 in rows:
        width, height = int(columns), int(lines)
        payload = vvenc.payload((folder / name).read_bytes(), width, height)
        if pixel_format == "yuv420p":
            with pytest.raises(TgvError, match="sps_bitdepth_minus8 0"):
                decode(payload, width, height)
            continue
        units = vvc.split(payload, 0, "")
        planes = ffmpeg.planes("vvc", vvc.byte_stream(units), width, height, "yuv420p10le")
        assert hashlib.md5(b"".join(p.tobytes() for p in planes)).hexdigest() == md5, name
        assert decode(payload, width, height).y[0, 0] == min(255, (int(planes[0][0, 0]) + 2) >> 2)


# --- The encoder, with a command that writes a stored picture


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vvencapp that writes the picture of 64 x 48 samples, and what it was asked to ``asked.json``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "stored.266").write_bytes(stream(PAYLOAD, *SIZE))
    script = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
options = dict(zip(words[::2], words[1::2], strict=True))
data = pathlib.Path(options["--input"]).read_bytes()
width, height = map(int, options["--size"].split("x"))
if len(data) != width * height * 3 // 2 or width % 8 or height % 8:
    sys.exit("vvencapp [error]: wrong input")
(here / "asked.json").write_text(json.dumps(options))
(here / "source.yuv").write_bytes(data)
if options["--size"] != "64x48":
    print("vvencapp [error]: no such picture\\n", file=sys.stderr)
    sys.exit(1)
pathlib.Path(options["--output"]).write_bytes((here / "stored.266").read_bytes())
"""
    (folder / "vvencapp").write_text(script, encoding="utf-8")
    (folder / "vvencapp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def asked(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "asked.json").read_text())
    return found


def test_what_vvencapp_is_asked_for(command: Path) -> None:
    assert vvenc.still(random_picture(64, 48, 3), 37) == PAYLOAD
    options = asked(command)
    assert {k: v for k, v in options.items() if k not in ("--input", "--output")} == {
        "--format": "yuv420",
        "--frames": "1",
        "--hrdparameterspresent": "0",
        "--internal-bitdepth": "10",
        "--intraperiod": "1",
        "--level": "6.2",
        "--preset": "medium",
        "--profile": "main_10",
        "--qp": "37",
        "--qpa": "0",
        "--size": "64x48",
        "--threads": "1",
        "--verbosity": "1",
        "--vuiparameterspresent": "0",
    }
    assert (command / "source.yuv").read_bytes() == random_picture(64, 48, 3).to_bytes()
    assert not Path(options["--input"]).parent.exists()


def test_edges_are_repeated_to_multiples_of_eight(command: Path) -> None:
    picture = random_picture(61, 41, 5)
    vvenc.still(picture, 20)
    padded = Picture.from_bytes((command / "source.yuv").read_bytes(), 64, 48)
    assert Picture.cropped(padded.planes, 61, 41).to_bytes() == picture.to_bytes()
    for large, small in zip(padded.planes, picture.planes, strict=True):
        assert (large[: small.shape[0], small.shape[1] :] == small[:, -1:]).all()
        assert (large[small.shape[0] :] == large[small.shape[0] - 1]).all()


def test_failures_of_vvencapp(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"^vvencapp failed on 32x24 samples: vvencapp \[error\]: no such picture$"
    ):
        vvenc.still(random_picture(32, 24, 0), 37)
    (command / "vvencapp").write_text(f"#!{sys.executable}\n")
    with pytest.raises(ValueError, match=r"^vvencapp: .*out\.266"):
        vvenc.still(random_picture(64, 48, 0), 37)
    (command / "vvencapp").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    monkeypatch.setattr(vvenc, "_TIMEOUT", 0.1)
    with pytest.raises(ValueError, match=r"^vvencapp: .*timed out"):
        vvenc.still(random_picture(64, 48, 0), 37)


def test_a_stream_with_vvc_keyframes(command: Path, tmp_path: Path) -> None:
    video, coded, shown = (tmp_path / name for name in ("in.y4m", "out.tgv", "out.md5"))
    pictures = SCENES["pan"](0, 64, 48, 3).pictures
    head = b"YUV4MPEG2 W64 H48 F30:1 Ip A1:1 C420mpeg2\n"
    video.write_bytes(head + b"".join(b"FRAME\n" + picture.to_bytes() for picture in pictures))
    ladder = CODECS["vvc"].ladder
    quality = round(100 * ladder.index((0, 30)) / (len(ladder) - 1))
    words = [str(video), str(coded), "--keyframe-codec", "vvc", "--quality", str(quality)]
    words += ["--keyframe-interval", "2"]
    assert refenc.cli.main(words) == 0
    assert asked(command)["--qp"] == "30"
    found = [unit for unit in Reader(io.BytesIO(coded.read_bytes())) if isinstance(unit, Keyframe)]
    assert [(unit.codec, unit.payload) for unit in found] == [(Codec.VVC, PAYLOAD)] * 2
    assert refdec.cli.main([str(coded), "--frames-md5", str(shown)]) == 0
    assert shown.read_text().splitlines()[0] == f"0 {decode(PAYLOAD, *SIZE).md5()}"


def test_without_vvencapp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    video = tmp_path / "in.y4m"
    picture = random_picture(16, 16, 0)
    video.write_bytes(b"YUV4MPEG2 W16 H16 F30:1 Ip A1:1 C420mpeg2\nFRAME\n" + picture.to_bytes())
    assert refenc.cli.main([str(video), str(tmp_path / "out.tgv"), "--keyframe-codec", "vvc"]) == 1
    error = capsys.readouterr().err
    assert error == "refenc: VVC keyframes need VVenC's vvencapp, which is not on PATH\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.y4m"]
