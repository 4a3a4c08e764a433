"""Bytes of camera pose sections beside CPSGD's scheme, at no larger error.

CPSGD's poses are relative to the first frame, of every other frame, as differences from one kept frame to
the next, each parameter in 8 bits with a half-precision scale and bias, Huffman coded. Variants:

matrix: the 12 entries of the upper rows are the parameters (made orthonormal again by the decoder)
vector: rotation vector and translation, half as many
open: the differences of the original poses are quantised, and errors add up; closed: differences from the
   decoded pose are

Huffman codes count with the cheapest description of their table: one symbol and length (12 bits) for each
of the symbols used, or a table trained on other clips, for nothing. Parameters that do not change take no
symbols. Intrinsics, which the paper's encoder sends as well, and all framing are left out. Skipped frames
are interpolated as in clause 9.5.4. The camera pose section is then given the errors of each variant
(root mean square of rotation and of translation, all frames, against the poses before quantisation) as the
most that it may make.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import Row, Target, arguments, conclude, find_clips, progress, table
from numpy.typing import NDArray

from refenc.poses import ESTIMATORS, Motion, errors, quantise
from tgv_format import camera_poses
from tgv_format.levels import level_for

Floats = NDArray[np.float64]

SHARE = 0.25
VARIANTS = ("matrix open", "matrix closed", "vector open", "vector closed")
#: The one that the target is about. The matrices are what the paper quantises; vectors are kinder to it.
PUBLISHED = "matrix open"
FRAMES = 29


@dataclass(frozen=True, eq=False)
class Published:
    """What CPSGD's scheme makes of a motion: symbols, bits beside them, and the decoded matrices."""

    symbols: list[int]
    side_bits: int
    decoded: Floats


def rotation_matrices(vectors: Floats) -> Floats:
    """[T, 3, 3] of rotation vectors [T, 3]."""
    import cv2

    return np.stack([cv2.Rodrigues(v)[0] for v in vectors])


def published(motion: Motion, variant: str) -> Published:
    """CPSGD's scheme for a motion, as one of :data:`VARIANTS`."""
    parameters, loop = variant.split()
    last = len(motion.rotation) - 1
    kept = sorted({*range(0, last + 1, 2), last})
    if parameters == "matrix":
        rows = np.concatenate([rotation_matrices(motion.rotation), motion.translation[..., None]], axis=2)
        values = rows.reshape(last + 1, 12)[kept]
    else:
        values = np.concatenate([motion.rotation, motion.translation], axis=1)[kept]
    differences = np.diff(values, axis=0)
    low, high = differences.min(axis=0), differences.max(axis=0)
    bias = low.astype(np.float16)
    scale = ((high - low) / 255).astype(np.float16)
    used = (scale > 0).nonzero()[0]
    decoded = [values[0]]
    symbols: list[int] = []
    for k, difference in enumerate(differences):
        if loop == "closed":
            difference = values[k + 1] - decoded[-1]
        codes = np.zeros(len(bias))
        codes[used] = np.clip(
            np.rint((difference[used] - bias[used]) / scale[used].astype(np.float64)), 0, 255
        )
        symbols += codes[used].astype(int).tolist()
        decoded.append(decoded[-1] + bias.astype(np.float64) + codes * scale.astype(np.float64))
    return Published(symbols, 32 * len(bias), interpolate(np.array(decoded), kept))


def interpolate(values: Floats, kept: Sequence[int]) -> Floats:
    """Matrices [L+1, 4, 4] from 12 or 6 parameters of the kept frames [K, 12 or 6]."""
    import cv2

    if values.shape[1] == 12:
        rows = values.reshape(-1, 3, 4)
        u, _, vt = np.linalg.svd(rows[:, :, :3])
        rotations, translations = u @ vt, rows[:, :, 3]
    else:
        rotations, translations = rotation_matrices(values[:, :3]), values[:, 3:]
    out = np.tile(np.eye(4), (kept[-1] + 1, 1, 1))
    for k in range(1, len(kept)):
        a, b = kept[k - 1], kept[k]
        turn = cv2.Rodrigues(rotations[k] @ rotations[k - 1].T)[0]
        for t in range(a + 1, b + 1):
            part = (t - a) / (b - a)
            out[t, :3, :3] = cv2.Rodrigues(part * turn)[0] @ rotations[k - 1]
            out[t, :3, 3] = translations[k - 1] + part * (translations[k] - translations[k - 1])
    return out


