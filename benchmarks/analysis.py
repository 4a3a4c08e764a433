"""How right the encoder's analyses are, on rendered scenes whose truth is known, and where they see cuts.

    python benchmarks/analysis.py [--clips FOLDER] [--seeds N] [--json FILE]

Every scene of ``tests/scenes.py`` is analysed by the backends that are named (the default ones need no
weights). With ``--clips`` the cuts in real clips are compared with those that the table of the folder's
``SOURCES.md`` lists ("hard cuts at frames 25 and 75"); no other clip of the folder may have one.

Tracks are compared with where the point that a track begins at is, in all frames in which both see it.
Instances are those of the tracks which are no noise; two layers that move alike are one. Directions of
translation count where the camera has moved by 1 % of the scene's depth. Masks are compared in pictures of
full size, every object with the label that fits it best.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

import numpy as np
from common import Row, Size, Target, arguments, conclude, find_clips, progress, table
from numpy.typing import NDArray

from refenc import masks, poses, tracking
from refenc.instances import segment_instances
from refenc.masks import MaskOptions
from refenc.segmentation import CutDetector
from refenc.tracking import Tracks
from tests.scenes import SCENES, Rendered
from tgv_format.masks import upsample
from tgv_format.picture import Picture

FRAMES = 17
#: Scenes without texture, and in two parts, say nothing about motion.
MOTION = tuple(name for name in SCENES if name not in ("single_colour", "cut"))
#: Scenes of a camera that turns about its centre, or stands still.
TURNS, STILL = (
    ("turn", "whip_pan"),
    ("static", "two_objects_crossing", "oscillating", "rotating_object", "uncovering"),
)
#: Scenes whose objects move on their own.
OBJECTS = ("passing", "two_objects_crossing", "oscillating", "rotating_object", "uncovering")
PARALLAX = ("dolly", "orbit", "shake", "pan", "zoom")

POSITION, VISIBILITY, RAND, ROTATION, DIRECTION, IOU = 0.5, 0.95, 0.9, 0.3, 3.0, 0.85

Floats = NDArray[np.float64]


def measure_tracks(rendered: Rendered, tracks: Tracks) -> Row:
    """Errors of positions in luma samples, share of right visibilities, Rand index of instances."""
    last = tracks.positions.shape[1] - 1
    forward = tracks.visible[:, 0]
    truth, seen = np.zeros(tracks.positions.shape), np.zeros(tracks.visible.shape, np.bool_)
    for frame, side in ((0, forward), (last, ~forward)):
        truth[side], seen[side] = rendered.trajectories(
            frame, tracks.positions[side, frame].astype(np.float64)
        )
    error = np.linalg.norm(tracks.positions - truth, axis=2)[seen & tracks.visible]
    found = segment_instances(tracks)
    clear = found >= 0
    return {
        "tracks": len(truth),
        "error": float(np.median(error)),
        "error 95 %": float(np.quantile(error, 0.95)),
        "visibility": float((seen == tracks.visible).mean()),
        "rand": adjusted_rand(moving(rendered, tracks)[clear], found[clear]),
        "noise": float(1 - clear.mean()),
    }


def moving(rendered: Rendered, tracks: Tracks) -> NDArray[np.intp]:
    """The layer of every track, [N], where its camera stands still; 0 where a layer does not move."""
    last = tracks.positions.shape[1] - 1
    layers = np.zeros(len(tracks.positions), np.intp)
    for frame, side in ((0, tracks.visible[:, 0]), (last, ~tracks.visible[:, 0])):
        x, y = np.rint(tracks.positions[side, frame]).astype(np.intp).T
        layers[side] = rendered.labels[frame, y, x]
    return np.where(np.isin(layers, movers(rendered)), layers, 0)


def movers(rendered: Rendered) -> list[int]:
    """The layers that move in the world."""
    parts = [(layer.position, layer.rotation, layer.scale, layer.sway) for layer in rendered.shots[0].layers]
    frames = len(rendered.pictures)
    return [
        i for i, curves in enumerate(parts) if any(np.ptp(c.sample(frames), axis=0).any() for c in curves)
    ]


def adjusted_rand(truth: NDArray[np.intp], found: NDArray[np.int32]) -> float:
    """The adjusted Rand index of two partitions; 1 where both have one part alone."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, found))


def measure_camera(rendered: Rendered, motion: poses.Motion) -> Row:
    """Median errors of rotation and direction of translation, in degrees; what moved and turned."""
    true = rendered.poses @ np.linalg.inv(rendered.poses[0])
    turns = np.stack([poses.matrix(v) for v in motion.rotation])
    chord = np.linalg.norm(turns - true[:, :3, :3], axis=(1, 2)) / np.sqrt(8)
    a, b = motion.translation[1:], true[1:, :3, 3]
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    far = np.linalg.norm(b, axis=1) > 0.01 * rendered.planes[0, 3]
    cosine = (a * b).sum(axis=1)[far] / np.maximum(lengths[far], 1e-12)
    return {
        "rotation": float(np.degrees(np.median(2 * np.arcsin(np.minimum(chord[1:], 1))))),
        "direction": float(np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1))))) if far.any() else None,
        "moved": float(np.abs(motion.translation).max()),
        "turned": float(np.degrees(np.abs(motion.rotation).max())),
    }


