"""Which tracks are sent: the encoder's closed loop with the baseline reconstruction.

Candidates are the tracks of the semantically important instances that T-GVC would send, the best track
of every cell of a grid, and the tracks whose motion those do not explain. They are thinned by backward
elimination: the motion field that a decoder would build from the rest is compared with all tracks, and
what it would miss least goes first. (Adding greedily from nothing gets stuck: one point moves the whole
field, and a moving object needs its still surroundings to be sent too.) Which of the nested sets is sent
is decided on pictures: squared error of the reconstruction plus its bits at the price that a bit has in
the keyframes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdec.baseline import Anchor, frame
from refdec.motion import Motion
from refenc.keyframes import CodedPicture, halve_plane
from refenc.quantise import Quantiser
from tgv_format import trajectories
from tgv_format.clip import Clip
from tgv_format.picture import Picture, Plane
from tgv_format.trajectories import Trajectories

if TYPE_CHECKING:
    from refenc.tracking import Tracks

# The number of tracks grows with the picture, and the work on them with its square.
_TRACKED_SAMPLES = 1 << 19

# Every third of the nested sets is tried, then the neighbours of the best one.
_STRIDE = 3

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class GuidanceOptions:
    """How many points are considered and what they may cost.

    ``max_points`` sent per clip (0 sends none); ``cell``: grid of candidates, in luma samples;
    ``saturation``: motion error, in samples, beyond which a worse one hardly matters; ``bit_price``:
    relative to what a bit buys in the keyframes; ``precision``, ``lattice_log2``, ``path_price`` of the
    quantiser.
    """

    max_points: int = 160
    cell: int = 48
    saturation: float = 6.0
    bit_price: float = 0.6
    precision: int = 3
    lattice_log2: int = 4
    path_price: float = 2.0


@dataclass(frozen=True, eq=False)
class Analysis:
    """Dense tracks of a clip and what they mean.

    ``positions`` float32 [M, L+1, 2] in luma samples, ``visible`` bool [M, L+1], ``instance`` uint8 [M],
    ``weight`` float32 [M]: what a squared sample of motion error costs at the track.
    ``semantic``: indices of the tracks that T-GVC's sampling picks.
    """

    positions: NDArray[np.float32]
    visible: NDArray[np.bool_]
    instance: NDArray[np.uint8]
    weight: Floats
    semantic: Indices


def analyse(pictures: Sequence[Picture], seed: int) -> Analysis | None:
    """Track a clip's pictures, frames 0 to L; None when there is nothing between keyframes."""
    from refenc.importance import TgvcOptions, select_semantic_points
    from refenc.instances import segment_instances

    if len(pictures) < 3:
        return None
    tracks = _track([p.y for p in pictures])
    labels = segment_instances(tracks)
    semantic, ranks = select_semantic_points(
        tracks, labels, pictures[0], pictures[-1], TgvcOptions(seed=seed)
    )
    # Instance 0 is everything that T-GVC would not send.
    instance = np.zeros(len(labels), np.uint8)
    for label, rank in {(int(labels[n]), int(r)) for n, r in zip(semantic, ranks, strict=True)}:
        instance[labels == label] = min(rank + 1, 255)
    return Analysis(
        positions=tracks.positions,
        visible=tracks.visible,
        instance=instance,
        weight=_texture(pictures[0].y, tracks.positions[:, 0]),
        semantic=semantic,
    )


def _track(frames: Sequence[Plane]) -> Tracks:
    """Tracks of a clip; those of large pictures are found at half the size, again and again if need be."""
    from refenc.tracking import Tracks, track_opencv

    if frames[0].size <= _TRACKED_SAMPLES:
        return track_opencv(frames)
    small = _track([halve_plane(frame) for frame in frames])
    return Tracks(2 * small.positions + np.float32(0.5), small.visible)


