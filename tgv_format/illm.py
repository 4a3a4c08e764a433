"""Latents of learned keyframes (specification clause 7.6), exact on every machine.

A picture is a grid of latents ``y``, N a position of 16 x 16 luma samples, and of hyper latents ``z``, M a
position of 64 x 64. The model makes means and scales of ``y`` from ``z`` in integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from construct import BitsInteger, BitStruct, Bytes, Struct
from numpy.typing import NDArray

from tgv_format.entropy import TraceSink
from tgv_format.errors import TgvError
from tgv_format.hyper_synthesis import hyper_synthesis
from tgv_format.illm_model import FRACTION_BITS, IDENTITY_BYTES, Model
from tgv_format.symbol_coder import (
    Distribution,
    SymbolCoder,
    SymbolDecoder,
    SymbolEncoder,
    Symbols,
    TracingSymbolDecoder,
)
from tgv_format.syntax import ParameterError, Reserved, build, parse
from tgv_format.tables import load

#: Quantiser steps in units of 2^-12, by ``step``.
STEPS: list[int] = load("latents")["steps"]
_SCALES = np.array(load("latents")["scales"], np.int32)
#: A keyframe's hyper latents lie this many luma samples apart, its latents a quarter of it.
CELL = 64

HEADER = Struct(
    "model" / Bytes(IDENTITY_BYTES),
    "head" / BitStruct("step" / BitsInteger(5), "reserved" / Reserved(3)),
)


@dataclass(frozen=True, eq=False)
class Latents:
    """What a payload says: ``z`` symbols, int32 (M, h, w), and ``y`` in units of 2^-12, int32 (N, 4 h, 4 w).

    ``step`` is an index of :data:`STEPS`, ``model`` the one that was used.
    """

    model: Model
    step: int
    z: NDArray[np.int32]
    y: NDArray[np.int32]

    def z_md5(self) -> str:
        """Hexadecimal MD5 of ``z`` as big-endian 32-bit numbers, channel by channel, row by row."""
        return _md5(self.z)

    def y_md5(self) -> str:
        """The same of ``y``."""
        return _md5(self.y)


def _md5(values: NDArray[np.int32]) -> str:
    return hashlib.md5(values.astype(">i4").tobytes(), usedforsecurity=False).hexdigest()


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the hyper latents of a coded picture of ``width`` x ``height``."""
    return -(-height // CELL), -(-width // CELL)


@cache
def distributions() -> list[Distribution]:
    """Those of the symbols of latents, by the index of their scale."""
    rows = []
    for half in load("latents")["frequencies"]:
        rows.append(Distribution(1 - len(half), np.array([*half[:0:-1], *half, 1], np.int32)))
    return rows


def encode(y: NDArray[np.floating[Any]], z: NDArray[np.integer[Any]], model: Model, step: int = 0) -> bytes:
    """The payload of latents ``y``, (N, 4 h, 4 w), and symbols ``z``, (M, h, w), of hyper latents.

    ``y`` is quantised about its means with the quantiser step ``STEPS[step]``. ParameterError
    ``out-of-range`` for symbols that cannot be coded.
    """
    symbols, index, _ = _quantised(y, z, model, step)
    return encode_symbols(symbols, index, np.asarray(z, np.int32), model, step)


def encode_symbols(
    symbols: Symbols, index: NDArray[np.uint8], z: Symbols, model: Model, step: int = 0
) -> bytes:
    """The payload of ``symbols`` of latents, whose distributions ``index`` says, and of hyper latents ``z``.

    ParameterError ``out-of-range`` for an escape that is too long; the latents themselves are not checked.
    """
    coder = SymbolEncoder()
    _code_hyper(coder, model, z)
    _code_latents(coder, index, symbols)
    return build(HEADER, model=model.identity, head={"step": step}) + coder.finish()


def dequantised(
    y: NDArray[np.floating[Any]], z: NDArray[np.integer[Any]], model: Model, step: int = 0
) -> NDArray[np.int32]:
    """The latents that a decoder gets from the payload that :func:`encode` makes of them."""
    symbols, _, mean = _quantised(y, z, model, step)
    return (symbols.astype(np.int64) * STEPS[step] + mean).astype(np.int32)


def _quantised(
    y: NDArray[np.floating[Any]], z: NDArray[np.integer[Any]], model: Model, step: int
) -> tuple[Symbols, NDArray[np.uint8], NDArray[np.int32]]:
    """Symbols, indices of scales and means."""
    if not 0 <= step < len(STEPS):
        raise ParameterError("out-of-range", "head.step", f"{step} is not in 0..{len(STEPS) - 1}")
    rows, columns = z.shape[1:]
    shapes = (model.hyper_channels, rows, columns), (model.latent_channels, 4 * rows, 4 * columns)
    if (z.shape, y.shape) != shapes:
        raise ValueError(f"latents {y.shape} and hyper latents {z.shape} do not fit the model or one another")
    mean, scale = hyper_synthesis(np.asarray(z, np.int32), model)
    symbols = np.rint((y.astype(np.float64) * (1 << FRACTION_BITS) - mean) / STEPS[step])
    values = symbols * STEPS[step] + mean
    if not (np.abs(symbols) < 1 << 24).all() or not _representable(values):
        raise ParameterError("out-of-range", "y", "a latent is too far from its mean")
    return symbols.astype(np.int32), scale_index(scale, step), mean


def decode(
    payload: bytes,
    width: int,
    height: int,
    models: Mapping[bytes, Model],
    offset: int = 0,
    path: str = "payload",
    trace: TraceSink | None = None,
) -> Latents:
    """The latents of a payload at byte ``offset``, of a coded picture of ``width`` x ``height``.

    ``models`` are those at hand, by their identity of four bytes. TgvError ``truncated``,
    ``reserved-value``, ``unknown-model``, ``entropy-invalid``, ``out-of-range`` or ``non-canonical``.
    """
    fields, used = parse(HEADER, payload, offset, path)
    if fields.model not in models:
        known = ", ".join(sorted(identity.hex() for identity in models))
        detail = f"the keyframe is of model {fields.model.hex()}; this decoder has {known or 'none'}"
        raise TgvError("unknown-model", offset, f"{path}.model", detail)
    model, step = models[fields.model], fields.head.step
    coder = _open(payload[used:], offset + used, path, trace)
    rows, columns = latent_size(width, height)
    z = _code_hyper(coder, model, np.zeros((model.hyper_channels, rows, columns), np.int32))
    mean, scale = hyper_synthesis(z, model)
    symbols = _code_latents(coder, scale_index(scale, step), np.zeros(mean.shape, np.int32))
    coder.finish()
    values = symbols.astype(np.int64) * STEPS[step] + mean
    if not _representable(values):
        raise TgvError("out-of-range", offset + used, f"{path}.y", "a latent has more than 32 bits")
    return Latents(model=model, step=step, z=z, y=values.astype(np.int32))


def _open(data: bytes, offset: int, path: str, trace: TraceSink | None) -> SymbolDecoder:
    return TracingSymbolDecoder(data, offset, path, trace) if trace else SymbolDecoder(data, offset, path)


def _representable(values: NDArray[np.int64] | NDArray[np.float64]) -> bool:
    return bool((values >= -(1 << 31)).all() and (values < 1 << 31).all())


def scale_index(scale: NDArray[np.int32], step: int) -> NDArray[np.uint8]:
    """The index 0..63 of the distribution of each latent by its ``scale`` in units of 2^-12."""
    # Numbers of one byte are sorted in linear time.
    return np.maximum(np.searchsorted(_SCALES, scale, "left") - step, 0).astype(np.uint8)


def _code_hyper(coder: SymbolCoder, model: Model, z: Symbols) -> Symbols:
    """Channel by channel, then the escapes."""
    given = z.reshape(len(z), -1)
    coded = np.empty_like(given)
    escapes = []
    for channel, distribution in enumerate(model.hyper):
        coded[channel], places = coder.values(f"z[{channel}]", distribution, given[channel])
        escapes += [(channel, place) for place in places.tolist()]
    for channel, place in escapes:
        value = int(given[channel, place])
        coded[channel, place] = coder.escape(f"z[{channel}]", model.hyper[channel], value)
    return coded.reshape(z.shape)


def _code_latents(coder: SymbolCoder, index: NDArray[np.uint8], symbols: Symbols) -> Symbols:
    """Distribution by distribution, then the escapes."""
    order = np.argsort(index, axis=None, kind="stable")
    sizes = np.bincount(index.ravel(), minlength=len(distributions()))
    given = symbols.ravel()[order]
    coded = np.empty_like(given)
    start = 0
    escapes = []
    for number in np.flatnonzero(sizes).tolist():
        group = slice(start, start + sizes[number])
        coded[group], places = coder.values(f"y[{number}]", distributions()[number], given[group])
        escapes += [(start + place, number) for place in places.tolist()]
        start += sizes[number]
    for place, number in escapes:
        coded[place] = coder.escape(f"y[{number}]", distributions()[number], int(given[place]))
    out = np.empty_like(coded)
    out[order] = coded
    return out.reshape(symbols.shape)
