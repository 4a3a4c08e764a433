"""Writers of decoded pictures (refdec/output.py)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from refdec.output import OutputError, OutputInfo, open_writer
from refenc.source import VideoInfo, open_source
from tgv_format.picture import Colour, Picture, chroma_size

NTSC = Fraction(30000, 1001)


def noise(index: int, width: int = 48, height: int = 32) -> Picture:
    rng = np.random.default_rng(index)
    columns, rows = chroma_size(width, height)
    return Picture.from_bytes(rng.bytes(width * height + 2 * rows * columns), width, height)


def ramps(index: int, width: int = 48, height: int = 32) -> Picture:
    columns, rows = chroma_size(width, height)
    y, x = np.mgrid[:height, :width]
    v, u = np.mgrid[:rows, :columns]
    planes = (40 + 2 * x + y + index, 100 + u + index, 110 + v)
    return Picture(*(plane.astype(np.uint8) for plane in planes))


def info_of(
    picture: Picture,
    rate: Fraction = NTSC,
    colour: Colour = Colour(),  # noqa: B008
    aspect: tuple[int, int] = (1, 1),
) -> OutputInfo:
    return OutputInfo(picture.width, picture.height, rate, colour, aspect)


def write(target: str, pictures: Sequence[Picture], info: OutputInfo, format: str | None = None) -> None:
    writer = open_writer(target, info, format)
    for picture in pictures:
        writer.write(picture)
    writer.close()


def read(path: str) -> tuple[VideoInfo, list[Picture]]:
    with open_source(path) as source:
        return source.info, list(source)


def md5s(pictures: Sequence[Picture]) -> list[str]:
    return [picture.md5() for picture in pictures]


# --- round trips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["y4m", "mkv"])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (33, 17), (1, 1), (3, 3), (1, 64), (360, 3)])
def test_lossless_at_any_size(tmp_path: Path, suffix: str, width: int, height: int) -> None:
    originals = [noise(i, width, height) for i in range(5)]
    target = str(tmp_path / f"x.{suffix}")
    write(target, originals, info_of(originals[0]))
    info, pictures = read(target)
    assert md5s(pictures) == md5s(originals)
    assert (info.width, info.height, info.frame_rate, info.frames) == (width, height, NTSC, 5)
    assert os.listdir(tmp_path) == [f"x.{suffix}"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("suffix", ["y4m", "mkv", "mp4"])
def test_few_pictures(tmp_path: Path, suffix: str, count: int) -> None:
    target = str(tmp_path / f"x.{suffix}")
    write(target, [ramps(i) for i in range(count)], info_of(ramps(0)))
    info, pictures = read(target)
    assert (len(pictures), info.frame_rate) == (count, NTSC)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(10), Fraction(1, 5), Fraction(240)])
@pytest.mark.parametrize("suffix", ["y4m", "mkv", "mp4"])
def test_rate(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    target = str(tmp_path / f"x.{suffix}")
    write(target, [ramps(i) for i in range(12)], info_of(ramps(0), rate))
    info, pictures = read(target)
    assert (len(pictures), info.frame_rate) == (12, rate)


@pytest.mark.parametrize(
    "colour", [Colour(), Colour(5, 6, 5, True), Colour(9, 16, 9), Colour(12, 13, 8, True)]
)
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_colour(tmp_path: Path, suffix: str, colour: Colour) -> None:
    target = str(tmp_path / f"x.{suffix}")
    write(target, [ramps(0)], info_of(ramps(0), colour=colour))
    assert read(target)[0].colour == colour


@pytest.mark.parametrize("suffix", ["y4m", "mp4"])
def test_sample_aspect(tmp_path: Path, suffix: str) -> None:
    target = str(tmp_path / f"x.{suffix}")
    write(target, [ramps(0)], info_of(ramps(0), aspect=(12, 11)))
    assert read(target)[0].sample_aspect == (12, 11)


def test_mp4_is_visually_lossless(tmp_path: Path) -> None:
    originals = [ramps(i) for i in range(20)]
    write(str(tmp_path / "x.mp4"), originals, info_of(originals[0]))
    _, pictures = read(str(tmp_path / "x.mp4"))
    assert len(pictures) == 20
    for picture, original in zip(pictures, originals, strict=True):
        for plane, expected in zip(picture.planes, original.planes, strict=True):
            assert np.abs(plane.astype(int) - expected).mean() < 1


def test_mp4_repeats_the_last_row_and_column_of_odd_sizes(tmp_path: Path) -> None:
    original = ramps(0, 33, 17)
    write(str(tmp_path / "x.mp4"), [original], info_of(original))
    info, (picture,) = read(str(tmp_path / "x.mp4"))
    assert (info.width, info.height) == (34, 18)
    padded = np.pad(original.y, ((0, 1), (0, 1)), mode="edge")
    assert np.abs(picture.y.astype(int) - padded).max() <= 4
    assert np.abs(picture.u.astype(int) - original.u).max() <= 4


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "y4m"])
def test_the_same_pictures_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    originals = [noise(i, 65, 47) for i in range(8)]
    for name in ("a", "b"):
        write(str(tmp_path / f"{name}.{suffix}"), originals, info_of(originals[0]))
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_y4m_bytes(tmp_path: Path) -> None:
    picture = noise(0, 3, 3)
    info = info_of(picture, colour=Colour(full_range=True), aspect=(4, 3))
    write(str(tmp_path / "x.y4m"), [picture, picture], info)
    header = b"YUV4MPEG2 W3 H3 F30000:1001 Ip A4:3 C420mpeg2 XCOLORRANGE=FULL\n"
    assert (tmp_path / "x.y4m").read_bytes() == header + 2 * (b"FRAME\n" + picture.to_bytes())
    assert read(str(tmp_path / "x.y4m"))[0].colour.full_range


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    write(str(tmp_path / "x.Y4M"), [noise(0)], info_of(noise(0)))
    assert read(str(tmp_path / "x.Y4M"))[0].frames == 1


def test_x264_has_one_thread(tmp_path: Path) -> None:
    """The number of threads changes the stream, and would depend on the machine."""
    write(str(tmp_path / "x.mp4"), [noise(0, 512, 512)], info_of(noise(0, 512, 512)))
    assert b" threads=1 " in (tmp_path / "x.mp4").read_bytes()


def test_raw_to_a_file(tmp_path: Path) -> None:
    write(str(tmp_path / "x.yuv"), [noise(0), noise(1)], info_of(noise(0)), "raw")
    assert (tmp_path / "x.yuv").read_bytes() == noise(0).to_bytes() + noise(1).to_bytes()


@pytest.mark.parametrize("format", [None, "raw", "y4m"])
def test_standard_output(format: str | None) -> None:
    program = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_output import info_of, noise, write
write("-", [noise(0), noise(1)], info_of(noise(0)), {format!r})
sys.stdout.buffer.write(b"open")
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout
    if format == "y4m":
        header = b"YUV4MPEG2 W48 H32 F30000:1001 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED\n"
        assert output == header + b"".join(b"FRAME\n" + noise(i).to_bytes() for i in range(2)) + b"open"
    else:
        assert output == noise(0).to_bytes() + noise(1).to_bytes() + b"open"


def test_closed_pipe_stays_a_broken_pipe() -> None:
    program = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_output import info_of, noise, open_writer
writer = open_writer("-", info_of(noise(0)))
sys.stdin.read()
try:
    for i in range(100):
        writer.write(noise(i))
except BrokenPipeError:
    writer.abort()
    sys.stdout = None
    sys.exit(7)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.close()
    assert process.returncode == 7


# --- PNG --------------------------------------------------------------------------------------------------

# Luma weights of red and blue by matrix coefficients (ITU-T H.273, table 4).
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
WEIGHTS[9] = (0.2627, 0.0593)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
def test_png_colours(tmp_path: Path, matrix: int, full_range: bool) -> None:
    luma = np.linspace(16, 235, 33 * 17).astype(np.uint8).reshape(17, 33)
    picture = Picture(luma, np.full((9, 17), 110, np.uint8), np.full((9, 17), 140, np.uint8))
    write(
        f"{tmp_path}/png/", [picture], info_of(picture, colour=Colour(matrix=matrix, full_range=full_range))
    )
    y = luma / 255 if full_range else (luma - 16.0) / 219
    cb, cr = (np.array([110, 140]) - 128) / (255 if full_range else 224)
    red, blue = WEIGHTS[matrix]
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    expected = np.clip(np.stack([r, g, b], axis=-1), 0, 1) * 255
    with Image.open(tmp_path / "png" / "000000.png") as image:
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image) - expected).max() <= 1.5


def test_png_of_a_matrix_without_a_conversion(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="matrix coefficients 14"):
        open_writer(f"{tmp_path}/png/", info_of(noise(0), colour=Colour(9, 16, 14)))
    assert os.listdir(tmp_path) == []


def test_png_files_in_order(tmp_path: Path) -> None:
    writer = open_writer(f"{tmp_path}/png", info_of(noise(0)), "png")
    for level in range(3):
        planes = (np.full((32, 48), 16 + 50 * level), np.full((16, 24), 128), np.full((16, 24), 128))
        writer.write(Picture(*(plane.astype(np.uint8) for plane in planes)))
        assert not (tmp_path / "png").exists()
    writer.close()
    assert os.listdir(tmp_path) == ["png"]
    assert sorted(os.listdir(tmp_path / "png")) == ["000000.png", "000001.png", "000002.png"]
    levels = [np.asarray(Image.open(path)).mean() for path in sorted((tmp_path / "png").iterdir())]
    assert levels == [0, 58, 116]


def test_png_into_a_folder_that_exists(tmp_path: Path) -> None:
    folder = tmp_path / "png"
    folder.mkdir()
    (folder / "000000.png").write_bytes(b"old")
    (folder / "other").write_bytes(b"kept")
    writer = open_writer(str(folder), info_of(noise(0)))
    writer.write(noise(0))
    assert os.listdir(tmp_path) == ["png"]
    assert (folder / "000000.png").read_bytes() == b"old"
    writer.write(noise(1))
    writer.close()
    assert sorted(os.listdir(folder)) == ["000000.png", "000001.png", "other"]
    assert Image.open(folder / "000000.png").size == (48, 32)
    writer.abort()
    assert len(os.listdir(folder)) == 3


# --- all or nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 30])
@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.y4m", "x/"])
def test_abort_leaves_nothing(tmp_path: Path, name: str, count: int) -> None:
    writer = open_writer(f"{tmp_path}/{name}", info_of(noise(0)))
    for index in range(count):
        writer.write(noise(index))
    assert os.listdir(tmp_path) != [name.rstrip("/")]
    writer.abort()
    assert os.listdir(tmp_path) == []
    writer.abort()


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.y4m"])
def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    target.write_bytes(b"old")
    writer = open_writer(str(target), info_of(noise(0)))
    writer.write(noise(0))
    assert target.read_bytes() == b"old"
    writer.close()
    assert read(str(target))[0].frames == 1
    writer.abort()
    assert os.listdir(tmp_path) == [name]


def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(str(tmp_path / "x.y4m"), [noise(0)], info_of(noise(0)))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_a_video_without_pictures_is_an_error(tmp_path: Path, name: str) -> None:
    writer = open_writer(str(tmp_path / name), info_of(noise(0)))
    with pytest.raises(OutputError, match="no pictures"):
        writer.close()
    writer.abort()
    assert os.listdir(tmp_path) == []


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "format", "reason"),
    [
        ("x.avi", None, "must end in"),
        ("x", None, "must end in"),
        ("x.mp4", "webm", "unknown format"),
        ("-", "mp4", "standard output"),
        ("-", "png", "standard output"),
    ],
)
def test_unknown_targets(target: str, format: str | None, reason: str) -> None:
    with pytest.raises(OutputError, match=reason) as error:
        open_writer(target, info_of(noise(0)), format)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.y4m", "x/"])
def test_unwritable_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="No such file"):
        open_writer(f"{tmp_path}/none/{name}", info_of(noise(0)))


def test_files_and_folders_do_not_replace_each_other(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a folder"):
        open_writer(f"{tmp_path}/file", info_of(noise(0)), "png")
    with pytest.raises(OutputError, match="is a folder"):
        open_writer(str(tmp_path), info_of(noise(0)), "mp4")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.y4m"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(
        "builtins.open", lambda path, mode: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
    )
    writer = open_writer(str(tmp_path / name), info_of(noise(0)))
    with pytest.raises(OutputError, match="No space left"):
        deque(map(writer.write, map(noise, range(200))), maxlen=0)
    writer.abort()
    assert os.listdir(tmp_path) == []


def test_missing_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"ffv1"})
    with pytest.raises(OutputError, match="no encoder libx264"):
        open_writer(str(tmp_path / "x.mp4"), info_of(noise(0)))
    assert os.listdir(tmp_path) == []


def test_encoder_that_refuses(tmp_path: Path) -> None:
    info = OutputInfo(40000, 2, NTSC, Colour(), (1, 1))
    picture = noise(0, 40000, 2)
    writer = open_writer(str(tmp_path / "x.mp4"), info)
    with pytest.raises(OutputError, match="cannot be written"):
        writer.write(picture)
    writer.abort()
    assert os.listdir(tmp_path) == []


def test_importing_the_module_does_not_import_pyav() -> None:
    program = "import sys, refdec.output; sys.exit('av' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