def _texture(frame: Plane, points: NDArray[np.float32]) -> Floats:
    """Mean squared gradient around each point: the squared luma error that a sample of motion makes."""
    import cv2

    dx = cv2.Sobel(frame, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(frame, cv2.CV_32F, 0, 1, scale=1 / 8)
    energy = cv2.boxFilter(dx * dx + dy * dy, -1, (16, 16))
    x, y = (np.clip(np.rint(points[:, i]), 0, frame.shape[1 - i] - 1).astype(np.intp) for i in (0, 1))
    return energy[y, x] + np.float32(1)


class Choice:
    """The nested sets of tracks of one clip between two coded keyframes, and what each costs.

    A set is quantised, rated and reconstructed when it is first looked at, and only once.
    """

    def __init__(
        self,
        analysis: Analysis,
        pictures: Sequence[Picture],
        first: CodedPicture,
        last: CodedPicture,
        options: GuidanceOptions,
    ) -> None:
        self._size = width, height = pictures[0].width, pictures[0].height
        self._quantiser = Quantiser(
            analysis.positions,
            analysis.instance,
            width,
            height,
            options.precision,
            options.lattice_log2,
            options.path_price,
        )
        self._anchors = [Anchor.of(first.picture), Anchor.of(last.picture)]
        self._length = length = len(pictures) - 1
        self._times = sorted({max(1, min(length - 1, length * k // 6)) for k in (1, 3, 5)})
        self._originals = [pictures[t].y for t in self._times]
        ends = squared_error([pictures[0].y, pictures[-1].y], [first.picture.y, last.picture.y])
        bits = 8 * (len(first.payload) + len(last.payload))
        # Of an exponential rate-distortion curve: what one bit more for both keyframes takes from all
        # frames. Rounding to eight bits alone leaves 1/12 per sample.
        self._price = options.bit_price * length * (ends + width * height / 6) / bits
        self._sets = nested_sets(analysis, self._times, options)
        self._rated: dict[int, tuple[float, float, Trajectories | None]] = {}

    def best(self, price: float = 1.0) -> Trajectories | None:
        """The set of least cost, None where no point pays for itself; ``price`` multiplies that of bits."""

        def cost(index: int) -> float:
            distortion, bits, _ = self._rate(index)
            return distortion + price * self._price * bits

        coarse = min(range(0, len(self._sets) + _STRIDE, _STRIDE), key=cost)
        index = min(range(max(0, coarse - _STRIDE + 1), coarse + _STRIDE), key=cost)
        return self._rate(index)[2]

    def _rate(self, index: int) -> tuple[float, float, Trajectories | None]:
        """Squared error, bits and points of a set; beyond the last one there is no point at all."""
        index = min(index, len(self._sets))
        if index not in self._rated:
            points, bits = None, 0.0
            if index < len(self._sets):
                points = self._quantiser(self._sets[index])
                bits = trajectories.cost(points, *self._size)
            self._rated[index] = self._distortion(points), bits, points
        return self._rated[index]

    def _distortion(self, points: Trajectories | None) -> float:
        motion = Motion(Clip(self._length, points), *self._originals[0].shape)
        made = [frame(motion, self._anchors, t).y for t in self._times]
        error = squared_error(self._originals, made)
        return error * (self._length - 1) / len(self._times)


def choices(
    analysis: Analysis | None,
    pictures: Sequence[Picture],
    first: CodedPicture | None,
    last: CodedPicture | None,
    options: GuidanceOptions,
) -> Choice | None:
    """What could be sent for a clip; None where there is nothing between two keyframes to guide."""
    if analysis is None or first is None or last is None or not options.max_points:
        return None
    choice = Choice(analysis, pictures, first, last, options)
    # Rates the sets here, where clips are worked on side by side.
    choice.best()
    return choice


def squared_error(a: Sequence[Plane], b: Sequence[Plane]) -> float:
    """Sum of squared differences of luma planes."""
    return float(sum(np.square(p.astype(np.int32) - q).sum() for p, q in zip(a, b, strict=True)))


def nested_sets(analysis: Analysis, times: Sequence[int], options: GuidanceOptions) -> list[Indices]:
    """Ever smaller sets of tracks, each an eighth smaller than the one before, down to three."""
    problem = _Problem(analysis, times, options.saturation)
    kept = _candidates(problem, analysis, options)
    kernel = problem.kernel(kept)
    sets: list[Indices] = []
    while len(kept):
        if len(kept) <= options.max_points:
            sets.append(kept)
        if len(kept) <= 3:
            break
        stay = problem.thin(kept, kernel, max(1, len(kept) // 8), 2 * options.cell)
        kept, kernel = kept[stay], kernel[:, :, stay]
    return sets


def _candidates(problem: _Problem, analysis: Analysis, options: GuidanceOptions) -> Indices:
    cells = _best_of_cells(problem.middle, analysis.weight * analysis.visible.mean(1), options.cell)
    kept = np.union1d(cells, analysis.semantic).astype(np.intp)
    if not len(kept):
        return kept
    missed = problem.errors(kept)
    missed[kept] = 0
    return np.union1d(kept, _best_of_cells(problem.middle, missed, options.cell * 3 // 4)[: len(kept) // 2])


def _best_of_cells(points: Floats, score: Floats, size: int) -> Indices:
    """The point of the highest positive score in every square cell, best first."""
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > 0]
    _, first = np.unique(np.floor(points[order] / size), axis=0, return_index=True)
    return order[np.sort(first)]


class _Problem:
    """The decoder's motion field (clause 10.2) at the tracks, at a few times, towards both keyframes."""

    def __init__(self, analysis: Analysis, times: Sequence[int], saturation: float) -> None:
        positions = analysis.positions
        self.place = positions[:, times].transpose(1, 0, 2)
        self.middle = self.place[len(times) // 2]
        to_first = (positions[:, [0]] - positions[:, times]).transpose(1, 0, 2)
        to_last = (positions[:, [-1]] - positions[:, times]).transpose(1, 0, 2)
        self.motion = np.concatenate([to_first, to_last], 2)
        self.weight = analysis.weight * analysis.visible[:, times].T
        self.saturation = saturation**2

    def kernel(self, points: Indices) -> Floats:
        """[T, M, C]: weight of each of ``points`` at every track."""
        x, y = self.place[..., 0], self.place[..., 1]
        distance = np.square(x[:, :, None] - x[:, None, points]) + np.square(
            y[:, :, None] - y[:, None, points]
        )
        return 1 / (distance / 64 + 4) ** 3

    def errors(self, points: Indices) -> Floats:
        """[M]: what the field of ``points`` misses at every track."""
        kernel = self.kernel(points)
        field = kernel @ self.motion[:, points] / kernel.sum(2)[..., None]
        return self._cost(field - self.motion, self.weight).sum(0)

    def thin(self, points: Indices, kernel: Floats, count: int, apart: float) -> Indices:
        """Which of ``points`` stay when the ``count`` least missed go, no two of them neighbours.

        ``kernel`` is that of the points.
        """
        motion = self.motion[:, points]
        total = (kernel @ motion)[:, :, None]
        weights = kernel.sum(2)[:, :, None, None]
        rest = np.maximum(weights - kernel[..., None], np.float32(1e-12))
        field = (total - kernel[..., None] * motion[:, None]) / rest
        harm = self._cost(field - self.motion[:, :, None], self.weight[..., None]).sum((0, 1))
        place = self.middle[points]
        gone: list[int] = []
        for k in np.argsort(harm, kind="stable").tolist():
            if len(gone) == count:
                break
            if all(np.square(place[k] - place[g]).sum() > apart**2 for g in gone):
                gone.append(k)
        return np.delete(np.arange(len(points)), gone)

    def _cost(self, error: Floats, weight: Floats) -> Floats:
        """Weighted squared error, towards both keyframes, that levels off at the saturation."""
        # Adding the components is faster than summing over so short an axis.
        ax, ay, bx, by = (np.square(error[..., i]) for i in range(4))
        first, last, s = ax + ay, bx + by, self.saturation
        return weight * (first / (1 + first / s) + last / (1 + last / s))
