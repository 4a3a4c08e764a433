"""Video sources (refenc/source.py): pictures, times, colours and errors."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refenc.source import (
    SourceError,
    VideoInfo,
    _presentation_times,
    _read_ahead,
    constant_rate,
    open_source,
    resample,
)
from tgv_format.picture import Colour, Picture, Plane, chroma_size

NTSC = Fraction(30000, 1001)
MILLISECOND = Fraction(1, 1000)


def moving_gradient(index: int, width: int = 48, height: int = 32) -> Picture:
    columns, rows = chroma_size(width, height)
    y, x = np.mgrid[:height, :width]
    v, u = np.mgrid[:rows, :columns]
    planes = (3 * x + 2 * y + 5 * index, 4 * u + v + 60 + index, 2 * u + 3 * v + 90)
    return Picture(*((plane % 200 + 20).astype(np.uint8) for plane in planes))


def noise(index: int, width: int = 48, height: int = 32) -> Picture:
    rng = np.random.default_rng(index)
    columns, rows = chroma_size(width, height)
    return Picture.from_bytes(rng.bytes(width * height + 2 * rows * columns), width, height)


def rows_of(plane: VideoPlane) -> Plane:
    """All bytes of a plane, row by row with the padding."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


def frame_of(picture: Picture) -> VideoFrame:
    frame = VideoFrame(picture.width, picture.height, "yuv420p")
    for plane, samples in zip(frame.planes, picture.planes, strict=True):
        rows_of(plane)[:, : plane.width] = samples
    return frame


def flat_frame(pixel_format: str, values: Sequence[int], width: int = 48, height: int = 32) -> VideoFrame:
    """A frame of planes that hold one value each; of components, in a packed format of 8 bits."""
    frame = VideoFrame(width, height, pixel_format)
    for plane, value in zip(frame.planes, values, strict=True):
        deep = frame.format.components[0].bits > 8
        np.frombuffer(memoryview(plane), np.uint16 if deep else np.uint8)[:] = value
    return frame


