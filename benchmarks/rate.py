"""Bytes of all kinds of guidance in TGV, in the published schemes, and in general-purpose coders.

    python benchmarks/rate.py --clips FOLDER --json FILE

Guidance is extracted from every video of the folder. With ``--half`` every second one of the folder is left
out, from the first on: in the folder that the contexts were trained on, these are the ones of the training.
The modules of ``rates`` say what is compared with what.

The JSON has an object of means over clips for each kind: ``clips`` (how many), ``tgv``, ``published`` (the
paper's scheme), ``best_general`` (the general-purpose yardstick of the smallest mean),
``best_general_per_clip`` (mean of the smallest of each clip), every yardstick by its own name, and errors.
``rows`` has the figures of every clip. A mean is null where there was no clip.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

from common import Row, Size, Target, arguments, conclude, find_clips, progress, table
from rates import flow_tokens, masks, poses, text, trajectories
from rates.video import Video

#: The module of every kind.
KINDS: dict[str, ModuleType] = {
    "trajectories": trajectories,
    "trajectories_rdo": trajectories,
    "poses": poses,
    "flow_tokens": flow_tokens,
    "masks": masks,
    "text": text,
}
#: What TGV may take at most: kind, share, of what.
LIMITS = (
    ("trajectories", 0.50, "best_general_per_clip"),
    ("trajectories", 0.72, "published"),
    ("trajectories_rdo", 0.40, "published"),
    ("poses", 0.25, "published"),
    ("flow_tokens", 0.72, "published"),
    ("masks", 0.50, "best_general_per_clip"),
    ("text", 0.75, "utf8"),
)
#: Which errors may not be larger than which: kind, TGV's, the yardstick's, by what factor.
ERRORS = (
    ("trajectories_rdo", "error", "published_error", trajectories.ERROR_SHARE),
    ("poses", "tgv_rotation_error", "published_rotation_error", 1.0),
    ("poses", "tgv_translation_error", "published_translation_error", 1.0),
)
#: Keys of a row that say which clip it is.
LABELS = ("video", "first", "frames", "caption")

Rows = dict[str, list[Row]]


def measure(path: Path, size: Size) -> Rows:
    """Rows of the clips of a video, by kind."""
    video = Video.of(path, size)
    same, optimised = trajectories.measure(video)
    rows = {
        "trajectories": same,
        "trajectories_rdo": optimised,
        "poses": poses.measure(video),
        "flow_tokens": flow_tokens.measure(video),
        "masks": masks.measure(video),
    }
    return {kind: [{"video": video.name, **row} for row in found] for kind, found in rows.items()}


def measure_all(paths: Sequence[Path], size: Size, workers: int) -> Rows:
    """Rows of all videos and captions, by kind."""
    rows: Rows = {kind: [] for kind in KINDS}
    with ProcessPoolExecutor(workers, initializer=_prepare) as pool:
        found = pool.map(partial(measure, size=size), paths)
        for of_video in progress(found, "videos", len(paths)):
            for kind, some in of_video.items():
                rows[kind] += some
    poses.add_huffman(rows["poses"])
    rows["text"] = text.measure()
    return rows


def _prepare() -> None:
    """One thread a process, on which OpenCV's results depend, and nothing but errors from SVT-AV1."""
    import cv2
    from threadpoolctl import threadpool_limits

    os.environ.setdefault("SVT_LOG", "1")
    cv2.setNumThreads(1)
    threadpool_limits(1)


def summary(kind: ModuleType, rows: Sequence[Row]) -> Row:
    """Means of a kind's rows."""
    names = [name for name in rows[0] if name not in LABELS] if rows else ["tgv"]
    mean: Row = {name: statistics.fmean(row[name] for row in rows) if rows else None for name in names}
    best = [min(row[name] for name in kind.GENERAL) for row in rows]
    return {
        "clips": len(rows),
        "tgv": mean["tgv"],
        "published": mean.get(kind.PUBLISHED),
        "best_general": min((mean[name] for name in kind.GENERAL), default=None) if rows else None,
        "best_general_per_clip": statistics.fmean(best) if rows else None,
        **mean,
    }


def targets(rows: Rows, means: dict[str, Row]) -> list[Target]:
    """The demands on the means of bytes, and on the errors of every clip."""
    found = []
    for kind, share, yardstick in LIMITS:
        if rows[kind]:
            ratio = means[kind]["tgv"] / means[kind][yardstick]
            demand = f"{kind}: at most {share:.2f} x {yardstick}"
            found.append(Target(f"{demand}: {ratio:.3f}", ["mean of all clips"] if ratio > share else ()))
    for kind, ours, theirs, factor in ERRORS:
        missed = [
            f"{row['video']}, frame {row['first']}: {row[ours]:.6g} > {factor} x {row[theirs]:.6g}"
            for row in rows[kind]
            if row[ours] > factor * row[theirs]
        ]
        found.append(Target(f"{kind}: {ours} at most {factor:.2f} x {theirs} in every clip", missed))
    return found


def overview(means: dict[str, Row]) -> str:
    """The table of the main figures, and lists of the others."""
    main = ("tgv", "published", "best_general", "best_general_per_clip")
    ratios = {f"tgv / {name}": name for name in (main[1], main[3])}
    rows = []
    for kind, mean in means.items():
        row = {"kind": kind, **{name: mean[name] for name in ("clips", *main)}}
        rows.append(row | {k: mean["tgv"] / mean[v] if mean["clips"] else None for k, v in ratios.items()})
    columns = {"kind": "", "clips": ".0f", **dict.fromkeys(main, ".1f"), **dict.fromkeys(ratios, ".3f")}
    lines = [table(rows, columns, medians=False)]
    for kind, mean in means.items():
        others = ", ".join(f"{name} {mean[name]:.4g}" for name in mean if name not in ("clips", *main))
        lines.append(f"{kind}: published is {KINDS[kind].PUBLISHED}; {others}")
    return "\n\n".join(lines)


def chosen(args: argparse.Namespace) -> list[Path]:
    """The videos to measure."""
    half = sorted(args.clips.glob("*.mp4"))[1::2]
    return [path for path in find_clips(args) if not args.half or path in half]


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__)
    p.add_argument("--half", action="store_true", help="leave out every second video, from the first on")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default 2)")
    args: argparse.Namespace = p.parse_args(argv)
    rows = measure_all(chosen(args), args.size, args.workers)
    means = {name: summary(kind, rows[name]) for name, kind in KINDS.items()}
    print(overview(means))
    result = {"benchmark": "rate", "size": args.size, **means, "rows": rows}
    return conclude(args, result, targets(rows, means))


if __name__ == "__main__":
    sys.exit(main())
