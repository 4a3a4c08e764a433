"""Encoding of keyframes: AV1 stills through Pillow's AVIF encoder, VVC stills through vvencapp (clause 7)."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdec import keyframes as decoder
from refenc import vvenc
from tgv_format import obu
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.picture import Colour, Picture, Plane

_SPEED = 6
_DEFAULT = Colour()


@dataclass(frozen=True, eq=False)
class CodedPicture:
    """A keyframe's payload, and the picture that a decoder gets from it."""

    codec: Codec
    downscale_log2: int
    payload: bytes
    picture: Picture

    def keyframe(self, role: Role, frame: int) -> Keyframe:
        """The unit that shows this picture as frame number ``frame``."""
        return Keyframe(self.codec, role, frame % 256, self.downscale_log2, self.payload)


@dataclass(frozen=True)
class KeyframeCodec:
    """A way to code keyframes.

    ``still`` makes a payload of a picture and a quality; ``ladder`` are pairs of downscale_log2 and quality
    from the fewest bits to the most; ``default`` is the one to use when no bitrate is asked for. ``require``
    raises ValueError when something is missing that ``still`` needs. ``colour`` is that of the pictures.
    """

    codec: Codec
    still: Callable[[Picture, int], bytes]
    ladder: tuple[tuple[int, int], ...]
    default: tuple[int, int]
    require: Callable[[], None] = lambda: None
    colour: Colour = _DEFAULT

    def encode(self, picture: Picture, step: int) -> CodedPicture:
        """Code a picture at step ``step`` of the ladder."""
        downscale, quality = self.ladder[step]
        small = picture
        for _ in range(downscale):
            small = halve(small)
        payload = self.still(small, quality)
        keyframe = Keyframe(self.codec, Role.LEADING, 0, downscale, payload)
        decoded = decoder.decode(keyframe, picture.width, picture.height, colour=self.colour)
        return CodedPicture(self.codec, downscale, payload, decoded)


def halve(picture: Picture) -> Picture:
    """Half the size, rounded up, by means of 2x2 samples."""
    return Picture(*(halve_plane(plane) for plane in picture.planes))


def halve_plane(plane: Plane) -> Plane:
    """Half the size, rounded up: means of 2x2 samples, edges repeated."""
    height, width = plane.shape
    p = np.pad(plane, ((0, height & 1), (0, width & 1)), mode="edge").astype(np.uint16)
    return ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2] + 2) >> 2).astype(np.uint8)


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
#: size: below about 2000 bytes at 512 x 320 samples with AV1, below 1600 with VVC.
CODECS: dict[str, KeyframeCodec] = {
    "av1": KeyframeCodec(
        Codec.AV1,
        av1_still,
        ladder=(
            *((2, quality) for quality in range(0, 30, 2)),
            *((1, quality) for quality in range(0, 40, 2)),
            *((0, quality) for quality in range(14, 101, 2)),
        ),
        default=(1, 14),
    ),
    "vvc": KeyframeCodec(
        Codec.VVC,
        vvenc.still,
        ladder=(*((1, qp) for qp in range(63, 39, -1)), *((0, qp) for qp in range(46, 7, -1))),
        default=(1, 43),
        require=vvenc.require,
    ),
}
