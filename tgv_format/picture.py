"""Pictures and their colour description (specification clauses 3.3 and 6.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]


def chroma_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a 4:2:0 chroma plane: half the luma size, rounded up."""
    return (width + 1) // 2, (height + 1) // 2


@dataclass(frozen=True)
class Colour:
    """ITU-T H.273 code points of the pictures; the default is BT.709, limited range."""

    primaries: int = 1
    transfer: int = 1
    matrix: int = 1
    full_range: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """One 8-bit 4:2:0 picture.

    ``y`` is uint8 (height, width); ``u`` and ``v`` are uint8 (⌈height/2⌉, ⌈width/2⌉).
    """

    y: Plane
    u: Plane
    v: Plane

    def __post_init__(self) -> None:
        width, height = chroma_size(self.width, self.height)
        if self.u.shape != (height, width) or self.v.shape != (height, width):
            raise ValueError(f"chroma planes {self.u.shape}, {self.v.shape} do not fit luma {self.y.shape}")

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    @property
    def planes(self) -> tuple[Plane, Plane, Plane]:
        return self.y, self.u, self.v

    def to_bytes(self) -> bytes:
        """The planes Y, U, V one after the other, rows top to bottom, without padding (I420)."""
        return b"".join(plane.tobytes() for plane in self.planes)

    def md5(self) -> str:
        """Hexadecimal MD5 of :meth:`to_bytes`, as ``refdec --frames-md5`` writes it."""
        return hashlib.md5(self.to_bytes(), usedforsecurity=False).hexdigest()

    @classmethod
    def cropped(cls, planes: Iterable[Plane], width: int, height: int) -> Picture:
        """The picture of ``width`` x ``height`` at the top left of ``planes``, which are no smaller."""
        sizes = (width, height), chroma_size(width, height), chroma_size(width, height)
        return cls(*(np.ascontiguousarray(p[:h, :w]) for p, (w, h) in zip(planes, sizes, strict=True)))

    @classmethod
    def from_bytes(cls, data: bytes, width: int, height: int) -> Picture:
        """The inverse of :meth:`to_bytes`; ValueError when the length does not fit."""
        cw, ch = chroma_size(width, height)
        if len(data) != width * height + 2 * cw * ch:
            raise ValueError(f"{len(data)} bytes do not hold a {width}x{height} picture")
        flat = np.frombuffer(data, np.uint8)
        y, u, v = np.split(flat, [width * height, width * height + cw * ch])
        return cls(y.reshape(height, width), u.reshape(ch, cw), v.reshape(ch, cw))
