"""Dense point tracks of one clip (T-GVC), by backends that are chosen by name.

``opencv`` chains pyramidal Lucas–Kanade from frame to frame, forwards from a grid in the first frame
and backwards from a grid in the last, and needs no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import Plane

Points = NDArray[np.float32]
Flags = NDArray[np.bool_]

SPACING = 16  # of the grid, in luma samples

_WINDOW = 15  # side of the patch that Lucas–Kanade compares
_LEVELS = 3  # of the pyramid above the picture itself: follows up to about 60 samples per frame
_CONSISTENCY = 1.0  # a point that comes back farther than this from where it left is lost
_TEXTURE = 0.5  # root-mean-square gradient (grey levels per sample) in the patch's weakest direction
_FLAT_CELLS = 4  # side, in grid cells, of an untextured area that still gets one track
_DONORS = 4  # tracks that a lost point follows
_VELOCITY_WEIGHT = 32.0  # 1 sample per frame of difference in motion is as far as 32 samples in place
_OWN_MOTION = 0.5  # share of its own deviation from its donors' motion that a lost point keeps


@dataclass(frozen=True, eq=False)
class Tracks:
    """Where N points are in each of the L + 1 frames of a clip.

    ``positions`` is float32 [N, L + 1, 2]: x, y in luma samples, whole numbers at sample centres.
    ``visible`` is bool [N, L + 1]: the point is seen there, which for a track is one run of frames that
    touches the first or the last frame. Outside of it positions are extrapolated, also beyond the picture.
    """

    positions: Points
    visible: Flags


Tracker = Callable[[Sequence[Plane]], Tracks]


def track_opencv(frames: Sequence[Plane], spacing: int = SPACING) -> Tracks:
    """Track the points of a clip of at least two luma frames, uint8 [h, w], of one size.

    Every cell of a grid of ``spacing`` samples gives one point: the best corner of its inner half. Cells
    without texture give none, as Lucas–Kanade would only guess there; an area of 4×4 such cells gets a
    single track, the last of all, with the dominant motion, visible until it leaves the picture.
    Backward tracks that all along stay within half a cell of a forward track are dropped.

    A track ends where it leaves the picture or fails the forward–backward check. From there on it is
    carried on with the motion of the nearest tracks that moved as it did and are still seen. Points that
    are lost at once give no track: of pure noise nothing may be left. ValueError when there are fewer than
    two frames or their sizes differ.
    """
    if len(frames) < 2 or any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError("tracking needs at least two frames of one size")
    corners, flat = _grid(frames[0], spacing)
    forward = _follow(frames, corners)
    backward = _follow(frames[::-1], _grid(frames[-1], spacing)[0])
    backward = Tracks(backward.positions[:, ::-1], backward.visible[:, ::-1])
    fresh = ~_duplicates(forward, backward, spacing / 2)

    positions = np.concatenate([forward.positions, backward.positions[fresh]])
    visible = np.concatenate([forward.visible, backward.visible[fresh]])
    _extrapolate(positions, visible)
    _extrapolate(positions[:, ::-1], visible[:, ::-1])

    carried = flat[:, None] + _dominant_path(positions, visible)
    seen = np.logical_and.accumulate(_inside(carried, frames[0]), axis=1)
    return Tracks(np.concatenate([positions, carried]), np.concatenate([visible, seen]))


TRACKERS: dict[str, Tracker] = {"opencv": track_opencv}


def _grid(frame: Plane, spacing: int) -> tuple[Points, Points]:
    """The corners to track [N, 2], cells in raster order, and the centres of areas without any [M, 2]."""
    import cv2

    height, width = frame.shape
    margin = spacing // 4
    # OpenCV's value is 4 / 255² times the smaller eigenvalue of the mean gradient product.
    strength = cv2.cornerMinEigenVal(frame, _WINDOW)
    strength = np.pad(strength, ((0, -height % spacing), (0, -width % spacing)), constant_values=-1)
    cells = strength.reshape(strength.shape[0] // spacing, spacing, -1, spacing).swapaxes(1, 2)
    inner = cells[:, :, margin : spacing - margin, margin : spacing - margin]
    side = inner.shape[-1]
    best = inner.reshape(*cells.shape[:2], -1).argmax(axis=2)
    textured = inner.max(axis=(2, 3)) > 4 * (_TEXTURE / 255) ** 2

    rows, columns = np.nonzero(textured)
    y, x = np.divmod(best[rows, columns], side)
    corners = np.stack([columns * spacing + margin + x, rows * spacing + margin + y], axis=1)

    padding = [(0, -count % _FLAT_CELLS) for count in textured.shape]
    padded = np.pad(textured, padding)
    areas = padded.reshape(padded.shape[0] // _FLAT_CELLS, _FLAT_CELLS, -1, _FLAT_CELLS).any(axis=(1, 3))
    first = np.argwhere(~areas)[:, ::-1] * _FLAT_CELLS * spacing
    last = np.minimum(first + _FLAT_CELLS * spacing, (width, height)) - 1
    return corners.astype(np.float32), ((first + last) / 2).astype(np.float32)


def _follow(frames: Sequence[Plane], corners: Points) -> Tracks:
    """Tracks of points of the first frame that are found in the second; positions hold where visible."""
    import cv2

    positions = np.repeat(corners[:, None], len(frames), axis=1)
    visible = np.zeros(positions.shape[:2], np.bool_)
    visible[:, 0] = True
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
    options: dict[str, Any] = {"winSize": (_WINDOW, _WINDOW), "maxLevel": _LEVELS, "criteria": criteria}
    for t, (here, there) in enumerate(pairwise(frames)):
        alive = np.flatnonzero(visible[:, t])
        if not len(alive):
            break
        start = np.ascontiguousarray(positions[alive, t])
        end, found, _ = cv2.calcOpticalFlowPyrLK(here, there, start, None, **options)
        # The way back starts from no motion, not from the way there: a guess would confirm itself.
        back, returned, _ = cv2.calcOpticalFlowPyrLK(there, here, end, None, **options)
        kept = (np.abs(back - start).max(axis=1) <= _CONSISTENCY) & _inside(end, there)
        kept &= (found[:, 0] == 1) & (returned[:, 0] == 1)
        positions[alive[kept], t + 1] = end[kept]
        visible[alive[kept], t + 1] = True
    measured = visible[:, 1]
    return Tracks(positions[measured], visible[measured])


def _inside(points: Points, frame: Plane) -> Flags:
    height, width = frame.shape
    within: Flags = ((points >= 0) & (points <= (width - 1, height - 1))).all(axis=-1)
    return within


def _duplicates(forward: Tracks, backward: Tracks, reach: float) -> Flags:
    """Which backward tracks, while visible, never leave the ``reach`` of one forward track that survives."""
    surviving = forward.positions[forward.visible[:, -1]]
    b, f = np.nonzero(_squared_distances(backward.positions[:, -1], surviving[:, -1]) <= reach**2)
    always = (np.linalg.norm(backward.positions[b] - surviving[f], axis=2) <= reach) | ~backward.visible[b]
    duplicates = np.zeros(len(backward.positions), np.bool_)
    duplicates[b[always.all(axis=1)]] = True
    return duplicates


def _dominant_path(positions: Points, visible: Flags) -> Points:
    """Where the median motion of what is seen takes a point, float32 [L + 1, 2] from (0, 0)."""
    path = np.zeros(positions.shape[1:], np.float32)
    for t in range(len(path) - 1):
        measured = visible[:, t] & visible[:, t + 1]
        if measured.any():
            path[t + 1] = np.median(positions[measured, t + 1] - positions[measured, t], axis=0)
    return path.cumsum(axis=0, dtype=np.float32)


def _extrapolate(positions: Points, visible: Flags) -> None:
    """Carry every track on, in place, from the last frame where it is seen to the last frame.

    A lost point moves as its donors do (component-wise median), plus half of what it moved otherwise
    than they did one frame before. Donors are the nearest in place and in motion of the tracks that are
    measured there; a point without donors keeps its own motion.
    """
    started = np.logical_or.accumulate(visible, axis=1)
    for t in range(visible.shape[1] - 1):
        lost = np.flatnonzero(started[:, t] & ~visible[:, t + 1])
        donors = np.flatnonzero(visible[:, t] & visible[:, t + 1])
        place, motion = positions[:, t], positions[donors, t + 1] - positions[donors, t]
        had_past = started[:, t - 1, None] & (t > 0)
        past = np.where(had_past, place - positions[:, t - 1], 0)
        donor_past = np.where(had_past[donors], past[donors], motion)

        step = past[lost]
        if len(donors):
            distance = _squared_distances(place[lost], place[donors])
            distance += _VELOCITY_WEIGHT**2 * had_past[lost] * _squared_distances(past[lost], donor_past)
            count = min(_DONORS, len(donors))
            nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
            deviation = (step - np.median(donor_past[nearest], axis=1)) * had_past[lost]
            step = np.median(motion[nearest], axis=1) + _OWN_MOTION * deviation
        positions[lost, t + 1] = place[lost] + step


def _squared_distances(a: Points, b: Points) -> Points:
    # Not by a matrix product, whose rounding depends on the number of threads.
    return np.subtract.outer(a[:, 0], b[:, 0]) ** 2 + np.subtract.outer(a[:, 1], b[:, 1]) ** 2
