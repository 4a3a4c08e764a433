"""Smooth motion worth trying in the baseline reconstruction: camera poses and flow tokens of a clip.

For the pictures, motion matters where there is texture. So tokens are not the frequencies of the dense flow,
but those that fit it best with the weight of the texture, and little attention to what fits nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdec.motion import Motion
from refenc import flow_tokens, poses
from refenc.flow import FlowEstimator, dis, shrunk, to_first
from refenc.flow_tokens import FlowAnalysis, FlowOptions
from refenc.masks import MaskOptions, Segmenter, dense_labels, simplify
from tgv_format.camera_poses import CameraPoses
from tgv_format.clip import Clip
from tgv_format.flow_tokens import FREQUENCIES, FlowTokens
from tgv_format.masks import Masks
from tgv_format.picture import Picture, Plane

if TYPE_CHECKING:
    from refenc.instances import Labels
    from refenc.poses import Estimator
    from refenc.tracking import Tracks

_SPACING = 8  # of the samples that tokens are fitted to, in luma samples of the size of the flow
_ROUNDS = 4  # of reweighting
_SCALE = 2.0  # residual, in luma samples, at which weights have fallen to a half
_RIDGE = 0.003  # of the mean diagonal element: keeps frequencies that nothing tells from being invented

#: Tried tokens per component, and mean errors of quantising them in luma samples.
_TOKENS, _FLOORS = (6, 20), (0.5, 1.5)
#: Tried errors of camera poses, in luma samples at the median depth.
_POSE_ERRORS = (1.0, 3.0)
_SCALE_LOG2 = 4  # of label samples

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ground:
    """Sections that a clip may have besides trajectories; None where absent."""

    flow_tokens: FlowTokens | None = None
    camera_poses: CameraPoses | None = None
    masks: Masks | None = None


def grounds(
    pictures: Sequence[Picture],
    tracks: Tracks,
    flow: bool,
    scene: bool,
    estimator: Estimator = poses.estimate_tracks,
    flow_estimator: FlowEstimator = dis,
) -> list[Ground]:
    """What is worth trying for a clip's pictures, frames 0 to L >= 2: nothing at first, then the tokens and
    the camera poses of several qualities, of ``flow`` and ``scene``, and with both their combinations."""
    found = [Ground()]
    cameras = _cameras(estimator(pictures, tracks), pictures[0].width, pictures[0].height) if scene else []
    found += [Ground(camera_poses=camera) for camera in cameras]
    if flow:
        dense = DenseFlow.of(pictures, flow_estimator)
        for camera in (None, *cameras):
            found += [Ground(tokens, camera) for tokens in dense.tokens(camera)]
    return found


def labels(
    pictures: Sequence[Picture], tracks: Tracks, instances: Labels, segmenter: Segmenter = dense_labels
) -> Masks | None:
    """The masks worth trying for a clip's pictures; None when all is background."""
    options = MaskOptions(scale_log2=_SCALE_LOG2)
    found = segmenter(pictures, tracks, instances, options)
    return simplify(found, options) if found.any() else None


def _cameras(motion: poses.Motion, width: int, height: int) -> list[CameraPoses]:
    """Camera poses of several qualities, the finest first; none of a camera that stands still."""
    errors = [error / max(width, height) for error in _POSE_ERRORS]
    found = [poses.quantise(motion, width, height, e, e, with_plane=True) for e in errors]
    return [params for params in found if params.poses.any()]


@dataclass(frozen=True, eq=False)
class DenseFlow:
    """Dense flow of the frames 1 to L, towards frame 0 or another picture for each, in luma samples.

    ``places`` float64 [P, 2], ``vectors`` float64 [L, P, 2] and their ``weights`` float64 [L, P].
    """

    places: Floats
    vectors: Floats
    weights: Floats
    size: tuple[int, int]

    @classmethod
    def of(cls, pictures: Sequence[Picture], estimate: FlowEstimator) -> DenseFlow:
        size = pictures[0].y.shape
        pictures, scale = shrunk(pictures)
        height, width = pictures[0].y.shape
        y, x = (np.arange(min(_SPACING, side) // 2, side, _SPACING) for side in (height, width))
        y, x = np.meshgrid(y, x, indexing="ij")
        vectors = [
            scale * flow[y, x].reshape(-1, 2).astype(np.float64) for flow in to_first(pictures, estimate)
        ]
        weights = [texture(p.y)[y, x].reshape(-1).astype(np.float64) for p in pictures[1:]]
        places = scale * (np.stack([x.ravel(), y.ravel()], 1) + 0.5) - 0.5
        return cls(places, np.array(vectors), np.array(weights), (size[0], size[1]))

    def tokens(self, camera: CameraPoses | None) -> Iterator[FlowTokens]:
        """Tokens of several counts and qualities, of what ``camera`` leaves of the flow."""
        left = self.vectors
        if camera is not None:
            motion = Motion(Clip(len(left), camera_poses=camera), *self.size)
            at = np.rint(16 * self.places).astype(np.int64)
            moved = [motion.smooth(t, False, at) for t in range(1, len(left) + 1)]
            left = left - np.array(moved) / 16
        for count in _TOKENS:
            fitted = FlowAnalysis(self.fit(left, count), 0.0)
            for floor in _FLOORS:
                tokens = flow_tokens.choose(fitted, FlowOptions(count, floor, share=0.0))
                if tokens.tokens.any():
                    yield tokens

    def fit(self, vectors: Floats, count: int) -> Floats:
        """The coefficients [L, 2, count] that fit ``vectors`` best."""
        basis = np.ones((len(self.places), count))
        for axis, frequencies in enumerate(np.array(FREQUENCIES[:count]).T):
            angle = np.pi * np.outer(self.places[:, axis] + 0.5, frequencies) / self.size[1 - axis]
            basis *= np.cos(angle) * np.where(frequencies > 0, np.sqrt(2), 1)
        out = []
        for wanted, weights in zip(vectors, self.weights, strict=True):
            weight = weights
            for _ in range(_ROUNDS):
                weighted = basis * weight[:, None]
                normal = weighted.T @ basis
                normal += _RIDGE * np.trace(normal) / count * np.eye(count)
                found = np.linalg.solve(normal, weighted.T @ wanted)
                missed = np.square(basis @ found - wanted).sum(1)
                weight = weights / (1 + missed / _SCALE**2)
            out.append(found.T)
        return np.array(out)


def texture(frame: Plane) -> NDArray[np.float32]:
    """float32 [h, w]: mean squared gradient around each sample, the squared luma error that a sample of
    motion makes, and a little more."""
    import cv2

    dx = cv2.Sobel(frame, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(frame, cv2.CV_32F, 0, 1, scale=1 / 8)
    energy: NDArray[np.float32] = cv2.boxFilter(dx * dx + dy * dy, -1, (16, 16)) + np.float32(1)
    return energy
