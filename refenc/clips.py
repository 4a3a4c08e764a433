"""Division of a stream of pictures into clips, in memory bounded by three clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tgv_format.picture import Picture

# Clips that are held back, so that the last ones of a scene can be of one length.
_LOOKAHEAD = 3


@dataclass(frozen=True, eq=False)
class Source:
    """The pictures of a clip, frames 0 to L; frame 0 was shown before unless ``opens_scene``.

    A scene of one frame is a source of one picture.
    """

    pictures: tuple[Picture, ...]
    opens_scene: bool
    first_frame: int

    @property
    def length(self) -> int:
        """L, the number of frames after frame 0."""
        return len(self.pictures) - 1


def divide(
    pictures: Iterable[Picture], interval: int, starts_scene: Callable[[Picture, Picture | None], bool]
) -> Iterator[Source]:
    """Cut at scene changes, and every ``interval`` frames or so inside a scene.

    ``starts_scene`` is asked for every picture but the first, with the picture after it. The last clips
    of a scene share its rest evenly, so that no scene ends in a clip of a few frames.
    """
    scene: list[Picture] = []
    opens, first = True, 0
    for picture, following in _with_next(pictures):
        if starts_scene(picture, following) and scene:
            yield from _rest(scene, interval, opens, first)
            first += len(scene)
            scene, opens = [], True
        scene.append(picture)
        if len(scene) > _LOOKAHEAD * interval:
            yield Source(tuple(scene[: interval + 1]), opens, first)
            first += interval
            scene, opens = scene[interval:], False
    if scene:
        yield from _rest(scene, interval, opens, first)


def periods(sources: Iterable[Source], most: float) -> list[list[Picture]]:
    """The keyframes of clips in order, grouped into periods that do not reach over a scene change.

    A period has one keyframe, or ends at most ``most`` frames after it begins.
    """
    groups: list[list[Picture]] = []
    begin = 0
    for source in sources:
        frames = [0] * source.opens_scene + [source.length] * (source.length > 0)
        for frame in frames:
            number = source.first_frame + frame
            if not groups or number - begin > most or (source.opens_scene and not frame):
                groups.append([])
                begin = number
            groups[-1].append(source.pictures[frame])
    return groups


def _rest(scene: list[Picture], interval: int, opens: bool, first: int) -> Iterator[Source]:
    length = len(scene) - 1
    count = max(1, -(-length // interval))
    bounds = [length * i // count for i in range(count + 1)]
    for begin, end in pairwise(bounds):
        if end or opens:
            yield Source(tuple(scene[begin : end + 1]), opens, first + begin)
        opens = False


def _with_next(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Picture | None]]:
    previous: Picture | None = None
    for picture in pictures:
        if previous is not None:
            yield previous, picture
        previous = picture
    if previous is not None:
        yield previous, None
