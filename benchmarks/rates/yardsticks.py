"""General-purpose coders: an ideal adaptive order-0 code, xz and brotli with the best of their options."""

from __future__ import annotations

import lzma
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from typing import Any

import brotli
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PRIORS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)


def order0(values: Ints) -> float:
    """Bits of an ideal adaptive arithmetic code of ``values`` that knows their range.

    Counts start from the best of several priors.
    """
    if not values.size:
        return 0.0
    alphabet = int(np.ptp(values)) + 1
    listed: list[int] = values.ravel().tolist()
    return min(_order0(listed, alphabet, prior) for prior in PRIORS)


def _order0(values: Iterable[int], alphabet: int, prior: float) -> float:
    counts: Counter[int] = Counter()
    bits = 0.0
    for total, value in enumerate(values):
        bits -= math.log2((counts[value] + prior) / (total + prior * alphabet))
        counts[value] += 1
    return bits


def range_bytes(values: Ints) -> int:
    """Bytes that say the range of ``values``."""
    return 2 if values.size == 0 or (values.min() >= -128 and values.max() < 128) else 4


def layouts(values: Ints) -> Iterator[bytes]:
    """An array with its axes in every order, as integers of 16 bits (or 32), their byte planes, and bytes."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    wide = "<i2" if max(-low - 1, high) < 1 << 15 else "<i4"
    narrow = max(-low - 1, high) < 128 or (low >= 0 and high < 256)
    for order in permutations(range(values.ndim)):
        words = np.ascontiguousarray(values.transpose(order), wide)
        data = words.tobytes()
        yield data
        yield b"".join(data[k :: words.itemsize] for k in range(words.itemsize))
        if narrow:
            yield words.astype(np.uint8).tobytes()


def general(candidates: Iterable[bytes], header_bytes: int = 0) -> dict[str, int]:
    """Bytes of ``xz`` and of ``brotli`` on whichever of the ``candidates`` suits each best."""
    found = list(candidates)
    return {"xz": header_bytes + min(map(xz, found)), "brotli": header_bytes + min(map(brotli_bytes, found))}


#: (lc, lp, pb) of LZMA.
LITERALS = ((3, 0, 0), (0, 0, 0), (0, 1, 1), (3, 1, 1), (0, 0, 3), (3, 0, 2))


def xz(data: bytes, literals: Sequence[tuple[int, int, int]] = LITERALS) -> int:
    """Bytes of raw LZMA2 at its best settings, without the container of .xz."""
    # The preset's dictionary of 64 MiB would take far longer and find nothing more in less than 2 MiB.
    common: dict[str, Any] = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    common["dict_size"] = max(1 << 12, 1 << len(data).bit_length())
    filters = [{**common, "lc": lc, "lp": lp, "pb": pb} for lc, lp, pb in literals]
    return min(len(lzma.compress(data, lzma.FORMAT_RAW, filters=[f])) for f in filters)


def brotli_bytes(data: bytes) -> int:
    """Bytes of brotli at its best settings."""
    windows = (10, 16, 24) if len(data) > 1 << 16 else (10, 16)
    return min(len(brotli.compress(data, quality=11, lgwin=w)) for w in windows)
