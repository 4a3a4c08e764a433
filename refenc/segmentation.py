"""Scene cuts and keyframe positions (T-GVC).

T-GVC cuts where the semantic similarity of consecutive frames falls below a threshold. With a
weight-free descriptor that alone does not separate: a cut between two street scenes changes it less
than a change of traffic lights at night does. So a cut has to change both what the picture looks like
(the descriptor) and where its structure is found (block matching, which forgives motion and exposure).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refenc.semantics import SEMANTICS, Descriptor, Semantics
from tgv_format.picture import Picture, Plane

_SIZE = 64  # working size of block matching, both ways
_BLOCK = 16
_REACH = 12  # search range in working samples: 3/16 of the picture from one frame to the next
_FLAT = 2.0  # standard deviation under which a block has no structure to find
_RICH = 16.0  # and above which more contrast gives a block no more weight


def choose_keyframe(
    descriptors: Sequence[Descriptor], first: int, last: int, semantics: Semantics = SEMANTICS["handcrafted"]
) -> int:
    """Index in ``first`` … ``last`` (inclusive) of the frame least similar, on average, to that span.

    T-GVC's keyframe rule: the most distinct frame says most about the span. Of equals (to within 1e-6)
    the lowest index is taken. IndexError when the span is empty or not inside ``descriptors``.
    """
    if not 0 <= first <= last < len(descriptors):
        raise IndexError(f"span {first}..{last} is not within {len(descriptors)} descriptors")
    span = descriptors[first : last + 1]
    totals = [sum(semantics.similarity(one, other) for other in span) for one in span]
    return first + int(np.argmin(np.round(np.array(totals) / len(span), 6)))


@dataclass(frozen=True)
class _View:
    """What of a picture is kept for comparison with the next one."""

    descriptor: Descriptor
    luma: Plane  # uint8 [64, 64]
    blocks: tuple[tuple[int, int, float], ...]  # row, column and weight of those with structure


class CutDetector:
    """Finds the pictures of a stream that start a new scene, one by one, in constant memory.

    The change from one picture to the next is (1 − similarity) × the share of structure that
    block matching does not find again. A cut needs a change of at least ``threshold``, and of ``ratio``
    times the median over the latest eight: fast, chaotic motion has high values all the time.
    Pictures without structure (a white flash, black) start no scene and are no reference: the picture
    after them is compared with the one before them. The very first picture starts a scene.
    """

    def __init__(
        self,
        semantics: Semantics = SEMANTICS["handcrafted"],
        threshold: float = 0.085,
        ratio: float = 2.5,
    ) -> None:
        self._semantics = semantics
        self._threshold = threshold
        self._ratio = ratio
        self._recent: deque[float] = deque(maxlen=8)
        self._reference: _View | None = None
        self._latest: _View | None = None

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of the picture pushed last, for :func:`choose_keyframe`."""
        if self._latest is None:
            raise ValueError("no picture has been pushed")
        return self._latest.descriptor

    def push(self, picture: Picture, following: Picture | None = None) -> bool:
        """True when ``picture`` starts a new scene.

        ``following`` is the picture after it, where the caller can look one ahead: a picture that
        interrupts a scene for one frame (a flash, a damaged frame) is then not taken for a cut.
        """
        view = self._latest = self._look(picture)
        if self._reference is None:
            self._reference = view
            return True
        if not view.blocks and self._reference.blocks:
            return False

        change = self._change(self._reference, view)
        usual = float(np.median(self._recent)) if self._recent else 0.0
        limit = max(self._threshold, self._ratio * usual)
        if change >= limit and following is not None:
            after = self._look(following)
            if after.blocks and self._change(self._reference, after) < limit:
                return False
        self._recent.append(change)
        self._reference = view
        return change >= limit

    def _look(self, picture: Picture) -> _View:
        import cv2

        luma = cv2.resize(picture.y, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
        corners = [(row, column) for row in range(0, _SIZE, _BLOCK) for column in range(0, _SIZE, _BLOCK)]
        contrast = luma.reshape(_SIZE // _BLOCK, _BLOCK, -1, _BLOCK).std(axis=(1, 3)).ravel()
        blocks = tuple(
            (row, column, min(float(deviation), _RICH))
            for (row, column), deviation in zip(corners, contrast, strict=True)
            if deviation >= _FLAT
        )
        return _View(self._semantics.describe(picture), luma, blocks)

    def _change(self, a: _View, b: _View) -> float:
        """0 (the same scene) to 1; symmetric, so that coming back from a flash is judged like going there."""
        unmatched = 1.0 - max(_found(a, b), _found(b, a))
        return unmatched * (1.0 - self._semantics.similarity(a.descriptor, b.descriptor))


class SimilarityCuts:
    """T-GVC's rule: a scene begins where the similarity of consecutive frames falls below ``threshold``."""

    def __init__(self, semantics: Semantics = SEMANTICS["handcrafted"], threshold: float = 0.5) -> None:
        self._semantics = semantics
        self._threshold = threshold
        self._latest: Descriptor | None = None

    def push(self, picture: Picture, following: Picture | None = None) -> bool:
        """True when ``picture`` starts a new scene; the very first one does."""
        before, self._latest = self._latest, self._semantics.describe(picture)
        return before is None or self._semantics.similarity(before, self._latest) < self._threshold


def _found(a: _View, b: _View) -> float:
    """Mean over the structured blocks of ``a`` of their best normalised correlation nearby in ``b``."""
    import cv2

    if not a.blocks:
        return 0.0
    total = weights = 0.0
    for row, column, weight in a.blocks:
        block = a.luma[row : row + _BLOCK, column : column + _BLOCK]
        window = b.luma[
            max(row - _REACH, 0) : row + _BLOCK + _REACH, max(column - _REACH, 0) : column + _BLOCK + _REACH
        ]
        correlation = cv2.matchTemplate(window, block, cv2.TM_CCOEFF_NORMED)
        total += weight * min(float(correlation.max()), 1.0)
        weights += weight
    return max(total / weights, 0.0)