def measure_masks(rendered: Rendered, labels: NDArray[np.uint8], scale_log2: int) -> Row:
    """The least intersection over union of an object, of those that move, over all frames."""
    height, width = rendered.labels.shape[1:]
    found = np.stack([upsample(plane, width, height, scale_log2) for plane in labels])
    best = []
    for layer in movers(rendered):
        true = rendered.labels == layer
        overlaps = [
            ((found == k) & true).sum() / ((found == k) | true).sum() for k in range(1, found.max() + 1)
        ]
        best.append(float(max(overlaps, default=0.0)))
    return {"iou": float(np.mean(best)) if best else None}


def cuts(pictures: Sequence[Picture]) -> list[int]:
    """The frames at which the encoder begins a scene, without the first."""
    detector = CutDetector()
    following = [*pictures[1:], None]
    starts = [detector.push(*pair) for pair in zip(pictures, following, strict=True)]
    return np.flatnonzero(starts)[1:].tolist()


def measure_scene(name: str, seed: int, size: Size) -> Row:
    """One row: everything about a scene."""
    rendered = SCENES[name](seed, *size, FRAMES)
    row: Row = {"scene": name, "seed": seed, "cuts": cuts(rendered.pictures) == list(rendered.cuts)}
    if name not in MOTION:
        return row
    planes = [picture.y for picture in rendered.pictures]
    tracks = tracking.track_opencv(planes)
    row |= measure_tracks(rendered, tracks)
    row |= measure_camera(rendered, poses.estimate_opencv(planes))
    options = MaskOptions()
    return row | measure_masks(rendered, masks.segment_motion(rendered.pictures, options), options.scale_log2)


def listed_cuts(sources: str) -> dict[str, list[int]]:
    """The cuts that a table of sources lists, by the names of the files."""
    lines = re.findall(r"^\| (\S+)\.mp4 \|.*hard cuts? at frames? (.*?)[;|]", sources, re.MULTILINE)
    return {name: [int(number) for number in re.findall(r"\d+", numbers)] for name, numbers in lines}


def clip_targets(args: argparse.Namespace) -> Target:
    """Whether the cuts of all clips are those that are listed."""
    from refenc.source import open_source

    listed, wrong = listed_cuts((args.clips / "SOURCES.md").read_text(encoding="utf-8")), []
    for path in progress(find_clips(args), "cuts"):
        with open_source(str(path), None, False) as source:
            found = cuts(list(source))
        if found != listed.get(path.stem, []):
            wrong.append(f"{path.stem}: {found}, not {listed.get(path.stem, [])}")
    return Target("cuts of the clips found, and no others", wrong)


def targets(rows: Sequence[Row]) -> list[Target]:
    """What the encoder has to know."""

    def missed(key: str, names: Sequence[str], limit: float, least: bool = False) -> list[str]:
        values = [(r["scene"], r["seed"], r[key]) for r in rows if r["scene"] in names and r[key] is not None]
        return [f"{n} {s}: {v:.3f}" for n, s, v in values if (v < limit if least else v > limit)]

    return [
        Target("cuts exact", [f"{r['scene']} {r['seed']}" for r in rows if not r["cuts"]]),
        Target(f"median error of tracks at most {POSITION}", missed("error", MOTION, POSITION)),
        Target(f"visibility at least {VISIBILITY:.0%} right", missed("visibility", MOTION, VISIBILITY, True)),
        Target(f"adjusted Rand index at least {RAND}", missed("rand", OBJECTS, RAND, True)),
        Target(f"rotation within {ROTATION} degrees", missed("rotation", PARALLAX + TURNS, ROTATION)),
        Target(f"direction within {DIRECTION} degrees", missed("direction", PARALLAX, DIRECTION)),
        Target("no translation without parallax", missed("moved", TURNS + STILL, 0.0)),
        Target("a camera that stands still does", missed("turned", STILL, 0.0)),
        Target(f"masks: intersection over union at least {IOU}", missed("iou", OBJECTS, IOU, True)),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = arguments(__doc__, clips=False)
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="scenes of each kind (default 2)")
    args = parser.parse_args(argv)
    names = [(name, seed) for name in SCENES for seed in range(args.seeds)]
    rows = [measure_scene(*name, args.size) for name in progress(names, "scenes")]
    columns = {"scene": "", "seed": ".0f", "tracks": ".0f", "error": ".3f", "error 95 %": ".2f"}
    columns |= {"visibility": ".1%", "noise": ".1%", "rand": ".2f", "rotation": ".2f", "direction": ".1f"}
    columns |= {"moved": ".3f", "turned": ".2f", "iou": ".2f"}
    print(table([dict.fromkeys(columns) | row for row in rows if row["scene"] in MOTION], columns))
    verdicts = targets(rows)
    if args.clips:
        verdicts.append(clip_targets(args))
    return conclude(args, {"benchmark": "analysis", "size": args.size, "rows": rows}, verdicts)


if __name__ == "__main__":
    sys.exit(main())
