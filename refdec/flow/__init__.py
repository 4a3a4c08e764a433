"""Dense flow from flow tokens, for generators (specification clauses 9.4.3 and 9.4.4).

The baseline reconstruction has its own way of using tokens, in integers; this is for what works with dense
flow from the keyframe, in floating point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tgv_format import flow_tokens
from tgv_format.flow_tokens import FlowTokens, Tokenizer
from tgv_format.generator_hint import GeneratorHint
from tgv_format.picture import Colour, Picture

#: Height and width of the grid that flow is found on.
GRID = (80, 128)
#: Rounds in which the flow of frame t is followed back; each adds what the slope of the flow leaves.
_ROUNDS = 8

Floats = NDArray[np.float32]


def recover(
    params: FlowTokens, keyframe: Picture, colour: Colour, hint: GeneratorHint | None = None
) -> Floats:
    """The flow from frame 0, which is ``keyframe``, to each of the frames 1 to L.

    float32 [L, 2, height, width]: horizontal and vertical, in luma samples; frame t shows at p + flow[t - 1]
    what frame 0 shows at p. Tokens of tokenizer 0 of an interpolated clip (clause 9.7) are no flow from frame
    0 and not for this function. ``hint`` is the latest tokenizer hint before the clip, if there is any.

    For learned tokens: FileNotFoundError without weights, another OSError when they are damaged, or are not
    those of the hint; ValueError when they are not for as many tokens; ModuleNotFoundError without torch.
    """
    if params.tokenizer_id is Tokenizer.COSINE:
        found = followed_back(params, keyframe.height, keyframe.width)
    else:
        from refdec.flow import learned

        found = learned.recover(params, keyframe, colour, hint)
    return enlarged(found, keyframe.height, keyframe.width)


def followed_back(params: FlowTokens, height: int, width: int) -> Floats:
    """float32 [L, 2, *GRID]: the inverse of the flow of tokenizer 0, which points to frame 0.

    What is at p in frame 0 is at p - flow(q) in frame t, with q that place itself.
    """
    y, x = ((np.arange(g) + 0.5) * side / g - 0.5 for g, side in zip(GRID, (height, width), strict=True))
    places = np.stack(np.meshgrid(x, y), -1)
    found = []
    for t in range(1, params.last_frame + 1):
        moved = np.zeros_like(places)
        for _ in range(_ROUNDS):
            at = np.rint(16 * (places + moved)).astype(np.int64)
            moved = -flow_tokens.flow(params, t, at, height, width) / 16
        found.append(moved.transpose(2, 0, 1))
    return np.array(found, np.float32)


def enlarged(planes: Floats, height: int, width: int) -> Floats:
    """Planes float32 [..., *GRID] at another size, interpolated bilinearly; edges are repeated."""
    down, across = (_between(g, side) for g, side in zip(GRID, (height, width), strict=True))
    return down @ planes @ across.T


def _between(samples: int, size: int) -> Floats:
    """float32 [size, samples]: the weights of linear interpolation."""
    at = np.clip((np.arange(size) + 0.5) * samples / size - 0.5, 0, samples - 1)
    low = np.minimum(at.astype(np.intp), samples - 2)
    weights = np.zeros((size, samples), np.float32)
    rows = np.arange(size)
    weights[rows, low] = 1 - (at - low)
    weights[rows, low + 1] += at - low
    return weights
