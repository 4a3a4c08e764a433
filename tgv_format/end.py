"""End of sequence (specification clause 6.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from construct import Bytes, Struct

from tgv_format.canonical import DIGEST_BYTES
from tgv_format.errors import TgvError
from tgv_format.syntax import build, parse, uleb128

HEADER = Struct("frame_count" / uleb128(1, 2**32 - 1), "digest" / Bytes(DIGEST_BYTES))


@dataclass(frozen=True)
class EndOfSequence:
    """The number of frames of the sequence and the digest over its decoded parameters (clause 11.3)."""

    frame_count: int
    digest: bytes

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {"unit": "end_of_sequence", "frame_count": self.frame_count, "digest": self.digest.hex()}


def encode(end: EndOfSequence) -> bytes:
    """The payload of an end-of-sequence unit."""
    return build(HEADER, frame_count=end.frame_count, digest=end.digest)


def decode(data: bytes, offset: int) -> EndOfSequence:
    """Decode the payload of an end-of-sequence unit that stands at byte ``offset``."""
    fields, used = parse(HEADER, data, offset, "end")
    if used != len(data):
        raise TgvError("trailing-data", offset + used, "end", f"{len(data) - used} bytes too many")
    return EndOfSequence(fields.frame_count, fields.digest)
