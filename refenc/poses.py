"""Camera poses of one clip (CPSGD): estimation from point tracks, and quantisation to a camera pose section.

The ``opencv`` backend rejects moving objects by an essential matrix (RANSAC, fixed seed), then adjusts the
poses of all frames and the inverse depths of the points together, from a plane in front of a camera that
does not move (which unlike a decomposition of essential matrices also works for the small baselines of a
short clip; F. Yu and D. Gallup, "3D reconstruction from accidental motion", CVPR 2014). Where few of the
points are left a new segment begins, whose scale follows from the points of both. A camera whose tracks a
rotation explains as well gets no translation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refenc.tracking import Tracks, track_opencv
from tgv_format import camera_poses
from tgv_format.camera_poses import MAX_STEP, CameraPoses, Interval, default_intrinsics, step_size
from tgv_format.picture import Picture, Plane

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROUNDS = 40  # Gauss-Newton steps at most ...
_CONVERGED = 1e-3  # ... or until the residual falls by less than this share in as many as _PATIENCE
_PATIENCE = 4
_SHARE = 0.4  # a segment ends where less than this share of its points is left ...
_FEWEST = 24  # ... or fewer than these
_REJECT = 1.5  # distance from the epipolar line, in luma samples, of points that do not belong to the scene
_SCALE = 1.0  # residual, in luma samples, at which robust weights have fallen to a half
_GAIN = 0.9  # translation has to lower the robust residual to this share of a rotation's ...
_EXPLAINED = 0.1  # ... and is not looked for where that of a rotation is no more than this
_STILL = 0.25  # luma samples that more than half of the points move less when a camera stands still
_JERK = 0.2  # what a pose's distance from the mean of its neighbours weighs, in points ...
_RIDGE = 0.02  # ... and what translation itself weighs: rotation explains what both do
_DEPTH = 2.0  # damping of the depths, in luma samples of parallax
_NEAREST = 8.0  # greatest inverse depth, relative to the median


@dataclass(frozen=True, eq=False)
class Motion:
    """The path of a camera through a clip of L + 1 frames.

    ``rotation`` float64 [L+1, 3]: rotation vectors in radians, ``translation`` float64 [L+1, 3]: of the
    transforms E_t E_0^-1 from camera coordinates in frame 0 to those in frame t (x right, y down, z
    forwards); both are zero in frame 0. The unit of length is the median depth of the scene in frame 0.
    ``intrinsics`` float64 [4]: fx, fy, cx, cy in luma samples.
    ``plane`` float64 [3]: n / d of the plane n·X = d that fits the scene in frame 0 best.
    """

    rotation: Floats
    translation: Floats
    intrinsics: Floats
    plane: Floats


#: From a clip's pictures and its tracks to the motion of its camera.
Estimator = Callable[[Sequence[Picture], Tracks], Motion]


def estimate_opencv(frames: Sequence[Plane]) -> Motion:
    """Estimate the motion from the luma frames, uint8 [h, w], of a clip of at least two.

    The focal length is taken to be the larger side of the picture. ValueError when there are fewer than two
    frames or their sizes differ.
    """
    height, width = frames[0].shape
    return _estimate(track_opencv(frames), width, height)


def estimate_tracks(pictures: Sequence[Picture], tracks: Tracks) -> Motion:
    """As :func:`estimate_opencv`, by the tracks of the pictures."""
    return _estimate(tracks, pictures[0].width, pictures[0].height)


def _estimate(tracks: Tracks, width: int, height: int) -> Motion:
    intrinsics = np.array(default_intrinsics(width, height), np.float64) / 16
    return estimate(tracks.positions.astype(np.float64), tracks.visible, intrinsics)


ESTIMATORS = {"opencv": estimate_opencv}


def estimate(positions: Floats, visible: Flags, intrinsics: Floats) -> Motion:
    """The motion that explains ``positions`` [N, L+1, 2] in luma samples where they are ``visible``."""
    focal = intrinsics[:2]
    rays = (positions - intrinsics[2:]) / focal
    last = positions.shape[1] - 1
    rotations, translations = np.tile(np.eye(3), (last + 1, 1, 1)), np.zeros((last + 1, 3))
    plane = np.array([0.0, 0.0, 1.0])
    depth = np.full(len(rays), np.nan)  # inverse depths at the beginning of the segment, where known
    begin = 0
    while begin < last:
        rows = np.flatnonzero(visible[:, begin] & visible[:, begin + 1])
        if len(rows) < _FEWEST:
            rotations[begin + 1], translations[begin + 1] = rotations[begin], translations[begin]
            depth[:] = np.nan
            begin += 1
            continue
        count = visible[rows, begin:].sum(axis=0)
        enough = np.logical_and.accumulate(count >= max(_FEWEST, _SHARE * len(rows)))
        end = begin + max(1, int(enough.sum()) - 1)
        r, t, inverse, found = _segment(rays[rows, begin : end + 1], visible[rows, begin : end + 1], focal[0])
        known = depth[rows]
        common = np.isfinite(known) & found
        scale = float(np.median(known[common] / inverse[common])) if common.any() else 1.0
        t, inverse = t / scale, inverse * scale
        if begin == 0:
            plane = fit_plane(rays[rows, 0], inverse, found)
        base_r, base_t = rotations[begin], translations[begin]
        rotations[begin : end + 1] = r @ base_r
        translations[begin : end + 1] = r @ base_t + t
        # Depths of the points where the next segment begins.
        x = np.concatenate([rays[rows, 0], np.ones((len(rows), 1))], axis=1) / inverse[:, None]
        z = (x @ r[-1].T + t[-1])[:, 2]
        depth[:] = np.nan
        depth[rows] = np.where(found & (z > 0), 1 / np.where(z > 0, z, 1), np.nan)
        begin = end
    return Motion(vectors(rotations), translations, intrinsics, plane)


def _segment(rays: Floats, visible: Flags, focal: float) -> tuple[Floats, Floats, Floats, Flags]:
    """Poses [T, 3, 3] and [T, 3] relative to the first frame, inverse depths [N], and which points count."""
    frames = rays.shape[1]
    still = np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3))
    found = _rigid(rays, visible, focal)
    weights = (visible & found[:, None]).astype(np.float64)
    inverse = np.ones(len(rays))
    motion = np.where(visible, np.abs(rays - rays[:, :1]).max(axis=2) * focal, 0).max(axis=1)
    if np.median(motion) < _STILL:
        return *still, inverse, found

    turned, r, t, _ = _adjusted(rays, weights, inverse, *still, focal, depths=False)
    if turned > _EXPLAINED:
        moved, *found_motion = _adjusted(rays, weights, inverse, r, t, focal, depths=True)
        if moved <= _GAIN * turned:
            r, t, inverse = found_motion
    return r, t, inverse, found


def _adjusted(
    rays: Floats, weights: Floats, inverse: Floats, r: Floats, t: Floats, focal: float, depths: bool
) -> tuple[float, Floats, Floats, Floats]:
    """The robust residual, rotations, translations and inverse depths after as many steps as it takes."""
    residuals: list[float] = []
    counted = weights.any(axis=1)
    for _ in range(_ROUNDS):
        r, t, inverse = _adjust(rays, weights, inverse, r, t, focal, depths)
        if depths:
            scale = float(np.median(inverse[counted]))
            inverse, t = inverse / scale, t * scale
        residuals.append(_robust(rays, weights, inverse, r, t, focal))
        if residuals[-1] > (1 - _CONVERGED) * min(residuals[:-_PATIENCE], default=np.inf):
            break
    return residuals[-1], r, t, inverse


def _rigid(rays: Floats, visible: Flags, focal: float) -> Flags:
    """Which points move with the scene between the first frame and the last in which most are seen."""
    import cv2

    end = int(np.flatnonzero(visible.sum(axis=0) >= _SHARE * len(rays))[-1])
    both = np.flatnonzero(visible[:, end])
    kept = np.ones(len(rays), np.bool_)
    if len(both) >= _FEWEST:
        cv2.setRNGSeed(0)
        _, inliers = cv2.findEssentialMat(
            rays[both, 0], rays[both, end], np.eye(3), cv2.RANSAC, 0.999, _REJECT / focal
        )
        if inliers is not None and inliers.sum() >= _FEWEST:
            kept[both] = inliers[:, 0] != 0
    return kept


def _project(rays: Floats, inverse: Floats, r: Floats, t: Floats) -> Floats:
    """Points [T, N, 3], up to scale, of the first frame's rays and inverse depths."""
    x = np.concatenate([rays[:, 0], np.ones((len(rays), 1))], axis=1)
    return x @ r.transpose(0, 2, 1) + inverse[None, :, None] * t[:, None]


