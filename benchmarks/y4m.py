"""Y4M on the fly: a clip looped to any length, without a file of that length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

from common import Size


@dataclass(frozen=True)
class Y4m:
    """A clip in memory as the bytes of its frames, ``FRAME`` headers included."""

    head: bytes
    frames: tuple[bytes, ...]
    rate: Fraction

    @classmethod
    def of(cls, path: Path, size: Size) -> Y4m:
        """The clip cropped and scaled to ``size``."""
        from refenc.source import open_source

        with open_source(str(path), size, crop=True) as source:
            rate = source.info.frame_rate
            head = f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate.numerator}:{rate.denominator} Ip A1:1 C420mpeg2\n"
            return cls(head.encode(), tuple(b"FRAME\n" + p.to_bytes() for p in source), rate)

    def feed(self, stream: IO[bytes], count: int) -> None:
        """Write ``count`` frames, beginning anew after the last one, and close the stream.

        Ends early when nobody reads any more.
        """
        with suppress(BrokenPipeError), stream:
            stream.write(self.head)
            for frame in self._looped(count):
                stream.write(frame)

    def _looped(self, count: int) -> Iterator[bytes]:
        for i in range(count):
            yield self.frames[i % len(self.frames)]
