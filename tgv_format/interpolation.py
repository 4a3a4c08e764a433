"""Interpolation sections (specification clause 9.7): how frames come out of two keyframes alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from construct import BitsInteger, BitStruct, Struct
from numpy.typing import NDArray

from tgv_format.entropy import BinaryCoder, Cost, Decoder, Encoder, TraceSink, open_decoder
from tgv_format.errors import TgvError
from tgv_format.syntax import ParameterError, Range, Reserved, build, parse

SECTION = "interpolation"
MAX_SHARP = 20
#: Components of vectors, in quarters of a luma sample.
LOWEST, HIGHEST = -64, 63


class Mode(IntEnum):
    """What the frames between the keyframes follow."""

    GUIDED = 0
    INTERPOLATED = 1
    CORRECTED = 2


HEADER = Struct(
    "head"
    / BitStruct(
        "mode" / Range(BitsInteger(2), 0, max(Mode), "reserved-value"),
        "sharp" / Range(BitsInteger(5), 0, MAX_SHARP),
        "reserved" / Reserved(1),
    )
)

Vectors = NDArray[np.int8]


def no_vectors() -> Vectors:
    """Those of a section that has none."""
    return np.zeros((0, 2), np.int8)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """``sharp`` 0 .. 20 in eighths.

    ``vectors`` int8 [L-1, 2], -64 .. 63: (x, y) for the frames 1 .. L-1, in quarters of a luma sample; [0, 2]
    unless ``mode`` is CORRECTED.
    """

    mode: Mode
    sharp: int
    vectors: Vectors

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {"mode": int(self.mode), "sharp": self.sharp, "vectors": self.vectors.tolist()}


def encode(params: Interpolation, frame_count: int) -> bytes:
    """The section's bytes, in a clip of ``frame_count`` frames."""
    validate(params, frame_count)
    head = build(HEADER, head={"mode": int(params.mode), "sharp": params.sharp})
    if params.mode != Mode.CORRECTED:
        return head
    coder = Encoder(SECTION)
    _vectors(coder, frame_count, params.vectors.tolist())
    return head + coder.finish()


def cost(params: Interpolation) -> float:
    """Bits that :func:`encode` would take, within a byte or so."""
    coder = Cost(SECTION)
    _vectors(coder, len(params.vectors) + 1, params.vectors.tolist())
    return coder.bits + 8


def decode(
    data: bytes, offset: int, path: str, frame_count: int, trace: TraceSink | None = None
) -> Interpolation:
    """Decode a section of a clip of ``frame_count`` frames."""
    fields, used = parse(HEADER, data, offset, path)
    mode, sharp = Mode(fields.head.mode), fields.head.sharp
    if mode != Mode.CORRECTED:
        if used != len(data):
            raise TgvError("trailing-data", offset + used, path, f"{len(data) - used} bytes too many")
        return Interpolation(mode, sharp, no_vectors())
    coder = open_decoder(SECTION, data[used:], offset + used, path, trace)
    vectors = _vectors(coder, frame_count, decoder=coder)
    if not any(map(any, vectors)):
        raise coder.error("non-canonical", "mode 2 for no correction")
    coder.finish()
    return Interpolation(mode, sharp, np.array(vectors, np.int8))


def validate(params: Interpolation, frame_count: int) -> None:
    """Raise ParameterError unless :func:`encode` can code ``params`` as they are."""
    if not 0 <= params.sharp <= MAX_SHARP:
        raise ParameterError("out-of-range", "head.sharp", f"{params.sharp} is not in 0..{MAX_SHARP}")
    count = frame_count - 1 if params.mode == Mode.CORRECTED else 0
    if params.vectors.shape != (count, 2):
        raise ParameterError("out-of-range", "vectors", f"not {count} pairs")
    if ((params.vectors < LOWEST) | (params.vectors > HIGHEST)).any():
        raise ParameterError("out-of-range", "vectors", f"a component is not in {LOWEST}..{HIGHEST}")
    if params.mode == Mode.CORRECTED and not params.vectors.any():
        raise ParameterError("non-canonical", "vectors", "mode 2 for no correction")


def _vectors(
    coder: BinaryCoder,
    frame_count: int,
    vectors: list[list[int]] | None = None,
    decoder: Decoder | None = None,
) -> list[list[int]]:
    """vectors() of clause 9.7.2, for both directions; ``decoder`` is the coder when it decodes."""
    found = [[0, 0]]
    for t in range(1, frame_count):
        coder.element = ("vectors", t, "component")
        wanted = found[-1] if vectors is None else vectors[t - 1]
        vector = []
        for which, (predicted, value) in enumerate(zip(found[-1], wanted, strict=True)):
            value = predicted + coder.signed("vector", which, value - predicted)
            if decoder is not None and not LOWEST <= value <= HIGHEST:
                raise decoder.error("out-of-range", f"a component of {value}")
            vector.append(value)
        found.append(vector)
    return found[1:]
