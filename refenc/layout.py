"""Where keyframes stand and how large they are: a period is coded in several ways, and the best is kept.

What is compared is the distortion (:mod:`refenc.distortion`) of all frames, made by the baseline
reconstruction from keyframes and the interpolation sections that serve each clip best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from refdec.sampling import Anchor
from refenc import interpolation
from refenc.clips import Source
from refenc.distortion import Distortion
from refenc.guidance import Guidance
from refenc.keyframes import CodedPicture
from refenc.rate import Keyframes
from tgv_format.interpolation import Interpolation, Mode, no_vectors
from tgv_format.picture import Picture

#: Distortion falls with the rate to this power, by LPIPS of clips between 5 and 10 kbit/s: of two choices
#: that differ in both, the one with the lower product is better.
EXPONENT = 0.38

#: Bytes of framing of a clip with its keyframe in a group, without its sections.
FRAMING = 4

# The distortion of a frame that nobody sees.
_UNSEEN = 0.01

# An excess over the budget that is none.
_TOLERANCE = 1.15

# By downscale_log2: how much worse than its distortion a period looks, by LPIPS of eight clips.
_BLURRED = (1.0, 1.0, 1.06)


@dataclass(frozen=True, eq=False)
class Interval:
    """A clip with the keyframes at its ends: ``first`` is that of the clip before unless it opens a scene,
    and ``last`` the same in a scene of one frame.

    ``distortion`` is that of its frames with ``guidance``, which is interpolation if anything.
    """

    source: Source
    first: CodedPicture
    last: CodedPicture
    guidance: Guidance = field(default_factory=Guidance)
    distortion: float = 0.0

    @property
    def bits(self) -> float:
        """Of the guidance."""
        return self.guidance.bits(self.first.picture.width, self.first.picture.height)

    @property
    def anchors(self) -> tuple[Anchor, Anchor]:
        return Anchor.of(self.first.picture), Anchor.of(self.last.picture)


@dataclass(frozen=True, eq=False)
class Layout:
    """A period with its ``keyframes`` coded at ``steps``, and its clips between them."""

    keyframes: Keyframes
    steps: list[int]
    intervals: list[Interval]
    distortion: Distortion | None

    @property
    def size(self) -> float:
        """Bytes, sections and framing included."""
        bits = sum(interval.bits for interval in self.intervals)
        return self.keyframes.size(self.steps) + FRAMING * len(self.intervals) + bits / 8

    def error(self, interval: Interval, frames: Sequence[Picture]) -> float:
        """The distortion of a clip's frames 1 to L."""
        if self.distortion is None:
            return 0.0
        begin = interval.source.first_frame - self.intervals[0].source.first_frame
        return self.distortion(begin, [interval.first.picture, *frames])

    def clip_cost(self, interval: Interval) -> float:
        """What the best guidance of a clip has the least of."""
        mean = 8 * (self.keyframes.size(self.steps) / len(self.intervals) + FRAMING)
        return float(interval.distortion * (mean + interval.bits) ** EXPONENT)

    def cost(self, budget: float | None) -> float:
        """What the best layout has the least of. Bytes that are left of ``budget`` are not saved."""
        frames = sum(interval.source.length for interval in self.intervals)
        distortion = _UNSEEN * frames + sum(interval.distortion for interval in self.intervals)
        size = max(self.size, budget or 0.0)
        return float(_BLURRED[self.downscale_log2] * distortion * size**EXPONENT)

    @property
    def downscale_log2(self) -> int:
        """Of the first keyframe."""
        return self.keyframes.codec.ladder[self.steps[0]][0]


def ranked(layouts: Iterable[Layout], budget: float | None) -> list[Layout]:
    """Those within ``budget`` bytes by their cost, then the others by their size."""

    def rank(layout: Layout) -> tuple[bool, float]:
        excess = budget is not None and layout.size > budget * _TOLERANCE
        return excess, layout.size if excess else layout.cost(budget)

    return sorted(layouts, key=rank)


def keyframe_pictures(clips: Iterable[Source]) -> list[Picture]:
    """The pictures of a period's clips that become keyframes, in order."""
    pictures: list[Picture] = []
    for clip in clips:
        pictures += clip.pictures[: clip.opens_scene] + clip.pictures[1:][-1:]
    return pictures


def between(
    clips: Iterable[Source], coded: Iterable[CodedPicture], before: CodedPicture | None
) -> list[Interval]:
    """The clips between the ``coded`` keyframes of a period; ``before`` is the one before it."""
    rest = iter(coded)
    intervals = []
    for clip in clips:
        first = next(rest) if clip.opens_scene or before is None else before
        before = next(rest) if clip.length else first
        intervals.append(Interval(clip, first, before))
    return intervals


