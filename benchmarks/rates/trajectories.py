"""Trajectories in a section, in the scheme of T-GVC, and in general-purpose coders.

Clips have 17 frames; at most four of a video are measured, spread over it. The points are those that T-GVC
picks, at most 15 of an instance, their positions plainly rounded to the latent grid of 8 luma samples.
Points whose positions at neither end of the clip are in the picture are left out for all coders alike, and so
are clips without points.

``tgvc``: T-GVC's scheme with ideal codes: initial positions, and displacements from frame to frame in an
adaptive order-0 arithmetic code; the number of points of every instance; visibility.
``tgvc_visibility``: what of it is visibility, which the paper may not send.

``trajectories_rdo`` has points that the encoder puts in the place of these, of the same instance and seen as
long, where they cost less; ``same_tgv`` is what the very same points take. How well both guide is measured on
the baseline reconstruction between the original pictures at both ends (``psnr``). Position errors are mean
distances in luma samples of decoded positions (centres of units, clause 10.2) from the tracks, in all frames
in which the points are visible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from common import Row, Size
from numpy.typing import NDArray

from rates.video import Video
from rates.yardsticks import Ints, general, layouts, order0, range_bytes
from refdec.baseline import frame
from refdec.motion import Motion
from refdec.sampling import Anchor
from refenc.guidance import Analysis, analyse
from refenc.quantise import Quantiser, rounded
from tgv_format import trajectories
from tgv_format.clip import Clip
from tgv_format.levels import LEVELS
from tgv_format.picture import Picture
from tgv_format.trajectories import Grid, Trajectories

PUBLISHED = "tgvc"
GENERAL = ("xz", "brotli")

LENGTH = 16
CLIPS = 4
#: The mean position error of optimised trajectories, relative to that of rounded ones, is at most this.
ERROR_SHARE = 1.05
#: What is tried of the quantiser: precision, lattice_log2, and weights of a bit.
SETTINGS = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 3))
#: How far a point may be, in luma samples, from one that stands for it.
NEAR = 96.0
WEIGHTS = tuple(2.0 ** (k / 4) for k in range(33))
#: A byte says how many instances there are.
HEADER_BYTES = 1


@dataclass(frozen=True, eq=False)
class Points:
    """The points of one clip: ``index`` intp [N] among the tracks of ``analysis``; ``size`` of the picture.
    In the order of ``rounded``, which are their trajectories on the latent grid."""

    analysis: Analysis
    index: NDArray[np.intp]
    size: Size
    rounded: Trajectories


def clips(video: Video) -> Iterator[tuple[int, list[Picture], Points]]:
    """First frame, pictures and points of every clip that is measured; consecutive ones may share a frame."""
    count = (len(video.pictures) - 1) // LENGTH
    for index in np.unique(np.linspace(0, count - 1, min(CLIPS, count)).astype(int)) if count else ():
        first = LENGTH * int(index)
        pictures = video.pictures[first : first + LENGTH + 1]
        analysis = analyse(pictures, seed=0)
        points = round_points(analysis, video.size) if analysis else None
        if points:
            yield first, pictures, points


def round_points(analysis: Analysis, size: Size) -> Points | None:
    """The points that T-GVC picks, on the latent grid; None where there is none."""
    points = analysis.semantic
    tracks, visible = analysis.positions[points], analysis.visible[points]
    params, kept = rounded(tracks, visible, analysis.instance[points], *size)
    if not params.count:
        return None
    return Points(analysis, points[kept], size, params)


def measure(video: Video) -> tuple[list[Row], list[Row]]:
    """Rows for the clips of a video: of the rounded positions, and of optimised ones."""
    same, free = [], []
    for first, pictures, points in clips(video):
        common: Row = {"first": first, "points": points.rounded.count}
        row = sizes(points.rounded, points.size)
        same.append(common | row)
        free.append(common | optimised_sizes(points, row, pictures))
    return same, free


def sizes(params: Trajectories, size: Size) -> Row:
    """Bytes of TGV and of every yardstick for the same parameters, all of whose spans are full."""
    x, y = params.positions[..., 0], params.positions[..., 1]
    grid = Grid.of(*size, params.precision, params.lattice_log2)
    odd = params.visible != ((x >= 0) & (x < grid.width) & (y >= 0) & (y < grid.height))
    counts = np.bincount(params.instance)
    positions = params.positions.astype(np.int64)
    seen = visibility_bits(params.visible, odd)
    bits = tgvc_bits(positions, grid) + seen + len(counts) * int(counts.max()).bit_length()
    tails = [counts.astype(np.uint8).tobytes() + data for data in visibility_bytes(odd)]
    return {
        "tgv": tgv_bytes(params, size),
        "tgvc": HEADER_BYTES + math.ceil(bits / 8),
        **general((data + tail for data, tail in product(arrays(positions), tails)), HEADER_BYTES),
        "tgvc_visibility": seen / 8,
    }


def optimised_sizes(points: Points, row: Row, pictures: Sequence[Picture]) -> Row:
    """The same for the points as the encoder quantises them; ``row`` is that of the rounded ones.

    ``same_tgv`` and ``same_error`` are those of exactly the same points, the others of points that stand for
    them. ``psnr`` and ``published_psnr``: luma of the baseline reconstruction between the original first and
    last of the clip's ``pictures``, in dB.
    """
    wanted = position_error(points.rounded, points.analysis, points.index)
    first = Optimised(row["tgv"], wanted, points.rounded)
    found = [[first], [first]]
    for (precision, lattice_log2), same in product(SETTINGS, (True, False)):
        low, high = 0, len(WEIGHTS)
        while low < high:
            middle = (low + high) // 2
            made = optimised(points, precision, lattice_log2, WEIGHTS[middle], same)
            if made.error <= ERROR_SHARE * wanted:
                found[same].append(made)
                low = middle + 1
            else:
                high = middle
    same_points = min(found[True], key=lambda o: o.size)
    best = min([same_points, *found[False]], key=lambda o: o.size)
    return {
        "tgv": best.size,
        **{name: row[name] for name in (PUBLISHED, *GENERAL)},
        "error": best.error,
        "published_error": wanted,
        "same_tgv": same_points.size,
        "same_error": same_points.error,
        "psnr": guided_psnr(best.params, pictures),
        "published_psnr": guided_psnr(points.rounded, pictures),
        "points_tgv": best.params.count,
    }


@dataclass(frozen=True, eq=False)
class Optimised:
    """Trajectories with the bytes and the mean position error, in luma samples, that they come to."""

    size: int
    error: float
    params: Trajectories


def guided_psnr(params: Trajectories, pictures: Sequence[Picture]) -> float:
    """PSNR of luma, in dB, of the middle frames that the baseline makes of the originals at both ends."""
    length = len(pictures) - 1
    motion = Motion(Clip(length, params), pictures[0].height, pictures[0].width)
    anchors = [Anchor.of(pictures[0]), Anchor.of(pictures[-1])]
    times = [length * k // 4 for k in (1, 2, 3)]
    made = [frame(motion, anchors, t).y.astype(np.float64) for t in times]
    error = np.mean([np.square(y - pictures[t].y).mean() for y, t in zip(made, times, strict=True)])
    return 10 * math.log10(255**2 / max(float(error), 1e-3))


def tgv_bytes(params: Trajectories, size: Size) -> int:
    return len(trajectories.encode(params, *size, LEVELS[3]))


def optimised(points: Points, precision: int, lattice_log2: int, weight: float, same: bool) -> Optimised:
    """What the encoder makes of the points, or of others that may stand for them."""
    analysis = points.analysis
    quantiser = Quantiser(
        analysis.positions,
        analysis.instance,
        *points.size,
        precision,
        lattice_log2,
        weight,
        analysis.visible,
    )
    tracks = points.index if same else quantiser.cheapest(points.index, NEAR)
    params = quantiser(tracks)
    return Optimised(tgv_bytes(params, points.size), position_error(params, analysis, tracks), params)


def position_error(params: Trajectories, analysis: Analysis, index: NDArray[np.intp]) -> float:
    """Mean distance of decoded positions from the tracks ``index``, in the frames in which they are visible.

    Each track is compared with a trajectory of its own, in the assignment of least error; a track that the
    encoder left out, with the nearest trajectory.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    tracks, visible = analysis.positions[index].astype(np.float64), analysis.visible[index]
    unit = 8 / (1 << params.precision)
    decoded = params.positions * unit + max(0.0, (unit - 1) / 2)
    distance = np.linalg.norm(tracks[:, None] - decoded[None], axis=3)
    sums = np.where(visible[:, None], distance, 0).sum(2)
    rows, columns = linear_sum_assignment(sums)
    total = sums.min(1)
    total[rows] = sums[rows, columns]
    return float(total.sum() / max(visible.sum(), 1))