def encode(
    path: Path,
    codec: str,
    frames: Sequence[VideoFrame],
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,
    rotation: int = 0,
    pixel_format: str | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
    context: dict[str, int | Fraction] | None = None,
) -> str:
    """Write ``frames``, at ``times`` in milliseconds if given."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate, options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = pixel_format or frames[0].format.name
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = MILLISECOND
        if rotation:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(frames):
            frame.pts = index if times is None else times[index]
            frame.time_base = 1 / rate if times is None else MILLISECOND
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return str(path)


def decoded(path: str) -> list[str]:
    """The MD5 of every frame as FFmpeg decodes it, for sources in 8-bit 4:2:0."""
    with av.open(path) as container:
        return [
            Picture(*(rows_of(plane)[:, : plane.width].copy() for plane in frame.planes)).md5()
            for frame in container.decode(video=0)
        ]


def read(
    path: str, size: tuple[int, int] | None = None, crop: bool = False
) -> tuple[VideoInfo, list[Picture]]:
    with open_source(path, size, crop) as source:
        return source.info, list(source)


def md5s(pictures: Sequence[Picture]) -> list[str]:
    return [picture.md5() for picture in pictures]


def values(picture: Picture) -> list[tuple[int, int]]:
    """The least and the greatest sample of each plane."""
    return [(int(plane.min()), int(plane.max())) for plane in picture.planes]


# --- constant rate: frame for frame -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("x.mp4", "libx264", NTSC),  # reordered frames
        ("x.mov", "mpeg4", Fraction(2400, 100)),
        ("x.mkv", "libx264", NTSC),  # times in milliseconds
        ("x.webm", "libvpx-vp9", Fraction(60000, 1001)),
        ("x.flv", "flv", Fraction(24)),
        ("x.ts", "libx264", Fraction(25)),  # times that do not begin at 0
        ("x.mpg", "mpeg2video", Fraction(25)),
        ("x.avi", "libx264", Fraction(25)),  # made-up times that are wrong
        ("x.h264", "libx264", Fraction(25)),  # no times at all
        ("x.y4m", "wrapped_avframe", Fraction(50)),
    ],
)
def test_constant_rate(tmp_path: Path, name: str, codec: str, rate: Fraction) -> None:
    speed = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {}
    path = encode(
        tmp_path / name, codec, [frame_of(moving_gradient(i)) for i in range(40)], rate, options=speed
    )
    info, pictures = read(path)
    assert md5s(pictures) == decoded(path)
    assert len(pictures) == 40
    assert info.frame_rate == rate
    assert (info.width, info.height) == (48, 32)
    if name not in ("x.h264", "x.mpg"):
        assert info.frames == 40


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["x.mkv", "x.mp4"])
def test_few_frames(tmp_path: Path, name: str, count: int) -> None:
    codec = "ffv1" if name == "x.mkv" else "libx264"
    path = encode(tmp_path / name, codec, [frame_of(noise(i)) for i in range(count)], NTSC)
    info, pictures = read(path)
    assert md5s(pictures) == decoded(path)
    assert (len(pictures), info.frames, info.frame_rate) == (count, count, NTSC)


def test_longer_than_the_read_ahead(tmp_path: Path) -> None:
    frames = [frame_of(moving_gradient(i, 16, 16)) for i in range(700)]
    path = encode(tmp_path / "x.mkv", "libx264", frames, NTSC)
    info, pictures = read(path)
    assert md5s(pictures) == decoded(path)
    assert info.frame_rate == NTSC


def test_rate_is_learnt_in_spite_of_reordered_frames(tmp_path: Path) -> None:
    """The container declares 25 pictures per second, its times say 29.97."""
    times = [round(index * 1001 / 30) for index in range(300)]
    frames = [frame_of(moving_gradient(i, 16, 16)) for i in range(300)]
    path = encode(tmp_path / "x.mkv", "libx264", frames, times=times)
    info, pictures = read(path)
    assert info.frame_rate == NTSC
    assert md5s(pictures) == decoded(path)


def test_reading_ahead_is_bounded() -> None:
    small, large = SimpleNamespace(size=100), SimpleNamespace(size=5_000_000)
    assert len(_read_ahead(itertools.repeat(small))) == 256  # type: ignore[arg-type]
    assert len(_read_ahead(itertools.repeat(large))) == 4  # type: ignore[arg-type]


def test_pictures_come_before_the_end_is_read(tmp_path: Path) -> None:
    """Y4M through a pipe that stays open: the first picture must not wait for more."""
    picture = noise(0)
    program = (
        "from refenc.source import open_source\n"
        "with open_source('-') as source:\n"
        "    for picture in source: print(picture.md5(), source.info.frames, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        process.stdin.write(b"YUV4MPEG2 W48 H32 F30000:1001 Ip A1:1 C420mpeg2\n")
        for _ in range(100):
            process.stdin.write(b"FRAME\n" + picture.to_bytes())
        process.stdin.flush()
        assert process.stdout.readline().decode().split() == [picture.md5(), "None"]
        process.stdin.close()
        assert len(process.stdout.readlines()) == 99
        watchdog.cancel()
    assert process.returncode == 0


# --- variable rate ----------------------------------------------------------------------------------------


def test_gaps_are_filled(tmp_path: Path) -> None:
    originals = [noise(i) for i in range(8)]
    times = [0, 40, 80, 200, 240, 280, 440, 480]
    path = encode(tmp_path / "x.mkv", "ffv1", [frame_of(picture) for picture in originals], times=times)
    info, pictures = read(path)
    shown = [0, 1, 2, 2, 2, 3, 4, 5, 5, 5, 5, 6, 7]
    assert md5s(pictures) == [originals[index].md5() for index in shown]
    assert (info.frame_rate, info.frames) == (Fraction(25), 13)


def test_variable_rate_comes_at_the_average(tmp_path: Path) -> None:
    times = [0, 20, 40, 60, 80, 200, 320, 440, 560, 680, 760]
    path = encode(tmp_path / "x.mp4", "mpeg4", [frame_of(moving_gradient(i)) for i in range(11)], times=times)
    info, pictures = read(path)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert info.frame_rate == stream.average_rate
        duration = Fraction(stream.duration or 0) * Fraction(stream.time_base or 0)
    assert abs(len(pictures) - duration * info.frame_rate) <= 1
    assert [md5s(pictures)[0], md5s(pictures)[-1]] == [decoded(path)[0], decoded(path)[-1]]


RATES = st.sampled_from([Fraction(n) for n in (1, 8, 10, 12, 15, 24, 25, 30, 50, 60, 120)]) | st.sampled_from(
    [Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)]
)


@given(
    rate=RATES,
    tick=st.sampled_from([MILLISECOND, Fraction(1, 600), Fraction(1, 90000), Fraction(1, 12800)]),
    start=st.fractions(-5, 100),
    count=st.integers(2, 400),
    rounding=st.sampled_from([math.floor, math.ceil, round]),
)
def test_rounded_times_of_a_constant_rate(
    rate: Fraction, tick: Fraction, start: Fraction, count: int, rounding: object
) -> None:
    assert callable(rounding)
    times = [rounding((start + index / rate) / tick) * tick for index in range(count)]
    declared = [rate * Fraction(10, 9), rate]
    found, tolerance = constant_rate(times[:256], tick, declared)
    if count > 20:
        assert found == rate
    frames = [(time, Fraction(0), index) for index, time in enumerate(times)]
    assert list(resample(frames, found, tolerance)) == [(index, 1) for index in range(count)]


@given(
    steps=st.lists(
        st.fractions(Fraction(1, 500), Fraction(1, 2), max_denominator=1000), min_size=1, max_size=50
    ),
    rate=RATES,
)
def test_frames_take_the_nearest_position(steps: list[Fraction], rate: Fraction) -> None:
    times = [sum(steps[:index], Fraction(7)) for index in range(len(steps) + 1)]
    duration = Fraction(1, 10)
    frames = [(time, duration, index) for index, time in enumerate(times)]
    shown = [index for index, count in resample(frames, rate, Fraction(0)) for _ in range(count)]
    positions = [(time - times[0]) * rate for time in times]
    assert abs(len(shown) - positions[-1] - duration * rate) <= Fraction(3, 2)
    assert shown[0] == 0
    assert shown == sorted(shown)
    for place, index in enumerate(shown):
        meeting = [
            i for i, position in enumerate(positions) if math.floor(position + Fraction(1, 2)) == place
        ]
        if meeting:
            assert index == min(meeting, key=lambda i: abs(positions[i] - place))
        else:
            assert index == shown[place - 1]


def test_frames_without_times_come_one_for_one() -> None:
    frames: list[tuple[Fraction | None, Fraction, int]] = [
        (time, Fraction(1), index) for index, time in enumerate([None, Fraction(9), Fraction(3), None])
    ]
    assert list(resample(frames, Fraction(25), Fraction(1, 100))) == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_rate_without_times() -> None:
    assert constant_rate([], MILLISECOND, [Fraction(15), Fraction(30)]) == (Fraction(15), math.inf)
    assert constant_rate([Fraction(1)], MILLISECOND, []) == (Fraction(25), math.inf)


def test_times_count_only_if_every_frame_has_one() -> None:
    packets = [SimpleNamespace(size=9, pts=pts, dts=None) for pts in (0, 2, 1)]
    times = [Fraction(0), MILLISECOND, 2 * MILLISECOND]
    assert _presentation_times(packets, MILLISECOND) == times  # type: ignore[arg-type]
    packets[1].pts = None
    assert _presentation_times(packets, MILLISECOND) == []  # type: ignore[arg-type]
    assert _presentation_times([], MILLISECOND) == []


def test_wrong_declarations_of_a_constant_rate() -> None:
    times = [Fraction(round(index * 1001 / 30), 1000) for index in range(100)]
    assert constant_rate(times, MILLISECOND, [Fraction(1000), Fraction(30)])[0] == NTSC
    assert constant_rate(times, MILLISECOND, [Fraction(2997, 100)])[0] == NTSC
    assert constant_rate(times, MILLISECOND, [])[0] == NTSC


def test_rate_of_irregular_times() -> None:
    times = [Fraction(time, 10) for time in (0, 1, 2, 7, 10)]
    assert constant_rate(times, MILLISECOND, [Fraction(1000), Fraction(5)]) == (Fraction(5), Fraction(0))
    assert constant_rate(times, MILLISECOND, [Fraction(1000)]) == (Fraction(4), Fraction(0))


# --- geometry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation(tmp_path: Path, rotation: int) -> None:
    originals = [noise(i, 33, 18) for i in range(2)]
    frames = [frame_of(picture) for picture in originals]
    path = encode(tmp_path / "x.mkv", "ffv1", frames, rotation=rotation)
    info, pictures = read(path)
    turned = [Picture(*(np.rot90(p, rotation // 90).copy() for p in q.planes)) for q in originals]
    assert md5s(pictures) == md5s(turned)
    assert (info.width, info.height) == ((33, 18) if rotation == 180 else (18, 33))


def test_rotation_turns_size_and_aspect(tmp_path: Path) -> None:
    frames = [frame_of(moving_gradient(i, 64, 32)) for i in range(2)]
    path = encode(
        tmp_path / "x.mp4", "libx264", frames, rotation=90, context={"sample_aspect_ratio": Fraction(4, 3)}
    )
    info, pictures = read(path)
    assert (info.width, info.height, info.sample_aspect) == (32, 64, (3, 4))
    info, pictures = read(path, size=(16, 48))
    assert (info.width, info.height, info.sample_aspect) == (16, 48, (9, 8))
    assert (pictures[0].width, pictures[0].height) == (16, 48)


@pytest.mark.parametrize(("width", "height"), [(33, 17), (31, 64), (64, 31), (1, 1), (3, 2)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    originals = [noise(i, width, height) for i in range(2)]
    path = encode(
        tmp_path / "x.mkv", "ffv1", [frame_of(picture) for picture in originals], options={"level": "1"}
    )
    assert md5s(read(path)[1]) == md5s(originals)


@pytest.mark.parametrize("size", [(24, 16), (96, 64), (31, 49)])
def test_scaling(tmp_path: Path, size: tuple[int, int]) -> None:
    """A ramp stays a ramp, and the displayed shape stays what it is."""
    y, x = np.mgrid[:32, :48]
    luma = (40 + 3 * x + y).astype(np.uint8)
    picture = Picture(luma, np.full((16, 24), 90, np.uint8), np.full((16, 24), 160, np.uint8))
    path = encode(tmp_path / "x.mkv", "ffv1", [frame_of(picture)])
    info, (scaled,) = read(path, size)
    width, height = size
    assert (info.width, info.height) == (scaled.width, scaled.height) == size
    assert Fraction(width, height) * Fraction(*info.sample_aspect) == Fraction(48, 32)
    y, x = np.mgrid[:height, :width]
    expected = 40 + 3 * ((x + 0.5) * 48 / width - 0.5) + ((y + 0.5) * 32 / height - 0.5)
    inside = (slice(4, -4), slice(4, -4))
    assert np.abs(scaled.y - expected)[inside].max() <= 1.5
    assert values(scaled)[1:] == [(90, 90), (160, 160)]


@pytest.mark.parametrize("size", [(509, 521), (263, 521), (509, 251)])
def test_terms_of_the_sample_aspect_are_bounded(tmp_path: Path, size: tuple[int, int]) -> None:
    path = encode(tmp_path / "x.mkv", "ffv1", [frame_of(noise(0, 499, 503))])
    info, _ = read(path, size)
    assert max(info.sample_aspect) <= 65535
    exact = Fraction(499 * size[1], 503 * size[0])
    assert abs(Fraction(*info.sample_aspect) / exact - 1) < Fraction(1, 60000)


def test_crop_keeps_samples_and_chroma_in_place(tmp_path: Path) -> None:
    """Where the crop needs no scaling, the samples come through untouched."""
    original = noise(3, 64, 38)
    path = encode(tmp_path / "x.mkv", "ffv1", [frame_of(original)])
    info, (cropped,) = read(path, (64, 32), crop=True)
    assert cropped.y.tobytes() == original.y[2:34].tobytes()
    assert cropped.u.tobytes() == original.u[1:17].tobytes()
    assert (info.height, info.sample_aspect) == (32, (1, 1))
    info, (cropped,) = read(path, (29, 38), crop=True)
    assert cropped.y.tobytes() == original.y[:, 16:45].tobytes()
    assert cropped.v.tobytes() == original.v[:, 8:23].tobytes()


def test_crop_of_other_shapes(tmp_path: Path) -> None:
    """96x64 samples of 4:3 show 2:1; a square of it is the middle half."""
    _, x = np.mgrid[:64, :96]
    chroma = np.full((32, 48), 128, np.uint8)
    picture = Picture((2 * x + 20).astype(np.uint8), chroma, chroma)
    frames = [frame_of(picture)]
    path = encode(
        tmp_path / "x.mp4",
        "libx264",
        frames,
        options={"qp": "1"},
        context={"sample_aspect_ratio": Fraction(4, 3)},
    )
    info, (cropped,) = read(path, (32, 32), crop=True)
    assert (info.width, info.height, info.sample_aspect) == (32, 32, (1, 1))
    expected = 20 + 2 * (24 + (np.arange(32) + 0.5) * 48 / 32 - 0.5)
    assert np.abs(cropped.y[16] - expected).max() <= 2.5


def test_change_of_size_within_the_stream(tmp_path: Path) -> None:
    for name, width in (("a.h264", 64), ("b.h264", 32)):
        encode(tmp_path / name, "libx264", [frame_of(moving_gradient(i, width, 48)) for i in range(3)])
    joined = tmp_path / "x.h264"
    joined.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    info, pictures = read(str(joined))
    assert {(picture.width, picture.height) for picture in pictures} == {(64, 48)}
    assert (info.width, len(pictures)) == (64, 6)
    assert md5s(pictures)[:3] == decoded(str(tmp_path / "a.h264"))


# --- colour and pixel formats -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signalled", "expected"),
    [
        ({}, Colour()),
        ({"color_primaries": 6, "color_trc": 6, "colorspace": 5, "color_range": 1}, Colour(6, 6, 5)),
        ({"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 2}, Colour(9, 16, 9, True)),
        ({"colorspace": 6}, Colour(1, 1, 6)),
    ],
)
def test_colour_is_kept(tmp_path: Path, signalled: dict[str, int | Fraction], expected: Colour) -> None:
    original = noise(0)
    info, pictures = read(encode(tmp_path / "x.mkv", "ffv1", [frame_of(original)], context=signalled))
    assert info.colour == expected
    assert md5s(pictures) == [original.md5()]


def test_full_range_in_a_format_of_its_own(tmp_path: Path) -> None:
    """MJPEG and H.264 of full range decode to yuvj420p."""
    frames = [frame_of(moving_gradient(i)) for i in range(3)]
    path = encode(tmp_path / "x.mp4", "libx264", frames, context={"color_range": 2})
    info, pictures = read(path)
    assert info.colour == Colour(full_range=True)
    assert md5s(pictures) == decoded(path)


@pytest.mark.parametrize(
    ("pixel_format", "samples", "expected"),
    [
        ("yuv420p10le", (940, 400, 600), (235, 100, 150)),
        ("yuv444p10le", (64, 512, 800), (16, 128, 200)),
        ("yuv422p", (77, 100, 200), (77, 100, 200)),
        ("yuv444p", (235, 16, 240), (235, 16, 240)),
        ("yuva420p", (77, 100, 200, 5), (77, 100, 200)),
        ("gray", (77,), (77, 128, 128)),
    ],
)
def test_pixel_formats(
    tmp_path: Path, pixel_format: str, samples: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    frame = flat_frame(pixel_format, samples, 49, 31)
    info, (picture,) = read(encode(tmp_path / "x.mkv", "ffv1", [frame]))
    assert (picture.width, picture.height) == (49, 31)
    assert values(picture) == [(value, value) for value in expected]
    assert info.colour.full_range == (pixel_format == "gray")


def test_full_range_stays_in_other_formats(tmp_path: Path) -> None:
    frame = flat_frame("yuv444p", (255, 0, 255))
    info, (picture,) = read(
        encode(tmp_path / "x.mkv", "ffv1", [frame], context={"color_range": 2, "colorspace": 6})
    )
    assert values(picture) == [(255, 255), (0, 0), (255, 255)]
    assert info.colour == Colour(matrix=6, full_range=True)


def test_semi_planar(tmp_path: Path) -> None:
    frame = flat_frame("nv12", (90, 0))
    rows_of(frame.planes[1])[:] = np.tile(np.array([100, 200], np.uint8), 24)[:48]
    _, (picture,) = read(encode(tmp_path / "x.nut", "rawvideo", [frame]))
    assert values(picture) == [(90, 90), (100, 100), (200, 200)]


def test_grey_keeps_its_samples_and_range(tmp_path: Path) -> None:
    frame = frame_of(noise(0)).reformat(format="gray")
    luma = rows_of(frame.planes[0])[:, :48].tobytes()
    info, (picture,) = read(encode(tmp_path / "x.mkv", "ffv1", [frame], context={"color_range": 1}))
    assert picture.y.tobytes() == luma
    assert info.colour == Colour()


@pytest.mark.parametrize("rgb", [(255, 255, 255), (0, 0, 0), (255, 0, 0), (20, 200, 90)])
def test_rgb_becomes_bt709(tmp_path: Path, rgb: tuple[int, int, int]) -> None:
    """Whatever matrix and range are signalled: they are not those of RGB."""
    r, g, b = (value / 255 for value in rgb)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    expected = (16 + 219 * y, 128 + 224 * (b - y) / 1.8556, 128 + 224 * (r - y) / 1.5748)
    frame = VideoFrame(49, 31, "bgr0")
    rows_of(frame.planes[0])[:, : 4 * 49] = np.tile(np.array([*rgb[::-1], 0], np.uint8), 49)
    signalled: dict[str, int | Fraction] = {"color_trc": 13, "colorspace": 5, "color_range": 2}
    info, (picture,) = read(encode(tmp_path / "x.mkv", "ffv1", [frame], context=signalled))
    assert info.colour == Colour(transfer=13)
    for plane, value in zip(picture.planes, expected, strict=True):
        assert np.abs(plane - value).max() <= 1


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (49, 31), 1)
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "x.png")
    info, (picture,) = read(str(tmp_path / "x.png"))
    assert info.colour == Colour()
    assert values(picture) == [(235, 235), (128, 128), (128, 128)]


def test_animated_gif(tmp_path: Path) -> None:
    frames = [frame_of(moving_gradient(i)).reformat(format="rgb8") for i in range(4)]
    info, pictures = read(encode(tmp_path / "x.gif", "gif", frames, Fraction(10)))
    assert (info.colour, info.frame_rate, len(pictures)) == (Colour(), Fraction(10), 4)


def test_interlaced_frames_are_taken_as_they_are(tmp_path: Path) -> None:
    frames = [frame_of(moving_gradient(i)) for i in range(4)]
    path = encode(tmp_path / "x.mp4", "libx264", frames, options={"x264-params": "tff=1"})
    assert md5s(read(path)[1]) == decoded(path)
    info, pictures = read(path, (24, 16))
    assert (info.width, len(pictures)) == (24, 4)


# --- what is not video ------------------------------------------------------------------------------------


def sound(path: Path, cover: bool = False) -> str:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", 48000)
        if cover:
            picture = output.add_stream("mjpeg", Fraction(1))
            picture.width, picture.height, picture.pix_fmt = 48, 32, "yuvj420p"
            picture.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if cover:
            output.mux(picture.encode(frame_of(moving_gradient(0)).reformat(format="yuvj420p")))
            output.mux(picture.encode())
    return str(path)


def message(path: str) -> str:
    with pytest.raises(SourceError) as error:
        open_source(path)
    text = str(error.value)
    assert path in text
    assert "\n" not in text
    return text


def test_sound_is_not_video(tmp_path: Path) -> None:
    assert "no video stream" in message(sound(tmp_path / "x.mp4"))


def test_a_cover_picture_is_not_video(tmp_path: Path) -> None:
    path = sound(tmp_path / "x.mp4", cover=True)
    with av.open(path) as container:
        assert container.streams.video
    assert "no video stream" in message(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "Invalid data"),
        ("garbage.mkv", np.random.default_rng(1).bytes(5000), "Invalid data"),
        ("notes.txt", b"Not a video.\n" * 50, "is text"),
        ("header.y4m", b"YUV4MPEG2 W48 H32 F25:1 Ip A1:1 C420mpeg2\n", "no picture"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason in message(str(tmp_path / name))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in message(str(tmp_path / "none.mp4"))
    assert "directory" in message(str(tmp_path))


def test_colon_in_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "x.mkv", "ffv1", [frame_of(noise(0))])
    (tmp_path / "x.mkv").rename("12:30.mkv")
    assert len(read("12:30.mkv")[1]) == 1


def test_recording_that_begins_between_key_frames(tmp_path: Path) -> None:
    frames = [frame_of(moving_gradient(i)) for i in range(60)]
    path = encode(tmp_path / "x.ts", "libx264", frames, options={"g": "25", "x264-params": "scenecut=0"})
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[188 * 30 :])
    pictures = read(path)[1]
    assert md5s(pictures) == decoded(path)
    assert 20 <= len(pictures) < 60


def test_damaged_container_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.y4m"
    header = b"YUV4MPEG2 W48 H32 F25:1 Ip A1:1 C420mpeg2\n"
    path.write_bytes(header + 3 * (b"FRAME\n" + noise(0).to_bytes()) + b"SHAME\n" + noise(0).to_bytes())
    with open_source(str(path)) as source, pytest.raises(SourceError, match="damaged after 2 pictures"):
        list(source)


def test_damaged_picture_is_reported(tmp_path: Path) -> None:
    frames = [frame_of(noise(i)).reformat(format="rgb24") for i in range(6)]
    path = Path(encode(tmp_path / "x.mov", "png", frames))
    parts = path.read_bytes().split(b"\x89PNG")
    path.write_bytes(b"\x89PNG".join(parts[:4]) + b"\x89GNP" + b"\x89PNG".join(parts[4:]))
    with open_source(str(path)) as source, pytest.raises(SourceError, match="damaged after 2 pictures"):
        list(source)


def test_importing_the_module_does_not_import_pyav() -> None:
    program = "import sys, refenc.source; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
