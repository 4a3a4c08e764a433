"""How wrong reconstructed frames look: the measure by which the encoder decides, which needs no weights.

It adds what is seen to be wrong in four ways: detail that is lost (the logarithm of the ratio of its local
strengths) and wrong colours, which together explain most of the difference in LPIPS between ways of coding
one clip at one rate; structure in the wrong place (the contrast-structure term of SSIM at a quarter of the
size, which follows MS-SSIM); and motion that is not that of the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import Picture, Plane

# Weights: the first two by LPIPS, the others for a balance of LPIPS, MS-SSIM and motion error, of eight clips
# at 5 and 10 kbit/s coded with keyframes of several sizes and 3 to 24 frames apart.
_DETAIL, _COLOUR, _STRUCTURE, _MOTION = 0.52, 0.083, 1.2, 0.2
_WINDOW = 1.5  # standard deviation, in samples
_BLUR = 2.0  # in samples: what it takes away is detail
_CONTRAST = 4.0  # added to standard deviations: less is not seen
_STABLE = 58.5  # SSIM's second constant
# Luma samples above which pictures are looked at at half the size, again and again if need be, and of a side
# below which they have no structure to compare or optical flow.
_MOST, _LEAST = 1 << 18, 48
# In luma samples of the flow, beside that of the originals: less motion is none.
_STILL = 0.1

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _View:
    """What is compared of a picture."""

    colours: tuple[Plane, Plane]
    contrast: Floats
    quarter: Floats
    mean: Floats
    variance: Floats
    half: Plane


class Distortion:
    """The distortion of frames made for ``originals``, pictures of one size in temporal order."""

    def __init__(self, originals: Sequence[Picture]) -> None:
        self._views = [_view(picture) for picture in originals]
        self._flows = [_flow(a.half, b.half) for a, b in zip(self._views, self._views[1:], strict=False)]
        speeds = [float(np.hypot(*np.moveaxis(flow, 2, 0)).mean()) for flow in self._flows]
        self._speed = float(np.mean(speeds)) + _STILL if speeds else 1.0

    def __call__(self, begin: int, made: Sequence[Picture]) -> float:
        """The sum over ``made``, which are the frames from ``begin`` on, without the first of them.

        The first is only where the motion starts from.
        """
        views = [_view(picture) for picture in made]
        total = 0.0
        for index in range(1, len(views)):
            number, view = begin + index, views[index]
            flow = _flow(views[index - 1].half, view.half) - self._flows[number - 1]
            motion = float(np.hypot(flow[..., 0], flow[..., 1]).mean()) / self._speed
            total += _seen(self._views[number], view) + _MOTION * motion
        return total


def _view(picture: Picture) -> _View:
    import cv2

    plane, colours = picture.y, (picture.u, picture.v)
    while plane.size > _MOST:
        plane, colours = _halved(plane), (_halved(colours[0]), _halved(colours[1]))
    full, half = plane.astype(np.float32), _halved(plane)
    quarter = _halved(half).astype(np.float32)
    mean, variance = _moments(quarter)
    detail = full - cv2.GaussianBlur(full, (0, 0), _BLUR)
    contrast = np.log(np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _WINDOW)) + np.float32(_CONTRAST))
    return _View(colours, contrast, quarter, mean, variance, half)


def _seen(original: _View, made: _View) -> float:
    """Lost detail, wrong colours and wrong structure of one frame."""
    import cv2

    pairs = zip(original.colours, made.colours, strict=True)
    colour = sum(float(cv2.absdiff(a, b).mean()) for a, b in pairs) / 2
    detail = float(np.maximum(original.contrast - made.contrast, 0).mean())
    products = cv2.GaussianBlur(original.quarter * made.quarter, (0, 0), _WINDOW)
    covariance = products - original.mean * made.mean
    similar = (2 * covariance + _STABLE) / (original.variance + made.variance + _STABLE)
    return _DETAIL * detail + _COLOUR * colour + _STRUCTURE * (1 - float(similar.mean()))


def _moments(values: Floats) -> tuple[Floats, Floats]:
    import cv2

    mean = cv2.GaussianBlur(values, (0, 0), _WINDOW)
    return mean, cv2.GaussianBlur(values * values, (0, 0), _WINDOW) - mean * mean


def _halved(plane: Plane) -> Plane:
    import cv2

    height, width = plane.shape
    size = max(1, width // 2), max(1, height // 2)
    halved: Plane = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return halved


def _flow(a: Plane, b: Plane) -> Floats:
    """Optical flow from ``a`` to ``b``, float32 [height, width, 2]; zero for small pictures."""
    import cv2

    if min(a.shape) < _LEAST:
        return np.zeros((*a.shape, 2), np.float32)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]
    flow: Floats = dis.calc(a, b, None)
    return flow
