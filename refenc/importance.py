"""Which instances matter, and the few points that stand for each (T-GVC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refenc.instances import Labels, motion_mask
from refenc.semantics import SEMANTICS, Semantics
from refenc.tracking import Flags, Points, Tracks
from tgv_format.picture import Picture, Plane

LATENT = 8  # luma samples per latent sample
MAX_INSTANCES = 256  # the bitstream has 8 bits for them


@dataclass(frozen=True)
class TgvcOptions:
    """Hyper-parameters of the selection of points; defaults as published unless said otherwise.

    ``max_points``: of one instance.
    ``threshold``: least importance, in latent samples, of an instance that is sent; the published limit
    for a clip of 16 frames, in these units.
    ``min_path``: least path length, in latent samples, of an instance that is sent. Published: about
    5.6 in 16 frames. The default is what quantising to latent samples would leave of it: anything.
    ``points_per_distance``, ``points_per_share``: number of points for a semantic distance of 1, and for
    all the tracks, as shares of ``max_points``.
    """

    max_points: int = 15
    threshold: float = 0.035
    min_path: float = 0.5
    points_per_distance: float = 12.0
    points_per_share: float = 0.5
    seed: int = 0


def select_semantic_points(
    tracks: Tracks,
    labels: Labels,
    first_picture: Picture,
    last_picture: Picture,
    options: TgvcOptions = TgvcOptions(),
    semantics: Semantics = SEMANTICS["handcrafted"],
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Choose the tracks to send: their indices [M] and their instances, uint8 [M].

    ``labels`` [N] are those of :func:`refenc.instances.segment_instances`; the pictures are those of the
    clip's first and last frame. The importance of an instance is its semantic distance (1 − similarity
    of a picture and of the same picture with the instance painted over, mean of both pictures) × its path
    length in latent samples (mean length of the steps that are seen × L). Instances are numbered by falling
    importance, and the points of one are in the order of the tracks. M is 0 where nothing moves.

    T-GVC leaves out instances that cover more than 40 % of the picture. Here they count, for camera
    motion is theirs.
    """
    pictures = (first_picture, last_picture)
    whole = [semantics.describe(picture) for picture in pictures]
    ranked: list[tuple[float, int, float]] = []
    for label in range(labels.max(initial=-1) + 1):
        members = labels == label
        path = _path_length(tracks.positions[members], tracks.visible[members])
        if path < options.min_path:
            continue
        distance = 0.0
        for picture, descriptor, frame in zip(pictures, whole, (0, -1), strict=True):
            points = tracks.positions[members & tracks.visible[:, frame], frame]
            mask = motion_mask(points, (picture.height, picture.width))
            painted = semantics.describe(paint_over(picture, mask))
            distance += (1 - semantics.similarity(descriptor, painted)) / 2
        if distance * path >= options.threshold:
            ranked.append((-distance * path, label, distance))

    indices, instances = [], []
    for instance, (_, label, distance) in enumerate(sorted(ranked)[:MAX_INSTANCES]):
        members = np.flatnonzero(labels == label)
        share = len(members) / len(labels)
        wanted = options.points_per_distance * distance + options.points_per_share * share
        count = int(np.clip(round(options.max_points * wanted), 1, options.max_points))
        chosen = members[
            sample_points(tracks.positions[members], tracks.visible[members], count, options.seed)
        ]
        indices.append(chosen)
        instances.append(np.full(len(chosen), instance, np.uint8))
    if not indices:
        return np.zeros(0, np.intp), np.zeros(0, np.uint8)
    return np.concatenate(indices), np.concatenate(instances)


def sample_points(positions: Points, visible: Flags, count: int, seed: int = 0) -> NDArray[np.intp]:
    """Indices, ascending, of ``count`` tracks that stand for all of one instance.

    ``positions`` [N, L + 1, 2] and ``visible`` [N, L + 1] are those of the instance; all indices are
    returned when N is not above ``count``. k-means divides the paths, weighted by how long they are seen;
    of the better seen half of each part the track nearest to the centroid is taken.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if len(positions) <= count:
        return np.arange(len(positions))
    paths = positions.reshape(len(positions), -1).astype(np.float64)
    seen = visible.mean(axis=1)
    with threadpool_limits(limits=1):
        clustering = KMeans(count, n_init=1, random_state=seed).fit(paths, sample_weight=seen)
    apart = np.linalg.norm(paths - clustering.cluster_centers_[clustering.labels_], axis=1)
    nearest = []
    for k in np.unique(clustering.labels_):
        part = np.flatnonzero(clustering.labels_ == k)
        best = part[seen[part] >= np.median(seen[part])]
        nearest.append(best[np.argmin(apart[best])])
    return np.sort(np.array(nearest, np.intp))


def paint_over(picture: Picture, mask: Flags) -> Picture:
    """The picture with the samples under ``mask`` [h, w] replaced by a smooth blend of their surroundings."""
    import cv2

    keep = 1 - mask.astype(np.float32)
    height, width = picture.u.shape
    keep_chroma = (cv2.resize(keep, (width, height), interpolation=cv2.INTER_AREA) == 1).astype(np.float32)
    return Picture(*(_fill(plane, keep if plane is picture.y else keep_chroma) for plane in picture.planes))


def _path_length(positions: Points, visible: Flags) -> float:
    """Mean length of the steps that are seen, times their number in a clip, in latent samples."""
    lengths = np.linalg.norm(np.diff(positions, axis=1), axis=2)
    measured = visible[:, 1:] & visible[:, :-1]
    mean_step = float(lengths[measured].sum()) / max(int(measured.sum()), 1)
    return mean_step * (positions.shape[1] - 1) / LATENT


def _fill(plane: Plane, keep: NDArray[np.float32]) -> Plane:
    return np.rint(_push_pull(plane * keep, keep)).astype(np.uint8)


def _push_pull(value: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Push–pull interpolation of samples of a given weight: gaps take the values of coarser scales."""
    import cv2

    height, width = value.shape
    known = weight > 0
    own = np.divide(value, weight, out=np.full_like(value, 128), where=known)
    if known.all() or max(height, width) == 1:
        return own
    half = ((width + 1) // 2, (height + 1) // 2)
    coarse = _push_pull(*(cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (value, weight)))
    return np.where(known, own, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
