"""Captions in a text section, and in general-purpose coders.

The captions of ``captions.txt``, one a line, are like those that CPSGD sends; a few are not in English.
UTF-8 stands for a published scheme.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from common import Row

from rates.yardsticks import brotli_bytes, xz
from tgv_format import text
from tgv_format.levels import LEVELS
from tgv_format.text import Text

CAPTIONS = Path(__file__).parents[1] / "captions.txt"
PUBLISHED = "utf8"
GENERAL = ("zlib", "xz", "brotli")


def measure() -> list[Row]:
    """A row for each caption."""
    return [{"caption": c, **sizes(c)} for c in CAPTIONS.read_text(encoding="utf-8").splitlines()]


def sizes(caption: str) -> dict[str, int]:
    """Bytes of one caption in TGV and in every yardstick."""
    plain = caption.encode("utf-8")
    return {
        "tgv": len(text.encode(Text(caption), LEVELS[3])),
        "utf8": len(plain),
        "zlib": len(zlib.compress(plain, 9, wbits=-15)),
        "xz": xz(plain),
        "brotli": brotli_bytes(plain),
    }
