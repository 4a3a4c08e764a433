"""Object masks of a clip (CPSGD), by backends that are chosen by name, and what is sent of them.

``motion`` labels every part of a picture by the motion instances of the tracks around it and by whose motion
explains the pictures before and after, guided by colour, and needs no weights. What moves as the camera does
is background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refenc.instances import Labels as Instances
from refenc.instances import segment_instances
from refenc.tracking import Tracks, track_opencv
from tgv_format.masks import Masks, moved, plane_size
from tgv_format.picture import Picture

Labels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CAMERA = 2.0  # luma samples: an object's tracks deviate from the camera's motion by more than that
_LOOKS = 5  # frames in which that is looked for
_UNSEEN = 0.2  # weight of a track where it is extrapolated
_REACH = 1.5  # of a track, in label samples: standard deviation of its influence
_SIMILAR = 12.0  # grey levels: standard deviation of colours that belong together
_NEAR = 2  # frames to the pictures that an object's motion is tried on
_MISMATCH = 4.0  # grey levels: difference from the moved picture that makes an object e times less likely
_WORST = 4.0  # of them where the motion of an object is not known
_FEWEST = 4  # tracks of an object that tell its motion
_PASSES = 3  # of the filter guided by colour
_BACKGROUND = 0.05  # share of the pictures; where less follows the camera, the largest object is background
_SPECK = 6  # label samples: smaller parts join what is around them


@dataclass(frozen=True)
class MaskOptions:
    """``segmenter``: name of the backend; ``scale_log2``: binary logarithm of a label sample's side in luma
    samples; ``objects``: at most as many labels, 1..255; ``budget``: how far an edge may be from where it was
    found, in label samples; ``search``: how far an object is sought from where it was in the frame before."""

    segmenter: str = "motion"
    scale_log2: int = 3
    objects: int = 4
    budget: int = 1
    search: int = 2


def extract(pictures: Sequence[Picture], options: MaskOptions) -> Masks | None:
    """The masks to send for a clip's pictures, frames 0 to L; None when all is background."""
    labels = SEGMENTERS[options.segmenter](pictures, options)
    return simplify(labels, options) if labels.any() else None


def segment_motion(pictures: Sequence[Picture], options: MaskOptions) -> Labels:
    """Label planes of a clip, uint8 [L+1, h, w]: 0 background, then objects from the largest on."""
    if len(pictures) < 2:
        size = plane_size(pictures[0].width, pictures[0].height, options.scale_log2)
        return np.zeros((len(pictures), *size), np.uint8)
    tracks = track_opencv([p.y for p in pictures])
    return dense_labels(pictures, tracks, segment_instances(tracks), options)


#: From a clip's pictures, its tracks and their instances to label planes, as :func:`segment_motion`.
Segmenter = Callable[[Sequence[Picture], Tracks, Instances, MaskOptions], Labels]

SEGMENTERS: dict[str, Callable[[Sequence[Picture], MaskOptions], Labels]] = {"motion": segment_motion}


def dense_labels(
    pictures: Sequence[Picture], tracks: Tracks, instances: Instances, options: MaskOptions
) -> Labels:
    """As :func:`segment_motion`, from the tracks and their instances."""
    scale_log2 = options.scale_log2
    size = plane_size(pictures[0].width, pictures[0].height, scale_log2)
    objects = separate_background(tracks, instances)
    count = int(objects.max(initial=0)) + 1
    if count == 1:
        return np.zeros((len(pictures), *size), np.uint8)
    votes = []
    for t in range(len(pictures)):
        near = _votes(tracks, objects, count, t, size, scale_log2)
        votes.append(near * _match(pictures, tracks, objects, count, t, size))
    support = [_guided(v, _colours(p, size)) for v, p in zip(votes, pictures, strict=True)]
    # More objects than a plane has room for are background.
    labels = np.stack([s.argmax(0) for s in support])
    labels = _without_specks(np.where(labels > 255, 0, labels).astype(np.uint8))
    return renumber(labels, options.objects)


