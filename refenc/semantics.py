"""Semantic similarity of pictures, as T-GVC asks for it, by backends that are chosen by name.

A backend describes a picture by a vector and says how alike two such vectors are; whatever asks that
(scene cuts, keyframe positions, the importance of an instance) sees nothing else. ``handcrafted``
needs no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import Picture

Descriptor = NDArray[np.float32]

_SIZE = 64  # working size, both ways: the descriptor sees every picture as a square
_CELLS = 4  # of the finest level of the spatial pyramid, both ways
_BINS = 8  # per histogram
_CHROMA_RANGE = 96  # natural pictures rarely leave ±48 around grey; what does falls into the outer bins
_GRADIENT_KNEE = 64.0  # Sobel magnitude at which half of a sample's vote says "edge", half "flat"

_CELL_OF_ROW = np.arange(_SIZE) // (_SIZE // _CELLS)
_CELL_OF_SAMPLE = _CELLS * _CELL_OF_ROW[:, None] + _CELL_OF_ROW


@dataclass(frozen=True)
class Semantics:
    """A backend: ``describe`` gives float32 [D], ``similarity`` 0 to 1 (for pictures that look the same)."""

    describe: Callable[[Picture], Descriptor]
    similarity: Callable[[Descriptor, Descriptor], float]


def describe_handcrafted(picture: Picture) -> Descriptor:
    """Describe a picture of any size by float32 [693] of length 1, without learned weights.

    The picture is reduced to 64×64 samples. Each cell of a 1×1, a 2×2 and a 4×4 division of it has four
    histograms of 8 bins: Y, U, V, and the orientation of the luma gradient (0 to π), which has a ninth
    bin for flat samples. A sample votes for the two bins nearest to it, so that a small change of the
    picture is a small change of the vector. The votes are square-rooted: a scalar product is the mean of
    the histograms' Bhattacharyya coefficients, levels of the pyramid and histograms all counting alike.
    """
    import cv2

    y, u, v = (cv2.resize(plane, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA) for plane in picture.planes)
    one = np.ones((_SIZE, _SIZE), np.float32)
    histograms: list[NDArray[Any]] = []
    for plane, value_range in ((y, 256), (u, _CHROMA_RANGE), (v, _CHROMA_RANGE)):
        position = (plane - np.float32(127.5)) * np.float32(_BINS / value_range) + np.float32((_BINS - 1) / 2)
        histograms.append(_histogram(position.clip(0, _BINS - 1), one))

    magnitude, angle = cv2.cartToPolar(cv2.Sobel(y, cv2.CV_32F, 1, 0), cv2.Sobel(y, cv2.CV_32F, 0, 1))
    edge = magnitude / (magnitude + np.float32(_GRADIENT_KNEE))
    histograms.append(_histogram(angle * np.float32(_BINS / np.pi), edge))
    histograms.append(np.bincount(_CELL_OF_SAMPLE.ravel(), (1 - edge).ravel())[:, None])

    fine = np.concatenate(histograms, axis=1).reshape(_CELLS, _CELLS, -1)
    middle = fine.reshape(2, _CELLS // 2, 2, _CELLS // 2, -1).sum(axis=(1, 3))
    pyramid = np.concatenate([level.ravel() for level in (fine, middle, middle.sum(axis=(0, 1)))])
    # Every sample has four votes on each of three levels, whatever the picture is.
    root: Descriptor = np.sqrt(pyramid / (3 * 4 * _SIZE * _SIZE)).astype(np.float32)
    return root


def hellinger_similarity(a: Descriptor, b: Descriptor) -> float:
    """1 minus the Hellinger distance √(1 − cosine) of two descriptors of :func:`describe_handcrafted`.

    The cosine itself is quadratic in the change of a picture: it hardly sees what a small object does.
    """
    return float(1.0 - np.linalg.norm(a - b) / np.sqrt(2.0))


SEMANTICS: dict[str, Semantics] = {"handcrafted": Semantics(describe_handcrafted, hellinger_similarity)}


def _histogram(position: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[Any]:
    """Votes of samples at ``position`` (in bins, periodic) for the bins of their cell, [cells, bins]."""
    lower = np.floor(position)
    upper_share = (position - lower) * weight
    first = lower.astype(np.intp)
    index = np.stack([first, first + 1]) % _BINS + _BINS * _CELL_OF_SAMPLE
    votes = np.stack([weight - upper_share, upper_share])
    return np.bincount(index.ravel(), votes.ravel(), _CELLS * _CELLS * _BINS).reshape(-1, _BINS)
