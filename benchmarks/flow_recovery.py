"""Error of the flow that flow tokens give back, at equal bytes: learned tokens against those of cosines.

    python benchmarks/flow_recovery.py --clips FOLDER [--bytes 200] [--backend dis] [--weights tgv-flow-s]

For the first frames of every clip, at --size, dense flow is found from frame 0 to each frame, and from each
to frame 0. Tokens are of the finest quantiser step with which the section has at most --bytes. EPE is the
mean length of the difference between dense and recovered flow, L1 the mean of its absolute components, both
in luma samples, of

still: no flow at all
to 0: tokens of cosines, which are of the flow towards frame 0, in that direction
cosine: the same followed back to frame 0, which is what generators get
learned: learned tokens, which are of the flow from frame 0
network: the same without the closed loop, as the encoder's network says
start: cosines of the flow from frame 0, which is what the networks begin with before they learn anything
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from itertools import islice

import cv2
import numpy as np
from common import Row, arguments, find_clips, progress, table
from numpy.typing import NDArray

from refdec.flow import GRID, followed_back, learned
from refenc.backends.select import select
from refenc.flow import FlowEstimator, to_first
from refenc.flow_tokens import FlowAnalysis, FlowOptions, quantise
from refenc.learned_tokens import ROUNDS, analyse, grid_flow
from refenc.source import open_source
from tgv_format import flow_tokens
from tgv_format.flow_tokens import MAX_STEP, FlowTokens
from tgv_format.levels import LEVELS
from tgv_format.picture import Colour, Picture

STEPS = sorted({round(2 ** (k / 4)) for k in range(4 * (MAX_STEP.bit_length() - 1) + 1)})

Floats = NDArray[np.float32]


def backward_flow(pictures: list[Picture], estimate: FlowEstimator) -> Floats:
    """Like :func:`refenc.learned_tokens.grid_flow`, but towards frame 0."""
    found = [cv2.resize(f, GRID[::-1], interpolation=cv2.INTER_AREA) for f in to_first(pictures, estimate)]
    return np.array(found).transpose(0, 3, 1, 2)


def errors(flow: Floats, recovered: Floats) -> Row:
    """EPE and L1."""
    difference = flow - recovered
    return {
        "EPE": float(np.hypot(difference[:, 0], difference[:, 1]).mean()),
        "L1": float(np.abs(difference).mean()),
    }


def fitting(analysis: FlowAnalysis, size: int) -> FlowTokens:
    """Tokens of the finest step that takes at most ``size`` bytes."""

    def tokens(step: int) -> FlowTokens:
        return quantise(analysis, step, FlowOptions().price)

    def fits(step: int) -> bool:
        return len(flow_tokens.encode(tokens(step), LEVELS[1])) <= size

    return tokens(STEPS[min(bisect_left(STEPS, True, key=fits), len(STEPS) - 1)])


def measure(
    pictures: list[Picture], colour: Colour, estimate: FlowEstimator, weights: learned.Weights, size: int
) -> Row:
    forward, backward = grid_flow(pictures, estimate), backward_flow(pictures, estimate)
    cosines = weights.networks.synthesis.cosines.numpy()
    keyframe = pictures[0]
    found = {"still": errors(forward, 0 * forward)}

    for name, flow in (("start", forward), ("to 0", backward)):
        exact = np.einsum("lchw,khw->lck", flow, cosines) / (GRID[0] * GRID[1])
        params = fitting(FlowAnalysis(exact.astype(np.float64), 0.0), size)
        smooth = np.einsum("lck,khw->lchw", params.tokens * params.step / 16, cosines)
        found[name] = errors(flow, smooth)
    found["cosine"] = errors(forward, followed_back(params, keyframe.height, keyframe.width))
    for name, rounds in (("learned", ROUNDS), ("network", 0)):
        params = fitting(analyse(forward, keyframe, colour, weights, rounds), size)
        amplitudes = params.tokens.astype(np.float32) * np.float32(params.step / 16)
        found[name] = errors(forward, learned.synthesise(weights.networks, amplitudes, keyframe, colour))
    return {f"{measure} {name}": found[name][measure] for measure in ("EPE", "L1") for name in found}


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__)
    p.add_argument("--frames", type=int, default=17, help="of a clip (default: %(default)s)")
    p.add_argument("--bytes", type=int, default=200, help="of a section (default: %(default)s)")
    p.add_argument("--backend", default="dis", help="of dense flow (default: %(default)s)")
    p.add_argument("--weights", default=learned.DEFAULT, help="default: %(default)s")
    args = p.parse_args(argv)
    cv2.setNumThreads(1)
    weights = learned.load(args.weights)
    rows = []
    for path in progress(find_clips(args), "clips"):
        with open_source(str(path), args.size, crop=True) as source:
            pictures, colour = list(islice(source, args.frames)), source.info.colour
        estimate = select({"flow-backend": args.backend}, colour).flow
        rows.append({"clip": path.stem} | measure(pictures, colour, estimate, weights, args.bytes))
    print(table(rows, {"clip": ""} | {name: ".3f" for name in rows[0] if name != "clip"}))
    for kind in ("EPE", "L1"):
        for other in ("start", "to 0", "cosine"):
            ratios = [r[f"{kind} learned"] / r[f"{kind} {other}"] for r in rows if r[f"{kind} {other}"]]
            mean = np.exp(np.mean(np.log(ratios)))
            print(f"{kind} of learned over {other}: {mean:.3f} (geometric mean of {len(ratios)} clips)")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