def _residuals(rays: Floats, points: Floats) -> Floats:
    z = np.maximum(points[..., 2:], 1e-3)
    return rays.transpose(1, 0, 2) - points[..., :2] / z


def _robust(rays: Floats, weights: Floats, inverse: Floats, r: Floats, t: Floats, focal: float) -> float:
    """Mean saturating residual."""
    e = np.square(_residuals(rays, _project(rays, inverse, r, t)) * (focal / _SCALE)).sum(axis=2)
    return float(np.average(np.log1p(e), weights=weights.T))


def _adjust(
    rays: Floats, weights: Floats, inverse: Floats, r: Floats, t: Floats, focal: float, depths: bool = True
) -> tuple[Floats, Floats, Floats]:
    """A Gauss-Newton step with Cauchy weights: poses and inverse depths, or without ``depths`` rotations.

    The depths are eliminated (Schur complement), which leaves six unknowns for every frame but the first.
    """
    size = 6 if depths else 3
    p = _project(rays, inverse, r, t)
    e = _residuals(rays, p)
    w = weights.T / (1 + np.square(e * (focal / _SCALE)).sum(axis=2))
    x, y, z = p[..., 0], p[..., 1], np.maximum(p[..., 2], 1e-3)
    u, v, zero = x / z, y / z, np.zeros_like(x)
    du = [-u * v, 1 + u * u, -v, inverse / z, zero, -inverse * u / z]
    dv = [-1 - v * v, u * v, u, zero, inverse / z, -inverse * v / z]
    j = np.stack([np.stack(du[:size], -1), np.stack(dv[:size], -1)], 2)[1:]
    e, w = e[1:], w[1:]
    jw = j * w[..., None, None]
    diagonal = np.einsum("tnki,tnkj->tij", jw, j) + 1e-9 * np.eye(size) * len(rays)
    gradient = np.einsum("tnki,tnk->ti", jw, e)
    count = len(diagonal)
    normal = np.zeros((count, size, count, size))
    if depths:
        diagonal += np.diag([_JERK] * 3 + [_JERK + _RIDGE] * 3)
        gradient += _JERK * _jerk(r, t)[1:]
        gradient[:, 3:] -= _RIDGE * t[1:]
        along = (t[1:, None, :2] - p[1:, :, :2] / z[1:, :, None] * t[1:, None, 2:]) / z[1:, :, None]
        information = (w * np.square(along).sum(axis=2)).sum(axis=0) + (_DEPTH / focal) ** 2
        pull = (w * (along * e).sum(axis=2)).sum(axis=0)
        cross = np.einsum("tnki,tnk->tin", jw, along)
        normal -= np.tensordot(cross / information, cross, (2, 2))
        gradient -= cross @ (pull / information)
    normal[range(count), :, range(count)] += diagonal
    step = np.linalg.solve(normal.reshape(count * size, -1), gradient.reshape(-1)).reshape(count, size)
    turn = np.stack([np.eye(3), *(matrix(s) for s in step[:, :3])])
    r, t = turn @ r, (turn @ t[..., None])[..., 0]
    if depths:
        t[1:] += step[:, 3:]
        change = (pull - np.tensordot(cross, step, ((0, 1), (0, 1)))) / information
        inverse = np.clip(inverse + np.clip(change, -0.5, 0.5), 1 / _NEAREST, _NEAREST)
    return r, t, inverse


