"""Encoding of keyframes (clause 7).

AV1 sequences are SVT-AV1's through PyAV, AV1 stills libaom's through Pillow, VVC stills those of vvencapp.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdec.keyframes import KeyframeDecoder
from refenc import vvenc
from tgv_format import obu
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.picture import Colour, Picture, Plane

_SPEED = 6
_LEAST = 4  # samples of a side that SVT-AV1 takes
_DEFAULT = Colour()


@dataclass(frozen=True, eq=False)
class CodedPicture:
    """A keyframe's payload, and the picture that a decoder gets from it."""

    codec: Codec
    downscale_log2: int
    payload: bytes
    dependent: bool
    picture: Picture

    def keyframe(self, role: Role, frame: int) -> Keyframe:
        """The unit that shows this picture as frame number ``frame``."""
        shift, dependent = self.downscale_log2, self.dependent
        return Keyframe(self.codec, role, frame % 256, shift, self.payload, dependent=dependent)


@dataclass(frozen=True)
class KeyframeCodec:
    """A way to code keyframes.

    ``code`` makes payloads of a group of pictures and a quality: where it is ``predictive``, those of a
    random-access period, of which the first depends on nothing before; otherwise those of a single picture.
    ``ladder`` are pairs of downscale_log2 and quality from the fewest bits to the most; ``default`` is the
    one to use when no bitrate is asked for. ``sizes`` has more qualities, by downscale_log2. ``require``
    raises ValueError when something is missing that ``code`` needs. ``colour`` is that of the pictures.
    """

    codec: Codec
    code: Callable[..., list[bytes]]
    ladder: tuple[tuple[int, int], ...]
    default: tuple[int, int]
    sizes: Mapping[int, Sequence[int]] = field(default_factory=dict)
    predictive: bool = False
    require: Callable[[], None] = lambda: None
    colour: Colour = _DEFAULT

    def of_size(self, downscale: int) -> KeyframeCodec:
        """This codec with all qualities of one size, of those in ``sizes``, as its ladder."""
        return replace(self, ladder=tuple((downscale, quality) for quality in self.sizes[downscale]))

    def at_preset(self, preset: int) -> KeyframeCodec:
        """This codec at a preset of SVT-AV1, if it is one of sequences."""
        return replace(self, code=partial(self.code, preset=preset)) if self.predictive else self

    def encode(self, pictures: Sequence[Picture], step: int) -> list[CodedPicture]:
        """Code a group of pictures at step ``step`` of the ladder."""
        downscale, quality = self.ladder[step]
        small = list(pictures)
        for _ in range(downscale):
            small = [halve(picture) for picture in small]
        decoder = KeyframeDecoder(pictures[0].width, pictures[0].height, self.colour)
        coded = []
        for payload in self.code(small, quality):
            dependent = self.predictive and not _is_independent(payload)
            keyframe = Keyframe(self.codec, Role.LEADING, 0, downscale, payload, dependent=dependent)
            coded.append(CodedPicture(self.codec, downscale, payload, dependent, decoder.decode(keyframe)))
        return coded


def stills(
    still: Callable[[Picture, int], bytes],
) -> Callable[[Sequence[Picture], int], list[bytes]]:
    """Payloads of pictures that ``still`` codes one by one."""
    return lambda pictures, quality: [still(picture, quality) for picture in pictures]


def _is_independent(payload: bytes) -> bool:
    """Whether an AV1 payload begins a sequence."""
    return next(obu.split(payload)).obu_type == obu.ObuType.SEQUENCE_HEADER


def halve(picture: Picture) -> Picture:
    """Half the size, rounded up, by means of 2x2 samples."""
    return Picture(*(halve_plane(plane) for plane in picture.planes))


