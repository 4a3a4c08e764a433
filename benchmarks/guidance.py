"""What the motion guidance is worth: PSNR-Y of the frames between keyframes in three reconstructions.

a: cross-fade of the decoded keyframes (the baseline reconstruction without points)
b: the baseline reconstruction
c: both decoded keyframes warped by dense, uncoded optical flow (OpenCV DIS on the originals) and blended
   like clause 10.4 does

The share of a clip is (b - a) / (c - a): how much of what dense flow gains the guidance recovers.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from common import (
    Row,
    Size,
    Target,
    arguments,
    conclude,
    find_clips,
    median,
    progress,
    run,
    scaling,
    spending,
    table,
)
from numpy.typing import NDArray

from refdec.baseline import reconstruct
from refdec.keyframes import KeyframeDecoder
from tgv_format.clip import Clip
from tgv_format.keyframe import Keyframe, Role
from tgv_format.picture import Picture, Plane
from tgv_format.reader import Reader

Flow = NDArray[np.float32]

SETTINGS = {"default": [], "8 kbit/s": ["--bitrate", "8"]}
SHARE = 0.35
#: Dense gain in dB under which the share of a clip says nothing, and from which it says much.
SOME_GAIN, MUCH_GAIN = 0.1, 1.0


def psnr(a: Plane, b: Plane) -> float:
    """Of 8-bit samples; 100 dB at most."""
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return 10 * math.log10(255**2 / error) if error > 255**2 / 1e10 else 100.0


def read_original(path: Path, size: Size | None) -> list[Picture]:
    """The pictures that the encoder sees."""
    from refenc.source import open_source

    with open_source(str(path), size, crop=size is not None) as source:
        return list(source)


def coded_clips(stream: Path) -> Iterator[tuple[int, Clip, Picture, Picture]]:
    """(Number of frame 0, clip, its first and its last picture) of every clip between two keyframes."""
    with stream.open("rb") as file:
        reader = Reader(file)
        decoder = KeyframeDecoder(reader.header.width, reader.header.height)
        shown: Picture | None = None
        pending: Picture | None = None
        frames = 0
        for element in reader:
            if isinstance(element, Keyframe):
                picture = decoder.decode(element)
                if element.role is Role.TRAILING:
                    pending = picture
                else:
                    shown, frames = picture, frames + 1
            elif isinstance(element, Clip):
                # The reference encoder ends every clip in a keyframe.
                assert shown is not None
                assert pending is not None
                yield frames - 1, element, shown, pending
                shown, frames = pending, frames + element.frame_count


@dataclass
class DenseFlow:
    """Flow between the original pictures, each found once."""

    pictures: Sequence[Picture]
    _known: dict[tuple[int, int], Flow] = field(default_factory=dict)

    def __call__(self, t: int, anchor: int) -> Flow:
        """float32 [h, w, 2]: how far frame ``t``'s samples have moved in frame ``anchor``."""
        import cv2

        if (t, anchor) not in self._known:
            cv2.setNumThreads(1)
            dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            self._known[t, anchor] = dis.calc(self.pictures[t].y, self.pictures[anchor].y, None)
        return self._known[t, anchor]