def _jerk(r: Floats, t: Floats) -> Floats:
    """From every pose to the mean of its neighbours, [T, 6]; nothing at the ends."""
    out = np.zeros((len(r), 6))
    for k in range(1, len(r) - 1):
        out[k, :3] = (_vector(r[k - 1] @ r[k].T) + _vector(r[k + 1] @ r[k].T)) / 2
        out[k, 3:] = (t[k - 1] + t[k + 1]) / 2 - t[k]
    return out


def fit_plane(rays: Floats, inverse: Floats, found: Flags) -> Floats:
    """n / d with n·x = d / z, float64 [3]: a robust linear fit of the inverse depths [N] of ``rays`` [N, 2]
    (x / z, y / z), of those that are ``found``."""
    x = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    weights = found.astype(np.float64)
    plane = np.array([0.0, 0.0, 1.0])
    for _ in range(5):
        w = weights / (1 + np.square((x @ plane - inverse) / 0.1))
        plane = np.linalg.solve((x * w[:, None]).T @ x + 1e-6 * np.eye(3), x.T @ (w * inverse))
    return plane


def matrix(vector: Floats) -> Floats:
    """Rotation matrix, float64 [3, 3], of a rotation vector in radians."""
    import cv2

    return np.asarray(cv2.Rodrigues(vector)[0])


def _vector(rotation: Floats) -> Floats:
    """Rotation vector of a rotation matrix."""
    import cv2

    return np.asarray(cv2.Rodrigues(rotation)[0][:, 0])


