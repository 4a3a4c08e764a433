"""Learned keyframes by the network of a model (specification clause 7.6)."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from refdec.keyframes import checkpoints, models, pictures
from refenc.keyframes import KeyframeCodec, stills
from tgv_format import illm
from tgv_format.illm_model import FRACTION_BITS, SUFFIX
from tgv_format.keyframe import Codec
from tgv_format.picture import Colour, Picture

#: The coarsest quantiser step, which is quality 0.
_WORST = len(illm.STEPS) - 1


def codec(name: str, colour: Colour) -> KeyframeCodec:
    """Keyframes by the model called ``name``, or whose file that is, for pictures of this ``colour``.

    OSError when there is no such model or its network is damaged, ModuleNotFoundError without torch.
    """
    path = _file(name)
    files = models.ModelFiles([path])
    model = files[files.identity(path)]
    network = pictures.network(path, model)

    import torch

    from refdec.keyframes import rgb

    def still(picture: Picture, quality: int) -> bytes:
        with torch.inference_mode():
            y, z = network.analyse(rgb.to_rgb(picture, colour))
        medians = model.medians[:, None, None] / (1 << FRACTION_BITS)
        symbols = np.rint(z[0].numpy().astype(np.float64) - medians).astype(np.int32)
        return illm.encode(y[0].numpy(), symbols, model, _WORST - quality)

    qualities = range(len(illm.STEPS))
    ladder = tuple((downscale, quality) for downscale in (1, 0) for quality in qualities)
    return KeyframeCodec(Codec.ILLM, stills(still), ladder, default=(0, _WORST - 8), colour=colour)


def _file(name: str) -> Path:
    """The model file; FileNotFoundError."""
    places = [Path(name), *(folder / f"{name}{SUFFIX}" for folder in models.folders())]
    for place in places:
        if place.suffix == SUFFIX and place.is_file():
            return place
    known = "; `refdec-models` installs it" if name in checkpoints.PUBLISHED else ""
    raise FileNotFoundError(errno.ENOENT, f"no model of this name is installed{known}", name)