def interpolated(interval: Interval, layout: Layout) -> Interval:
    """With the interpolation that serves the clip best without corrections, or with none at all."""
    if not interval.source.length:
        return interval
    found = interpolation.plain(interval.source.pictures, *interval.anchors)
    return _best_of(found, interval, layout)


def corrected(interval: Interval, layout: Layout) -> Interval:
    """With the corrections of the motion that serve the clip best, if any."""
    section = interval.guidance.interpolation
    if section is None or section.mode == Mode.GUIDED:
        return interval
    found = interpolation.corrected(interval.source.pictures, *interval.anchors, section.sharp)
    return _best_of(found, interval, layout, interval)


def _best_of(
    found: Iterable[tuple[Guidance, list[Picture]]], interval: Interval, layout: Layout, *others: Interval
) -> Interval:
    rated = [
        replace(interval, guidance=guidance, distortion=layout.error(interval, frames))
        for guidance, frames in found
    ]
    chosen = min([*others, *rated], key=layout.clip_cost)
    section, dropped = chosen.guidance.interpolation, {}
    if section is None or (section.mode == Mode.GUIDED and not section.sharp):
        section, dropped["interpolation"] = None, "nothing moves, and nothing has to be sharpened"
    if chosen.guidance.ground.flow_tokens is None:
        dropped["flow_tokens"] = "no correction pays"
    return replace(chosen, guidance=replace(chosen.guidance, interpolation=section, dropped=dropped))


def guided(interval: Interval, guidance: Guidance, layout: Layout) -> Guidance:
    """``guidance``, whose frames are sharpened, or interpolation instead of it where that is better."""
    sent, originals = guidance.sections, interval.source.pictures
    if not sent:
        return replace(interval.guidance, dropped={**guidance.dropped, **interval.guidance.dropped})
    ends = [interval.first.picture, interval.last.picture]
    sharp = interpolation.sharpness(originals[:: len(originals) - 1], ends)
    if sharp:
        guidance = replace(guidance, interpolation=Interpolation(Mode.GUIDED, sharp, no_vectors()))
    frames = interpolation.rendered(guidance.clip(interval.source.length), *interval.anchors)
    other = replace(interval, guidance=guidance, distortion=layout.error(interval, frames))
    chosen, left = sorted((interval, other), key=layout.clip_cost)
    gain = left.distortion / chosen.distortion - 1 if chosen.distortion else 0.0
    said = f"{left.bits - chosen.bits:+.0f} bits for {gain:+.1%} of distortion"
    dropped = {**guidance.dropped, **interval.guidance.dropped, **dict.fromkeys(left.guidance.sections, said)}
    names = dropped.keys() - chosen.guidance.sections
    return replace(chosen.guidance, dropped={name: dropped[name] for name in sorted(names)})


def lay_out(
    clips: Sequence[Source],
    keyframes: Keyframes,
    steps: Sequence[int] | float,
    before: CodedPicture | None,
    distortion: Distortion | None,
) -> Layout:
    """Code the keyframes of a period's clips at these steps, or with so many bytes for the whole period.

    Motion is not corrected yet. Without ``distortion`` there is no interpolation at all.
    """
    if isinstance(steps, float):
        # A section takes a byte or two where nothing has to be corrected.
        steps = keyframes.fit(steps - (FRAMING + 1) * len(clips))
    intervals = between(clips, keyframes.at(steps), before)
    layout = Layout(keyframes, list(steps), intervals, distortion)
    if distortion is None:
        return layout
    return replace(layout, intervals=[interpolated(interval, layout) for interval in intervals])


def correct(layout: Layout) -> Layout:
    """The layout with corrections of the motion where they pay."""
    return replace(layout, intervals=[corrected(interval, layout) for interval in layout.intervals])


def evenly_sharp(layout: Layout) -> Layout:
    """The layout with one strength of sharpening for all its interpolated clips, and one for its fades.

    That looks steadier, and sections that are equal cost nothing in a group.
    """
    sections = [interval.guidance.interpolation for interval in layout.intervals]
    means = {}
    for fades in (False, True):
        sharp = [s.sharp for s in sections if s is not None and (s.mode == Mode.GUIDED) == fades]
        means[fades] = round(sum(sharp) / len(sharp)) if sharp else 0
    intervals = []
    for interval, section in zip(layout.intervals, sections, strict=True):
        if section is not None:
            section = replace(section, sharp=means[section.mode == Mode.GUIDED])
            interval = replace(interval, guidance=replace(interval.guidance, interpolation=section))
        intervals.append(interval)
    return replace(layout, intervals=intervals)
