"""Bytes of flow tokens against other ways to code the same integers.

    python benchmarks/rate_flow_tokens.py --clips FOLDER

Measures on every second clip, beginning with the second; the others are those that training/flow_tokens.py
trains the contexts on. The Dynamics-Codec scheme codes the residual to the adjacent frame's tokens with an
adaptive order-0 arithmetic code, here an ideal one. `dynamics_own` is that scheme with tokens of its own at
the same error budget: the best of tokens rounded one by one and of smoother ones of a few prices.
"""

from __future__ import annotations

import lzma
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import brotli
import numpy as np
from common import Row, Size, Target, arguments, conclude, find_clips, progress, table
from numpy.typing import NDArray

from refenc.flow_tokens import FlowAnalysis, FlowOptions, analyse, choose, coarsest
from refenc.source import open_source
from tgv_format import flow_tokens
from tgv_format.flow_tokens import FlowTokens
from tgv_format.levels import LEVELS

#: First frame and length of the clips of a video.
CLIPS = ((0, 29), (60, 16))
#: Error budgets, see FlowOptions.
SHARES = (0.25, 0.03)
#: What every scheme has to send besides: tokenizer, number of tokens, step.
HEADER_BYTES = 3

Ints = NDArray[np.int64]


def sizes(params: FlowTokens) -> dict[str, float]:
    """Bytes of TGV and of every yardstick for the same parameters, side information included."""
    tokens = params.tokens.astype(np.int64)
    return {
        "tgv": len(flow_tokens.encode(params, LEVELS[3])),
        "dynamics": dynamics(tokens),
        "xz": HEADER_BYTES + min(_xz(data) for data in layouts(tokens)),
        "brotli": HEADER_BYTES + min(_brotli(data) for data in layouts(tokens)),
    }


def residuals(tokens: Ints) -> Ints:
    """Differences from the adjacent frame; those of frame 1 from zero, the tokens of frame 0."""
    return np.diff(tokens, axis=0, prepend=0)


def dynamics(tokens: Ints) -> float:
    """Bytes of the scheme of Dynamics-Codec with an ideal adaptive order-0 code.

    The code knows the range of the residuals, which is sent, and counts from the best of several priors,
    whose choice is free.
    """
    values: list[int] = residuals(tokens).ravel().tolist()
    low, high = min(values), max(values)
    range_bytes = 2 if low >= -128 and high < 128 else 4
    return HEADER_BYTES + range_bytes + min(_order0(values, high - low + 1, p) for p in PRIORS) / 8


PRIORS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)


def _order0(values: Iterable[int], alphabet: int, prior: float) -> float:
    """Bits of an ideal adaptive code whose counts start at ``prior``."""
    counts: Counter[int] = Counter()
    bits = 0.0
    for total, value in enumerate(values):
        bits -= math.log2((counts[value] + prior) / (total + prior * alphabet))
        counts[value] += 1
    return bits


def layouts(tokens: Ints) -> list[bytes]:
    """Tokens and residuals in all sensible orders, as 16-bit numbers, as byte planes and as bytes."""
    out = []
    for values, order in product((tokens, residuals(tokens)), ((0, 1, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1))):
        ordered = np.ascontiguousarray(values.transpose(order))
        words = ordered.astype("<i4") if np.abs(ordered).max() >= 1 << 15 else ordered.astype("<i2")
        data = words.tobytes()
        out += [data, b"".join(data[k :: words.itemsize] for k in range(words.itemsize))]
        if ordered.min() >= -128 and ordered.max() < 128:
            out.append(ordered.astype(np.int8).tobytes())
    return out


def _xz(data: bytes) -> int:
    """Raw LZMA2 of the best literal settings, without the container of .xz."""
    settings = [{"lc": lc, "lp": lp, "pb": lp} for lc, lp in ((3, 0), (0, 0), (0, 1), (3, 1))]
    # The preset's dictionary of 64 MiB would take far longer and find nothing more in a few kilobytes.
    common = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 17}
    filters = [{**common, **s} for s in settings]
    return min(len(lzma.compress(data, lzma.FORMAT_RAW, filters=[f])) for f in filters)


def _brotli(data: bytes) -> int:
    return min(len(brotli.compress(data, quality=11, lgwin=w)) for w in (10, 16))


def rounded(analysis: FlowAnalysis, options: FlowOptions) -> FlowTokens:
    """Tokens rounded one by one, of the largest step within the error budget."""
    wanted = analysis.coefficients * 16
    return coarsest(analysis, options, lambda s: FlowTokens(np.rint(wanted / s).astype(np.int16), s))


def dynamics_own(analysis: FlowAnalysis, options: FlowOptions) -> float:
    """Bytes of :func:`dynamics` with the tokens that suit it best, within the error budget."""
    smooth = [choose(analysis, replace(options, price=price)) for price in OWN_PRICES]
    return min(dynamics(p.tokens.astype(np.int64)) for p in (rounded(analysis, options), *smooth))


OWN_PRICES = (0.05, 0.1, 0.2)


def measure(path: Path, size: Size) -> list[Row]:
    """One row for each clip of a video and each error budget."""
    with open_source(str(path), size, crop=True) as source:
        frames = [picture.y for picture in islice(source, sum(CLIPS[-1]) + 1)]
    rows = []
    for first, length in CLIPS:
        part = frames[first : first + length + 1]
        if len(part) < 3:
            continue
        analysis = analyse(part, FlowOptions().tokens)
        for share in SHARES:
            options = FlowOptions(share=share)
            params = choose(analysis, options)
            data = flow_tokens.encode(params, LEVELS[3])
            begin = time.perf_counter()
            flow_tokens.decode(data, 0, "", params.last_frame, LEVELS[3])
            seconds = time.perf_counter() - begin
            rows.append(
                {"clip": path.stem, "first": first, "frames": params.last_frame, "share": share}
                | {"step": params.step, "milliseconds": 1000 * seconds}
                | sizes(params)
                | {"dynamics_own": dynamics_own(analysis, options)}
            )
    return rows


SCHEMES = ("tgv", "dynamics", "xz", "brotli", "dynamics_own")


def main() -> int:
    import cv2

    cv2.setNumThreads(1)
    args = arguments(__doc__).parse_args()
    paths = find_clips(args)[1::2]
    rows = [row for path in progress(paths, "clips") for row in measure(path, args.size)]
    columns = {"clip": "", "first": ".0f", "share": ".2f", "step": ".0f", **dict.fromkeys(SCHEMES, ".0f")}
    print(table(rows, {**columns, "milliseconds": ".2f"}))
    means, targets = [], []
    for share in SHARES:
        some = [row for row in rows if row["share"] == share]
        mean = {name: statistics.fmean(row[name] for row in some) for name in (*SCHEMES, "milliseconds")}
        means.append({"share": share, **mean})
        ratio = mean["tgv"] / mean["dynamics"]
        demand = f"at most 0.72 of the bytes of Dynamics-Codec's scheme at budget {share}: {ratio:.3f}"
        targets.append(Target(demand, [] if ratio <= 0.72 else ["mean of all clips"]))
    print("\nmeans")
    print(table(means, {"share": ".2f", **dict.fromkeys((*SCHEMES, "milliseconds"), ".1f")}, medians=False))
    return conclude(args, {"clips": rows, "means": means}, targets)


if __name__ == "__main__":
    sys.exit(main())
