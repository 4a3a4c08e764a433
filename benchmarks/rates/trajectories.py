"""Trajectories in a section, in the scheme of T-GVC, and in general-purpose coders.

Clips have 17 frames; at most four of a video are measured, spread over it. The points are those that T-GVC
picks, at most 15 of an instance, their positions plainly rounded to the latent grid of 8 luma samples.
Points whose positions at neither end of the clip are in the picture are left out for all coders alike, and so
are clips without points.

``tgvc``: T-GVC's scheme with ideal codes: initial positions, and displacements from frame to frame in an
adaptive order-0 arithmetic code; the number of points of every instance; visibility.
``tgvc_visibility``: what of it is visibility, which the paper may not send.

``trajectories_rdo`` has the same points as the encoder quantises them. Position errors are mean distances in
luma samples of decoded positions, which are centres of units (clause 10.2), from the tracks, over all frames
in which the points are visible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from common import Row, Size
from numpy.typing import NDArray

from rates.video import Video
from rates.yardsticks import Ints, general, layouts, order0, range_bytes
from refenc.guidance import Analysis, analyse
from refenc.quantise import Quantiser, rounded
from tgv_format import trajectories
from tgv_format.levels import LEVELS
from tgv_format.trajectories import Grid, Trajectories

PUBLISHED = "tgvc"
GENERAL = ("xz", "brotli")

LENGTH = 16
CLIPS = 4
#: The mean position error of optimised trajectories, relative to that of rounded ones, is at most this.
ERROR_SHARE = 1.05
#: What is tried of the quantiser: precision, lattice_log2, and weights of a bit.
SETTINGS = ((0, 0), (1, 1), (2, 2))
WEIGHTS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
#: A byte says how many instances there are.
HEADER_BYTES = 1


@dataclass(frozen=True, eq=False)
class Points:
    """The points of one clip: ``tracks`` float64 [N, L+1, 2] in luma samples, ``visible`` bool [N, L+1],
    ``instance`` uint8 [N] from 0 without gaps; ``size`` of the picture. In the order of ``rounded``, which
    are their trajectories on the latent grid."""

    tracks: NDArray[np.float64]
    visible: NDArray[np.bool_]
    instance: NDArray[np.uint8]
    size: Size
    rounded: Trajectories


def clips(video: Video) -> Iterator[tuple[int, Points]]:
    """First frame and points of every clip that is measured; consecutive clips may share a frame."""
    count = (len(video.pictures) - 1) // LENGTH
    for index in np.unique(np.linspace(0, count - 1, min(CLIPS, count)).astype(int)) if count else ():
        first = LENGTH * int(index)
        analysis = analyse(video.pictures[first : first + LENGTH + 1], seed=0)
        points = round_points(analysis, video.size) if analysis else None
        if points:
            yield first, points


def round_points(analysis: Analysis, size: Size) -> Points | None:
    """The points that T-GVC picks, on the latent grid; None where there is none."""
    points = analysis.semantic
    tracks, visible = analysis.positions[points], analysis.visible[points]
    params, kept = rounded(tracks, visible, analysis.instance[points], *size)
    if not params.count:
        return None
    return Points(tracks[kept].astype(np.float64), visible[kept], params.instance, size, params)


def measure(video: Video) -> tuple[list[Row], list[Row]]:
    """Rows for the clips of a video: of the rounded positions, and of optimised ones."""
    same, free = [], []
    for first, points in clips(video):
        common: Row = {"first": first, "points": points.rounded.count}
        row = sizes(points.rounded, points.size)
        same.append(common | row)
        free.append(common | optimised_sizes(points, row))
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


def optimised_sizes(points: Points, row: Row) -> Row:
    """The same for the points as the encoder quantises them; ``row`` is that of the rounded ones."""
    wanted = position_error(points.rounded, points)
    tgv, error, count = row["tgv"], wanted, points.rounded.count
    for params in optimised(points):
        found, made = tgv_bytes(params, points.size), position_error(params, points)
        if found < tgv and made <= ERROR_SHARE * wanted:
            tgv, error, count = found, made, params.count
    yardsticks = {name: row[name] for name in (PUBLISHED, *GENERAL)}
    return {"tgv": tgv, **yardsticks, "error": error, "published_error": wanted, "points_tgv": count}


def tgv_bytes(params: Trajectories, size: Size) -> int:
    return len(trajectories.encode(params, *size, LEVELS[3]))


def optimised(points: Points) -> Iterator[Trajectories]:
    """What the encoder makes of the points at several settings of its quantiser."""
    tracks = points.tracks.astype(np.float32)
    for precision, lattice_log2 in SETTINGS:
        for weight in WEIGHTS:
            quantiser = Quantiser(
                tracks, points.instance, *points.size, precision, lattice_log2, weight, points.visible
            )
            params = quantiser(np.arange(len(tracks)))
            if params.count:
                yield params


def position_error(params: Trajectories, points: Points) -> float:
    """Mean distance of decoded positions from visible points.

    Each track is compared with a trajectory of its own, in the assignment of least error; a track that the
    encoder left out because it shares a lattice cell with another one, with the nearest trajectory.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    unit = 8 / (1 << params.precision)
    decoded = params.positions * unit + max(0.0, (unit - 1) / 2)
    distance = np.linalg.norm(points.tracks[:, None] - decoded[None], axis=3)
    sums = np.where(points.visible[:, None], distance, 0).sum(2)
    rows, columns = linear_sum_assignment(sums)
    total = sums.min(1)
    total[rows] = sums[rows, columns]
    return float(total.sum() / max(points.visible.sum(), 1))


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
