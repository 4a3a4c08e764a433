"""Dense point tracks of one clip (T-GVC), by backends that are chosen by name.

``opencv`` chains pyramidal Lucas–Kanade from frame to frame, forwards from a grid in the first frame
and backwards from a grid in the last, and needs no weights. A point that is hidden for a while is found
again by what it looked like where it began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refenc.keyframes import halve_plane
from tgv_format.picture import Picture, Plane

Points = NDArray[np.float32]
Flags = NDArray[np.bool_]

SPACING = 16  # of the grid, in luma samples

_WINDOW = 15  # side of the patch that Lucas–Kanade compares
_LEVELS = 3  # of the pyramid above the picture itself: follows up to about 60 samples per frame
_TRACKED_SAMPLES = 1 << 19
_NARROW = 7  # side of the patch for points that the wider one loses, often for something that moves past
_CONSISTENCY = 1.0  # a point that comes back farther than this from where it left is lost
_NOISE, _MISFIT = 2.0, 0.25  # most mean absolute difference of patches: grey levels, share of the contrast
_REDUCED, _PATCH, _SEARCH = 4, 4, 12  # full search: at 1/4 of the size, patches of 9×9, up to 12 samples
_TEXTURE = 0.5  # root-mean-square gradient (grey levels per sample) in the patch's weakest direction
_FLAT_CELLS = 4  # side, in grid cells, of an untextured area that still gets one track
_DONORS = 4  # tracks that a lost point follows
_VELOCITY_WEIGHT = 32.0  # 1 sample per frame of difference in motion is as far as 32 samples in place
_OWN_MOTION = 0.5  # share of its own deviation from its donors' motion that a lost point keeps


@dataclass(frozen=True, eq=False)
class Tracks:
    """Where N points are in each of the L + 1 frames of a clip.

    ``positions`` is float32 [N, L + 1, 2]: x, y in luma samples, whole numbers at sample centres.
    ``visible`` is bool [N, L + 1]: the point is seen there; every track is seen in the first frame or in
    the last. Elsewhere positions are guesses, which may lie outside the picture.
    """

    positions: Points
    visible: Flags


#: From a clip's pictures to its tracks.
Tracker = Callable[[Sequence[Picture]], Tracks]


def track_opencv(frames: Sequence[Plane], spacing: int = SPACING) -> Tracks:
    """Track the points of a clip of at least two luma frames, uint8 [h, w], of one size.

    Every cell of a grid of ``spacing`` samples gives one point: the best corner of its inner half. Cells
    without texture give none, as Lucas–Kanade would only guess there; an area of 4×4 such cells gets a
    single track, the last of all, with the dominant motion, visible until it leaves the picture.
    Backward tracks that all along stay within half a cell of a forward track are dropped.

    A point is lost where it leaves the picture, fails the forward–backward check or looks different. From
    there on it is carried on with the motion of the nearest tracks that moved as it did and are still seen,
    until it is found again. Points that are never found give no track: of pure noise nothing may be left.
    ValueError when there are fewer than two frames or their sizes differ.
    """
    if len(frames) < 2 or any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError("tracking needs at least two frames of one size")
    corners, flat = _grid(frames[0], spacing)
    forward = _follow(frames, corners)
    backward = reverse(_follow(frames[::-1], _grid(frames[-1], spacing)[0]))
    both = fuse(forward, backward, spacing)
    positions, visible = both.positions, both.visible
    _extrapolate(positions, visible)
    _extrapolate(positions[:, ::-1], visible[:, ::-1])

    carried = flat[:, None] + _dominant_path(positions, visible)
    seen = np.logical_and.accumulate(_inside(carried, frames[0]), axis=1)
    return Tracks(np.concatenate([positions, carried]), np.concatenate([visible, seen]))


def track(pictures: Sequence[Picture]) -> Tracks:
    """:func:`track_opencv` of pictures; those of large ones are found at half the size, again and again."""
    frames, halvings = [picture.y for picture in pictures], 0
    # The number of tracks grows with the picture, and the work on them with its square.
    while frames[0].size > _TRACKED_SAMPLES:
        frames, halvings = [halve_plane(frame) for frame in frames], halvings + 1
    tracks = track_opencv(frames)
    scale = np.float32(1 << halvings)
    return Tracks(scale * tracks.positions + (scale - 1) / 2, tracks.visible)


def reverse(tracks: Tracks) -> Tracks:
    """The tracks of a clip by those of the clip played backwards."""
    return Tracks(tracks.positions[:, ::-1], tracks.visible[:, ::-1])


def fuse(forward: Tracks, backward: Tracks, spacing: int = SPACING) -> Tracks:
    """All tracks that begin in the first frame, and those of the last frame which are no copies of them.

    A copy stays within half the ``spacing`` of a track as long as it is seen.
    """
    fresh = ~_duplicates(forward, backward, spacing / 2)
    positions = np.concatenate([forward.positions, backward.positions[fresh]])
    return Tracks(positions, np.concatenate([forward.visible, backward.visible[fresh]]))


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
    """Tracks of points of the first frame that are found in another; positions hold up to the last one."""
    positions = np.repeat(corners[:, None], len(frames), axis=1)
    visible = np.zeros(positions.shape[:2], np.bool_)
    visible[:, 0] = True
    follower = _Follower(frames, positions, visible)
    for t in range(len(frames) - 1):
        follower.step(t)
    measured = visible[:, 1:].any(axis=1)
    return Tracks(positions[measured], visible[measured])


@dataclass(frozen=True, eq=False)
class _Follower:
    """Tracks that grow in place, frame by frame."""

    frames: Sequence[Plane]
    positions: Points
    visible: Flags

    def step(self, t: int) -> None:
        """From frame ``t`` to the next."""
        positions, seen = self.positions, self.visible[:, t + 1]
        alive = self.visible[:, t]
        self._find(t, t + 1, alive, positions[:, t], _WINDOW, _LEVELS)
        lost = np.flatnonzero(~seen)
        carried = positions[:, t].copy()
        carried[lost] += _carried(positions, self.visible, t, lost)
        positions[lost, t + 1] = carried[lost]
        # What leaves the picture is not looked for.
        near = _inside(carried, self.frames[t], _WINDOW // 2)
        self._find(t, t + 1, near & alive & ~seen, carried, _NARROW, 1)
        missed = np.flatnonzero(near & alive & ~seen)
        searched = carried.copy()
        searched[missed] = _search(self.frames[t], self.frames[t + 1], positions[missed, t])
        self._find(t, t + 1, near & alive & ~seen, searched, _NARROW, 1)
        self._find(0, t + 1, near & ~seen, carried, _NARROW, 1)
        self._close_gaps(t + 1, np.flatnonzero(seen & ~alive), carried)

    def _find(self, s: int, t: int, wanted: Flags, guesses: Points, window: int, levels: int) -> None:
        """Find the ``wanted`` points of frame ``s`` in frame ``t``, by Lucas–Kanade from ``guesses``."""
        import cv2

        here, there = self.frames[s], self.frames[t]
        which = np.flatnonzero(wanted & _inside(guesses, there))
        if not len(which):
            return
        start, guess = self.positions[which, s], guesses[which]
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
        options: dict[str, Any] = {"winSize": (window, window), "maxLevel": levels, "criteria": criteria}
        options["flags"] = cv2.OPTFLOW_USE_INITIAL_FLOW
        end, found, error = cv2.calcOpticalFlowPyrLK(here, there, start, guess.copy(), **options)
        # The way back starts from the guess, not from the way there, which would confirm itself.
        back, returned, _ = cv2.calcOpticalFlowPyrLK(there, here, end, end + (start - guess), **options)
        kept = (np.abs(back - start).max(axis=1) <= _CONSISTENCY) & _inside(end, there)
        kept &= (found[:, 0] == 1) & (returned[:, 0] == 1)
        kept &= error[:, 0] <= _NOISE + _MISFIT * _contrast(here, start, window)
        self.positions[which[kept], t] = end[kept]
        self.visible[which[kept], t] = True

    def _close_gaps(self, t: int, found: NDArray[np.intp], guesses: Points) -> None:
        """Bend the paths of points that are found again in frame ``t`` from guesses to where they are."""
        miss = self.positions[found, t] - guesses[found]
        begin = t - 1 - self.visible[found, t - 1 :: -1].argmax(axis=1)
        frames = np.arange(t, dtype=np.float32)
        share = ((frames - begin[:, None]) / (t - begin[:, None]).astype(np.float32)).clip(min=0)
        self.positions[found, :t] += share[..., None] * miss[:, None]


def _contrast(frame: Plane, points: Points, side: int) -> Points:
    """Standard deviation of the patches around ``points``, float32 [N]."""
    import cv2

    x, y = np.rint(points).astype(np.intp).T
    mean = cv2.blur(frame, (side, side))[y, x].astype(np.float32)
    square = cv2.sqrBoxFilter(frame, cv2.CV_32F, (side, side))[y, x]
    return np.sqrt(np.maximum(square - mean**2, 0))


def _search(here: Plane, there: Plane, points: Points) -> Points:
    """Where the surroundings of ``points`` of ``here`` are in ``there``, by full search in small pictures."""
    import cv2

    size = (max(1, here.shape[1] // _REDUCED), max(1, here.shape[0] // _REDUCED))
    small, other = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in (here, there))
    found = points.copy()
    for n, (x, y) in enumerate((points / _REDUCED).astype(np.intp).tolist()):
        left, top = max(x - _PATCH, 0), max(y - _PATCH, 0)
        patch = small[top : y + _PATCH + 1, left : x + _PATCH + 1]
        x0, y0 = max(left - _SEARCH, 0), max(top - _SEARCH, 0)
        window = other[y0 : top + patch.shape[0] + _SEARCH, x0 : left + patch.shape[1] + _SEARCH]
        at = cv2.minMaxLoc(cv2.matchTemplate(window, patch, cv2.TM_SQDIFF))[2]
        found[n] += (_REDUCED * (x0 + at[0] - left), _REDUCED * (y0 + at[1] - top))
    return found


def _inside(points: Points, frame: Plane, margin: int = 0) -> Flags:
    height, width = frame.shape
    last = (width - 1 - margin, height - 1 - margin)
    within: Flags = ((points >= margin) & (points <= last)).all(axis=-1)
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
    """Carry every track on, in place, from the last frame where it is seen to the last frame."""
    ended = ~np.logical_or.accumulate(visible[:, ::-1], axis=1)[:, ::-1]
    started = np.logical_or.accumulate(visible, axis=1)
    for t in range(visible.shape[1] - 1):
        lost = np.flatnonzero(started[:, t] & ended[:, t + 1])
        positions[lost, t + 1] = positions[lost, t] + _carried(positions, visible, t, lost)


def _carried(positions: Points, visible: Flags, t: int, lost: NDArray[np.intp]) -> Points:
    """By how much the tracks ``lost`` [M], not seen in frame t + 1, move from frame ``t`` to it, [M, 2].

    A lost point moves as its donors do (component-wise median), plus half of what it moved otherwise
    than they did one frame before. Donors are the nearest in place and in motion of the tracks that are
    measured there; a point without donors keeps its own motion.
    """
    donors = np.flatnonzero(visible[:, t] & visible[:, t + 1])
    place, motion = positions[:, t], positions[donors, t + 1] - positions[donors, t]
    had_past = visible[:, :t].any(axis=1)[:, None]
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
    return step


def _squared_distances(a: Points, b: Points) -> Points:
    # Not by a matrix product, whose rounding depends on the number of threads.
    return np.subtract.outer(a[:, 0], b[:, 0]) ** 2 + np.subtract.outer(a[:, 1], b[:, 1]) ** 2
