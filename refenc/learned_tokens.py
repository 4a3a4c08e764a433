"""Learned flow tokens of a clip (Dynamics-Codec; tokenizer 1 of specification clause 9.4).

Dense flow from the keyframe is sampled at a few points, and the encoder's network makes tokens of their
motion. Then the loop is closed: what the decoder's network would recover is compared with the dense flow, and
the amplitudes of the cosines in the difference are added to the tokens, twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from refdec.flow import GRID, learned
from refdec.flow.learned import Weights
from refenc.flow import FlowEstimator, from_first, shrunk
from refenc.flow_sampling import sparse_motion
from refenc.flow_tokens import FlowAnalysis, FlowOptions, choose
from tgv_format import flow_tokens
from tgv_format.flow_tokens import FlowTokens
from tgv_format.generator_hint import GeneratorHint
from tgv_format.picture import Colour, Picture

#: Of the sampling, in samples of the grid.
WINDOW = 7
ROUNDS = 2


@dataclass(frozen=True)
class Tokenizer:
    """Makes sections of learned tokens by ``weights``, of flow by ``estimate``, in pictures of this
    ``colour``."""

    weights: Weights
    colour: Colour
    estimate: FlowEstimator
    options: FlowOptions = field(default_factory=FlowOptions)

    @property
    def hint(self) -> GeneratorHint:
        """Names the weights."""
        return self.weights.hint

    def tokens(self, pictures: Sequence[Picture], keyframe: Picture) -> FlowTokens:
        """The section of a clip's pictures, frames 0 to L, the first of which is decoded as ``keyframe``."""
        flow = grid_flow(pictures, self.estimate)
        found = choose(analyse(flow, keyframe, self.colour, self.weights), self.options)
        return replace(found, tokenizer_id=flow_tokens.Tokenizer.LEARNED)


def grid_flow(pictures: Sequence[Picture], estimate: FlowEstimator) -> NDArray[np.float32]:
    """Flow from the first picture to the others on the grid, float32 [L, 2, *GRID] in luma samples."""
    small, scale = shrunk(pictures)
    flows = from_first(small, estimate)
    found = [cv2.resize(flow, GRID[::-1], interpolation=cv2.INTER_AREA) for flow in flows]
    return np.array(found).transpose(0, 3, 1, 2) * np.float32(scale)


def analyse(
    flow: NDArray[np.float32], keyframe: Picture, colour: Colour, weights: Weights, rounds: int = ROUNDS
) -> FlowAnalysis:
    """The tokens of :func:`grid_flow`, unquantised, and what of the flow is not recovered from them.

    ``rounds`` of the closed loop follow what the network says.
    """
    networks, scale = weights.networks, learned.grid_scale(keyframe)
    found = _from_points(flow * scale[:, None, None], keyframe, colour, weights) / scale[:, None]
    left = flow - learned.synthesise(networks, found, keyframe, colour)
    for _ in range(rounds):
        found = found + networks.synthesis.project(torch.from_numpy(left)).numpy()
        left = flow - learned.synthesise(networks, found, keyframe, colour)
    return FlowAnalysis(found.astype(np.float64), float(np.square(left).sum(1).mean()))


def _from_points(
    flow: NDArray[np.float32], keyframe: Picture, colour: Colour, weights: Weights
) -> NDArray[np.float32]:
    """The tokens that the network makes of flow in grid samples."""
    sparse = [sparse_motion(np.ascontiguousarray(frame.transpose(1, 2, 0)), WINDOW) for frame in flow]
    motion = torch.from_numpy(np.array([motion for motion, _ in sparse])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.array([mask for _, mask in sparse]))[:, None]
    image = learned.view(keyframe, colour).expand(len(flow), -1, -1, -1)
    with torch.inference_mode():
        return weights.networks.analysis(image, motion, masks).numpy()
