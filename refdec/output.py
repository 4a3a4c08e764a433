"""Writers of decoded pictures: MP4, Matroska, Y4M, PNG files and raw samples behind one protocol.

Nothing appears under the name of the target before it is complete: files are written under a hidden name
beside it and moved into place by ``close``. The same pictures give the same bytes on every run.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import Colour, Picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FORMATS = ("mp4", "mkv", "y4m", "png", "raw")


#: In the metadata of the videos that are written here.
MARK = "decoded by refdec"


class OutputError(Exception):
    """The output cannot be written; the message is one line for the user."""


@dataclass(frozen=True)
class OutputInfo:
    """What all pictures of an output have in common.

    ``width`` and ``height`` are in luma samples, ``frame_rate`` is in pictures per second, ``sample_aspect``
    is sample width : sample height.
    """

    width: int
    height: int
    frame_rate: Fraction
    colour: Colour
    sample_aspect: tuple[int, int]


class Writer(Protocol):
    """Takes pictures in display order; ends with ``close``, or with ``abort``, also after an error.

    ``write`` and ``close`` raise :class:`OutputError`; a closed pipe on standard output stays a
    BrokenPipeError.
    """

    def write(self, picture: Picture) -> None:
        """Append a picture of the announced size."""

    def close(self) -> None:
        """Finish the output and move it into place."""

    def abort(self) -> None:
        """Remove every trace of the output; what went to standard output cannot be taken back."""


def open_writer(target: str, info: OutputInfo, format: str | None = None) -> Writer:
    """A writer to ``target``, in the format that its name implies or in ``format``, one of :data:`FORMATS`.

    ``*.mp4``
        H.264, visually lossless. H.264 has no odd sizes in 4:2:0: the last row and column are repeated to
        make them even, and nothing tells a player to crop them.
    ``*.mkv``
        FFV1, lossless at any size. The sample aspect ratio is lost: PyAV cannot write it to Matroska.
    ``*.y4m``
        YUV4MPEG2, lossless; of the colour it can only tell the range.
    ``*/``, or a folder that exists
        PNG files ``000000.png``, ``000001.png``... as R'G'B' in the pictures' own primaries and transfer.
        Files of other names stay in the folder.
    ``-``
        Standard output: the samples alone (I420), or Y4M with ``format="y4m"``.

    Raises :class:`OutputError`.
    """
    format = format or _implied_format(target)
    if format not in FORMATS:
        raise OutputError(f"{format}: unknown format, choose from {', '.join(FORMATS)}")
    if target == "-" and format not in ("raw", "y4m"):
        raise OutputError(f"{format} cannot be written to standard output")
    if format == "png":
        return _PngWriter(target, info)
    if format in ("mp4", "mkv"):
        return _VideoWriter(target, info, format)
    sink = _StandardOutput() if target == "-" else _File(target)
    return _SampleWriter(sink, _y4m_header(info), b"FRAME\n") if format == "y4m" else _SampleWriter(sink)


def _implied_format(target: str) -> str:
    if target == "-":
        return "raw"
    if target.endswith("/") or os.path.isdir(target):
        return "png"
    suffix = Path(target).suffix.lower()[1:]
    if suffix not in ("mp4", "mkv", "y4m"):
        raise OutputError(f"{target}: the name must end in .mp4, .mkv, .y4m or / (a folder of PNG files)")
    return suffix


def _y4m_header(info: OutputInfo) -> bytes:
    rate, aspect = info.frame_rate, info.sample_aspect
    return (
        f"YUV4MPEG2 W{info.width} H{info.height} F{rate.numerator}:{rate.denominator} Ip "
        f"A{aspect[0]}:{aspect[1]} C420mpeg2 XCOLORRANGE={'FULL' if info.colour.full_range else 'LIMITED'}\n"
    ).encode()


@contextmanager
def _reporting(name: str) -> Iterator[None]:
    """Turns the errors of the operating system into :class:`OutputError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{name}: cannot be written: {error.strerror or error}") from error


def _hidden_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


class _File:
    """A file that gets its name when it is complete."""

    def __init__(self, target: str) -> None:
        self.name = target
        self._path = Path(target)
        self._hidden = _hidden_sibling(self._path)
        if self._path.is_dir():
            raise OutputError(f"{target}: cannot be written: is a folder")
        with _reporting(target):
            self.stream: BinaryIO = open(self._hidden, "xb")  # noqa: SIM115

    def commit(self) -> None:
        self.stream.close()
        os.replace(self._hidden, self._path)

    def discard(self) -> None:
        with suppress(OSError):
            self.stream.close()
        self._hidden.unlink(missing_ok=True)


class _StandardOutput:
    """Standard output, which is neither closed nor taken back."""

    name = "standard output"

    def __init__(self) -> None:
        self.stream: BinaryIO = sys.stdout.buffer

    def commit(self) -> None:
        self.stream.flush()

    def discard(self) -> None:
        pass


class _SampleWriter:
    """I420 samples, optionally with the headers of Y4M."""

    def __init__(
        self, sink: _File | _StandardOutput, header: bytes = b"", picture_header: bytes = b""
    ) -> None:
        self._sink = sink
        self._header = header
        self._picture_header = picture_header

    def write(self, picture: Picture) -> None:
        with _reporting(self._sink.name):
            self._sink.stream.write(self._header + self._picture_header + picture.to_bytes())
        self._header = b""

    def close(self) -> None:
        with _reporting(self._sink.name):
            self._sink.commit()

    def abort(self) -> None:
        self._sink.discard()


class _VideoWriter:
    """H.264 in MP4 or FFV1 in Matroska, through PyAV."""

    # Container and encoder by format. FFV1 of version 1 has no slices, and so no smallest size.
    _CODECS: ClassVar[dict[str, tuple[str, str, dict[str, str]]]] = {
        "mp4": ("mp4", "libx264", {"preset": "veryfast", "crf": "12"}),
        "mkv": ("matroska", "ffv1", {"level": "1"}),
    }

    def __init__(self, target: str, info: OutputInfo, format: str) -> None:
        import av
        from av.video.reformatter import ColorRange

        container, encoder, options = self._CODECS[format]
        if encoder not in av.codecs_available:
            raise OutputError(f"{target}: cannot be written: this FFmpeg has no encoder {encoder}")
        multiple = 2 if format == "mp4" else 1
        self._width = math.ceil(info.width / multiple) * multiple
        self._height = math.ceil(info.height / multiple) * multiple
        self._count = 0
        self._file = _File(target)
        # Otherwise the file would tell the version of FFmpeg and, in Matroska, a random number.
        self._container = av.open(self._file.stream, "w", format=container, options={"fflags": "bitexact"})
        self._container.metadata["comment"] = MARK
        self._stream = cast("VideoStream", self._container.add_stream(encoder, info.frame_rate, options))
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.sample_aspect_ratio = Fraction(*info.sample_aspect)
        context.color_primaries = info.colour.primaries
        context.color_trc = info.colour.transfer
        context.colorspace = info.colour.matrix
        context.color_range = ColorRange.JPEG if info.colour.full_range else ColorRange.MPEG
        # With more threads, x264 writes other bytes.
        context.thread_count = 1

    def write(self, picture: Picture) -> None:
        rows, columns = self._height - picture.height, self._width - picture.width
        if rows or columns:
            luma = np.pad(picture.y, ((0, rows), (0, columns)), mode="edge")
            picture = Picture(luma, picture.u, picture.v)
        frame = _video_frame(picture)
        frame.pts = self._count
        self._count += 1
        with self._reporting():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if not self._count:
            raise OutputError(f"{self._file.name}: cannot be written: there are no pictures")
        with self._reporting():
            self._container.mux(self._stream.encode())
            self._container.close()
            self._file.commit()

    def abort(self) -> None:
        # Closing writes what is left of the file.
        with suppress(OutputError), self._reporting():
            self._container.close()
        self._file.discard()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        import av

        with _reporting(self._file.name):
            try:
                yield
            except av.FFmpegError as error:
                raise OutputError(f"{self._file.name}: cannot be written: {error.strerror}") from error


class _PngWriter:
    """One PNG file per picture."""

    # What swscale calls the matrix coefficients of H.273 that it knows.
    _MATRICES: ClassVar[dict[int, int]] = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}

    def __init__(self, target: str, info: OutputInfo) -> None:
        from av.video.reformatter import VideoReformatter

        if info.colour.matrix not in self._MATRICES:
            raise OutputError(
                f"{target}: matrix coefficients {info.colour.matrix} cannot be converted to RGB"
            )
        self._target = Path(target)
        if self._target.exists() and not self._target.is_dir():
            raise OutputError(f"{target}: cannot be written: is not a folder")
        self._colour = info.colour
        self._scaler = VideoReformatter()
        self._count = 0
        # Inside a folder that exists, which may be on a file system of its own.
        self._hidden = _hidden_sibling(self._target / "png" if self._target.is_dir() else self._target)
        with _reporting(target):
            self._hidden.mkdir()

    def write(self, picture: Picture) -> None:
        from PIL import Image

        with _reporting(str(self._target)):
            # Level 3 takes less than half the time of the default, and no more space.
            image = Image.fromarray(self._to_rgb(picture))
            image.save(self._hidden / f"{self._count:06d}.png", compress_level=3)
        self._count += 1

    def close(self) -> None:
        with _reporting(str(self._target)):
            if self._target.is_dir():
                for file in sorted(self._hidden.iterdir()):
                    os.replace(file, self._target / file.name)
                self._hidden.rmdir()
            else:
                os.replace(self._hidden, self._target)

    def abort(self) -> None:
        shutil.rmtree(self._hidden, ignore_errors=True)

    def _to_rgb(self, picture: Picture) -> NDArray[np.uint8]:
        from av.video.reformatter import ColorRange, Interpolation

        matrix = self._MATRICES[self._colour.matrix]
        frame = self._scaler.reformat(
            _video_frame(picture),
            format="rgb24",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            interpolation=Interpolation.BICUBIC
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT
            | Interpolation.BITEXACT,
            src_color_range=ColorRange.JPEG if self._colour.full_range else ColorRange.MPEG,
            threads=1,
        )
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(picture.height, plane.line_size)
        return rows[:, : 3 * picture.width].reshape(picture.height, picture.width, 3)


def _video_frame(picture: Picture) -> VideoFrame:
    from av.video.frame import VideoFrame

    frame = VideoFrame(picture.width, picture.height, "yuv420p")
    for plane, samples in zip(frame.planes, picture.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = samples
    return frame
