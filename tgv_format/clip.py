"""Clip units and their sections (specification clause 9.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from construct import BitsInteger, BitStruct, Flag, If, Struct, this

from tgv_format import camera_poses, flow_tokens, interpolation, masks, text, trajectories
from tgv_format.camera_poses import CameraPoses
from tgv_format.entropy import TraceSink
from tgv_format.errors import TgvError
from tgv_format.flow_tokens import FlowTokens
from tgv_format.interpolation import Interpolation
from tgv_format.levels import LEVELS, Level
from tgv_format.masks import Masks
from tgv_format.sequence import SequenceHeader
from tgv_format.syntax import ParameterError, build, parse, uleb128
from tgv_format.text import Text
from tgv_format.trajectories import Trajectories


class SectionType(IntEnum):
    """Registered sections."""

    TRAJECTORIES = 1
    FLOW_TOKENS = 2
    CAMERA_POSES = 3
    MASKS = 4
    TEXT = 5
    INTERPOLATION = 6


HEADER = Struct("frame_count" / uleb128(1, max(level.clip_frames for level in LEVELS.values())))
SECTION_HEADER = Struct(
    "tag" / BitStruct("ancillary" / Flag, "last" / Flag, "section_type" / BitsInteger(6)),
    "section_size" / If(~this.tag.last, uleb128(0, 2**28 - 1)),
)


@dataclass(frozen=True, eq=False)
class Clip:
    """``frame_count`` frames after the one shown last, and the guidance for them, None where absent."""

    frame_count: int
    trajectories: Trajectories | None = None
    text: Text | None = None
    flow_tokens: FlowTokens | None = None
    camera_poses: CameraPoses | None = None
    masks: Masks | None = None
    interpolation: Interpolation | None = None

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes: absent sections have no key."""
        sections = {
            "trajectories": self.trajectories,
            "flow_tokens": self.flow_tokens,
            "camera_poses": self.camera_poses,
            "masks": self.masks,
            "text": self.text,
            "interpolation": self.interpolation,
        }
        return {
            "unit": "clip",
            "frame_count": self.frame_count,
            **{name: section.to_json() for name, section in sections.items() if section is not None},
        }


@dataclass(frozen=True)
class Section:
    """A section as it stands in the unit: its body begins at byte ``offset`` of the file."""

    section_type: int
    ancillary: bool
    body: bytes
    offset: int


def encode(clip: Clip, header: SequenceHeader) -> bytes:
    """The payload of a clip unit."""
    validate(clip, header)
    sections: list[tuple[SectionType, bytes]] = []
    if clip.trajectories is not None:
        body = trajectories.encode(clip.trajectories, header.width, header.height, header.limits)
        sections.append((SectionType.TRAJECTORIES, body))
    if clip.flow_tokens is not None:
        sections.append((SectionType.FLOW_TOKENS, flow_tokens.encode(clip.flow_tokens, header.limits)))
    if clip.camera_poses is not None:
        body = camera_poses.encode(clip.camera_poses, header.width, header.height, header.limits)
        sections.append((SectionType.CAMERA_POSES, body))
    if clip.masks is not None:
        body = masks.encode(clip.masks, header.width, header.height, header.limits)
        sections.append((SectionType.MASKS, body))
    if clip.text is not None:
        sections.append((SectionType.TEXT, text.encode(clip.text, header.limits)))
    if clip.interpolation is not None:
        body = interpolation.encode(clip.interpolation, clip.frame_count)
        sections.append((SectionType.INTERPOLATION, body))
    out = build(HEADER, frame_count=clip.frame_count)
    for index, (kind, body) in enumerate(sections):
        tag = {"ancillary": False, "last": index == len(sections) - 1, "section_type": int(kind)}
        out += build(SECTION_HEADER, tag=tag, section_size=len(body)) + body
    return out


def split(data: bytes, offset: int, path: str, limits: Level) -> tuple[int, list[Section]]:
    """Frame count and sections of a clip unit's payload, undecoded."""
    fields, position = parse(HEADER, data, offset, path)
    if fields.frame_count > limits.clip_frames:
        raise TgvError("limit-exceeded", offset, f"{path}.frame_count", f"{fields.frame_count} frames")
    sections: list[Section] = []
    while position < len(data):
        head, used = parse(SECTION_HEADER, data[position : position + 6], offset + position, path)
        position += used
        size = len(data) - position if head.tag.last else head.section_size
        kind, left = head.tag.section_type, len(data) - position
        if size > left:
            raise TgvError(
                "truncated", offset + len(data), f"{path}.section[{kind}]", f"{size - left} bytes missing"
            )
        if sections and kind <= sections[-1].section_type:
            raise TgvError(
                "section-order", offset + position - used, path, f"section type {kind} out of order"
            )
        sections.append(
            Section(kind, head.tag.ancillary, data[position : position + size], offset + position)
        )
        position += size
        if head.tag.last != (position == len(data)):
            raise TgvError("non-canonical", offset + position, path, "the last section is not marked as such")
    return fields.frame_count, sections


def decode(
    data: bytes, offset: int, path: str, header: SequenceHeader, trace: TraceSink | None = None
) -> Clip:
    """Decode the payload of a clip unit that stands at byte ``offset``."""
    limits = header.limits
    frame_count, sections = split(data, offset, path, limits)
    points, tokens, poses, labels, caption, between = None, None, None, None, None, None
    picture = header.width, header.height, frame_count, limits, trace
    for section in sections:
        kind, body, offset = section.section_type, section.body, section.offset
        if section.ancillary:
            if kind in set(SectionType):
                detail = f"section type {kind} is not ancillary"
                raise TgvError("reserved-value", offset, path, detail)
            continue
        if kind == SectionType.TRAJECTORIES:
            points = trajectories.decode(body, offset, f"{path}.trajectories", *picture)
        elif kind == SectionType.FLOW_TOKENS:
            tokens = flow_tokens.decode(body, offset, f"{path}.flow_tokens", frame_count, limits, trace)
        elif kind == SectionType.CAMERA_POSES:
            poses = camera_poses.decode(body, offset, f"{path}.camera_poses", *picture)
        elif kind == SectionType.MASKS:
            labels = masks.decode(body, offset, f"{path}.masks", *picture)
        elif kind == SectionType.TEXT:
            caption = text.decode(body, offset, f"{path}.text", limits, trace)
        elif kind == SectionType.INTERPOLATION:
            between = interpolation.decode(body, offset, f"{path}.interpolation", frame_count, trace)
        else:
            raise TgvError("unknown-critical", offset, path, f"section type {kind} is unknown")
    return Clip(frame_count, points, caption, tokens, poses, labels, between)


def validate(clip: Clip, header: SequenceHeader) -> None:
    """Raise ParameterError unless the frame count suits the level and the sections."""
    if not 1 <= clip.frame_count <= header.limits.clip_frames:
        raise ParameterError("limit-exceeded", "frame_count", f"{clip.frame_count} frames")
    for name in ("trajectories", "flow_tokens", "camera_poses", "masks"):
        section = getattr(clip, name)
        if section is not None and section.last_frame != clip.frame_count:
            detail = f"frames 0 to {section.last_frame} in a clip of 0 to {clip.frame_count}"
            raise ParameterError("out-of-range", name, detail)
