"""Keyframes: what becomes of every codec's payload, and the upsampling of coded pictures."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import random_picture, settings

from refdec import keyframes
from tgv_format import obu
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, Role, coded_size
from tgv_format.picture import Picture, chroma_size
from tgv_format.tables import load

av = pytest.importorskip("av")


def unit(codec: Codec, payload: bytes, downscale_log2: int = 0) -> Keyframe:
    return Keyframe(codec, Role.LEADING, 0, downscale_log2, payload, payload_offset=1000)


def decode(payload: bytes, width: int, height: int, downscale_log2: int = 0) -> Picture:
    return keyframes.decode(unit(Codec.AV1, payload, downscale_log2), width, height, "keyframe[4]")


def fault(payload: bytes, width: int = 48, height: int = 32) -> TgvError:
    with pytest.raises(TgvError) as caught:
        decode(payload, width, height)
    assert caught.value.identifier == "keyframe-invalid"
    assert caught.value.path == "keyframe[4].payload"
    assert 1000 <= caught.value.offset <= 1000 + len(payload)
    return caught.value


# --- AV1 payloads, made with encoders that have nothing to do with the codec under test


def smooth(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture that compresses: smooth colours and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 20.0
    base = [100 + 60 * np.sin(x * a + b) * np.cos(y * b + a) for a, b in rng.uniform(0.5, 2, (3, 2))]
    noisy = np.stack(base, -1) + rng.normal(0, 6, (height, width, 1))
    return cast("NDArray[np.uint8]", np.clip(noisy, 0, 255).astype(np.uint8))


@cache
def still(width: int, height: int, subsampling: str = "4:2:0", quality: int = 60, **options: Any) -> bytes:
    """The image item of an AVIF file by libaom, without a temporal delimiter."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.fromarray(smooth(width, height))
    image.save(out, "AVIF", quality=quality, subsampling=subsampling, speed=9, max_threads=1, **options)
    out.seek(0)
    with av.open(out) as container:
        data = b"".join(bytes(packet) for packet in container.demux(video=0) if packet.size)
    return data.removeprefix(b"\x12\0")


@cache
def svt(
    frames: int = 1, pixel_format: str = "yuv420p", parameters: str = "lp=1", size: int = 64
) -> list[bytes]:
    """Temporal units of SVT-AV1, without their delimiters."""
    context = av.CodecContext.create("libsvtav1", "w")
    context.width, context.height, context.pix_fmt = size, size, pixel_format
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"preset": "8", "crf": "30", "svtav1-params": parameters}
    packets = []
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(smooth(size, size, index), "rgb24").reformat(format=pixel_format)
        frame.pts = index
        packets += context.encode(frame)
    return [bytes(packet).removeprefix(b"\x12\0") for packet in [*packets, *context.encode(None)]]


def reference(payload: bytes, **options: str) -> list[tuple[NDArray[np.uint8], ...]]:
    """The planes of all pictures as FFmpeg's decoder returns them by itself."""
    context = av.CodecContext.create("libdav1d", "r")
    context.options = options
    out = []
    for frame in [*context.decode(av.Packet(b"\x12\0" + payload)), *context.decode(None)]:
        cw, ch = chroma_size(frame.width, frame.height)
        planes = []
        for plane, w, h in zip(frame.planes, (frame.width, cw, cw), (frame.height, ch, ch), strict=True):
            planes.append(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:h, :w].copy())
        out.append(tuple(planes))
    return out


