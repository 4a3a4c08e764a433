"""Decoding of keyframes to pictures (specification clause 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdec.keyframes import av1
from tgv_format.entropy import TraceSink
from tgv_format.errors import TgvError
from tgv_format.keyframe import Codec, Keyframe, coded_size
from tgv_format.picture import Colour, Picture, Plane
from tgv_format.tables import load

if TYPE_CHECKING:
    from tgv_format.illm import Latents

# Codecs that few streams use are imported when a keyframe needs them: the start of a decoder counts.

_TAPS: tuple[int, ...] = tuple(load("upsampling")["upsampling_taps"])
_SHIFT: int = load("upsampling")["shift"]
_DEFAULT = Colour()


class KeyframeDecoder:
    """Decodes the keyframes of a sequence of ``width`` x ``height`` with this ``colour``, in their order."""

    def __init__(self, width: int, height: int, colour: Colour = _DEFAULT) -> None:
        self._size = width, height
        self._colour = colour
        self.reset()

    def reset(self) -> None:
        """Forget the keyframes before: dependent ones do not decode now."""
        self._sequence = av1.Sequence(*self._size)

    def decode(self, keyframe: Keyframe, path: str = "keyframe") -> Picture:
        """The picture of a keyframe.

        Raises TgvError ``keyframe-invalid`` or ``unsupported-codec`` at the offset of the payload, for
        learned keyframes those of :func:`tgv_format.illm.decode`, and OSError for a model that is damaged.
        """
        sizes = [coded_size(*self._size, k) for k in range(keyframe.downscale_log2, -1, -1)]
        picture = self._coded(keyframe, *sizes[0], path)
        for size in sizes[1:]:
            picture = upsample(picture, *size)
        return picture

    def _coded(self, keyframe: Keyframe, width: int, height: int, path: str) -> Picture:
        """The coded picture, which has to be ``width`` x ``height``."""
        offset, path = keyframe.payload_offset, f"{path}.payload"
        if keyframe.codec is Codec.RAW:
            try:
                return Picture.from_bytes(keyframe.payload, width, height)
            except ValueError as error:
                raise TgvError("keyframe-invalid", offset, path, str(error)) from None
        if keyframe.codec is Codec.AV1:
            if not keyframe.dependent:
                self._sequence = av1.Sequence(width, height)
            return self._sequence.decode(keyframe.payload, keyframe.dependent, offset, path)
        if keyframe.codec is Codec.ILLM:
            return _illm(keyframe.payload, width, height, offset, path, self._colour)
        if keyframe.codec is Codec.VVC:
            from refdec.keyframes import vvc

            return vvc.decode(keyframe.payload, width, height, offset, path)
        raise TgvError(
            "unsupported-codec", offset, path, f"{keyframe.codec.name} keyframes are not supported"
        )


def decode(
    keyframe: Keyframe, width: int, height: int, path: str = "keyframe", colour: Colour = _DEFAULT
) -> Picture:
    """The picture of a keyframe that depends on no other one, as :meth:`KeyframeDecoder.decode` makes it."""
    return KeyframeDecoder(width, height, colour).decode(keyframe, path)


def _illm(payload: bytes, width: int, height: int, offset: int, path: str, colour: Colour) -> Picture:
    from refdec.keyframes import models, pictures
    from tgv_format import illm

    found = illm.decode(payload, width, height, models.installed(), offset, path)
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
) -> Latents:
    """The latents of a learned keyframe in a sequence of ``width`` x ``height`` (clause 7.6).

    TgvError as :func:`tgv_format.illm.decode` raises it.
    """
    from refdec.keyframes import models
    from tgv_format import illm

    size = coded_size(width, height, keyframe.downscale_log2)
    return illm.decode(
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
