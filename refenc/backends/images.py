"""Pictures as models want them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from refdec.keyframes import rgb
from tgv_format.picture import Colour, Picture


def image(picture: Picture, colour: Colour) -> NDArray[np.uint8]:
    """R'G'B', uint8 [height, width, 3]."""
    return (rgb.to_rgb(picture, colour)[0] * 255).round().byte().permute(1, 2, 0).numpy()


def video(pictures: Sequence[Picture], colour: Colour) -> torch.Tensor:
    """R'G'B', float32 [1, frames, 3, height, width] in 0..255."""
    return torch.cat([rgb.to_rgb(picture, colour) for picture in pictures])[None] * 255


def padded(frames: torch.Tensor, multiple: int, least: int) -> torch.Tensor:
    """Frames (B, C, h, w) with edges repeated, so that sides are multiples, and not below ``least``."""
    sizes = [max(-(-side // multiple) * multiple, least) for side in frames.shape[2:]]
    y, x = (
        torch.arange(size).clamp(max=side - 1) for size, side in zip(sizes, frames.shape[2:], strict=True)
    )
    return frames[:, :, y][..., x]


def flow(found: torch.Tensor, picture: Picture) -> NDArray[np.float32]:
    """Flow float32 [h, w, 2] of the picture, of (1, 2, H, W) that is padded."""
    return found[0, :, : picture.height, : picture.width].permute(1, 2, 0).float().cpu().numpy()


def device() -> str:
    """Where models run."""
    return "cuda" if torch.cuda.is_available() else "cpu"
