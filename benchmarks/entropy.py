"""Speed of entropy decoding for every kind of section, in binary symbols per second and times real time.

    python benchmarks/entropy.py --clips FOLDER

Guidance of the first second of every second clip, beginning with the second. Figures are of processor time
in one thread, the least of several repetitions, from a section's bytes to its arrays. As machines differ,
"coder" is the time that the bare range coder takes for as many symbols, as a share of the section's. "all" is
a clip that has a section of every kind.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import constriction
import numpy as np
from common import (
    Row,
    Size,
    Target,
    arguments,
    conclude,
    find_clips,
    progress,
    read_units,
    run,
    scaling,
    table,
)

from refenc.flow_tokens import FlowOptions, analyse, choose
from refenc.masks import SEGMENTERS, MaskOptions, simplify
from refenc.poses import ESTIMATORS, quantise
from refenc.source import open_source
from tgv_format import camera_poses, clip, flow_tokens, group, masks
from tgv_format.container import UnitType
from tgv_format.entropy import TraceSink
from tgv_format.levels import LEVELS

FRAMES = 30
REAL_TIME, BINS = 200, 1e6
#: Root mean square error of the poses, in luma samples.
POSE_ERROR = 0.4
KINDS = ("trajectories", "flow_tokens", "camera_poses", "masks")

#: Decodes a section, or several, with or without a trace.
Decode = Callable[[TraceSink | None], object]


def sections(path: Path, size: Size, folder: Path) -> tuple[dict[str, Decode], float]:
    """A decoder of every kind of section, and the seconds of video that they are for."""
    with open_source(str(path), size, crop=True) as source:
        pictures, rate = list(islice(source, FRAMES)), float(source.info.frame_rate)
    last, limits, options = len(pictures) - 1, LEVELS[3], MaskOptions()
    luma = [p.y for p in pictures]
    labels = masks.encode(simplify(SEGMENTERS[options.segmenter](pictures, options), options), *size, limits)
    tokens = flow_tokens.encode(choose(analyse(pictures, FlowOptions().tokens), FlowOptions()), limits)
    error = POSE_ERROR / max(size)
    poses = camera_poses.encode(quantise(ESTIMATORS["opencv"](luma), *size, error, error), *size, limits)
    return {
        "trajectories": trajectories(path, size, folder),
        "flow_tokens": lambda trace: flow_tokens.decode(tokens, 0, "", last, limits, trace),
        "camera_poses": lambda trace: camera_poses.decode(poses, 0, "", *size, last, limits, trace),
        "masks": lambda trace: masks.decode(labels, 0, "", *size, last, limits, trace),
    }, len(pictures) / rate


def trajectories(path: Path, size: Size, folder: Path) -> Decode:
    """A decoder of the trajectories that the encoder gives the first clip."""
    stream = folder / "entropy.tgv"
    run("refenc", path, stream, *scaling(size), "--workers", "2", "--keyframe-interval", str(FRAMES - 1))
    header, units = read_units(stream.read_bytes())
    unit = next(u for u in group.expanded(units) if u.unit_type == UnitType.CLIP)
    return lambda trace: clip.decode(unit.payload, unit.offset, "clip", header, trace)


def least(work: Callable[[], object], repeat: int) -> float:
    """Processor seconds."""
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def bare_coder(bins: int) -> None:
    """Decode and encode that many symbols of one model, one by one."""
    model = constriction.stream.model.Categorical(np.array([0.5, 0.5]), perfect=False)
    decode = constriction.stream.queue.RangeDecoder(np.zeros(2, np.uint32)).decode
    encode = constriction.stream.queue.RangeEncoder().encode
    for _ in range(bins):
        encode(decode(model), model)


def measure(path: Path, size: Size, repeat: int, folder: Path) -> list[Row]:
    """A row for every kind, and one for all together."""
    decoders, video = sections(path, size, folder)
    rows = []
    for kind, decode in decoders.items():
        trace: list[object] = []
        decode(trace.append)
        seconds = least(lambda decode=decode: decode(None), repeat)  # type: ignore[misc]
        coder = least(lambda trace=trace: bare_coder(len(trace)), repeat)  # type: ignore[misc]
        rows.append({"kind": kind, "bins": len(trace), "seconds": seconds, "coder seconds": coder})
    rows.append({"kind": "all", **{key: sum(r[key] for r in rows) for key in list(rows[0])[1:]}})
    return [
        {
            "clip": path.stem,
            **row,
            "kbin/s": row["bins"] / row["seconds"] / 1000,
            "x rt": video / row["seconds"],
            "coder": row["coder seconds"] / row["seconds"],
        }
        for row in rows
    ]


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__)
    p.add_argument("--repeat", type=int, default=7, metavar="N", help="repetitions (default 7)")
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        measured = [
            row
            for path in progress(find_clips(args)[1::2], "entropy")
            for row in measure(path, args.size, args.repeat, Path(name))
        ]
    columns = {"clip": "", "bins": ".0f", "kbin/s": ".0f", "x rt": ".0f", "coder": ".2f"}
    targets = []
    for kind in (*KINDS, "all"):
        rows = [row for row in measured if row["kind"] == kind]
        print(f"\n{kind}\n{table(rows, columns)}")
        speed = sum(r["bins"] for r in rows) / max(sum(r["seconds"] for r in rows), math.ulp(0))
        slow = [f"{r['clip']}: {r['x rt']:.0f}" for r in rows if r["x rt"] < REAL_TIME]
        targets += [
            Target(f"{kind}: {BINS / 1000:.0f} kbin/s ({speed / 1000:.0f})", ["mean"][: speed < BINS]),
            Target(f"{kind}: {REAL_TIME} x real time", slow),
        ]
    return conclude(args, {"benchmark": "entropy", "size": args.size, "rows": measured}, targets)


if __name__ == "__main__":
    sys.exit(main())
