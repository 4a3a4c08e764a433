"""Decoding of keyframes to pictures (specification clause 7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdec.keyframes import av1, models, pictures, vvc
from tgv_format import illm as latent_payload
from tgv_format.entropy import TraceSink
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, coded_size
from tgv_format.picture import Colour, Picture, Plane
from tgv_format.tables import load

_TAPS: tuple[int, ...] = tuple(load("upsampling")["upsampling_taps"])
_SHIFT: int = load("upsampling")["shift"]
_DEFAULT = Colour()


def decode(
    keyframe: Keyframe, width: int, height: int, path: str = "keyframe", colour: Colour = _DEFAULT
) -> Picture:
    """The picture of a keyframe in a sequence of ``width`` x ``height`` with this ``colour``.

    Raises TgvError ``keyframe-invalid`` or ``unsupported-codec`` at the offset of the payload, for learned
    keyframes those of :func:`tgv_format.illm.decode`, and OSError for a model that is damaged.
    """
    sizes = [coded_size(width, height, k) for k in range(keyframe.downscale_log2, -1, -1)]
    picture = decode_coded(keyframe, *sizes[0], path, colour)
    for size in sizes[1:]:
        picture = upsample(picture, *size)
    return picture


def decode_coded(
    keyframe: Keyframe, width: int, height: int, path: str = "keyframe", colour: Colour = _DEFAULT
) -> Picture:
    """The coded picture, which has to be ``width`` x ``height``."""
    offset, path = keyframe.payload_offset, f"{path}.payload"
    if keyframe.codec is Codec.RAW:
        try:
            return Picture.from_bytes(keyframe.payload, width, height)
        except ValueError as error:
            raise TgvError("keyframe-invalid", offset, path, str(error)) from None
    if keyframe.codec is Codec.AV1:
        return av1.decode(keyframe.payload, width, height, offset, path)
    if keyframe.codec is Codec.ILLM:
        return _illm(keyframe.payload, width, height, offset, path, colour)
    if keyframe.codec is Codec.VVC:
        return vvc.decode(keyframe.payload, width, height, offset, path)
    raise TgvError("unsupported-codec", offset, path, f"{keyframe.codec.name} keyframes are not supported")


def _illm(payload: bytes, width: int, height: int, offset: int, path: str, colour: Colour) -> Picture:
    found = latent_payload.decode(payload, width, height, models.installed(), offset, path)
    try:
        return pictures.picture(found, width, height, colour)
    except LookupError as error:
        raise TgvError("unsupported-codec", offset, path, str(error)) from None
    except ModuleNotFoundError as error:
        detail = f"{error.name} is not installed; pip install 'tgv[neural]'"
        raise TgvError("unsupported-codec", offset, path, detail) from None


def latents(
    keyframe: Keyframe,
    width: int,
    height: int,
    path: str = "keyframe",
    trace: TraceSink | None = None,
) -> latent_payload.Latents:
    """The latents of a learned keyframe in a sequence of ``width`` x ``height`` (clause 7.6).

    TgvError as :func:`tgv_format.illm.decode` raises it.
    """
    size = coded_size(width, height, keyframe.downscale_log2)
    return latent_payload.decode(
        keyframe.payload, *size, models.installed(), keyframe.payload_offset, f"{path}.payload", trace
    )


def upsample(picture: Picture, width: int, height: int) -> Picture:
    """Twice the size, cropped to ``width`` x ``height`` (clause 7.5)."""
    return Picture.cropped(map(_double, picture.planes), width, height)


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
