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


def device() -> str:
    """Where models run."""
    return "cuda" if torch.cuda.is_available() else "cpu"