def renumber(labels: Labels, most: int) -> Labels:
    """``labels`` with objects numbered from the largest on; those beyond ``most`` become background."""
    sizes = np.bincount(labels.reshape(-1), minlength=256)
    if sizes[0] >= _BACKGROUND * labels.size:
        sizes[0] = labels.size
    order = np.argsort(-sizes, kind="stable")[: min(1 + most, np.count_nonzero(sizes))]
    rank = np.zeros(256, np.uint8)
    rank[order] = np.arange(len(order))
    return rank[labels]


def separate_background(tracks: Tracks, instances: Instances) -> NDArray[np.int32]:
    """Object of every track, int32 [N]: 0 what moves as the camera does, -1 what belongs to nothing."""
    import cv2

    here = tracks.positions[:, 0]
    deviation = np.zeros(len(here), np.float32)
    last = tracks.positions.shape[1] - 1
    # Not only at the end: what swings may be back by then.
    for t in {last * k // _LOOKS for k in range(1, _LOOKS + 1)}:
        there = tracks.positions[:, t]
        found = cv2.findHomography(here, there, cv2.RANSAC, _CAMERA)[0] if len(here) >= 4 else None
        model = np.eye(3) if found is None else found
        carried = cv2.perspectiveTransform(here[:, None], model)[:, 0]
        deviation = np.maximum(deviation, np.linalg.norm(carried - there, axis=1))
    objects = np.where(deviation <= _CAMERA, 0, -1).astype(np.int32)
    count = 0
    for label in range(int(instances.max(initial=-1)) + 1):
        members = instances == label
        away = np.median(deviation[members]) > _CAMERA
        count += int(away)
        objects[members] = count if away else 0
    return objects


def _votes(
    tracks: Tracks, objects: NDArray[np.int32], count: int, t: int, size: tuple[int, int], scale_log2: int
) -> Floats:
    """float32 [count, h, w]: share of each object in the tracks around each label sample of frame ``t``."""
    import cv2

    votes = np.zeros((count, *size), np.float32)
    at = np.floor(tracks.positions[:, t] + 0.5).astype(np.intp) >> scale_log2
    within = ((at >= 0) & (at < size[::-1])).all(1) & (objects >= 0)
    weights = np.where(tracks.visible[within, t], 1, _UNSEEN).astype(np.float32)
    np.add.at(votes, (objects[within], at[within, 1], at[within, 0]), weights)
    for plane in votes:
        # The wide tail decides where no track is near.
        plane[:] = cv2.GaussianBlur(plane, (0, 0), _REACH) + 1e-3 * cv2.GaussianBlur(
            plane, (0, 0), 4 * _REACH
        )
    votes[0] += 1e-6
    return votes / votes.sum(0)


def _match(
    pictures: Sequence[Picture],
    tracks: Tracks,
    objects: NDArray[np.int32],
    count: int,
    t: int,
    size: tuple[int, int],
) -> Floats:
    """float32 [count, h, w]: how well the motion of each object explains a label sample of frame ``t``."""
    import cv2

    luma = pictures[t].y.astype(np.float32)
    found = np.full((count, *luma.shape), np.float32(_MISMATCH * _WORST))
    y, x = np.indices(luma.shape, np.float32)
    for s in (t - _NEAR, t + _NEAR):
        if not 0 <= s < len(pictures):
            continue
        both = tracks.visible[:, t] & tracks.visible[:, s]
        for k in range(count):
            own = both & (objects == k)
            if own.sum() < _FEWEST:
                continue
            model = cv2.estimateAffine2D(tracks.positions[own, t], tracks.positions[own, s])[0]
            if model is None:
                continue
            a = model.astype(np.float32)
            moved = cv2.remap(
                pictures[s].y,
                a[0, 0] * x + a[0, 1] * y + a[0, 2],
                a[1, 0] * x + a[1, 1] * y + a[1, 2],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            error = cv2.blur(np.abs(moved - luma), (5, 5))
            found[k] = np.minimum(found[k], error)
    small = np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in found])
    small -= small.min(0)
    return np.maximum(np.exp(-small / np.float32(_MISMATCH)), np.float32(1e-3))


