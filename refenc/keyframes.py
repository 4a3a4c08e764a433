"""Encoding of keyframes: AV1 stills through Pillow's AVIF encoder (specification clause 7.3)."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdec import keyframes as decoder
from tgv_format import obu
from tgv_format.keyframe import Codec, Keyframe, Role
from tgv_format.picture import Picture, Plane

_SPEED = 6

#: Qualities from the fewest bits to the most: (downscale_log2, AVIF quality). A smaller picture wins
#: where AV1's coarse quantisers would have to be used at the larger size.
LADDER: tuple[tuple[int, int], ...] = (
    *((2, quality) for quality in range(0, 30, 2)),
    *((1, quality) for quality in range(0, 40, 2)),
    *((0, quality) for quality in range(14, 101, 2)),
)


@dataclass(frozen=True, eq=False)
class CodedPicture:
    """A keyframe's payload, and the picture that a decoder gets from it."""

    downscale_log2: int
    payload: bytes
    picture: Picture

    def keyframe(self, role: Role, frame: int) -> Keyframe:
        """The unit that shows this picture as frame number ``frame``."""
        return Keyframe(Codec.AV1, role, frame % 256, self.downscale_log2, self.payload)


def encode(picture: Picture, step: int) -> CodedPicture:
    """Code a picture at step ``step`` of :data:`LADDER`."""
    downscale, quality = LADDER[step]
    small = picture
    for _ in range(downscale):
        small = halve(small)
    payload = av1_still(small, quality)
    keyframe = Keyframe(Codec.AV1, Role.LEADING, 0, downscale, payload)
    return CodedPicture(downscale, payload, decoder.decode(keyframe, picture.width, picture.height))


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
