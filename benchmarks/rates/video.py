"""The beginning of a video, as all kinds of guidance are extracted from it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from common import Size

from refenc.source import open_source
from tgv_format.picture import Picture

#: More frames than this are not looked at.
FRAMES = 200


@dataclass(frozen=True, eq=False)
class Video:
    """``pictures``: the first frames of a video, all of one size."""

    name: str
    pictures: list[Picture]

    @classmethod
    def of(cls, path: Path, size: Size) -> Video:
        """The video cropped and scaled to ``size``."""
        with open_source(str(path), size, crop=True) as source:
            return cls(path.stem, list(islice(source, FRAMES)))

    @property
    def size(self) -> Size:
        return self.pictures[0].width, self.pictures[0].height