def _colours(picture: Picture, size: tuple[int, int]) -> Floats:
    """float32 [3, h, w]: mean colours of the label samples."""
    import cv2

    planes = [cv2.resize(p, size[::-1], interpolation=cv2.INTER_AREA) for p in picture.planes]
    return np.stack(planes).astype(np.float32)


def _guided(votes: Floats, colours: Floats) -> Floats:
    """``votes`` averaged over neighbours of like colour, some times."""
    for _ in range(_PASSES):
        padded = np.pad(votes, ((0, 0), (1, 1), (1, 1)), "edge")
        around = np.pad(colours, ((0, 0), (1, 1), (1, 1)), "edge")
        total, weights = np.zeros_like(votes), np.zeros_like(votes[0])
        for dy in range(3):
            for dx in range(3):
                window = (slice(None), slice(dy, dy + votes.shape[1]), slice(dx, dx + votes.shape[2]))
                difference = np.square(around[window] - colours).sum(0)
                weight = np.exp(difference / np.float32(-2 * _SIMILAR**2))
                total += weight * padded[window]
                weights += weight
        votes = total / weights
    return votes


def _without_specks(labels: Labels) -> Labels:
    """``labels`` without parts smaller than a speck, which take the most frequent label around them."""
    import cv2

    out = labels.copy()
    for plane in out:
        for label in np.unique(plane):
            _, parts, statistics, _ = cv2.connectedComponentsWithStats(
                (plane == label).astype(np.uint8), connectivity=4
            )
            for part in np.flatnonzero(statistics[1:, cv2.CC_STAT_AREA] < _SPECK) + 1:
                inside = parts == part
                ring = (cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
                if ring.any():
                    plane[inside] = np.bincount(plane[ring]).argmax()
    return out


def simplify(labels: Labels, options: MaskOptions) -> Masks:
    """What is sent of label planes: each as it is predicted, wherever that is within the budget.

    Where a prediction is too far from a plane, the surroundings are taken from the plane. With a budget of 0
    all planes stay as they are, and only the motion is found.
    """
    import cv2

    count = int(labels.max(initial=0))
    out = labels.copy()
    motion = np.zeros((len(labels) - 1, count, 2), np.int16)
    near = np.ones((2 * options.budget + 1,) * 2, np.uint8)
    around = np.ones((2 * options.budget + 3,) * 2, np.uint8)
    for t in range(1, len(labels)):
        motion[t - 1] = find_motion(out[t - 1], labels[t], count, options)
        predicted = moved(out[t - 1], motion[t - 1].tolist())
        wrong = np.zeros(predicted.shape, np.uint8)
        for label in range(count + 1):
            allowed = cv2.dilate((labels[t] == label).astype(np.uint8), near)
            required = cv2.erode((labels[t] == label).astype(np.uint8), near)
            wrong |= (predicted == label) & (allowed == 0)
            wrong |= (predicted != label) & (required == 1)
        if options.budget:
            wrong = cv2.dilate(wrong, around)
        out[t] = np.where(wrong, labels[t], predicted)
    return Masks(out, motion, options.scale_log2)


def find_motion(before: Labels, plane: Labels, count: int, options: MaskOptions) -> NDArray[np.int16]:
    """int16 [count, 2]: by how much each label of ``before`` is best moved to be like ``plane``."""
    height, width = plane.shape
    found = np.zeros((count, 2), np.int16)
    reach = min(options.search, height - 1), min(options.search, width - 1)
    for label in range(1, count + 1):
        old, new = before == label, plane == label
        if not old.any() or not new.any() or np.count_nonzero(old != new) <= 4:
            continue
        padded = np.pad(old, ((reach[0],) * 2, (reach[1],) * 2))
        best = np.count_nonzero(old != new)
        for dy in range(-reach[0], reach[0] + 1):
            for dx in range(-reach[1], reach[1] + 1):
                shifted = padded[reach[0] - dy :, reach[1] - dx :][:height, :width]
                # A vector has to be worth its bits.
                wrong = np.count_nonzero(shifted != new) + (4 if dx or dy else 0)
                if wrong < best:
                    best, found[label - 1] = wrong, (dx, dy)
    return found
