"""What guidance is sent: the encoder's closed loop with the baseline reconstruction.

Candidates are the tracks of the semantically important instances that T-GVC would send, the best track
of every cell of a grid, and the tracks whose motion those do not explain. They are thinned by backward
elimination: the motion field that a decoder would build from the rest is compared with all tracks, and
what it would miss least goes first. (Adding greedily from nothing gets stuck: one point moves the whole
field, and a moving object needs its still surroundings to be sent too.) Which of the nested sets is sent
is decided on pictures: squared error of the reconstruction plus its bits at the price that a bit has in
the keyframes. Flow tokens, camera poses and masks are tried with and without points, and likewise sent
where that pays. Whether interpolation by the decoder itself is better than all of them is decided elsewhere
(:mod:`refenc.layout`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from refdec.baseline import frame
from refdec.motion import Motion
from refdec.sampling import Anchor
from refenc import smooth
from refenc.backends.select import DEFAULT, Backends
from refenc.importance import TgvcOptions, select_semantic_points
from refenc.keyframes import CodedPicture
from refenc.quantise import Quantiser
from refenc.smooth import Ground, texture
from tgv_format import camera_poses, flow_tokens, interpolation, masks, trajectories
from tgv_format.clip import Clip
from tgv_format.interpolation import Interpolation
from tgv_format.masks import Masks
from tgv_format.picture import Picture, Plane
from tgv_format.text import Text
from tgv_format.trajectories import Trajectories

# Every third of the nested sets is tried, then the neighbours of the best one.
_STRIDE = 3

_SELECTION = TgvcOptions()

#: Kinds of guidance, and the sections that each may send.
KINDS = {
    "trajectory": ("trajectories",),
    "flow": ("flow_tokens",),
    "scene": ("camera_poses", "masks"),
    "interpolation": ("interpolation", "flow_tokens"),
}

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class GuidanceOptions:
    """What is considered and what it may cost.

    ``kinds``: any of :data:`KINDS`; ``flow`` are flow tokens, ``scene`` are camera poses and masks. With
    ``interpolation`` frames are sharpened, too.
    ``max_points`` sent per clip (0 sends none); ``cell``: grid of candidates, in luma samples;
    ``saturation``: motion error, in samples, beyond which a worse one hardly matters; ``bit_price``:
    relative to what a bit buys in the keyframes; ``precision``, ``lattice_log2``, ``path_price`` of the
    quantiser.
    """

    kinds: frozenset[str] = frozenset({"trajectory"})
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
    ``semantic``: indices of the tracks that T-GVC's sampling picks. ``grounds``: smooth motion to try, none
    at first; ``masks`` to try.
    """

    positions: NDArray[np.float32]
    visible: NDArray[np.bool_]
    instance: NDArray[np.uint8]
    weight: Floats
    semantic: Indices
    grounds: list[Ground] = field(default_factory=list)
    masks: Masks | None = None


@dataclass(frozen=True, eq=False)
class Guidance:
    """The sections to send for a clip, and for those left out what they would have cost and gained."""

    ground: Ground = field(default_factory=Ground)
    trajectories: Trajectories | None = None
    interpolation: Interpolation | None = None
    dropped: Mapping[str, str] = field(default_factory=dict)

    def clip(self, length: int, text: Text | None = None) -> Clip:
        """The clip unit."""
        ground = self.ground
        sections = ground.flow_tokens, ground.camera_poses, ground.masks
        return Clip(length, self.trajectories, text, *sections, self.interpolation)

    @property
    def sections(self) -> set[str]:
        """The names of those that are there."""
        all_ = {
            **vars(self.ground),
            "trajectories": self.trajectories,
            "interpolation": self.interpolation,
        }
        return {name for name, value in all_.items() if value is not None}

    def bits(self, width: int, height: int) -> float:
        """What the sections take, within a byte or so each."""
        bits = 0.0
        if self.ground.flow_tokens is not None:
            bits += flow_tokens.cost(self.ground.flow_tokens)
        if self.ground.camera_poses is not None:
            bits += camera_poses.cost(self.ground.camera_poses, width, height)
        if self.ground.masks is not None:
            bits += masks.cost(self.ground.masks)
        if self.trajectories is not None:
            bits += trajectories.cost(self.trajectories, width, height)
        if self.interpolation is not None:
            bits += interpolation.cost(self.interpolation)
        return bits


