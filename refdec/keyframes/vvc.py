"""VVC keyframes (specification clause 7.7)."""

from __future__ import annotations

import numpy as np

from refdec.keyframes import ffmpeg
from tgv_format import vvc
from tgv_format.errors import TgvError
from tgv_format.picture import Picture


def decode(payload: bytes, width: int, height: int, offset: int, path: str) -> Picture:
    """The picture of a VVC payload of ``width`` x ``height``, which stands at byte ``offset``.

    Raises TgvError ``keyframe-invalid``, and what :func:`tgv_format.vvc.split` raises.
    """
    units = vvc.split(payload, offset, path)
    if units[0].nal_type != vvc.NalType.SPS:
        units = [*vvc.default_parameter_sets(width, height), *units]
    try:
        vvc.check(units, width, height)
    except vvc.VvcError as error:
        raise TgvError("keyframe-invalid", offset + error.offset, path, str(error)) from None
    data, size = vvc.byte_stream(units), vvc.padded_size(width, height)
    try:
        decoder = ffmpeg.PictureDecoder("vvc", apply_cropping="0")
        planes = decoder.planes([data, None], *size, "yuv420p10le")
    except ffmpeg.DecodeError as error:
        raise TgvError("keyframe-invalid", offset, path, f"the VVC {error}") from None
    rounded = (np.minimum((plane + 2) >> 2, 255).astype(np.uint8) for plane in planes)
    return Picture.cropped(rounded, width, height)
