"""Decoding of keyframes to pictures (specification clause 7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdec.keyframes import av1
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, coded_size
from tgv_format.picture import Picture, Plane, chroma_size
from tgv_format.tables import load

_TAPS: tuple[int, ...] = tuple(load("upsampling")["upsampling_taps"])
_SHIFT: int = load("upsampling")["shift"]


def decode(keyframe: Keyframe, width: int, height: int, path: str = "keyframe") -> Picture:
    """The picture of a keyframe in a sequence of ``width`` x ``height``.

    Raises TgvError ``keyframe-invalid`` or ``unsupported-codec`` at the offset of the payload.
    """
    sizes = [coded_size(width, height, k) for k in range(keyframe.downscale_log2, -1, -1)]
    picture = decode_coded(keyframe, *sizes[0], path)
    for size in sizes[1:]:
        picture = upsample(picture, *size)
    return picture


def decode_coded(keyframe: Keyframe, width: int, height: int, path: str = "keyframe") -> Picture:
    """The coded picture, which has to be ``width`` x ``height``."""
    offset, path = keyframe.payload_offset, f"{path}.payload"
    if keyframe.codec is Codec.RAW:
        try:
            return Picture.from_bytes(keyframe.payload, width, height)
        except ValueError as error:
            raise TgvError("keyframe-invalid", offset, path, str(error)) from None
    if keyframe.codec is Codec.AV1:
        return av1.decode(keyframe.payload, width, height, offset, path)
    raise TgvError("unsupported-codec", offset, path, f"{keyframe.codec.name} keyframes are not supported")


def upsample(picture: Picture, width: int, height: int) -> Picture:
    """Twice the size, cropped to ``width`` x ``height`` (clause 7.5)."""
    cw, ch = chroma_size(width, height)
    y, u, v = (_double(plane) for plane in picture.planes)
    return Picture(*(np.ascontiguousarray(p) for p in (y[:height, :width], u[:ch, :cw], v[:ch, :cw])))


def _double(plane: Plane) -> Plane:
    wide = _double_rows(_double_rows(plane.astype(np.int32)).T).T
    return np.clip((wide + (1 << (_SHIFT - 1))) >> _SHIFT, 0, 255).astype(np.uint8)


def _double_rows(p: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rows 2i and 2i + 1 lie a quarter of a row above and below row i."""
    padded = np.pad(p, ((2, 2), (0, 0)), mode="edge")
    size = len(p)
    out = np.zeros((2 * size, *p.shape[1:]), np.int32)
    for tap, weight in enumerate(_TAPS):
        # The taps of the lower of the two rows run from row i - 1 to i + 2; those of the upper are mirrored.
        out[1::2] += weight * padded[1 + tap : 1 + tap + size]
        out[0::2] += weight * padded[3 - tap : 3 - tap + size]
    return out