def analyse(
    pictures: Sequence[Picture],
    seed: int,
    kinds: frozenset[str] = frozenset(),
    backends: Backends = DEFAULT,
    selection: TgvcOptions = _SELECTION,
) -> Analysis | None:
    """Track a clip's pictures, frames 0 to L; None when there is nothing between keyframes."""
    from refenc.instances import segment_instances

    if len(pictures) < 3:
        return None
    tracks = backends.tracker(pictures)
    labels = segment_instances(tracks)
    semantic, ranks = select_semantic_points(
        tracks, labels, pictures[0], pictures[-1], replace(selection, seed=seed), backends.semantics
    )
    # Instance 0 is everything that T-GVC would not send.
    instance = np.zeros(len(labels), np.uint8)
    for label, rank in {(int(labels[n]), int(r)) for n, r in zip(semantic, ranks, strict=True)}:
        instance[labels == label] = min(rank + 1, 255)
    flow, scene = "flow" in kinds and backends.tokenizer is None, "scene" in kinds
    return Analysis(
        positions=tracks.positions,
        visible=tracks.visible,
        instance=instance,
        weight=_sampled(texture(pictures[0].y), tracks.positions[:, 0]),
        semantic=semantic,
        grounds=smooth.grounds(pictures, tracks, flow, scene, backends.poses, backends.flow),
        masks=smooth.labels(pictures, tracks, labels, backends.masks) if scene else None,
    )


def _sampled(plane: Floats, points: Floats) -> Floats:
    """The values of ``plane`` nearest to ``points``."""
    x, y = (np.clip(np.rint(points[:, i]), 0, plane.shape[1 - i] - 1).astype(np.intp) for i in (0, 1))
    return plane[y, x]