def huffman(counts: Mapping[int, int]) -> dict[int, int]:
    """Code length of every symbol; a single one takes a bit."""
    heap = [(n, i, (s,)) for i, (s, n) in enumerate(sorted(counts.items()))]
    lengths = dict.fromkeys(counts, int(len(counts) == 1))
    heapq.heapify(heap)
    order = len(heap)
    while len(heap) > 1:
        (n, _, a), (m, _, b) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in (*a, *b):
            lengths[symbol] += 1
        order += 1
        heapq.heappush(heap, (n + m, order, a + b))
    return lengths


def trained(messages: Iterable[Sequence[int]]) -> dict[int, int]:
    """Lengths of a table that holds every byte."""
    counts = Counter(range(256))
    for message in messages:
        counts.update(message)
    return huffman(counts)


def published_bytes(found: Published, shared: Mapping[int, int]) -> int:
    """Bytes with the cheaper of a table of its own and the ``shared`` one."""
    counts = Counter(found.symbols)
    own = sum(huffman(counts)[s] * n + 12 for s, n in counts.items())
    return math.ceil((found.side_bits + min(own, sum(shared[s] * n for s, n in counts.items()))) / 8)


def tgv_bytes(motion: Motion, width: int, height: int, budget: tuple[float, float]) -> tuple[int, float]:
    """Bytes of the camera pose section within the errors ``budget``, and the greater share of it used."""
    params = quantise(motion, width, height, *budget)
    made = errors(motion, camera_poses.matrices(params))
    used = max((e / b for e, b in zip(made, budget, strict=True) if b > 0), default=0.0)
    return len(camera_poses.encode(params, width, height, level_for(width, height))), used


def rate(motion: Motion, width: int, height: int, tables: Mapping[str, Mapping[int, int]]) -> Row:
    """For every variant its bytes, those of TGV at its errors, and the part of the errors that TGV makes."""
    row: Row = {}
    for variant in VARIANTS:
        found = published(motion, variant)
        budget = errors(motion, found.decoded)
        row[variant] = published_bytes(found, tables[variant])
        row[f"tgv, {variant}"], row[f"error, {variant}"] = tgv_bytes(motion, width, height, budget)
    return row


def estimate(path: Path, size: tuple[int, int]) -> Motion:
    """The motion of the first frames of a video."""
    from refenc.source import open_source

    with open_source(str(path), size, crop=True) as source:
        frames = [picture.y for picture, _ in zip(source, range(FRAMES), strict=False)]
    return ESTIMATORS["opencv"](frames)


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = arguments(__doc__).parse_args(argv)
    size = args.size or (512, 320)
    paths = find_clips(args)
    motions = {p.stem: estimate(p, size) for p in progress(paths, "poses")}
    # Tables and contexts are trained on every second clip; the others are measured.
    training, held_out = list(motions)[::2], list(motions)[1::2]
    tables = {v: trained(published(motions[name], v).symbols for name in training) for v in VARIANTS}
    rows = [{"clip": name, **rate(motions[name], *size, tables)} for name in held_out or training]
    mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "clip"}
    columns = {"clip": "s", **{k: ".2f" if k.startswith("error") else ".0f" for k in mean}}
    print(table(rows, columns))
    for variant in VARIANTS:
        ratio = mean[f"tgv, {variant}"] / mean[variant]
        print(f"  {variant}: {mean[variant]:.1f} bytes, TGV {mean[f'tgv, {variant}']:.1f}, {ratio:.3f} of it")
    missed = [
        f"{r['clip']}: {r[f'error, {PUBLISHED}']:.3f} of the error"
        for r in rows
        if r[f"error, {PUBLISHED}"] > 1
    ]
    if mean[f"tgv, {PUBLISHED}"] > SHARE * mean[PUBLISHED]:
        missed.append(f"{mean[f'tgv, {PUBLISHED}']:.1f} of {mean[PUBLISHED]:.1f} bytes")
    verdict = Target(f"at most {SHARE:.0%} of the bytes of CPSGD's scheme at no larger error", missed)
    return conclude(args, {"benchmark": "rate_poses", "size": size, "rows": rows, "mean": mean}, [verdict])


if __name__ == "__main__":
    sys.exit(main())
