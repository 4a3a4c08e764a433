"""Motion instances: tracks that lie and move together (T-GVC)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refenc.tracking import SPACING, Flags, Points, Tracks

Labels = NDArray[np.int32]
Features = NDArray[np.float64]

# Differences under these (x, y, displacement x, y, path length in samples; radians) are noise of the
# tracker, and standardising must not blow them up to structure: half a latent sample, about 11 degrees.
_NOISE = np.array([1.0, 1.0, 4.0, 4.0, 4.0, 0.2])
_JITTER = 0.5  # samples: a change of direction between shorter steps than this hardly counts


def track_features(tracks: Tracks) -> Features:
    """T-GVC's six features of every track, float64 [N, 6], over all frames, seen or extrapolated.

    Start x, y; displacement x, y from the first to the last frame; path length (luma samples); mean
    change of direction from step to step (radians, weighted by the length of the shorter step).
    """
    positions = tracks.positions.astype(np.float64)
    steps = np.diff(positions, axis=1)
    lengths = np.linalg.norm(steps, axis=2)
    before, after = steps[:, :-1], steps[:, 1:]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    turns = np.arctan2(np.abs(cross), (before * after).sum(axis=2))
    weights = np.minimum(lengths[:, :-1], lengths[:, 1:])
    turn = (turns * weights).sum(axis=1) / (weights + _JITTER).sum(axis=1).clip(min=_JITTER)
    displacement = positions[:, -1] - positions[:, 0]
    return np.column_stack([positions[:, 0], displacement, lengths.sum(axis=1), turn])


def segment_instances(tracks: Tracks, min_cluster_size: int = 6, min_samples: int = 6) -> Labels:
    """Cluster tracks by their standardised features with HDBSCAN: int32 [N], -1 for noise.

    T-GVC's minimum is 10 tracks of a grid thirteen times as dense as that of :mod:`refenc.tracking`; 6
    keeps a ball or a pedestrian apart at 512×320. Where nothing moves differently from the rest, or no
    cluster is found, all tracks are one instance, 0.
    """
    from sklearn.cluster import HDBSCAN
    from threadpoolctl import threadpool_limits

    features = track_features(tracks)
    one = np.zeros(len(features), np.int32)
    if len(features) < 2 * min_cluster_size:
        return one
    spread = features.std(axis=0)
    if (spread[2:] < _NOISE[2:]).all():
        return one
    standardised = (features - features.mean(axis=0)) / np.maximum(spread, _NOISE)
    clustering = HDBSCAN(
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        cluster_selection_epsilon=0.05,  # T-GVC's
        n_jobs=1,
        copy=True,
    )
    with threadpool_limits(limits=1):
        labels = clustering.fit_predict(standardised).astype(np.int32)
    return labels if (labels >= 0).any() else one


def motion_mask(points: Points, shape: tuple[int, int], spacing: int = SPACING) -> Flags:
    """Union of the cells around ``points`` [M, 2] of one frame: bool ``shape`` (h, w).

    Cells are one and a half times the spacing wide, as the points of neighbouring cells are up to that
    far apart. Points outside the picture are ignored.
    """
    import cv2

    at = np.rint(points).astype(np.intp)
    within = ((at >= 0) & (at < shape[::-1])).all(axis=1)
    marks = np.zeros(shape, np.uint8)
    marks[at[within, 1], at[within, 0]] = 1
    side = 2 * (3 * spacing // 4) + 1
    mask: Flags = cv2.dilate(marks, np.ones((side, side), np.uint8)) > 0
    return mask