# --- Raw


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_raw(width: int, height: int, seed: int) -> None:
    picture = random_picture(width, height, seed)
    decoded = keyframes.decode(unit(Codec.RAW, picture.to_bytes()), width, height)
    assert decoded.to_bytes() == picture.to_bytes()
    assert decoded.y[0, -1] == picture.to_bytes()[width - 1]
    assert decoded.u.shape == decoded.v.shape == ((height + 1) // 2, (width + 1) // 2)


@pytest.mark.parametrize("change", [-1, 1])
def test_raw_of_another_size(change: int) -> None:
    data = random_picture(7, 5, 0).to_bytes()
    bad = data[:change] if change < 0 else data + b"\0"
    with pytest.raises(TgvError) as caught:
        keyframes.decode(unit(Codec.RAW, bad), 7, 5, "keyframe[2]")
    assert (caught.value.identifier, caught.value.path) == ("keyframe-invalid", "keyframe[2].payload")
    assert caught.value.offset == 1000


def test_a_codec_without_a_decoding_process() -> None:
    with pytest.raises(TgvError) as caught:
        keyframes.decode(unit(Codec.DIFFEIC, b"x"), 8, 8, "keyframe[0]")
    assert (caught.value.identifier, caught.value.offset) == ("unsupported-codec", 1000)


# --- AV1


SMALL = [(1, 1), (1, 2), (2, 1), (3, 5), (16, 16), (17, 33), (65, 1), (1, 65)]


@pytest.mark.parametrize("size", [*SMALL, (64, 48), (129, 63), (512, 320)])
def test_av1(size: tuple[int, int]) -> None:
    payload = still(*size)
    (planes,) = reference(payload)
    picture = decode(payload, *size)
    assert (picture.width, picture.height) == size
    for plane, expected in zip(picture.planes, planes, strict=True):
        assert plane.dtype == np.uint8
        assert plane.flags.c_contiguous
        assert np.array_equal(plane, expected)
    rgb = smooth(*size).astype(float)
    luma = rgb @ [0.299, 0.587, 0.114]
    assert min(np.abs(picture.y - luma).mean(), np.abs(picture.y - (16 + luma * 219 / 255)).mean()) < 12


def test_av1_of_svt() -> None:
    (payload,) = svt()
    (planes,) = reference(payload)
    assert np.array_equal(decode(payload, 64, 64).y, planes[0])


def test_av1_in_full_range_is_the_samples_as_they_are() -> None:
    payload = still(64, 48, range="full")
    assert np.array_equal(decode(payload, 64, 48).y, reference(payload)[0][0])


def test_film_grain_is_not_part_of_the_picture() -> None:
    """The picture is the one before grain, which is the one that an encoder without grain codes."""
    (plain,) = svt()
    (grainy,) = svt(parameters="film-grain=50:film-grain-denoise=0:lp=1")
    assert grainy != plain
    assert decode(grainy, 64, 64).md5() == decode(plain, 64, 64).md5()
    assert not np.array_equal(reference(grainy)[0][0], decode(grainy, 64, 64).y), (
        "there is grain in the stream"
    )


def test_decoding_twice_is_the_same() -> None:
    payload = still(129, 63)
    assert len({decode(payload, 129, 63).md5() for _ in range(5)}) == 1


def test_av1_of_another_size() -> None:
    payload = still(48, 32)
    for size in ((47, 32), (48, 31), (48, 33), (96, 64), (32, 48), (1, 1), (8192, 1088)):
        fault(payload, *size)


def test_av1_of_another_format() -> None:
    assert "yuv444p" in str(fault(still(64, 64, subsampling="4:4:4"), 64, 64))
    assert "yuv422p" in str(fault(still(64, 64, subsampling="4:2:2"), 64, 64))
    assert "gray" in str(fault(still(64, 64, subsampling="4:0:0"), 64, 64))
    (deep,) = svt(pixel_format="yuv420p10le")
    assert "yuv420p10le" in str(fault(deep, 64, 64))


def test_av1_of_another_number_of_pictures() -> None:
    payload = still(48, 32)
    first, second = svt(2)
    assert "2 pictures" in str(fault(first + second, 64, 64))
    assert "2 pictures" in str(fault(payload + payload))
    units = list(obu.split(payload))
    assert [u.obu_type for u in units] == [obu.ObuType.SEQUENCE_HEADER, obu.ObuType.FRAME]
    fault(units[0].data)
    fault(second, 64, 64)
    fault(first[: len(next(obu.split(first)).data)] + second, 64, 64)


TRACK = "crf=50:keyint=-1:scd=0:enable-tf=0:lp=1"


def dependent(payload: bytes) -> Keyframe:
    return replace(unit(Codec.AV1, payload), dependent=True)


def test_a_sequence_of_keyframes() -> None:
    """Every unit gives its picture at once, although some were coded as hidden frames before."""
    first, *rest = svt(7, parameters=TRACK)
    assert min(map(len, rest)) == 3
    context = av.CodecContext.create("libdav1d", "r")
    data = b"".join(b"\x12\0" + payload for payload in (first, *rest))
    shown = [frame.to_ndarray()[:64] for frame in [*context.decode(av.Packet(data)), *context.decode(None)]]
    decoder = keyframes.KeyframeDecoder(64, 64)
    pictures = [decoder.decode(unit(Codec.AV1, first)), *(decoder.decode(dependent(data)) for data in rest)]
    for picture, expected in zip(pictures, shown, strict=True):
        assert np.array_equal(picture.y, expected)
    again = [decoder.decode(unit(Codec.AV1, first)), *(decoder.decode(dependent(data)) for data in rest[:2])]
    assert [picture.md5() for picture in again] == [picture.md5() for picture in pictures[:3]]


def test_a_dependent_keyframe_by_itself() -> None:
    first, second, third = svt(3, parameters=TRACK)
    decoder = keyframes.KeyframeDecoder(64, 64)
    for _ in range(2):
        with pytest.raises(TgvError, match="does not decode"):
            decoder.decode(dependent(second))
        decoder.decode(unit(Codec.AV1, first))
        decoder.decode(dependent(second))
        decoder.reset()
    with pytest.raises(TgvError, match="OBU types"):
        decoder.decode(dependent(first))
    with pytest.raises(TgvError, match="OBU types"):
        decoder.decode(unit(Codec.AV1, third))


def test_hidden_frames_are_bounded() -> None:
    first, second, _ = svt(3, parameters=TRACK)
    hidden = next(obu.split(second)).data
    assert len(list(obu.split(second))) == 2
    for more in (7, 8):
        decoder = keyframes.KeyframeDecoder(64, 64)
        decoder.decode(unit(Codec.AV1, first))
        if more == 7:
            decoder.decode(dependent(second + more * hidden))
        else:
            with pytest.raises(TgvError, match="more than 9"):
                decoder.decode(dependent(second + more * hidden))


def test_av1_with_other_units() -> None:
    payload = still(48, 32)
    header, frame = (u.data for u in obu.split(payload))
    decode(header + frame, 48, 32)
    fault(frame + header)
    fault(frame)
    fault(b"\x12\0" + payload)
    for kind in (0, 2, 5, 7, 8, 9, 14, 15):
        for place in (0, len(header), len(payload)):
            other = bytes([kind << 3 | 2, 2, 0, 0x80])
            fault(payload[:place] + other + payload[place:])


def test_obu_split() -> None:
    payload = still(48, 32)
    assert b"".join(u.data for u in obu.split(payload)) == payload
    assert list(obu.split(b"")) == []
    long = b"\x0a" + b"\xac\x02" + bytes(300)
    assert [u.data for u in obu.split(long + b"\x36\x77\0\x32\x81\0z")] == [
        long,
        b"\x36\x77\0",
        b"\x32\x81\0z",
    ]
    for bad in (
        b"\x0a",  # no size
        b"\x0a\x01",  # cut off
        b"\x0a\x80",
        b"\x0a\x80\x80\x80\x80\x80\x01\0",  # a size of six bytes
        b"\x08\0",  # without a size
        b"\x8a\0",  # the forbidden bit
        b"\x0b\0",  # the reserved bit
        b"\x0e",  # an extension that is not there
        b"\x0e\x11",
    ):
        for head in (b"", long):
            with pytest.raises(obu.ObuError) as caught:
                list(obu.split(head + bad))
            assert caught.value.offset == len(head)


@settings(max_examples=200)
@given(st.data())
def test_damaged_av1(data: st.DataObject) -> None:
    """The damage is found or not, which is the CRC's business; nothing but TgvError is raised."""
    payload = bytearray(still(48, 32))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(payload) - 1))
        kind = data.draw(st.sampled_from(["flip", "set", "cut", "insert", "delete"]))
        if kind == "flip":
            payload[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set":
            payload[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            payload[place:place] = data.draw(st.binary(min_size=1, max_size=5))
        elif place:
            del payload[place : None if kind == "cut" else place + 2]
    survive(bytes(payload))


def test_av1_with_bit_errors() -> None:
    payload = still(48, 32)
    for bit in range(8 * len(payload)):
        bad = bytearray(payload)
        bad[bit >> 3] ^= 1 << (bit & 7)
        survive(bytes(bad))


def test_truncated_av1() -> None:
    """Cutting the payload alone breaks the sizes of its units; the frame is also cut inside its unit."""
    payload = still(48, 32)
    for size in range(1, len(payload)):
        fault(payload[:size])
    header, frame = (u.data for u in obu.split(payload))
    body = frame[3:] if frame[1] & 0x80 else frame[2:]
    for size in range(0, min(len(body), 127), 5):
        survive(header + frame[:1] + bytes([size]) + body[:size])


def survive(payload: bytes) -> None:
    try:
        picture = decode(payload, 48, 32)
    except TgvError as caught:
        error = caught
    else:
        assert (picture.width, picture.height) == (48, 32)
        return
    assert (error.identifier, error.path) == ("keyframe-invalid", "keyframe[4].payload")
    assert 1000 <= error.offset <= 1000 + len(payload)


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=100), st.booleans())
def test_arbitrary_bytes_as_av1(data: bytes, framed: bool) -> None:
    if framed:
        half = len(data) // 2
        data = b"\x0a" + bytes([half]) + data[:half] + b"\x32" + bytes([len(data) - half]) + data[half:]
    survive(data)


