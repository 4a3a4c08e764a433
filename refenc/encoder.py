"""The reference encoder: pictures in, a TGV stream out, in memory bounded by a window of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from itertools import repeat
from typing import Any

import cv2

from refenc.clips import Source, divide, periods
from refenc.guidance import Choice, Guidance, GuidanceOptions, analyse, choices
from refenc.keyframes import CODECS, CodedPicture, KeyframeCodec
from refenc.rate import Budget, Keyframes
from refenc.segmentation import CutDetector
from tgv_format import clip
from tgv_format.generator_hint import GeneratorHint
from tgv_format.keyframe import Role
from tgv_format.picture import Picture
from tgv_format.text import Text
from tgv_format.writer import Writer

_WINDOW_FRAMES = 240
_WINDOW_BYTES = 1 << 27
_END_BYTES = 15
_UNIT_OVERHEAD = 17  # bytes of framing of a keyframe and a clip
_EXPECTED_GUIDANCE = 0.2  # share of a window, before it is known
# Where motion would take more than this share of a window, the price of its bits rises, so that keyframes
# keep enough to be worth moving.
_MOST_GUIDANCE = 0.35
_PRICES = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class EncoderOptions:
    """``bitrate`` in bits per second, None for constant quality at step ``step`` of the ladder of
    ``codec``, or at its default one.

    ``interval`` frames between keyframes, and ``random_access`` seconds at most between those that depend on
    none before; ``caption`` goes with the first clip; ``seed``
    is that of clustering; ``workers`` threads.
    """

    bitrate: float | None = None
    codec: KeyframeCodec = CODECS["av1-sequence"]
    step: int | None = None
    interval: int = 29
    random_access: float = 5.0
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    caption: str | None = None
    hint: GeneratorHint | None = None
    seed: int = 0
    workers: int = 1


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
    if not 1 <= options.interval <= limits.clip_frames:
        raise ValueError(f"keyframe interval {options.interval} is not in 1..{limits.clip_frames}")
    ladder = options.codec.ladder
    if options.step is not None and not 0 <= options.step < len(ladder):
        raise ValueError(f"quality {options.step} is not in 0..{len(ladder) - 1}")
    options.codec.require()
    cv2.setNumThreads(1)
    if options.hint is not None:
        writer.generator_hint(options.hint)
    sources = divide(pictures, options.interval, CutDetector().push)
    budget = None
    if options.bitrate is not None:
        budget = Budget(options.bitrate / float(writer.header.frame_rate))
        budget.balance -= writer.size + _END_BYTES
    with ThreadPoolExecutor(max(1, options.workers)) as pool:
        # Takes a second or two, which is over when the first pictures have been read.
        pool.submit(import_module, "sklearn.cluster")
        state = _State(writer, options, pool, budget)
        for window in _windows(sources):
            for coded in state.window(window):
                yield coded
                progress(coded.frames)
    if not writer.frames:
        raise ValueError("there are no pictures to encode")
    writer.finish()


def _windows(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Clips that are analysed and rated together; how many depends on their size alone."""
    window: list[Source] = []
    frames = 0
    for source in sources:
        window.append(source)
        frames += len(source.pictures)
        picture = source.pictures[0]
        if frames >= _WINDOW_FRAMES or frames * picture.width * picture.height * 3 // 2 >= _WINDOW_BYTES:
            yield window
            window, frames = [], 0
    if window:
        yield window


@dataclass
class _State:
    """What goes from window to window: the last keyframe and the budget."""

    writer: Writer
    options: EncoderOptions
    pool: ThreadPoolExecutor
    budget: Budget | None
    last: CodedPicture | None = None

    def window(self, sources: list[Source]) -> Iterator[CodedClip]:
        """Code one window of clips."""
        slots = _slots(sources)
        period = self.options.random_access * float(self.writer.header.frame_rate)
        groups = periods(sources, period if self.options.codec.predictive else 0)
        keyframes = Keyframes(groups, self.options.codec, lambda *a: list(self.pool.map(*a)))
        settings = repeat(self.options.seed), repeat(self.options.guidance.kinds)
        analyses = list(self.pool.map(analyse, [s.pictures for s in sources], *settings))

        def guidance(coded: list[CodedPicture]) -> list[Choice | None]:
            ends = [self.last, *coded]
            firsts, lasts = ([ends[slot[side]] for slot in slots] for side in (0, 1))
            clips, options = [s.pictures for s in sources], repeat(self.options.guidance)
            return list(self.pool.map(choices, analyses, clips, firsts, lasts, options))

        lengths = [s.length for s in sources]
        frames = sum(s.length + s.opens_scene for s in sources)
        if self.budget is None:
            codec, step = self.options.codec, self.options.step
            if step is None:
                step = codec.ladder.index(codec.default)
            coded = keyframes.at([step] * len(groups))
            chosen = self._best(guidance(coded), 1.0)
        else:
            granted = self.budget.grant(frames) - _UNIT_OVERHEAD * len(sources)
            coded = keyframes.at(keyframes.fit((1 - _EXPECTED_GUIDANCE) * granted))
            found = guidance(coded)
            for price in _PRICES:
                chosen = self._best(found, price)
                spent = sum(map(self._guidance_bytes, chosen, lengths))
                if spent <= _MOST_GUIDANCE * granted:
                    break
            coded = keyframes.at(keyframes.fit(granted - spent))
        before = self.writer.size
        ends = [self.last, *coded]
        for source, slot, g in zip(sources, slots, chosen, strict=True):
            yield self._write(source, ends[slot[0]], ends[slot[1]], g)
        if self.budget is not None:
            self.budget.settle(frames, self.writer.size - before)
        self.last = ends[-1]

    def _best(self, found: list[Choice | None], price: float) -> list[Guidance]:
        return list(self.pool.map(lambda choice: choice.best(price) if choice else Guidance(), found))

    def _guidance_bytes(self, guidance: Guidance, length: int) -> int:
        """Of the sections and their headers."""
        if not length:
            return 0
        return len(clip.encode(guidance.clip(length), self.writer.header)) - 1

    def _write(
        self,
        source: Source,
        first: CodedPicture | None,
        last: CodedPicture | None,
        guidance: Guidance,
    ) -> CodedClip:
        writer, points = self.writer, guidance.trajectories
        before, keyframe_bytes = writer.bytes_by_part.copy(), 0
        caption = self.options.caption if not writer.frames else None
        if source.opens_scene and first is not None:
            writer.keyframe(first.keyframe(Role.LEADING, writer.frames))
            keyframe_bytes += len(first.payload)
        if source.length and last is not None:
            writer.keyframe(last.keyframe(Role.TRAILING, writer.frames + source.length - 1))
            keyframe_bytes += len(last.payload)
            writer.clip(guidance.clip(source.length, None if caption is None else Text(caption)))
        spent = writer.bytes_by_part - before
        return CodedClip(
            first_frame=source.first_frame,
            frames=source.length + source.opens_scene,
            keyframe_bytes=keyframe_bytes,
            points=points.count if points is not None else 0,
            total_bytes=spent.total(),
            bytes=dict(sorted(spent.items())),
            dropped=dict(guidance.dropped),
        )


def _slots(sources: list[Source]) -> list[tuple[int, int]]:
    """For every clip its first and last keyframe, counted in the window from 1; 0 is the one before it."""
    slots, latest = [], 0
    for source in sources:
        first = latest + source.opens_scene
        latest = first + (source.length > 0)
        slots.append((first, latest))
    return slots
