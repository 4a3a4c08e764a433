"""Between the planes of pictures and RGB, for networks, in floating point."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tgv_format.picture import Colour, Picture, chroma_size

#: The weights of red and blue in luma, by the matrix coefficients of H.273; others are taken as BT.709.
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
_BT709 = 1


def to_rgb(picture: Picture, colour: Colour) -> Tensor:
    """float32 (1, 3, height, width) in 0 .. 1; chroma is interpolated, as if sited amid the luma samples."""
    y, u, v = (torch.from_numpy(plane.astype(np.float32))[None, None] for plane in picture.planes)
    size = picture.u.shape[0] * 2, picture.u.shape[1] * 2
    cb, cr = (
        functional.interpolate(plane, size, mode="bilinear")[..., : picture.height, : picture.width]
        for plane in (u, v)
    )
    offset, luma, chroma = _ranges(colour)
    y, cb, cr = (y - offset) / luma, (cb - 128) / chroma, (cr - 128) / chroma
    red, blue = _WEIGHTS.get(colour.matrix, _WEIGHTS[_BT709])
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return torch.cat([r, g, b], 1).clamp(0, 1)


def from_rgb(image: Tensor, colour: Colour) -> Picture:
    """The picture of (1, 3, height, width) in 0 .. 1; chroma samples are means of 2x2, edges repeated."""
    red, blue = _WEIGHTS.get(colour.matrix, _WEIGHTS[_BT709])
    r, g, b = image.split(1, 1)
    y = red * r + (1 - red - blue) * g + blue * b
    height, width = image.shape[-2:]
    cw, ch = chroma_size(width, height)
    differences = torch.cat([(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))], 1)
    padded = functional.pad(differences, (0, 2 * cw - width, 0, 2 * ch - height), mode="replicate")
    chroma_planes = functional.avg_pool2d(padded, 2)
    offset, luma, chroma = _ranges(colour)
    planes = (offset + luma * y[0, 0], *(128 + chroma * plane for plane in chroma_planes[0]))
    return Picture(*(plane.round().clamp(0, 255).to(torch.uint8).numpy() for plane in planes))


def _ranges(colour: Colour) -> tuple[float, float, float]:
    """The luma of black, and how many levels luma and chroma have above it or around 128."""
    return (0.0, 255.0, 255.0) if colour.full_range else (16.0, 219.0, 224.0)
