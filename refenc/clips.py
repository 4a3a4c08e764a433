"""Division of a stream of pictures into scenes, random-access periods and clips, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tgv_format.picture import Picture


@dataclass(frozen=True, eq=False)
class Source:
    """The pictures of a period or clip, frames 0 to L; frame 0 was shown before unless ``opens_scene``.

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
    pictures: Iterable[Picture], most: int, starts_scene: Callable[[Picture, Picture | None], bool]
) -> Iterator[Source]:
    """Cut at scene changes, and every ``most`` frames or so inside a scene.

    ``starts_scene`` is asked for every picture but the first, with the picture after it. The last parts of a
    scene share its rest evenly, so that no scene ends in a part of a few frames.
    """
    scene: list[Picture] = []
    opens, first = True, 0
    for picture, following in _with_next(pictures):
        if starts_scene(picture, following) and scene:
            yield from _rest(scene, most, opens, first)
            first += len(scene)
            scene, opens = [], True
        scene.append(picture)
        if len(scene) > most + most // 2 + 1:
            yield Source(tuple(scene[: most + 1]), opens, first)
            first += most
            scene, opens = scene[most:], False
    if scene:
        yield from _rest(scene, most, opens, first)


def split(source: Source, interval: int) -> list[Source]:
    """Clips of at most ``interval`` frames, and of lengths that differ by one at most."""
    return list(_rest(source.pictures, interval, source.opens_scene, source.first_frame))


def split_by_meaning(
    source: Source, interval: int, choose: Callable[[Sequence[Picture]], int]
) -> list[Source]:
    """Clips of at most ``interval`` frames that end, as T-GVC does once in a span of half as many, at the
    picture that ``choose`` takes of them."""
    span = (interval + 1) // 2
    bounds = [0]
    # The last frame is a keyframe as well.
    for begin in range(1, source.length - span + 1, span):
        bounds.append(begin + choose(source.pictures[begin : begin + span]))
    return list(_clips(source.pictures, [*bounds, source.length], source.opens_scene, source.first_frame))


def _rest(scene: Sequence[Picture], most: int, opens: bool, first: int) -> Iterator[Source]:
    length = len(scene) - 1
    count = max(1, -(-length // most))
    # The longer ones first: neighbours of one length share a group.
    bounds = [length // count * i + min(i, length % count) for i in range(count + 1)]
    yield from _clips(scene, bounds, opens, first)


def _clips(scene: Sequence[Picture], bounds: Sequence[int], opens: bool, first: int) -> Iterator[Source]:
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
