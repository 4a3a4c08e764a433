"""Dense point tracks by the offline model of CoTracker3 (N. Karaev et al., 2024), from its repository.

The weights are CC BY-NC 4.0; neither they nor the repository are part of this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refenc.backends import images, weights
from refenc.tracking import SPACING, Points, Tracker, Tracks, fuse, reverse
from tgv_format.picture import Colour, Picture

_REPOSITORY = "https://github.com/facebookresearch/co-tracker"
_WEIGHTS = "https://huggingface.co/facebook/cotracker3/resolve/main/scaled_offline.pth"


def load(model: str | None, colour: Colour) -> Tracker:
    """The tracker; ``model`` is a checkpoint, by default the one in torch.hub's folder.

    FileNotFoundError without the repository in torch.hub's folder, or the checkpoint.
    """
    hub = Path(torch.hub.get_dir())
    place = hub / "facebookresearch_co-tracker_main"
    repository = weights.file("cotracker", place, f"`git clone {_REPOSITORY} {place}` gets the code")
    place = Path(model) if model else hub / "checkpoints" / "scaled_offline.pth"
    checkpoint = weights.file("cotracker", place, f"`curl -L -o {place} {_WEIGHTS}` gets them")
    predictor = torch.hub.load(str(repository), "cotracker3_offline", source="local", pretrained=False)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    predictor.model.load_state_dict(state.get("model", state))
    predictor = predictor.eval().to(images.device())

    def track(pictures: Sequence[Picture]) -> Tracks:
        frames = images.video(pictures, colour).to(images.device())
        forward = _follow(predictor, frames)
        return fuse(forward, reverse(_follow(predictor, frames.flip(1))))

    return track


def _follow(predictor: Any, frames: torch.Tensor) -> Tracks:
    """Tracks of a grid in the first of the frames [1, T, 3, h, w]."""
    grid = torch.from_numpy(_grid(*frames.shape[-2:]))
    queries = torch.cat([torch.zeros(len(grid), 1), grid], 1)[None].to(frames.device)
    with torch.inference_mode():
        positions, visible = predictor(frames, queries=queries)
    seen = visible[0].T.cpu().numpy().astype(np.bool_)
    seen[:, 0] = True
    return Tracks(positions[0].transpose(0, 1).float().cpu().numpy(), seen)


def _grid(height: int, width: int) -> Points:
    y, x = (np.arange(min(SPACING, side) // 2, side, SPACING) for side in (height, width))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
