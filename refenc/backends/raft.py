"""Optical flow by RAFT (Z. Teed and J. Deng, ECCV 2020), torchvision's network."""

from __future__ import annotations

from pathlib import Path

import torch

from refenc.backends import images, weights
from refenc.flow import Flow, FlowEstimator
from tgv_format.picture import Colour, Picture

#: Sides are multiples of 8; a correlation pyramid of four levels needs at least 16 eighths.
_MULTIPLE, _LEAST = 8, 128
_SMALL_WIDTH = 32  # of the first layer


def load(model: str | None, colour: Colour) -> FlowEstimator:
    """The estimator; ``model`` is a checkpoint, by default that of ``raft_large`` in torch.hub's folder.

    FileNotFoundError without it, another OSError when it is none of RAFT.
    """
    from torchvision.models import optical_flow

    url = optical_flow.Raft_Large_Weights.DEFAULT.url
    place = Path(model) if model else Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    checkpoint = weights.file("raft", place, f"`curl -L -o {place} {url}` gets them")
    state = weights.tensors(checkpoint)
    first = state.get("feature_encoder.convnormrelu.0.weight")
    small = first is not None and len(first) == _SMALL_WIDTH
    network = optical_flow.raft_small() if small else optical_flow.raft_large()
    weights.fill(network, state, checkpoint)
    network = network.eval().to(images.device())

    def estimate(a: Picture, b: Picture, start: Flow | None) -> Flow:
        pair = 2 * images.video([a, b], colour)[0].to(images.device()) / 255 - 1
        pair = images.padded(pair, _MULTIPLE, _LEAST)
        with torch.inference_mode():
            found = network(pair[:1], pair[1:])[-1]
        return images.flow(found, a)

    return estimate
