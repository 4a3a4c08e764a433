"""Profiles and levels (specification clause 13): the bounds that a decoder checks before it allocates."""

from __future__ import annotations

from dataclasses import dataclass

from tgv_format.tables import load

#: Profile 0, "core": raw, AV1 and VVC keyframes, trajectories, flow tokens, camera poses, masks and text.
PROFILES = (0,)


@dataclass(frozen=True)
class Level:
    """The limits of one level; every field is an inclusive maximum."""

    level: int
    luma_samples: int
    dimension: int
    clip_frames: int
    trajectories: int
    flow_tokens: int
    mask_samples: int
    section_bytes: int
    text_bytes: int
    unit_bytes: int


LEVELS: dict[int, Level] = {row["level"]: Level(**row) for row in load("levels")["levels"]}


def level_for(width: int, height: int) -> Level:
    """The lowest level whose picture limits hold a picture of this size; ValueError when none does."""
    for level in LEVELS.values():
        if max(width, height) <= level.dimension and width * height <= level.luma_samples:
            return level
    raise ValueError(f"no level has pictures of {width}x{height}")