def dense_reconstruction(
    flow: DenseFlow, begin: int, t: int, length: int, first: Plane, last: Plane
) -> Plane:
    """Luma of frame ``t`` of a clip that begins at frame ``begin`` of the video."""
    warped = [_warp(p, flow(begin + t, begin + end)) for p, end in ((first, 0), (last, length))]
    (a, inside_a), (b, inside_b) = warped
    weights = np.full(a.shape, (t * 256 + (length >> 1)) // length, np.float32)
    weights[inside_a & ~inside_b] = 0
    weights[inside_b & ~inside_a] = 256
    return np.rint(a + (b - a) * weights / 256).astype(np.uint8)


def _warp(plane: Plane, flow: Flow) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    import cv2

    height, width = plane.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    warped = cv2.remap(plane.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warped, inside


def measure(stream: Path, pictures: Sequence[Picture], flow: DenseFlow) -> Row:
    """Mean PSNR-Y of the three reconstructions over all frames between keyframes, and the share."""
    scores = []
    for begin, clip, first, last in coded_clips(stream):
        length = clip.frame_count
        inner = range(1, length)
        for t, faded, made in zip(
            inner,
            reconstruct(Clip(length), first, last, inner),
            reconstruct(clip, first, last, inner),
            strict=True,
        ):
            original = pictures[begin + t].y
            dense = dense_reconstruction(flow, begin, t, length, first.y, last.y)
            scores.append([psnr(original, p) for p in (faded.y, made.y, dense)])
    a, b, c = np.mean(scores, 0).tolist()
    return {
        "cross-fade dB": a,
        "baseline dB": b,
        "dense dB": c,
        "gain dB": b - a,
        "dense gain dB": c - a,
        "share %": 100 * (b - a) / (c - a) if c - a >= SOME_GAIN else None,
        "guidance %": 100 * spending(stream).guidance,
    }


def measure_clip(path: Path, size: Size | None, folder: Path, kinds: str) -> Iterator[Row]:
    """One row for each of the settings."""
    pictures = read_original(path, size)
    flow = DenseFlow(pictures)
    for setting, options in SETTINGS.items():
        stream = folder / "coded.tgv"
        run("refenc", path, stream, *scaling(size), *options, "--guidance", kinds)
        yield {"clip": path.stem, "setting": setting, **measure(stream, pictures, flow)}


def by_share(rows: Sequence[Row]) -> list[Row]:
    """The lowest share first, clips without one last."""
    return sorted(rows, key=lambda r: math.inf if r["share %"] is None else r["share %"])


def summary(rows: Sequence[Row]) -> Row:
    """Over all clips of one setting. Clips without a dense gain have no share."""
    shared = [r for r in rows if r["dense gain dB"] >= SOME_GAIN]
    much = [r["share %"] for r in rows if r["dense gain dB"] >= MUCH_GAIN]
    gains, dense = (sum(r[k] for r in rows) for k in ("gain dB", "dense gain dB"))
    return {
        "mean share %": float(np.mean([r["share %"] for r in shared])) if shared else 0.0,
        "median share %": median(r["share %"] for r in shared) if shared else 0.0,
        "ratio of summed gains %": 100 * gains / dense if shared else 0.0,
        f"mean share, dense gain >= {MUCH_GAIN:g} dB, %": float(np.mean(much)) if much else 0.0,
        "clips with that gain": len(much),
        "mean guidance %": float(np.mean([r["guidance %"] for r in rows])),
        f"clips over {SHARE:.0%} guidance": [
            f"{r['clip']} {r['guidance %']:.1f}" for r in rows if r["guidance %"] > 100 * SHARE
        ],
        "clips without a share": [r["clip"] for r in rows if r["dense gain dB"] < SOME_GAIN],
    }


def targets(setting: str, rows: Sequence[Row], found: Row) -> list[Target]:
    """The mean has to reach the share, every stream to keep to it, and no clip to lose from its guidance."""
    missed = []
    if not found["mean share %"] >= 100 * SHARE:
        missed = [f"mean {found['mean share %']:.1f} %; the lowest:"] + [
            f"{r['clip']}: {r['share %']:.1f} % of {r['dense gain dB']:.2f} dB"
            for r in by_share(rows)[:10]
            if r["share %"] is not None
        ]
    return [
        Target(f"{setting}: on average {SHARE:.0%} of the gain of dense flow", missed),
        Target(
            f"{setting}: guidance on average at most {SHARE:.0%} of the stream",
            [f"{r['clip']}: {r['guidance %']:.1f} %" for r in rows if r["guidance %"] > 100 * SHARE]
            if found["mean guidance %"] > 100 * SHARE
            else (),
        ),
        Target(
            f"{setting}: never worse than the cross-fade",
            [f"{r['clip']}: {r['gain dB']:.2f} dB" for r in rows if r["gain dB"] < 0],
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--guidance", default="trajectory", metavar="KIND[,KIND]", help="as of refenc")
    args: argparse.Namespace = parser.parse_args(argv)
    rows: list[Row] = []
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for path in progress(find_clips(args), "guidance"):
            try:
                rows += measure_clip(path, args.size, Path(folder), args.guidance)
            except RuntimeError as error:
                failed.append(f"{path.stem}: {error}")
    verdicts = [Target("every clip encodes", failed)]
    summaries = {}
    columns = dict.fromkeys(rows[0], ".2f") | {"share %": ".1f", "guidance %": ".1f"}
    del columns["setting"]
    for setting in SETTINGS:
        chosen = by_share([r for r in rows if r["setting"] == setting])
        summaries[setting] = summary(chosen)
        print(f"\n{setting}\n{table(chosen, columns)}\n")
        for name, value in summaries[setting].items():
            print(f"  {name}: {value:.2f}" if isinstance(value, float) else f"  {name}: {value}")
        verdicts += targets(setting, chosen, summaries[setting])
    result = {"benchmark": "guidance", "size": args.size, "rows": rows, "summary": summaries}
    return conclude(args, result, verdicts)


if __name__ == "__main__":
    sys.exit(main())
