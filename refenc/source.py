"""Video sources: whatever FFmpeg reads, as 8-bit 4:2:0 pictures of one size at a constant rate.

Samples are converted only where they must be: an 8-bit 4:2:0 source at its own size passes through bit
for bit, in its own colour space and range.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from tgv_format.picture import Colour, Picture, Plane, chroma_size

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane
    from av.video.stream import VideoStream

T = TypeVar("T")

_DEFAULT_RATE = Fraction(25)
_MAX_ASPECT_TERM = 65535
# Formats that store a rate and no times. (Those that FFmpeg makes up for AVI ignore reordered frames.)
_UNTIMED = ("avi", "yuv4mpegpipe")
# Packets are read ahead of the decoder, to learn the frame rate, until one of these is reached.
_AHEAD_PACKETS = 256
_AHEAD_BYTES = 1 << 24


class SourceError(Exception):
    """The source cannot be read; the message is one line for the user."""


@dataclass(frozen=True)
class VideoInfo:
    """What a source delivers.

    ``width`` and ``height`` are in luma samples, after rotation, cropping and scaling. ``frame_rate`` is in
    pictures per second. ``sample_aspect`` is sample width : sample height in lowest terms, each 1..65535.
    ``frames`` estimates the number of pictures, for progress bars; None when it is unknown.
    """

    width: int
    height: int
    frame_rate: Fraction
    colour: Colour
    sample_aspect: tuple[int, int]
    frames: int | None


def open_source(path: str, size: tuple[int, int] | None = None, crop: bool = False) -> VideoSource:
    """Open the video ``path``, or Y4M on standard input where it is ``"-"``.

    ``size`` (width, height) scales the pictures with Lanczos and changes the sample aspect ratio so that
    the displayed shape stays. With ``crop`` the picture is instead cropped around its centre to the shape
    that ``size`` has in square samples. Raises :class:`SourceError`.
    """
    import av

    if path == "-":
        url, container_format = "pipe:0", "yuv4mpegpipe"
    else:
        # The prefix keeps a colon in the name of a file from being taken for a protocol.
        url, container_format = f"file:{path}" if os.path.exists(path) else path, None
    with ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(url, "r", format=container_format))
            source = VideoSource(container, path, size, crop)
        except av.FFmpegError as error:
            raise SourceError(f"{path}: cannot be read as video: {error.strerror}") from error
        stack.pop_all()
        return source


class VideoSource:
    """The pictures of one video in display order, made by :func:`open_source`.

    A context manager that closes the file. Iteration decodes as it goes and yields every
    :class:`~tgv_format.picture.Picture` once; it raises :class:`SourceError` where the file is damaged.
    Interlaced pictures are taken as they are and audio is ignored. ``info`` describes the pictures.
    """

    info: VideoInfo

    def __init__(
        self, container: InputContainer, name: str, size: tuple[int, int] | None, crop: bool
    ) -> None:
        stream = _video_stream(container, name)
        stream.codec_context.thread_type = "AUTO"
        time_base = stream.time_base or Fraction(0)
        packets = container.demux(stream)
        ahead = [] if container.format.name in _UNTIMED else _read_ahead(packets)
        times = _presentation_times(ahead, time_base)
        declared = [rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
        rate, tolerance = constant_rate(times, time_base, declared)

        frames = _decode(chain(ahead, packets), time_base)
        first = next(frames, None)
        if first is None:
            raise SourceError(f"{name}: holds no picture that can be decoded")
        converter = _Converter(first[2], stream.sample_aspect_ratio or Fraction(1), size, crop)

        self._container = container
        self._pictures = _convert(resample(chain([first], frames), rate, tolerance), converter, name)
        width, height = converter.size
        frames_estimate = _count(container, stream, rate)
        self.info = VideoInfo(width, height, rate, converter.colour, converter.sample_aspect, frames_estimate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Picture]:
        return self._pictures


def constant_rate(
    times: Sequence[Fraction], tick: Fraction, declared: Sequence[Fraction]
) -> tuple[Fraction, Fraction | float]:
    """The rate at which to deliver a stream, and how far an interval may be from its period to count as one.

    ``times`` are the presentation times in seconds of the first frames, ascending, ``tick`` is the unit to
    which the container rounds them, ``declared`` are the rates that it states, the most trusted one first.
    The second result is in periods: infinite without times to go by, 0 for a stream of variable rate.

    Times come before declarations because containers declare wrong rates: an average over a last frame
    whose duration was never written, or a guess from times in milliseconds.
    """
    if len(times) < 2:
        return (declared[0] if declared else _DEFAULT_RATE), math.inf
    intervals = len(times) - 1
    measured = intervals / (times[-1] - times[0])
    # Rounding moves every time by up to a tick, and with the outer two the measured rate.
    tolerance = min(max(Fraction(3, 2) * tick * measured, Fraction(1, 100)), Fraction(1, 4))
    if any(abs((time - times[0]) * measured - index) > tolerance for index, time in enumerate(times)):
        plausible = (rate for rate in declared if measured / 4 <= rate <= measured * 4)
        return _tidy(next(plausible, measured), Fraction(0)), Fraction(0)
    error = tolerance / intervals + Fraction(1, 10_000)
    agreeing = (rate for rate in declared if abs(rate / measured - 1) <= error)
    rate = next(agreeing, None)
    return (_tidy(rate, Fraction(1, 100_000)) if rate else _tidy(measured, error)), tolerance


def resample(
    frames: Iterable[tuple[Fraction | None, Fraction, T]], rate: Fraction, tolerance: Fraction | float
) -> Iterator[tuple[T, int]]:
    """Place frames of any timing on a grid of ``rate``: each frame with how often to show it.

    ``frames`` are (presentation time or None, duration, frame), times in seconds. A frame takes the grid
    position nearest to its time and stays until the next one; where several meet, the nearest is kept.
    Intervals within ``tolerance`` of one period, and those without usable times, count as exactly one
    period, so that frames of a constant rate come out one for one however their times are rounded.
    """
    position = Fraction(0)
    held: tuple[T, int, Fraction] | None = None  # Frame, its place on the grid, its distance from there.
    before: Fraction | None = None
    end = Fraction(0)
    for time, duration, frame in frames:
        if held is not None:
            step = (time - before) * rate if time is not None and before is not None else Fraction(0)
            position += 1 if step <= 0 or abs(step - 1) <= tolerance else step
        before = time
        # How long the last frame lasts is known, and trusted, only where frames have durations of their own.
        end = position + (1 if tolerance else duration * rate)
        place = math.floor(position + Fraction(1, 2))
        distance = abs(position - place)
        if held is not None:
            if place > held[1]:
                yield held[0], place - held[1]
            elif distance >= held[2]:
                continue
        held = frame, place, distance
    if held is not None:
        yield held[0], max(1, math.floor(end + Fraction(1, 2)) - held[1])


def _tidy(rate: Fraction, error: Fraction) -> Fraction:
    """A whole rate, or whole one times 1000/1001, within the relative ``error``; else one of small terms."""
    standard = [Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)]
    nearest = min(standard, key=lambda candidate: abs(candidate - rate))
    if abs(nearest / rate - 1) <= error:
        return nearest
    return max(rate.limit_denominator(1001), Fraction(1, 1001))


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    from av.stream import Disposition
    from av.video.stream import VideoStream

    if container.format.name == "tty":
        # FFmpeg would render any text file as a terminal.
        raise SourceError(f"{name}: is text, not video")
    stream = container.streams.best("video")
    # The cover picture of an audio file is a video stream to FFmpeg.
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise SourceError(f"{name}: has no video stream")
    if not stream.codec_context:
        raise SourceError(f"{name}: there is no decoder for the video stream")
    return stream


def _read_ahead(packets: Iterator[Packet[VideoStream]]) -> list[Packet[VideoStream]]:
    ahead = []
    size = 0
    for packet in packets:
        ahead.append(packet)
        size += packet.size
        if len(ahead) >= _AHEAD_PACKETS or size >= _AHEAD_BYTES:
            break
    return ahead


def _presentation_times(packets: Sequence[Packet[VideoStream]], time_base: Fraction) -> list[Fraction]:
    """The times in seconds, ascending, of the first frames; empty unless every packet has one."""
    coded = [packet for packet in packets if packet.size]
    stamps = {packet.pts for packet in coded if packet.pts is not None}
    if not coded or any(packet.pts is None for packet in coded):
        return []
    if len(coded) == len(packets) and (last := coded[-1].dts) is not None:
        # More packets follow: some of them may be presented before the latest ones seen so far.
        stamps = {stamp for stamp in stamps if stamp <= last}
    return [stamp * time_base for stamp in sorted(stamps)]


def _decode(
    packets: Iterable[Packet[VideoStream]], time_base: Fraction
) -> Iterator[tuple[Fraction | None, Fraction, VideoFrame]]:
    """(Presentation time or None, duration, frame), times in seconds."""
    for packet in packets:
        for frame in packet.decode():
            time = None if frame.pts is None else frame.pts * time_base
            yield time, frame.duration * time_base, frame


def _convert(frames: Iterator[tuple[VideoFrame, int]], converter: _Converter, name: str) -> Iterator[Picture]:
    import av

    delivered = 0
    try:
        for frame, count in frames:
            yield from repeat(converter(frame), count)
            delivered += count
    except av.FFmpegError as error:
        raise SourceError(f"{name}: damaged after {delivered} pictures: {error.strerror}") from error


def _count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base:
        return max(1, round(stream.duration * stream.time_base * rate))
    if container.duration:
        return max(1, round(Fraction(container.duration, 10**6) * rate))
    return None


class _Converter:
    """Turns decoded frames of any size and format into pictures of one size, orientation and colour.

    ``frame``, the first one of the stream, and ``aspect``, its sample width over height, decide what all
    pictures are like: ``size`` (width, height), ``sample_aspect`` and ``colour``.
    """

    def __init__(self, frame: VideoFrame, aspect: Fraction, size: tuple[int, int] | None, crop: bool) -> None:
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()
        # frame.rotation is the display matrix in degrees, counter-clockwise. (frame.side_data, which has the
        # matrix itself, raises an exception where there is a kind of side data that PyAV does not know.)
        self._quarter_turns = round(frame.rotation / 90)
        # Frames are scaled before they are turned.
        self._width, self._height = self._turn(size) if size else (frame.width, frame.height)
        self._aspect = aspect
        self._crop = crop and size is not None
        scaled_aspect = Fraction(frame.width * self._height, frame.height * self._width) * aspect
        if self._crop:
            scaled_aspect = Fraction(1)
        self.size = self._turn((self._width, self._height))
        self.sample_aspect = self._turn(_bounded(scaled_aspect))
        rgb = _is_rgb(frame.format)
        self.colour = Colour(
            _code_point(frame.color_primaries),
            _code_point(frame.color_trc),
            1 if rgb else _code_point(frame.colorspace),
            not rgb and _is_full_range(frame),
        )

    def __call__(self, frame: VideoFrame) -> Picture:
        from av.video.reformatter import ColorRange, Interpolation

        width, height = self._scaled_size(frame)
        grey = _is_grey(frame.format)
        scaled = self._scaler.reformat(
            frame,
            width,
            height,
            # A grey plane is luma as it is; as 4:2:0 its range would be converted.
            "gray" if grey else "yuv420p",
            # Matrix coefficients matter to RGB alone: all others stay what they are.
            src_colorspace=1,
            dst_colorspace=1,
            interpolation=Interpolation.LANCZOS
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INP
            | Interpolation.BITEXACT,
            src_color_range=ColorRange.JPEG if _is_full_range(frame) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG if self.colour.full_range else ColorRange.MPEG,
            threads=1,
        )
        planes = [_samples(plane) for plane in scaled.planes]
        if grey:
            columns, rows = chroma_size(width, height)
            planes += [np.full((rows, columns), 128, np.uint8)] * 2
        # Even offsets keep the chroma samples where they belong.
        left, top = (width - self._width) // 4 * 2, (height - self._height) // 4 * 2
        luma, *chroma = planes
        return Picture(
            self._cut(luma, left, top, self._width, self._height),
            *(
                self._cut(plane, left // 2, top // 2, *chroma_size(self._width, self._height))
                for plane in chroma
            ),
        )

    def _scaled_size(self, frame: VideoFrame) -> tuple[int, int]:
        """The size to which ``frame`` is scaled; with cropping it covers the wanted size."""
        if not self._crop:
            return self._width, self._height
        shape = Fraction(frame.width, frame.height) * self._aspect
        return max(self._width, round(self._height * shape)), max(self._height, round(self._width / shape))

    def _cut(self, plane: Plane, left: int, top: int, width: int, height: int) -> Plane:
        window = plane[top : top + height, left : left + width]
        # A copy: the samples must outlive the decoder's buffer.
        return np.array(np.rot90(window, self._quarter_turns), order="C")

    def _turn(self, pair: tuple[int, int]) -> tuple[int, int]:
        return (pair[1], pair[0]) if self._quarter_turns % 2 else pair


def _samples(plane: VideoPlane) -> Plane:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _is_rgb(pixel_format: VideoFormat) -> bool:
    return pixel_format.is_rgb or pixel_format.has_palette


def _is_grey(pixel_format: VideoFormat) -> bool:
    return len(pixel_format.components) <= 2 and not _is_rgb(pixel_format)


def _is_full_range(frame: VideoFrame) -> bool:
    """As signalled; without a signal FFmpeg's grey formats are full range, all others limited."""
    from av.video.reformatter import ColorRange

    if frame.color_range == ColorRange.UNSPECIFIED:
        return _is_grey(frame.format)
    return frame.color_range == ColorRange.JPEG


def _code_point(value: int) -> int:
    """An H.273 code point; BT.709 where FFmpeg has none to tell."""
    return value if 2 < value < 256 else 1


def _bounded(ratio: Fraction) -> tuple[int, int]:
    """The nearest ratio with both terms in 1..65535."""
    if ratio > 1:
        return _bounded(1 / ratio)[::-1]
    near = max(ratio.limit_denominator(_MAX_ASPECT_TERM), Fraction(1, _MAX_ASPECT_TERM))
    return near.numerator, near.denominator