def vectors(rotations: Floats) -> Floats:
    """Rotation vectors [T, 3] of matrices [T, 3, 3], each of the two nearest to the one before, so that paths
    have no jumps."""
    out = np.zeros((len(rotations), 3))
    for i in range(1, len(rotations)):
        v = _vector(rotations[i])
        angle = float(np.linalg.norm(v))
        if angle > 0:
            turns = [v, v * (1 - 2 * np.pi / angle)]
            v = min(turns, key=lambda c: float(np.linalg.norm(c - out[i - 1])))
        out[i] = v
    return out


# --- Quantisation

#: Typical bits of a residual by its magnitude, and of splitting an interval or not.
_RESIDUAL_BITS = (0.5, 2.6, 3.9, 5.0, 5.8, 6.5, 7.1, 7.6)
_SPLIT_BITS = (0.6, 1.4)
_PRICES = 14  # octaves of the price of a bit that are searched


def errors(motion: Motion, decoded: Floats) -> tuple[float, float]:
    """Root mean square over frames 1 to L of the angle (radians) and of the distance between ``motion`` and
    ``decoded`` matrices [L+1, 4, 4]."""
    r = np.stack([matrix(v) for v in motion.rotation])
    # Of the difference, not of the trace: an arc cosine loses half of the digits near zero.
    chord = np.linalg.norm(r - decoded[:, :3, :3], axis=(1, 2)) / np.sqrt(8)
    angle = 2 * np.arcsin(np.minimum(chord, 1))[1:]
    distance = np.linalg.norm(motion.translation - decoded[:, :3, 3], axis=1)[1:]
    return float(np.sqrt(np.mean(angle**2))), float(np.sqrt(np.mean(distance**2)))


def quantise(
    motion: Motion,
    width: int,
    height: int,
    rotation_error: float,
    translation_error: float,
    with_plane: bool = False,
) -> CameraPoses:
    """The cheapest camera poses found whose root mean square errors are at most ``rotation_error`` (radians)
    and ``translation_error`` (lengths); the finest steps are kept to when they are not fine enough."""
    search = _Search(motion, width, height, (rotation_error, translation_error), with_plane)
    return search.best()


class _Search:
    """Steps and the price of a bit, by coordinate descent from steps of twice the error."""

    def __init__(
        self, motion: Motion, width: int, height: int, budget: tuple[float, float], with_plane: bool
    ) -> None:
        self.motion = motion
        self.size = (width, height)
        self.budget = (max(budget[0], 1e-6), max(budget[1], 1e-6))
        self.target = np.concatenate([motion.rotation, motion.translation], axis=1)
        unit = camera_poses.INTRINSICS_UNIT
        self.intrinsics = np.rint(motion.intrinsics * unit).astype(np.int32)
        plane = np.rint(motion.plane * camera_poses.PLANE_UNIT)
        limit = camera_poses.MAX_PLANE
        self.plane = np.clip(plane, -limit, limit).astype(np.int32) if with_plane else None
        self.known: dict[tuple[tuple[int, int], bool], tuple[bool, float, CameraPoses]] = {}

    def best(self) -> CameraPoses:
        return min((self.descend(curved) for curved in (False, True)), key=lambda t: t[:2])[2]

    def descend(self, curved: bool) -> tuple[bool, float, CameraPoses]:
        steps = _nearest_step(2 * self.budget[0]), _nearest_step(2 * self.budget[1])
        farthest = float(np.abs(self.motion.translation).max())
        least = next(
            (s for s in range(MAX_STEP) if step_size(s) * camera_poses.MAX_TRANSLATION > farthest), MAX_STEP
        )
        steps = (steps[0], max(steps[1], least))
        stride = 4
        while stride:
            around = [
                (steps[0] + i, steps[1] + j)
                for i, j in ((0, 0), (stride, 0), (-stride, 0), (0, stride), (0, -stride))
                if 0 <= steps[0] + i <= MAX_STEP and least <= steps[1] + j <= MAX_STEP
            ]
            found = min(around, key=lambda s: self.cheapest(s, curved)[:2])
            if found == steps:
                stride //= 2
            steps = found
        return self.cheapest(steps, curved)

    def cheapest(self, steps: tuple[int, int], curved: bool) -> tuple[bool, float, CameraPoses]:
        """Whether the budget is missed, bits, and parameters at the highest price that keeps to it."""
        if (steps, curved) not in self.known:
            low, high = 0, 4 * _PRICES
            best = self.at(steps, 0.0, curved)
            while low < high:
                middle = (low + high + 1) // 2
                tried = self.at(steps, 2.0 ** (middle / 4 - 10), curved)
                if tried[0]:
                    high = middle - 1
                else:
                    low = middle
                    best = min(best, tried, key=lambda t: t[:2])
            self.known[steps, curved] = best
        return self.known[steps, curved]

    def at(self, steps: tuple[int, int], price: float, curved: bool) -> tuple[bool, float, CameraPoses]:
        sizes = np.repeat([step_size(s) for s in steps], 3)
        weights = (sizes / np.repeat(self.budget, 3)) ** 2
        keys = _Fit(self.target / sizes, weights.tolist(), price, steps[0], curved).keys
        frames = sorted(keys)[1:]
        params = CameraPoses(
            frames=np.array(frames, np.int32),
            poses=np.array([keys[t] for t in frames], np.int32),
            curved=curved and any(any(pose) for pose in keys.values()),
            rotation_step=steps[0],
            translation_step=steps[1],
            intrinsics=self.intrinsics,
            plane=self.plane,
        )
        found = errors(self.motion, camera_poses.matrices(params))
        missed = any(e > b for e, b in zip(found, self.budget, strict=True))
        bits = camera_poses.cost(params, *self.size)
        # When every coding misses the budget, the most exact one is taken.
        excess = max(e / b for e, b in zip(found, self.budget, strict=True))
        return missed, excess if missed else bits, params


