"""Optical flow by UniMatch, or GMFlow (H. Xu et al., 2023), from a local copy of its repository."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch

from refenc.backends import images, weights
from refenc.flow import Flow, FlowEstimator
from tgv_format.picture import Colour, Picture

_REPOSITORY = "https://github.com/autonomousvision/unimatch"
_WEIGHTS = (
    "https://s3.eu-central-1.amazonaws.com/avg-projects/unimatch/pretrained/"
    "gmflow-scale2-regrefine6-mixdata-train320x576-4e7b215d.pth"
)
_MULTIPLE = 32
#: Of the call, by the number of scales: windows of attention, radii of matching and of propagation.
_LISTS = {1: ([2], [-1], [-1]), 2: ([2, 8], [-1, 4], [-1, 1])}
_REFINEMENTS = 6


def load(model: str | None, colour: Colour) -> FlowEstimator:
    """The estimator; ``model`` is a checkpoint, by default that of two scales with refinement in torch.hub's
    folder. The repository is in UNIMATCH_DIR, or in torch.hub's folder.

    FileNotFoundError without either of them, another OSError when the checkpoint is none of UniMatch.
    """
    hub = Path(torch.hub.get_dir())
    place = Path(os.environ.get("UNIMATCH_DIR", hub / "autonomousvision_unimatch_master"))
    get = f"`git clone {_REPOSITORY} {place}` gets the code, UNIMATCH_DIR may say where it is"
    module = weights.file("unimatch", place / "unimatch" / "unimatch.py", get)
    place = Path(model) if model else hub / "checkpoints" / Path(_WEIGHTS).name
    checkpoint = weights.file("unimatch", place, f"`curl -L -o {place} {_WEIGHTS}` gets them")
    state = weights.tensors(checkpoint)
    # Two scales share their features through one more convolution, and end at a quarter of the size.
    scales = 2 if "backbone.trident_conv.weight" in state else 1
    refines = any(name.startswith("refine.") for name in state)
    factor = 8 // scales
    network = _class(module.parents[1])(
        num_scales=scales, upsample_factor=factor, reg_refine=refines, task="flow"
    )
    weights.fill(network, state, checkpoint)
    network = network.eval().to(images.device())
    windows, matching, propagation = _LISTS[scales]

    def estimate(a: Picture, b: Picture, start: Flow | None) -> Flow:
        pair = images.padded(images.video([a, b], colour)[0].to(images.device()), _MULTIPLE, _MULTIPLE)
        with torch.inference_mode():
            found = network(
                pair[:1],
                pair[1:],
                attn_type="swin",
                attn_splits_list=windows,
                corr_radius_list=matching,
                prop_radius_list=propagation,
                num_reg_refine=_REFINEMENTS if refines else 1,
                task="flow",
            )
        return images.flow(found["flow_preds"][-1], a)

    return estimate


def _class(repository: Path) -> Any:
    """The class ``UniMatch`` of the repository."""
    sys.path.insert(0, str(repository))
    try:
        return importlib.import_module("unimatch.unimatch").UniMatch
    finally:
        sys.path.remove(str(repository))
