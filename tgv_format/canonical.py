"""Canonical JSON of decoded parameters, and digests over it (specification clause 11)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

DIGEST_BYTES = 8


def dumps(value: Any) -> bytes:
    """Canonical JSON (clause 11.1): sorted keys, no spaces, ASCII with lower-case escapes, integers only."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of one unit or section."""
    return hashlib.sha256(dumps(value)).hexdigest()


class SequenceDigest:
    """The running digest over a sequence's critical units (clause 11.3)."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, value: Any) -> None:
        self._hash.update(dumps(value) + b"\n")

    def value(self) -> bytes:
        """The first eight bytes of the SHA-256 so far."""
        return self._hash.digest()[:DIGEST_BYTES]