def halve_plane(plane: Plane) -> Plane:
    """Half the size, rounded up: means of 2x2 samples, edges repeated."""
    height, width = plane.shape
    p = np.pad(plane, ((0, height & 1), (0, width & 1)), mode="edge").astype(np.uint16)
    return ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2] + 2) >> 2).astype(np.uint8)


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """Gives the calling thread back its scheduling policy.

    Where root runs it, SVT-AV1 leaves the thread that opens it at the highest real-time priority, which all
    threads and processes that it starts later inherit.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@_same_scheduling()
def av1_sequence(pictures: Sequence[Picture], quality: int, preset: int = 2) -> list[bytes]:
    """Temporal units of one AV1 sequence without their delimiters, one for each picture.

    ``quality`` is twice SVT-AV1's crf, 0 (best) to 140; ``preset`` its preset, 0 (slow) to 13. Pictures that
    are too small for SVT-AV1 become stills, of the best quality.
    """
    width, height = pictures[0].width, pictures[0].height
    if min(width, height) < _LEAST:
        return [av1_still(picture, 100) for picture in pictures]
    import av

    os.environ.setdefault("SVT_LOG", "1")  # errors alone
    context: Any = av.CodecContext.create("libsvtav1", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    # The rate means nothing where quality is constant; pictures are coded as if they were frames.
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    # One key frame, at the beginning, and hidden frames that are not filtered in time. Loop restoration blurs
    # more than it mends at these rates. More sharpness gains LPIPS and colour, and shows the edges of blocks.
    parameters = f"crf={quality / 2}:tune=1:keyint=-1:scd=0:enable-tf=0:enable-restoration=0:sharpness=1:lp=1"
    # FFmpeg's own crf, which chooses the mode, ends at 63.
    context.options = {"preset": str(preset), "crf": "50", "svtav1-params": parameters}
    packets = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, samples in zip(frame.planes, picture.planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows[:, : plane.width] = samples
            plane.update(rows.tobytes())
        frame.pts, frame.time_base = index, context.time_base
        packets += context.encode(frame)
    packets += context.encode(None)
    return [bytes(packet).removeprefix(b"\x12\0") for packet in packets]


def av1_still(picture: Picture, quality: int) -> bytes:
    """The OBUs of an AV1 still of ``picture``: a temporal unit without its delimiter."""
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(_as_rgb(picture))
    image.save(file, "AVIF", quality=quality, speed=_SPEED, subsampling="4:2:0", range="full", max_threads=1)
    data = file.getvalue()
    media = data[data.index(b"mdat") + 4 :]
    kept = (unit for unit in obu.split(media) if unit.obu_type in obu.ObuType.__members__.values())
    return b"".join(unit.data for unit in kept)


def _as_rgb(picture: Picture) -> NDArray[np.uint8]:
    """RGB that the AVIF encoder turns back into these very planes, whatever they mean.

    Pillow takes RGB alone and applies the full-range BT.601 matrix; its inverse, applied here to the
    samples as they are, cancels it (except where the result would leave 0..255).
    """
    y = picture.y.astype(np.float32)
    u, v = (
        (plane.repeat(2, 0).repeat(2, 1)[: picture.height, : picture.width].astype(np.float32) - 128)
        for plane in (picture.u, picture.v)
    )
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], -1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


#: The codecs by name. A smaller picture wins where coarse quantisers would have to be used at the larger
#: size: below about 2000 bytes at 512 x 320 samples with AV1, below 1600 with VVC. In a sequence, where most
#: pictures take less, the same quantisers are the place to change over.
CODECS: dict[str, KeyframeCodec] = {
    "av1-sequence": KeyframeCodec(
        Codec.AV1,
        av1_sequence,
        ladder=(
            *((2, crf) for crf in range(140, 123, -1)),
            *((1, crf) for crf in range(140, 105, -1)),
            *((0, crf) for crf in range(120, 19, -1)),
        ),
        default=(1, 108),
        sizes={2: range(140, 79, -1), 1: range(140, 59, -1), 0: range(140, 19, -1)},
        predictive=True,
    ),
    "av1": KeyframeCodec(
        Codec.AV1,
        stills(av1_still),
        ladder=(
            *((2, quality) for quality in range(0, 30, 2)),
            *((1, quality) for quality in range(0, 40, 2)),
            *((0, quality) for quality in range(14, 101, 2)),
        ),
        default=(1, 14),
    ),
    "vvc": KeyframeCodec(
        Codec.VVC,
        stills(vvenc.still),
        ladder=(*((1, qp) for qp in range(63, 39, -1)), *((0, qp) for qp in range(46, 7, -1))),
        default=(1, 43),
        require=vvenc.require,
    ),
}
