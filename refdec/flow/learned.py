"""Learned flow tokens (specification clause 9.4.4): the weights, and the decoder's half."""

from __future__ import annotations

import errno
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from refdec.flow import GRID
from refdec.flow.network import FlowTokenizer
from refdec.keyframes import checkpoints, rgb
from tgv_format.flow_tokens import FlowTokens
from tgv_format.generator_hint import TOKENIZER, GeneratorHint, Sampler
from tgv_format.picture import Colour, Picture

DEFAULT = "tgv-flow-s"


class Weights(NamedTuple):
    """The networks of a checkpoint, ready for use, and the hint that names it."""

    networks: FlowTokenizer
    hint: GeneratorHint

    @property
    def tokens(self) -> int:
        """K, tokens of a component."""
        return len(self.networks.synthesis.cosines)


@cache
def load(name: str = DEFAULT) -> Weights:
    """The weights called ``name``, or whose file that is; OSError when they are not there, or damaged."""
    path = checkpoints.find(name)
    state = {key: value.float() for key, value in checkpoints.read(path).items()}
    tokens = state.get("analysis.horizontal.7.bias", torch.zeros(1)).shape[0]
    networks = FlowTokenizer(tokens).eval().requires_grad_(False)
    try:
        networks.load_state_dict(state)
    except RuntimeError as error:
        reason = f"no checkpoint of flow tokens: {str(error).splitlines()[0]}"
        raise OSError(errno.EINVAL, reason, str(path)) from None
    digest = bytes.fromhex(checkpoints.sha256(path))
    hint = GeneratorHint(f"{TOKENIZER}{path.stem}", digest, Sampler.UNSPECIFIED, 0, 0, 0)
    return Weights(networks, hint)


def named(hint: GeneratorHint | None) -> Weights:
    """The weights that a tokenizer hint names, or the default ones.

    OSError when they are not there, or have another SHA-256 than the hint says.
    """
    if hint is None:
        return load()
    name = hint.name.removeprefix(TOKENIZER)
    # A stream may name what is installed, not any file.
    found = load(str(checkpoints.installed(name)))
    wanted, there = hint.weights_sha256, found.hint.weights_sha256
    if wanted != there:
        reason = f"its SHA-256 is {there.hex()[:16]}..., the tokens are of weights {wanted.hex()[:16]}..."
        raise OSError(errno.EINVAL, reason, name)
    return found


def recover(
    params: FlowTokens, keyframe: Picture, colour: Colour, hint: GeneratorHint | None
) -> NDArray[np.float32]:
    """The flow from the keyframe, float32 [L, 2, *GRID] in luma samples.

    OSError without the weights; ValueError when they are not for as many tokens.
    """
    weights = named(hint)
    if params.tokens.shape[2] != weights.tokens:
        raise ValueError(f"{params.tokens.shape[2]} tokens, where the weights have {weights.tokens}")
    amplitudes = params.tokens.astype(np.float32) * np.float32(params.step / 16)
    return synthesise(weights.networks, amplitudes, keyframe, colour)


def synthesise(
    networks: FlowTokenizer, amplitudes: NDArray[np.float32], keyframe: Picture, colour: Colour
) -> NDArray[np.float32]:
    """Flow float32 [L, 2, *GRID] of tokens float32 [L, 2, K], both in luma samples."""
    scale = grid_scale(keyframe)[:, None]
    tokens = torch.from_numpy(amplitudes * scale)
    image = view(keyframe, colour).expand(len(tokens), -1, -1, -1)
    with torch.inference_mode():
        return networks.synthesis(tokens, image).numpy() / scale[..., None]


def view(picture: Picture, colour: Colour) -> Tensor:
    """What the networks see of a picture: (1, 3, *GRID) in 0 .. 1."""
    return functional.interpolate(rgb.to_rgb(picture, colour), GRID, mode="area")


def grid_scale(picture: Picture) -> NDArray[np.float32]:
    """float32 [2]: grid samples in a luma sample, across and down."""
    return np.array([GRID[1] / picture.width, GRID[0] / picture.height], np.float32)
