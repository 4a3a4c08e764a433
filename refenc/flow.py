"""Dense optical flow between the pictures of a clip, by a backend that is chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from refenc.keyframes import halve_plane
from tgv_format.picture import Picture

# Flow is found at a smaller size in larger pictures.
_SAMPLES = 1 << 19

#: float32 [h, w, 2], (x, y) in luma samples.
Flow = NDArray[np.float32]
#: From pictures a and b of one size, and flow to start from if there is any, to the flow from a to b: the
#: sample at p of a shows what b shows at p plus its flow.
FlowEstimator = Callable[[Picture, Picture, Flow | None], Flow]


def dis(a: Picture, b: Picture, start: Flow | None = None) -> Flow:
    """Dense inverse search (T. Kroeger et al., ECCV 2016) of luma, by OpenCV.

    Deterministic with one OpenCV thread, which entry points choose.
    """
    import cv2

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(a.y, b.y, None if start is None else start.copy())


def to_first(pictures: Sequence[Picture], estimate: FlowEstimator = dis) -> Iterator[Flow]:
    """Flow of ``pictures[1:]``, each towards the first.

    Each starts from the one before, so that long ways are found in small steps.
    """
    flow = None
    for picture in pictures[1:]:
        flow = estimate(picture, pictures[0], flow)
        yield flow


def from_first(pictures: Sequence[Picture], estimate: FlowEstimator = dis) -> Iterator[Flow]:
    """Flow from the first of the pictures to each of ``pictures[1:]``, found like :func:`to_first`."""
    flow = None
    for picture in pictures[1:]:
        flow = estimate(pictures[0], picture, flow)
        yield flow


def shrunk(pictures: Sequence[Picture]) -> tuple[Sequence[Picture], int]:
    """The pictures at the size that flow is found at, and how many times smaller that is, a power of two."""
    scale = 1
    while pictures[0].y.size > _SAMPLES:
        pictures = [Picture(*map(halve_plane, picture.planes)) for picture in pictures]
        scale *= 2
    return pictures, scale
