"""What an interpolation section says: how much to sharpen, and by which vectors to correct the frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refdec import interpolation
from refdec.sampling import Anchor
from tgv_format.interpolation import HIGHEST, LOWEST, MAX_SHARP, Interpolation, Mode, Vectors, no_vectors
from tgv_format.picture import Plane

# Corrections have to lower the squared error to this share: smaller gains come with unsteady motion.
_GAIN = 0.97
# Of the side of pictures: optical flow of smaller ones says nothing.
_LEAST = 48
# Of the blur whose difference from a picture is its detail, in luma samples; and eighths of sharpening by how
# much more detail the original has. Both by LPIPS of clips at 3 to 15 kbit/s.
_BLUR, _SHARPEN = 2.0, 9.0

Planes = Sequence[Plane]


def interpolated(originals: Planes, first: Anchor, last: Anchor) -> tuple[Interpolation, list[Plane]]:
    """The best section for the luma planes of a clip's frames 0 to L, and what it makes of frames 1 to L - 1.

    What it makes is not sharpened yet.
    """
    length = len(originals) - 1
    inner = originals[1:-1]
    plain = _frames(first, last, length, no_vectors())
    ends = first.picture.y, last.picture.y
    sharp = sharpness(originals, [ends[0], *plain, ends[1]])
    vectors = _corrections(inner, plain)
    if vectors.any():
        corrected = _frames(first, last, length, vectors)
        if _error(inner, corrected) < _GAIN * _error(inner, plain):
            return Interpolation(Mode.CORRECTED, sharp, vectors), corrected
    return Interpolation(Mode.INTERPOLATED, sharp, no_vectors()), plain


def sharpness(originals: Planes, made: Planes) -> int:
    """By how many eighths to sharpen ``made`` for as much detail as the ``originals`` have."""
    # A grey picture has no detail, and needs none.
    ratio = (_detail(originals) + 1e-3) / (_detail(made) + 1e-3)
    return int(np.clip(round(_SHARPEN * (ratio - 1)), 0, MAX_SHARP))


def _detail(planes: Planes) -> float:
    import cv2

    total = 0.0
    for plane in planes[:: max(1, len(planes) // 4)]:
        values = plane.astype(np.float32)
        total += float(np.abs(values - cv2.GaussianBlur(values, (0, 0), _BLUR)).mean())
    return total


def _frames(first: Anchor, last: Anchor, length: int, vectors: Vectors) -> list[Plane]:
    between = interpolation.Interpolation(first, last, length, vectors)
    return [between.frame(t).y for t in range(1, length)]


def _error(originals: Planes, made: Planes) -> float:
    return float(sum(np.square(a.astype(np.int32) - b).sum() for a, b in zip(originals, made, strict=True)))


def _corrections(originals: Planes, made: Planes) -> Vectors:
    """Of every frame the median motion from the original to what was made, in quarters of a luma sample."""
    import cv2

    vectors = np.zeros((len(made), 2), np.int8)
    if min(originals[0].shape) < _LEAST:
        return vectors
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    for vector, a, b in zip(vectors, originals, made, strict=True):
        half: NDArray[np.float32] = flow.calc(*(np.ascontiguousarray(p[::2, ::2]) for p in (a, b)), None)
        median = np.median(half[4:-4, 4:-4].reshape(-1, 2), 0)
        # Of pictures at half the size.
        vector[:] = np.clip(np.rint(8 * median), LOWEST, HIGHEST)
    return vectors