class Choice:
    """What can be sent for one clip between two coded keyframes: a ground, and with it one of nested sets of
    tracks.

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
        self._analysis, self._options = analysis, options
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
        self._points = options.max_points > 0 and "trajectory" in options.kinds
        self._sets: dict[Ground, list[Indices]] = {}
        self._rated: dict[tuple[Ground, int], _Rated] = {}
        self._with_masks: dict[Ground, Ground] = {}

    def best(self, price: float = 1.0) -> Guidance:
        """What costs least, nothing where nothing pays for itself; ``price`` multiplies that of bits."""
        price *= self._price
        found = [self._best_set(ground, price) for ground in self._shortlist(price)]
        chosen = min(found, key=lambda rated: rated.cost(price))
        if self._points and self._analysis.masks is not None:
            found.append(self._best_set(self._masked(chosen.guidance.ground), price))
            chosen = min(chosen, found[-1], key=lambda rated: rated.cost(price))
        return replace(chosen.guidance, dropped=self._dropped(chosen, found, price))

    def _of_all(self, error: float) -> float:
        """The squared error of all frames between the keyframes, by that of those that are looked at."""
        return error * (self._length - 1) / len(self._times)

    def _shortlist(self, price: float) -> list[Ground]:
        """Of every combination of sections the ground that costs least without points."""
        best: dict[tuple[bool, bool], Ground] = {}
        for ground in self._analysis.grounds:
            kind = ground.flow_tokens is not None, ground.camera_poses is not None
            known = best.get(kind)
            if known is None or self._rate(ground, None).cost(price) < self._rate(known, None).cost(price):
                best[kind] = ground
        return list(best.values())

    def _masked(self, ground: Ground) -> Ground:
        """``ground`` with the masks, which have an effect on points alone."""
        if ground not in self._with_masks:
            self._with_masks[ground] = replace(ground, masks=self._analysis.masks)
        return self._with_masks[ground]

    def _best_set(self, ground: Ground, price: float) -> _Rated:
        """The ground with its cheapest set of points, or with none."""
        if not self._points:
            return self._rate(ground, 0)
        if ground not in self._sets:
            motion = Motion(Guidance(ground).clip(self._length), *self._size[::-1])
            self._sets[ground] = nested_sets(self._analysis, motion, self._times, self._options)
        count = len(self._sets[ground])

        def cost(index: int) -> float:
            return self._rate(ground, index).cost(price)

        coarse = min(range(0, count + _STRIDE, _STRIDE), key=cost)
        return self._rate(ground, min(range(max(0, coarse - _STRIDE + 1), coarse + _STRIDE), key=cost))

    def _rate(self, ground: Ground, index: int | None) -> _Rated:
        """A ground with one of its sets; beyond the last one, and at None, there is no point at all."""
        sets = self._sets.get(ground, [])
        if index is None or index >= len(sets):
            index = -1
        if (ground, index) not in self._rated:
            points = self._quantiser(sets[index]) if index >= 0 else None
            guidance = Guidance(ground, points)
            motion = Motion(guidance.clip(self._length), *self._size[::-1])
            made = [frame(motion, self._anchors, t).y for t in self._times]
            error = self._of_all(squared_error(self._originals, made))
            self._rated[ground, index] = _Rated(guidance, error, guidance.bits(*self._size))
        return self._rated[ground, index]

    def _dropped(self, chosen: _Rated, found: list[_Rated], price: float) -> dict[str, str]:
        """For every section that could have been sent and is not, why."""
        without = {"trajectories": "no set of points pays", "masks": "no object, or no points to guide"}
        dropped: dict[str, str] = {}
        kinds = self._options.kinds - {"interpolation"}
        for name in [name for kind in KINDS if kind in kinds for name in KINDS[kind]]:
            if name in chosen.guidance.sections:
                continue
            having = [rated for rated in found if name in rated.guidance.sections]
            if not having:
                dropped[name] = without.get(name, "nothing moves")
                continue
            other = min(having, key=lambda rated: rated.cost(price))
            gain = 10 * np.log10((chosen.error + 1) / (other.error + 1))
            dropped[name] = f"{other.bits - chosen.bits:+.0f} bits for {gain:+.2f} dB"
        return dropped


@dataclass(frozen=True, eq=False)
class _Rated:
    """Guidance with its squared error, of all samples between the keyframes, and bits."""

    guidance: Guidance
    error: float
    bits: float

    def cost(self, price: float) -> float:
        return self.error + price * self.bits


def choices(
    analysis: Analysis | None,
    pictures: Sequence[Picture],
    first: CodedPicture | None,
    last: CodedPicture | None,
    options: GuidanceOptions,
) -> Choice | None:
    """What could be sent for a clip; None where there is nothing between two keyframes to guide."""
    if analysis is None or first is None or last is None:
        return None
    choice = Choice(analysis, pictures, first, last, options)
    # Rates the sets here, where clips are worked on side by side.
    choice.best()
    return choice


def squared_error(a: Sequence[Plane], b: Sequence[Plane]) -> float:
    """Sum of squared differences of luma planes."""
    return float(sum(np.square(p.astype(np.int32) - q).sum() for p, q in zip(a, b, strict=True)))


def nested_sets(
    analysis: Analysis, motion: Motion, times: Sequence[int], options: GuidanceOptions
) -> list[Indices]:
    """Ever smaller sets of tracks, each an eighth smaller than the one before, down to three.

    ``motion`` is that of the other sections.
    """
    problem = _Problem(analysis, motion, times, options.saturation)
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

    def __init__(self, analysis: Analysis, motion: Motion, times: Sequence[int], saturation: float) -> None:
        positions = analysis.positions
        self.place = positions[:, times].transpose(1, 0, 2)
        self.middle = self.place[len(times) // 2]
        to_first = (positions[:, [0]] - positions[:, times]).transpose(1, 0, 2)
        to_last = (positions[:, [-1]] - positions[:, times]).transpose(1, 0, 2)
        self.motion = np.concatenate([to_first, to_last], 2)
        for i, t in enumerate(times):
            place = np.rint(16 * self.place[i]).astype(np.int64)
            for side in (0, 1):
                known = motion.smooth(t, bool(side), place)
                if known is not None:
                    self.motion[i, :, 2 * side : 2 * side + 2] -= known.astype(np.float32) / 16
        self.label = motion.labels_of(np.rint(16 * positions).astype(np.int64))
        self.weight = analysis.weight * analysis.visible[:, times].T
        self.saturation = saturation**2
        # Of the smooth motion, in units of the kernel; where there is none, against a division by zero.
        self.rest = np.float32(max(motion.rest / 2**30, 1e-30))

    def kernel(self, points: Indices) -> Floats:
        """[T, M, C]: weight of each of ``points`` at every track."""
        x, y = self.place[..., 0], self.place[..., 1]
        distance = np.square(x[:, :, None] - x[:, None, points]) + np.square(
            y[:, :, None] - y[:, None, points]
        )
        kernel = 1 / (distance / 64 + 4) ** 3
        if self.label is not None:
            kernel *= self.label[:, None] == self.label[points]
        return kernel

    def errors(self, points: Indices) -> Floats:
        """[M]: what the field of ``points`` misses at every track."""
        kernel = self.kernel(points)
        field = kernel @ self.motion[:, points] / (kernel.sum(2)[..., None] + self.rest)
        return self._cost(field - self.motion, self.weight).sum(0)

    def thin(self, points: Indices, kernel: Floats, count: int, apart: float) -> Indices:
        """Which of ``points`` stay when the ``count`` least missed go, no two of them neighbours.

        ``kernel`` is that of the points.
        """
        motion = self.motion[:, points]
        total = (kernel @ motion)[:, :, None]
        weights = kernel.sum(2)[:, :, None, None]
        rest = np.maximum(weights - kernel[..., None], np.float32(1e-12)) + self.rest
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