def test_larger_av1_pictures_are_refused_before_they_are_decoded() -> None:
    """A few hundred bytes may announce 65536 x 65536 samples: the decoder is told how many are wanted."""
    payload = still(64, 64)
    for size in ((48, 32), (64, 63), (63, 64), (1, 1)):
        assert "does not decode" in str(fault(payload, *size))
    for size in ((65, 64), (128, 128), (32, 128)):
        assert "the AV1 picture is 64x64" in str(fault(payload, *size))


def test_ffmpeg_says_nothing() -> None:
    """Its complaints would break the rule of one line for a bad stream."""
    payload = still(48, 32)
    bad = [b"\x0a\x03abc\x32\x04defg", still(64, 64), payload[:60] + b"\xff" * (len(payload) - 60)]
    code = f"""
from refdec import keyframes
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, Role
for payload in {bad!r}:
    try:
        keyframes.decode(Keyframe(Codec.AV1, Role.LEADING, 0, 0, payload), 48, 32)
    except TgvError:
        print("bad")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("bad\nbad\n")
    assert result.stderr == ""


# --- Upsampling, against one sample at a time

TAPS: list[int] = load("upsampling")["upsampling_taps"]


def slow_double(plane: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Each sample from a 4 x 4 neighbourhood. Samples 2i and 2i + 1 lie a quarter before and after sample i,
    so that the four nearest ones are i - 2 .. i + 1 and i - 1 .. i + 2; the second heaviest is the nearer
    neighbour. Beyond the edges, samples repeat; rounding comes once, at the end."""
    rows, columns = plane.shape

    def neighbours(position: int, size: int) -> list[tuple[int, int]]:
        i, odd = divmod(position, 2)
        direction = 1 if odd else -1
        offsets = (-direction, 0, direction, 2 * direction)
        return [(min(max(i + o, 0), size - 1), weight) for o, weight in zip(offsets, TAPS, strict=True)]

    out = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            total = sum(
                wy * wx * int(plane[sy, sx])
                for sy, wy in neighbours(y, rows)
                for sx, wx in neighbours(x, columns)
            )
            out[y, x] = min(max((total + 8192) // 16384, 0), 255)
    return out


def test_upsampling_taps() -> None:
    """They keep a constant, and a ramp away from its ends: the centre of mass is a quarter sample away."""
    assert sum(TAPS) == 128
    assert 2 ** load("upsampling")["shift"] == 128**2
    assert abs(sum(t * w for t, w in zip((-1, 0, 1, 2), TAPS, strict=True)) / 128 - 0.25) < 0.01


@settings(max_examples=40)
@given(st.integers(1, 19), st.integers(1, 19), st.integers(0, 999), st.booleans())
@example(1, 1, 0, False)
@example(2, 1, 0, False)
@example(19, 18, 1, True)
def test_upsampling(width: int, height: int, seed: int, extreme: bool) -> None:
    size = coded_size(width, height, 1)
    small = random_picture(*size, seed)
    if extreme:
        small = Picture(*(np.where(p > 127, 255, 0).astype(np.uint8) for p in small.planes))
    large = keyframes.upsample(small, width, height)
    cw, ch = chroma_size(width, height)
    for plane, source, shape in zip(
        large.planes, small.planes, ((width, height), (cw, ch), (cw, ch)), strict=True
    ):
        assert plane.dtype == np.uint8
        assert plane.flags.c_contiguous
        assert np.array_equal(plane, slow_double(source, *shape))


@given(st.integers(1, 33), st.integers(1, 33), st.integers(0, 2), st.integers(0, 255))
def test_upsampling_keeps_a_constant(width: int, height: int, downscale_log2: int, value: int) -> None:
    w, h = coded_size(width, height, downscale_log2)
    cw, ch = chroma_size(w, h)
    payload = bytes([value]) * (w * h) + bytes([255 - value]) * (cw * ch) + bytes([7]) * (cw * ch)
    picture = keyframes.decode(unit(Codec.RAW, payload, downscale_log2), width, height)
    assert (picture.width, picture.height) == (width, height)
    assert (picture.y == value).all()
    assert (picture.u == 255 - value).all()
    assert (picture.v == 7).all()


@pytest.mark.parametrize("size", [(5, 3), (16, 12), (13, 30), (1, 1), (4, 1)])
def test_a_quarter_of_the_size_is_doubled_twice(size: tuple[int, int]) -> None:
    quarter, half = coded_size(*size, 2), coded_size(*size, 1)
    small = random_picture(*quarter, 5)
    picture = keyframes.decode(unit(Codec.RAW, small.to_bytes(), 2), *size)
    middle = slow_double(small.y, *half)
    assert np.array_equal(picture.y, slow_double(middle, *size))
    middle = slow_double(small.v, *chroma_size(*half))
    assert np.array_equal(picture.v, slow_double(middle, *chroma_size(*size)))


def test_av1_at_half_the_size() -> None:
    payload = still(33, 17)
    picture = decode(payload, 65, 33, 1)
    (planes,) = reference(payload)
    assert np.array_equal(picture.y, slow_double(planes[0], 65, 33))
    with pytest.raises(TgvError):
        decode(payload, 67, 33, 1)
    with pytest.raises(TgvError):
        decode(payload, 33, 17, 1)


def test_upsampling_is_sharper_than_bilinear_and_hardly_moves_anything() -> None:
    """A smooth picture at half the size comes back where it was."""
    y, x = np.mgrid[0:64, 0:64]
    function: Callable[[Any, Any], Any] = lambda x, y: 128 + 80 * np.sin(x / 9) * np.cos(y / 7)  # noqa: E731
    large = function(x, y)
    small = function(2 * x[:32, :32] + 0.5, 2 * y[:32, :32] + 0.5).round().astype(np.uint8)
    chroma = np.full((16, 16), 128, np.uint8)
    up = keyframes.upsample(Picture(small, chroma, chroma), 64, 64)
    assert np.abs(up.y - large)[4:-4, 4:-4].max() < 1.5


def test_raw_keyframes_need_no_codec() -> None:
    script = (
        "import sys; sys.modules['av'] = None\n"
        "from refdec import keyframes\n"
        "from tgv_format.keyframe import Codec, Keyframe, Role\n"
        "keyframes.decode(Keyframe(Codec.RAW, Role.LEADING, 0, 0, b'yuv'), 1, 1)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
