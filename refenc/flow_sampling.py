"""Watershed sampling of flow (X. Zhan et al., CVPR 2019, as Dynamics-Codec uses it): a few points that tell
how everything moves.

Edges of the motion divide the picture; the topological distance from them has its ridges in the middle of
what moves alike. Points are the maxima of the distance, with none that is less than a window's half from a
larger one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Share of the steepest change of flow that makes an edge, and the least change, in samples, that can be the
#: steepest.
_EDGE, _LEAST = 0.1, 0.01


def watershed_points(flow: NDArray[np.float32], window: int = 15) -> NDArray[np.intp]:
    """intp [N, 2]: (x, y) of the points of float32 ``flow`` [h, w, 2], the farthest from any edge first.

    ``window`` is odd, in samples; N >= 1.
    """
    import cv2

    border = cv2.BORDER_REPLICATE
    slopes = [cv2.Sobel(flow, cv2.CV_32F, *axis, borderType=border) for axis in ((1, 0), (0, 1))]
    steepness = np.sqrt(np.square(slopes).sum(0)).sum(2)
    edges = steepness > _EDGE * max(float(steepness.max()), _LEAST)
    # The border of the picture is an edge, too.
    inside = np.pad((~edges).astype(np.uint8), 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    highest = cv2.dilate(distance, np.ones((window, window), np.uint8))
    y, x = np.nonzero((distance >= highest) & (distance > 0))
    if not len(x):
        height, width = distance.shape
        return np.array([[width // 2, height // 2]])
    order = np.argsort(-distance[y, x], kind="stable")
    return _apart(np.stack([x, y], 1)[order], (window - 1) // 2)


def _apart(points: NDArray[np.intp], reach: int) -> NDArray[np.intp]:
    """Those of the points, in their order, that are more than ``reach`` from all kept before, in x or y."""
    kept: list[NDArray[np.intp]] = []
    for point in points:
        if not kept or np.abs(np.array(kept) - point).max(1).min() > reach:
            kept.append(point)
    return np.array(kept)


def sparse_motion(
    flow: NDArray[np.float32], window: int = 15
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Motion float32 [h, w, 2] of the points of ``flow``, zero elsewhere, and the mask float32 [h, w]."""
    x, y = watershed_points(flow, window).T
    mask = np.zeros(flow.shape[:2], np.float32)
    mask[y, x] = 1
    return flow * mask[..., None], mask
