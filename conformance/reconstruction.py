"""Which step of the baseline reconstruction (clause 10) a wrong frame points to.

The sections of the clip say which steps there are. A frame that is exactly what comes out without one of them
points to that step; else the samples that are wrong may all be such as one step alone decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdec.baseline import frame, renderer, upsample, warp
from refdec.motion import Motion
from refdec.sampling import Anchor
from tgv_format.clip import Clip
from tgv_format.flow_tokens import Tokenizer
from tgv_format.picture import Picture

TOKENS, CAMERA, SMOOTH, CORRECTION, LABELS, SAMPLING, BLENDING = (
    *("9.4.3", "10.2.1", "10.2.2", "10.2.3", "10.2.4"),
    *("10.3", "10.4"),
)
INTERPOLATION, SHARPENING = "10.6", "10.6.5"


def steps(clip: dict[str, Any], two_sided: bool) -> list[str]:
    """The clauses that take part in a clip's frames, by its decoded parameters; "10.1" if none does."""
    section = clip.get("interpolation") if two_sided else None
    tokens = clip.get("flow_tokens")
    has = {TOKENS: tokens is not None and tokens["tokenizer_id"] == Tokenizer.COSINE}
    if section is not None and section["mode"]:
        return [*(clause for clause, present in has.items() if present), INTERPOLATION]
    has[CAMERA] = "camera_poses" in clip
    has |= {
        SMOOTH: any(has.values()),
        CORRECTION: "trajectories" in clip,
        LABELS: "trajectories" in clip and "masks" in clip,
    }
    has[SAMPLING] = any(has.values())
    has[BLENDING] = two_sided
    has[SHARPENING] = section is not None
    return [clause for clause, present in has.items() if present] or ["10.1"]


@dataclass(frozen=True)
class Suspicion:
    """The clauses to look at, and why, in words."""

    clauses: list[str]
    reason: str


@dataclass(frozen=True)
class Case:
    """A frame ``t`` of a clip that a decoder got wrong.

    ``anchors``: the pictures of the clip's frame 0 and, where there is a trailing keyframe, of its last.
    """

    clip: Clip
    anchors: list[Picture]
    t: int
    right: Picture

    def suspicion(self, md5: str, got: Picture | None) -> Suspicion | None:
        """What the MD5 of the frame, or the ``got`` frame itself, tells beyond :func:`steps`."""
        if self.clip.interpolation is not None and len(self.anchors) == 2:
            return self._of_interpolation(md5)
        for clause, words, picture in self._without():
            if picture.md5() == md5:
                return Suspicion([clause], f"the frame is what comes out {words}")
        same_size = got is not None and all(
            a.shape == b.shape for a, b in zip(self.right.planes, got.planes, strict=True)
        )
        return self._of_samples(got) if got is not None and same_size else None

    def _of_interpolation(self, md5: str) -> Suspicion | None:
        make = renderer(
            replace(self.clip, flow_tokens=None), [Anchor.of(picture) for picture in self.anchors]
        )
        if make(self.t).md5() != md5:
            return None
        return Suspicion([TOKENS], "the frame is what comes out without flow tokens")

    def _without(self) -> Iterator[tuple[str, str, Picture]]:
        """Frames in which one step was left out."""
        for clause, name in (
            (CAMERA, "camera_poses"),
            (TOKENS, "flow_tokens"),
            (LABELS, "masks"),
            (CORRECTION, "trajectories"),
        ):
            nothing: dict[str, Any] = {name: None}
            if getattr(self.clip, name) is not None:
                words = f"without {name.replace('_', ' ')}"
                yield clause, words, self._frame(replace(self.clip, **nothing), self.anchors)
        yield SAMPLING, "without any motion", self._frame(Clip(self.clip.frame_count), self.anchors)
        if len(self.anchors) == 2:
            yield BLENDING, "of frame 0 alone", self._frame(self.clip, self.anchors[:1])
            (_, (last, _)) = self._warped()
            yield BLENDING, "of the last frame alone", Picture(*(p.astype(np.uint8) for p in last))

    def _frame(self, clip: Clip, anchors: list[Picture]) -> Picture:
        motion = Motion(clip, *self.right.y.shape)
        return frame(motion, [Anchor.of(picture) for picture in anchors], self.t)

    def _warped(self) -> list[tuple[list[NDArray[np.uint16]], NDArray[np.bool_] | None]]:
        """The anchors' planes as moved, and where they were inside."""
        shape = self.right.y.shape
        fields = Motion(self.clip, *shape).fields(self.t, len(self.anchors))
        return [
            warp(Anchor.of(picture), None if field is None else upsample(field, *shape))
            for picture, field in zip(self.anchors, fields, strict=True)
        ]

    def _of_samples(self, got: Picture) -> Suspicion | None:
        """What the places of the wrong samples tell."""
        wrong = self.right.y != got.y
        if not wrong.any():
            return Suspicion(
                [SAMPLING, BLENDING][: len(self.anchors)], "luma is right, and chroma has the same motion"
            )
        shape = self.right.y.shape
        fields = Motion(self.clip, *shape).fields(self.t, len(self.anchors))
        inside = [mask for _, mask in self._warped() if mask is not None]
        places: list[tuple[str, str, NDArray[np.bool_]]] = []
        if len(inside) == 2:
            places.append((BLENDING, "one of the two pictures has them", inside[0] != inside[1]))
        if inside:
            places.append((SAMPLING, "they come from the edge", ~np.logical_and.reduce(inside)))
        labelled = [field.choice > 0 for field in fields if field is not None and field.choice is not None]
        if labelled:
            places.append((LABELS, "they follow points of their own label", np.logical_or.reduce(labelled)))
        for clause, words, place in places:
            if not (wrong & ~place).any() and not place.all():
                return Suspicion([clause], f"the wrong samples of luma are all such that {words}")
        return None
