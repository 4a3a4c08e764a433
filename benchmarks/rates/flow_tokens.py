"""Flow tokens in a section, and in the scheme of Dynamics-Codec.

That scheme codes the residual to the adjacent frame's tokens with an adaptive order-0 arithmetic code, here
an ideal one. Sizes are those of the same tokens, as the encoder chooses them; beside them

rounded_*: of tokens rounded one by one, of the largest step at the same error budget, which is what an
   encoder without TGV would send
dynamics_own: of the scheme with the tokens that suit it best at the same error budget: rounded ones, and
   smooth ones of a few prices
fine_*: all of these at a lower error budget

Errors are root mean squares in luma samples, of the whole flow that a decoder makes of the tokens.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from common import Row

from rates.video import Video
from rates.yardsticks import Ints, general, layouts, order0, range_bytes
from refenc.flow_tokens import FlowAnalysis, FlowOptions, analyse, choose, coarsest, error
from tgv_format import flow_tokens
from tgv_format.flow_tokens import FlowTokens
from tgv_format.levels import LEVELS

PUBLISHED = "dynamics"
GENERAL = ("xz", "brotli")

#: First frame and length of the clips of a video.
CLIPS = ((0, 29), (60, 16))
#: Error budgets by the prefix of their figures, see FlowOptions.
SHARES = {"": 0.25, "fine_": 0.03}
#: Prices of a bit of the smooth tokens that are tried for the published scheme.
OWN_PRICES = (0.05, 0.1, 0.2)
#: What every scheme has to send besides: tokenizer, number of tokens, step.
HEADER_BYTES = 3


def measure(video: Video) -> list[Row]:
    """One row for each clip."""
    rows = []
    for first, length in CLIPS:
        part = video.pictures[first : first + length + 1]
        if len(part) < 3:
            continue
        analysis = analyse(part, FlowOptions().tokens)
        row: Row = {"first": first, "frames": len(part) - 1}
        for prefix, share in SHARES.items():
            figures = _figures(analysis, FlowOptions(share=share))
            row |= {prefix + name: value for name, value in figures.items()}
        rows.append(row)
    return rows


def _figures(analysis: FlowAnalysis, options: FlowOptions) -> Row:
    chosen, plain = choose(analysis, options), rounded(analysis, options)
    smooth = [choose(analysis, replace(options, price=price)) for price in OWN_PRICES]
    return {
        **sizes(chosen),
        "flow_error": _flow_error(chosen, analysis),
        "rounded_tgv": tgv_bytes(plain),
        "rounded_dynamics": dynamics(plain),
        "rounded_flow_error": _flow_error(plain, analysis),
        "dynamics_own": min(map(dynamics, (plain, *smooth))),
    }


def _flow_error(params: FlowTokens, analysis: FlowAnalysis) -> float:
    return math.sqrt(analysis.missed + error(params, analysis))


def sizes(params: FlowTokens) -> dict[str, float]:
    """Bytes of TGV and of every yardstick for the same parameters."""
    tokens = params.tokens.astype(np.int64)
    candidates = [*layouts(tokens), *layouts(residuals(tokens))]
    return {"tgv": tgv_bytes(params), "dynamics": dynamics(params), **general(candidates, HEADER_BYTES)}


def tgv_bytes(params: FlowTokens) -> int:
    return len(flow_tokens.encode(params, LEVELS[3]))


def dynamics(params: FlowTokens) -> int:
    """Bytes of the scheme of Dynamics-Codec with an ideal adaptive order-0 code."""
    values = residuals(params.tokens.astype(np.int64))
    return HEADER_BYTES + range_bytes(values) + math.ceil(order0(values) / 8)


def residuals(tokens: Ints) -> Ints:
    """Differences from the adjacent frame; those of frame 1 from zero, the tokens of frame 0."""
    return np.diff(tokens, axis=0, prepend=0)


def rounded(analysis: FlowAnalysis, options: FlowOptions) -> FlowTokens:
    """Tokens rounded one by one, of the largest step within the error budget."""
    wanted = analysis.coefficients * 16

    def of(step: int) -> FlowTokens:
        return FlowTokens(np.clip(np.rint(wanted / step), -(1 << 15), (1 << 15) - 1).astype(np.int16), step)

    return coarsest(analysis, options, of)
