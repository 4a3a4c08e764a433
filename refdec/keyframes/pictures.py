"""Pictures of learned keyframes by the network that belongs to the model (specification clause 7.6.8)."""

from __future__ import annotations

import errno
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refdec.keyframes import checkpoints, models
from tgv_format import illm_derivation
from tgv_format.illm import Latents
from tgv_format.illm_model import FRACTION_BITS, Model
from tgv_format.picture import Colour, Picture

if TYPE_CHECKING:
    from refdec.keyframes.illm import HiFiCAutoencoder


def picture(latents: Latents, width: int, height: int, colour: Colour) -> Picture:
    """The picture of ``width`` x ``height`` that the generator makes of ``latents``.

    LookupError when there is no network for the model, ModuleNotFoundError without torch, and OSError when a
    file is damaged.
    """
    path = models.installed().path(latents.model.identity)
    if path is None:
        raise LookupError(f"model {latents.model.identity.hex()} makes no pictures")
    import torch

    from refdec.keyframes import rgb

    y_hat = torch.from_numpy(latents.y.astype(np.float32) / (1 << FRACTION_BITS))[None]
    with torch.inference_mode():
        return rgb.from_rgb(network(path, latents.model).reconstruct(y_hat, height, width), colour)


def checkpoint(path: Path) -> Path:
    """The checkpoint beside the model file at ``path``; LookupError when there is none."""
    for suffix in checkpoints.SUFFIXES:
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    raise LookupError(f"there is no checkpoint beside {path}")


@cache
def network(path: Path, model: Model) -> HiFiCAutoencoder:
    """The network of the model file at ``path``; OSError when the checkpoint beside it is another one's."""
    weights = checkpoint(path)
    tensors = checkpoints.arrays(weights)
    try:
        mean, scale = illm_derivation.layers(tensors)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no checkpoint to use: {error}", str(weights)) from None
    pairs = zip((*model.mean, *model.scale), (*mean, *scale), strict=True)
    if not all(np.array_equal(a.weights, b.weights) and np.array_equal(a.bias, b.bias) for a, b in pairs):
        raise OSError(errno.EINVAL, f"it is not the checkpoint of {path.name}", str(weights))
    return checkpoints.network(weights, tensors)
