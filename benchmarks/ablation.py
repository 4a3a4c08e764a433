"""T-GVC's ablations with the baseline reconstruction as decoder: which points are sent, and how many.

    python benchmarks/ablation.py --clips FOLDER [--only GLOB] [--json FILE]

Every clip is divided as the encoder does by default, and its keyframes are taken as they are, so that motion
alone makes a difference. ``dense`` sends a track of every cell of a grid of 32 luma samples, ``random`` as
many tracks as ``semantic``, drawn from all with a fixed seed; ``semantic`` is T-GVC's choice, ``at most N``
the same with another limit for an instance. Bits are those of the trajectory sections.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Row, Target, arguments, conclude, find_clips, progress, table
from guidance import psnr, read_original
from numpy.typing import NDArray

from refdec.baseline import reconstruct
from refenc.backends.select import DEFAULT
from refenc.clips import divide
from refenc.importance import TgvcOptions, select_semantic_points
from refenc.instances import segment_instances
from refenc.quantise import Quantiser
from refenc.segmentation import CutDetector
from refenc.tracking import Tracks
from tgv_format import trajectories
from tgv_format.clip import Clip
from tgv_format.picture import Picture

INTERVAL = 16
LIMITS = (5, 10, 15, 20)
CELL = 32

Choice = tuple[NDArray[np.intp], NDArray[np.uint8]]


def choices(pictures: Sequence[Picture], tracks: Tracks) -> dict[str, Choice]:
    """Of every scheme the tracks, and the instances of all tracks."""
    labels = segment_instances(tracks)
    ends = pictures[0], pictures[-1]
    everything = np.zeros(len(labels), np.uint8)

    def semantic(options: TgvcOptions) -> Choice:
        chosen, ranks = select_semantic_points(tracks, labels, *ends, options)
        instance = everything.copy()
        instance[chosen] = ranks
        return chosen, instance

    options = TgvcOptions()
    found = {"nothing": (np.zeros(0, np.intp), everything), "semantic": semantic(options)}
    count = len(found["semantic"][0])
    draw = np.random.default_rng(0).permutation(len(labels))[:count]
    found["random"] = np.sort(draw), everything
    x, y = (np.clip(tracks.positions[:, 0], 0, None) // CELL).astype(np.intp).T
    found["dense"] = np.sort(np.unique(y * 4096 + x, return_index=True)[1]), everything
    return found | {f"at most {limit}": semantic(replace(options, max_points=limit)) for limit in LIMITS}


def measure(path: Path, args: argparse.Namespace) -> Iterator[Row]:
    """One row for every scheme."""
    totals: dict[str, list[tuple[int, float, list[float]]]] = {}
    size = args.size
    for source in divide(read_original(path, size), INTERVAL, CutDetector().push):
        if source.length < 2:
            continue
        tracks = DEFAULT.tracker(source.pictures)
        first, last = source.pictures[0], source.pictures[-1]
        for name, (chosen, instance) in choices(source.pictures, tracks).items():
            quantiser = Quantiser(tracks.positions, instance, first.width, first.height)
            section = quantiser(chosen) if len(chosen) else None
            bits = trajectories.cost(section, first.width, first.height) if section else 0.0
            inner = range(1, source.length)
            made = reconstruct(Clip(source.length, section), first, last, inner)
            gains = [psnr(source.pictures[t].y, picture.y) for t, picture in zip(inner, made, strict=True)]
            totals.setdefault(name, []).append((section.count if section else 0, bits, gains))
    for name, parts in totals.items():
        scores = [score for part in parts for score in part[2]]
        points, bits = (float(np.mean([part[i] for part in parts])) for i in (0, 1))
        yield {
            "clip": path.stem,
            "points": name,
            "count": points,
            "bytes": bits / 8,
            "dB": float(np.mean(scores)),
        }


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means over clips of every scheme: points and bytes a clip, and what they gain over nothing."""
    found = []
    for name in dict.fromkeys(row["points"] for row in rows):
        own = [row for row in rows if row["points"] == name]
        row: Row = {"points": name}
        row |= {key: float(np.mean([r[key] for r in own])) for key in ("count", "bytes", "dB")}
        found.append(row | {"gain dB": row["dB"] - (found[0]["dB"] if found else row["dB"])})
    return found


def main(argv: list[str] | None = None) -> int:
    args = arguments(__doc__).parse_args(argv)
    rows = [row for path in progress(find_clips(args), "ablation") for row in measure(path, args)]
    means = summary(rows)
    columns = {"points": "", "count": ".1f", "bytes": ".1f", "dB": ".2f", "gain dB": ".2f"}
    print(table(means, columns, medians=False))
    gains = {row["points"]: row["gain dB"] for row in means}
    verdicts = [
        Target(
            "semantic points gain more than as many random ones",
            []
            if gains["semantic"] > gains["random"]
            else [f"{gains['semantic']:.2f}, {gains['random']:.2f} dB"],
        )
    ]
    return conclude(
        args, {"benchmark": "ablation", "size": args.size, "rows": rows, "summary": means}, verdicts
    )


if __name__ == "__main__":
    sys.exit(main())
