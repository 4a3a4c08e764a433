"""The reference encoder: pictures in, a TGV stream out, in memory bounded by a random-access period."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import groupby, repeat
from typing import Any

import cv2

from refenc.backends.select import Backends
from refenc.clips import Source, divide, split, split_by_meaning
from refenc.distortion import Distortion
from refenc.guidance import Choice, Guidance, GuidanceOptions, analyse, choices
from refenc.importance import TgvcOptions
from refenc.keyframes import CODECS, CodedPicture, KeyframeCodec
from refenc.layout import (
    FRAMING,
    Interval,
    Layout,
    between,
    correct,
    evenly_sharp,
    guided,
    keyframe_pictures,
    lay_out,
    ranked,
)
from refenc.rate import Budget, Keyframes
from refenc.segmentation import CutDetector, SimilarityCuts, choose_keyframe
from tgv_format import clip
from tgv_format.flow_tokens import FlowTokens
from tgv_format.generator_hint import GeneratorHint
from tgv_format.keyframe import Role
from tgv_format.picture import Picture
from tgv_format.text import Text
from tgv_format.writer import Writer

_PERIOD_FRAMES = 240
_PERIOD_BYTES = 1 << 27
_END_BYTES = 15
_UNIT_FRAMING = 17  # bytes of a clip and a keyframe that are not in a group
_GROUP_SECONDS = 2.0  # what a player has to wait for, and what one lost unit costs
_LONGEST = 29  # frames between keyframes that the published generators make at a time
_EXPECTED_GUIDANCE = 0.2  # share of a period, before it is known
# Where motion would take more than this share of a period, the price of its bits rises, so that keyframes
# keep enough to be worth moving.
_MOST_GUIDANCE = 0.35
_PRICES = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Preset:
    """How much the encoder tries: ``intervals`` between keyframes, in seconds, with corrections of the motion
    in the best ``corrected`` ones; other ``sizes`` of keyframes than the one that the quality asks for;
    the presets of SVT-AV1 with which to try (``trial``) and to code in the end (``final``); ``kinds`` of
    guidance by default."""

    intervals: tuple[float, ...]
    corrected: int
    sizes: bool
    trial: int
    final: int
    kinds: frozenset[str]


#: By name; benchmarks/rd.py measures what each gains and how long it takes.
PRESETS = {
    "fast": Preset((0.24, 0.48), 1, False, 6, 6, frozenset({"interpolation"})),
    "medium": Preset((0.16, 0.24, 0.32, 0.48, 0.96), 2, True, 4, 0, frozenset({"interpolation"})),
    "slow": Preset(
        (0.12, 0.16, 0.24, 0.32, 0.48, 0.96), 6, True, 2, 0, frozenset({"trajectory", "interpolation"})
    ),
}


@dataclass(frozen=True)
class EncoderOptions:
    """``bitrate`` in bits per second, None for constant quality at step ``step`` of the ladder of
    ``codec``, or at its default one.

    ``interval`` frames between keyframes, None for what is best; ``random_access`` seconds between those that
    depend on none before, or little more; ``caption`` goes with the first clip; ``seed`` is that of
    clustering; ``workers`` threads. ``backends`` analyse, ``selection`` says which points they choose.

    ``cut_similarity``: as T-GVC does, a scene begins where consecutive frames are less similar than that;
    None looks at where their structure is found, too. ``semantic_keyframes``: as T-GVC does, the keyframe
    of every half ``interval`` is that of least similarity with the others; they are evenly spaced without.
    """

    bitrate: float | None = None
    codec: KeyframeCodec = CODECS["av1-sequence"]
    step: int | None = None
    interval: int | None = None
    preset: Preset = PRESETS["medium"]
    random_access: float = 5.0
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    caption: str | None = None
    hint: GeneratorHint | None = None
    seed: int = 0
    workers: int = 1
    backends: Backends = field(default_factory=Backends)
    selection: TgvcOptions = field(default_factory=TgvcOptions)
    cut_similarity: float | None = None
    semantic_keyframes: bool = False


@dataclass(frozen=True)
class CodedClip:
    """What was spent on one clip, for the report.

    ``bytes`` by what they are spent on; ``dropped``: sections that were considered and not sent, and what
    the best choice with them would have cost and gained.
    """

    first_frame: int
    frames: int
    keyframe_bytes: int
    points: int
    total_bytes: int
    bytes: dict[str, int]
    dropped: dict[str, str]


def encode(
    pictures: Iterable[Picture],
    writer: Writer,
    options: EncoderOptions,
    progress: Callable[[int], Any] = lambda frames: None,
) -> Iterator[CodedClip]:
    """Encode all ``pictures`` to ``writer`` and finish it; yields what each clip cost.

    ``progress`` is told the number of frames done at a time. ValueError when there are no pictures, or
    when an option exceeds the level of the sequence.
    """
    limits = writer.header.limits
    if options.interval is not None and not 1 <= options.interval <= limits.clip_frames:
        raise ValueError(f"keyframe interval {options.interval} is not in 1..{limits.clip_frames}")
    ladder = options.codec.ladder
    if options.step is not None and not 0 <= options.step < len(ladder):
        raise ValueError(f"quality {options.step} is not in 0..{len(ladder) - 1}")
    options.codec.require()
    cv2.setNumThreads(1)
    if options.hint is not None:
        writer.generator_hint(options.hint)
    if options.backends.tokenizer is not None and "flow" in options.guidance.kinds:
        writer.generator_hint(options.backends.tokenizer.hint)
    budget = None
    if options.bitrate is not None:
        budget = Budget(options.bitrate / float(writer.header.frame_rate))
        budget.balance -= writer.size + _END_BYTES
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        if options.guidance.kinds - {"interpolation"}:
            # Takes a second or two, which is over when the first pictures have been read.
            pool.submit(import_module, "sklearn.cluster")
        state = _State(writer, options, pool, budget)
        for period in divide(pictures, state.longest, _cuts(options).push):
            for coded in state.period(period):
                yield coded
                progress(coded.frames)
    if not writer.frames:
        raise ValueError("there are no pictures to encode")
    writer.finish()


def _cuts(options: EncoderOptions) -> CutDetector | SimilarityCuts:
    if options.cut_similarity is None:
        return CutDetector()
    return SimilarityCuts(options.backends.semantics, options.cut_similarity)


@dataclass
class _State:
    """What goes from period to period: the last keyframe and the budget."""

    writer: Writer
    options: EncoderOptions
    pool: ThreadPoolExecutor
    budget: Budget | None
    last: CodedPicture | None = None

    @property
    def longest(self) -> int:
        """Frames of a period at most; how many depends on options and the size of pictures alone."""
        header, options = self.writer.header, self.options
        in_memory = _PERIOD_BYTES // (header.width * header.height * 3 // 2)
        frames = min(int(options.random_access * float(header.frame_rate)), _PERIOD_FRAMES, in_memory)
        # Whole intervals, so that they are of one length.
        interval = max(self._intervals)
        return max(interval, frames // interval * interval)

    @property
    def _framing(self) -> int:
        """Bytes of framing of a clip with its keyframe."""
        return FRAMING if self.options.codec.predictive else _UNIT_FRAMING

    @property
    def _intervals(self) -> list[int]:
        """Intervals between keyframes to try."""
        options, rate = self.options, float(self.writer.header.frame_rate)
        if options.interval is not None:
            return [options.interval]
        evenly = options.codec.predictive and not options.semantic_keyframes
        if not evenly or "interpolation" not in options.guidance.kinds:
            return [max(2, min(_LONGEST, round(rate)))]
        return sorted({max(2, min(_LONGEST, round(seconds * rate))) for seconds in options.preset.intervals})

    def period(self, source: Source) -> Iterator[CodedClip]:
        """Code one period."""
        frames = source.length + source.opens_scene
        granted = None if self.budget is None else self.budget.grant(frames)
        laid = evenly_sharp(self._laid_out(source, granted))
        intervals, guidance = laid.intervals, self._guidance(laid, granted)
        final, steps = self._final(laid.keyframes), laid.steps
        if granted is not None:
            sections = map(self._sections, guidance, (i.source.length for i in intervals))
            # In a group, what stays the same is not said again.
            spent = sum(len(one) for one, _ in groupby(sections))
            steps = final.fit(granted - spent - self._framing * len(intervals), steps[0])
        intervals = between([i.source for i in intervals], final.at(steps), self.last)
        before = self.writer.size
        sent = [replace(interval, guidance=g) for interval, g in zip(intervals, guidance, strict=True)]
        for group in _groups(sent, _GROUP_SECONDS * float(self.writer.header.frame_rate)):
            yield from self._write(group)
        if self.budget is not None:
            self.budget.settle(frames, self.writer.size - before)
        self.last = intervals[-1].last

    def _final(self, keyframes: Keyframes) -> Keyframes:
        """Those that are sent, not yet coded."""
        preset = self.options.preset
        if not self.options.codec.predictive or preset.trial == preset.final:
            return keyframes
        final = replace(keyframes.codec, code=self.options.codec.at_preset(preset.final).code)
        return Keyframes(keyframes.groups, final, keyframes.mapper)

    def _laid_out(self, source: Source, granted: float | None) -> Layout:
        """The period with keyframes in the best places, and with interpolation if it is asked for."""
        options = self.options
        distortion = None
        if "interpolation" in options.guidance.kinds:
            distortion = Distortion(source.pictures)
        step = options.step
        if step is None:
            step = options.codec.ladder.index(options.codec.default)

        def attempt(interval: int, codec: KeyframeCodec) -> Layout:
            clips = self._split(source, interval)
            pictures = keyframe_pictures(clips)
            groups = [pictures] if codec.predictive else [[picture] for picture in pictures]
            keyframes = Keyframes(groups, codec, lambda *a: list(map(*a)))
            steps = [step] * len(groups) if granted is None else granted * self._keyframe_share
            return lay_out(clips, keyframes, steps, self.last, distortion)

        def corrected(layouts: Iterable[Layout]) -> list[Layout]:
            return ranked(self.pool.map(correct, layouts) if distortion else layouts, granted)

        intervals, codec = self._intervals, options.codec.at_preset(options.preset.trial)
        layouts = list(self.pool.map(attempt, intervals, repeat(codec)))
        found = corrected(ranked(layouts, granted)[: options.preset.corrected])[0]
        if granted is None or not options.preset.sizes or not options.codec.sizes:
            return found
        index = next(i for i, layout in enumerate(layouts) if layout.keyframes is found.keyframes)
        sizes = [k for k in options.codec.sizes if abs(k - found.downscale_log2) <= 1]
        others = self.pool.map(attempt, repeat(intervals[index]), map(codec.of_size, sizes))
        other = ranked([layouts[index], *others], granted)[0]
        return found if other is layouts[index] else ranked([found, correct(other)], granted)[0]

    def _split(self, source: Source, interval: int) -> list[Source]:
        if not self.options.semantic_keyframes:
            return split(source, interval)
        semantics = self.options.backends.semantics

        def choose(span: Sequence[Picture]) -> int:
            return choose_keyframe([semantics.describe(p) for p in span], 0, len(span) - 1, semantics)

        return split_by_meaning(source, interval, choose)

    @property
    def _keyframe_share(self) -> float:
        """Of the budget, before it is known what guidance takes."""
        return 1.0 if "interpolation" in self.options.guidance.kinds else 1 - _EXPECTED_GUIDANCE

    def _guidance(self, laid: Layout, granted: float | None) -> list[Guidance]:
        """What is sent for every clip besides keyframes."""
        options, intervals = self.options.guidance, laid.intervals
        if options.kinds == {"interpolation"}:
            return [interval.guidance for interval in intervals]
        clips = [interval.source.pictures for interval in intervals]
        own = self.options
        settings = map(repeat, (own.seed, options.kinds, own.backends, own.selection))
        analyses = list(self.pool.map(analyse, clips, *settings))
        firsts, lasts = [i.first for i in intervals], [i.last for i in intervals]
        found = list(self.pool.map(choices, analyses, clips, firsts, lasts, repeat(options)))
        tokens = list(map(self._tokens, intervals))
        for price in _PRICES:
            chosen = self._best(found, tokens, price)
            spent = sum(
                len(self._sections(g, i.source.length)) for g, i in zip(chosen, intervals, strict=True)
            )
            if granted is None or spent <= _MOST_GUIDANCE * granted:
                break
        if laid.distortion is None:
            return chosen
        return list(map(_with_tokens, self.pool.map(guided, intervals, chosen, repeat(laid)), tokens))

    def _caption(self, source: Source) -> str | None:
        captioner = self.options.backends.captioner
        if self.options.caption is None and captioner is not None:
            return captioner(source.pictures[0])
        return self.options.caption

    def _tokens(self, interval: Interval) -> FlowTokens | None:
        """Learned flow tokens of a clip: they are for generators, whatever the baseline gains."""
        tokenizer = self.options.backends.tokenizer
        if tokenizer is None or "flow" not in self.options.guidance.kinds or not interval.source.length:
            return None
        return tokenizer.tokens(interval.source.pictures, interval.first.picture)

    def _best(
        self, found: list[Choice | None], tokens: list[FlowTokens | None], price: float
    ) -> list[Guidance]:
        chosen = self.pool.map(lambda choice: choice.best(price) if choice else Guidance(), found)
        return list(map(_with_tokens, chosen, tokens))

    def _sections(self, guidance: Guidance, length: int) -> bytes:
        """The sections of a clip of ``length`` frames, with their headers."""
        return clip.encode(guidance.clip(length), self.writer.header)[1:] if length else b""

    def _write(self, group: list[Interval]) -> Iterator[CodedClip]:
        """Write what :func:`_groups` puts together."""
        writer, number = self.writer, self.writer.frames
        before = writer.bytes_by_part.copy()
        words = None if number else self._caption(group[0].source)
        caption = None if words is None else Text(words)
        if group[0].source.opens_scene:
            writer.keyframe(group[0].first.keyframe(Role.LEADING, number))
            number += 1
        pairs = []
        for interval in group:
            length = interval.source.length
            if length:
                number += length
                described = interval.guidance.clip(length, caption)
                pairs.append((interval.last.keyframe(Role.TRAILING, number - 1), described))
                caption = None
        spent = [writer.bytes_by_part - before]
        if pairs and group[0].last.dependent:
            alone, *others = writer.group(pairs)
            spent = [spent[0] + alone, *others]
        elif pairs:
            writer.keyframe(pairs[0][0])
            writer.clip(pairs[0][1])
            spent = [writer.bytes_by_part - before]
        for interval, cost in zip(group, spent, strict=True):
            points = interval.guidance.trajectories
            yield CodedClip(
                first_frame=interval.source.first_frame,
                frames=interval.source.length + interval.source.opens_scene,
                keyframe_bytes=cost["keyframes"],
                points=points.count if points is not None else 0,
                total_bytes=cost.total(),
                bytes=dict(sorted(cost.items())),
                dropped=dict(interval.guidance.dropped),
            )


def _with_tokens(guidance: Guidance, tokens: FlowTokens | None) -> Guidance:
    """``guidance`` with learned tokens, if there are any, instead of its own."""
    if tokens is None:
        return guidance
    return replace(guidance, ground=replace(guidance.ground, flow_tokens=tokens))


def _groups(intervals: Iterable[Interval], most: float) -> Iterator[list[Interval]]:
    """Intervals that one group can hold, up to ``most`` frames; others are alone.

    Dependent keyframes are in groups even when they are alone: with a CRC that is less than two units.
    """
    group: list[Interval] = []
    for interval in intervals:
        fits = (
            group
            and not interval.source.opens_scene
            and interval.source.length == group[0].source.length
            and (len(group) + 1) * interval.source.length <= most
            and group[0].last.dependent
            and interval.last.dependent
        )
        if group and not fits:
            yield group
            group = []
        group.append(interval)
    if group:
        yield group