def _nearest_step(size: float) -> int:
    return min(range(MAX_STEP + 1), key=lambda s: abs(np.log(step_size(s) / max(size, 1e-9))))


class _Fit:
    """Key poses for ``target`` [L+1, 6] in steps, whose squared errors have ``weights`` [6].

    Every interval is either left to interpolation or split, whichever is cheaper in weighted error plus
    ``price`` times bits.
    """

    def __init__(
        self, target: Floats, weights: list[float], price: float, rotation_step: int, curved: bool
    ) -> None:
        self.target = target.tolist()
        self.array = target
        self.weights = weights
        self.price = price
        self.curved = curved
        limit = camera_poses.rotation_limit(rotation_step)
        self.limits = [limit] * 3 + [camera_poses.MAX_TRANSLATION] * 3
        last = len(target) - 1
        self.keys: dict[int, list[int]] = {0: [0] * 6}
        self.keys[last] = self._pose(last, [0] * 6, last / 3)
        chosen: dict[int, list[int]] = {}
        self._interval(camera_poses.whole(last), chosen)
        self.keys |= chosen
        if not any(any(pose) for pose in self.keys.values()):
            self.keys = {0: [0] * 6, last: [0] * 6}

    def _pose(self, t: int, predicted: list[int], frames: float) -> list[int]:
        pose = []
        for i, (target, guess) in enumerate(zip(self.target[t], predicted, strict=True)):
            limit = self.limits[i]
            nearest = round(max(-limit, min(target, limit)))
            guess = max(-limit, min(guess, limit))
            step = 1 if guess > nearest else -1
            candidates = {guess, nearest, nearest + step if nearest != guess else nearest}
            weight = self.weights[i] * max(1.0, frames)
            pose.append(
                min(
                    sorted(candidates),
                    key=lambda v: weight * (v - target) ** 2 + self.price * _residual_bits(v - guess),
                )
            )
        return pose

    def _interval(self, interval: Interval, chosen: dict[int, list[int]]) -> float:
        """Fills ``chosen`` with the keys inside; returns error plus weighted bits."""
        a, b, middle = interval.a, interval.b, interval.middle
        if b - a < 2:
            return 0.0
        start, end = self.keys[a], self.keys[b]
        error = float((np.square(interval.inside(start, end) - self.array[a + 1 : b]) @ self.weights).sum())
        plain = error + self.price * _SPLIT_BITS[0]
        if error <= self.price * (_SPLIT_BITS[1] + 2):
            return plain
        chord = interval.chord(start, end)
        predicted = interval.predicted(chord)
        pose = self._pose(middle, predicted, (b - a) / 3)
        bits = _SPLIT_BITS[1] + sum(_residual_bits(v - p) for v, p in zip(pose, predicted, strict=True))
        split = self.price * bits + sum(
            w * (v - u) ** 2 for w, v, u in zip(self.weights, pose, self.target[middle], strict=True)
        )
        self.keys[middle] = pose
        mine = {middle: pose}
        for half in interval.halves(pose, chord, self.curved):
            split += self._interval(half, mine)
        del self.keys[middle]
        if plain <= split:
            return plain
        chosen |= mine
        return split


def _residual_bits(value: int) -> float:
    return _RESIDUAL_BITS[min(abs(value), 7)] + 2 * max(0, abs(value).bit_length() - 3)