def tgvc_bits(positions: Ints, grid: Grid) -> float:
    """Bits of the positions [N, L+1, 2] by T-GVC's scheme."""
    bits = 0.0
    for values, extent in zip(positions[:, 0].T, (grid.width, grid.height), strict=True):
        uniform = math.log2(max(extent, values.max() + 1) - min(0, values.min()))
        bits += min(len(values) * uniform, _adaptive(values))
    steps = np.diff(positions, axis=1)
    return bits + min(_adaptive(steps), sum(_adaptive(steps[..., axis]) for axis in (0, 1)))


def _adaptive(values: Ints) -> float:
    return order0(values) + 8 * range_bytes(values)


def arrays(positions: Ints) -> Iterator[bytes]:
    """Positions [N, L+1, 2], and initial positions with displacements, for general-purpose coders."""
    steps = np.diff(positions, axis=1)
    starts = min(layouts(positions[:, 0].T), key=len)
    yield from layouts(positions)
    yield from layouts(np.diff(positions, axis=1, prepend=0))
    yield from (starts + data for data in layouts(steps))


def visibility_bits(visible: NDArray[np.bool_], odd: NDArray[np.bool_]) -> float:
    """The fewest bits of ideal codes of the flags [N, L+1], of where they are ``odd``, that is not as the
    border of the picture makes them, or of runs of frames of the points for which that happens."""
    some = odd.any(1)
    runs = order0(some.astype(np.int64))
    for flags in visible[some]:
        starts = np.flatnonzero(np.diff(flags, prepend=~flags[0]))
        runs += 1 + float(np.log2(len(flags) - starts).sum())
    return min(runs, *(order0(flags.astype(np.int64)) for flags in (visible, odd)))


def visibility_bytes(odd: NDArray[np.bool_]) -> list[bytes]:
    """The same for general-purpose coders: flags packed to bits, by points or by frames, or lists of runs."""
    edges = np.diff(odd.astype(np.int8), axis=1, prepend=0, append=0)
    point, first = np.nonzero(edges > 0)
    length = np.nonzero(edges < 0)[1] - first
    runs = np.stack([np.diff(point, prepend=0), first, length]).astype(np.uint8)
    return [np.packbits(odd).tobytes(), np.packbits(odd.T).tobytes(), runs.tobytes(), runs.T.tobytes()]
