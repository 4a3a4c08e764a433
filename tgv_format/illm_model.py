"""Model files of learned keyframes (specification clause 7.6.2): all that decoding latents needs.

A model is the integer part of a hyperprior network: the frequencies of the hyper latents and two integer
networks, which make means and scales of the latents from them. It is identified by the SHA-256 of its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from construct import Bytes, Int32sb, Struct
from numpy.typing import NDArray

from tgv_format.errors import TgvError
from tgv_format.range_coder import PRECISION
from tgv_format.symbol_coder import Distribution
from tgv_format.syntax import U8, Range, build, parse, uleb128

MAGIC = b"\x89TGM\r\n\x1a\n"
VERSION = 0
#: The first bytes of the SHA-256 of a model file, which a keyframe begins with.
IDENTITY_BYTES = 4
#: The end of the names of model files.
SUFFIX = ".tgvm"
_SHA256_BYTES = 32

#: Activations, means, scales and medians have 12 fractional bits and a magnitude below 2^23.
FRACTION_BITS = 12
ACTIVATION_MAX = (1 << 23) - 1
MAX_CHANNELS = 512
MAX_SYMBOL = 2047
MAX_SHIFT = 24
MAX_BIAS = 1 << 52
#: Sizes of the kernels of the three layers of either network.
KERNELS = (5, 5, 3)

HEADER = Struct(
    "magic" / Bytes(8),
    "version" / U8,
    "latent_channels" / uleb128(1, MAX_CHANNELS),
    "hyper_channels" / uleb128(1, MAX_CHANNELS),
)
CHANNEL = Struct(
    "median" / Range(Int32sb, -ACTIVATION_MAX, ACTIVATION_MAX),
    "below" / uleb128(0, MAX_SYMBOL),
    "above" / uleb128(0, MAX_SYMBOL),
)


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution with integer weights: of the kernel sizes 5 a transposed one of stride 2.

    ``weights`` int16 (out, in, size, size); ``shift`` uint8 (out,), 1..24: a sum has ``12 + shift``
    fractional bits; ``bias`` int64 (out,), of that scale and of a magnitude of 2^52 at most.
    """

    weights: NDArray[np.int16]
    shift: NDArray[np.uint8]
    bias: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Model:
    """A model file: ``hyper`` and ``medians`` (int32, in 2^-12) of the M hyper channels, two networks."""

    hyper: tuple[Distribution, ...]
    medians: NDArray[np.int32]
    mean: tuple[Layer, ...]
    scale: tuple[Layer, ...]
    sha256: bytes

    @property
    def identity(self) -> bytes:
        return self.sha256[:IDENTITY_BYTES]

    @property
    def latent_channels(self) -> int:
        """N."""
        return len(self.mean[-1].bias)

    @property
    def hyper_channels(self) -> int:
        """M."""
        return len(self.hyper)


def write(
    hyper: Sequence[Distribution], medians: NDArray[np.int32], mean: Sequence[Layer], scale: Sequence[Layer]
) -> bytes:
    """The model file; ParameterError or TgvError for parts that no model may have."""
    parts = [
        build(
            HEADER,
            magic=MAGIC,
            version=VERSION,
            latent_channels=len(mean[-1].bias),
            hyper_channels=len(hyper),
        )
    ]
    for distribution, median in zip(hyper, medians.tolist(), strict=True):
        parts.append(build(CHANNEL, median=median, below=-distribution.low, above=distribution.high))
        parts.append(distribution.frequencies.astype(">u4").tobytes())
    for layer in (*mean, *scale):
        parts += [layer.weights.astype(">i2").tobytes(), layer.shift.tobytes()]
        parts.append(layer.bias.astype(">i8").tobytes())
    data = b"".join(parts)
    data += hashlib.sha256(data).digest()
    read(data)
    return data


def read(data: bytes, path: str = "model") -> Model:
    """The model of a file.

    TgvError ``bad-magic``, ``digest-mismatch`` (the file is not what was written), ``truncated``,
    ``unsupported-version``, ``uleb128-invalid``, ``out-of-range`` or ``trailing-data``; ``path`` begins the
    paths of elements.
    """
    if not data.startswith(MAGIC):
        raise TgvError("bad-magic", 0, path, "this is no model file")
    contents, sha256 = data[:-_SHA256_BYTES], data[-_SHA256_BYTES:]
    if hashlib.sha256(contents).digest() != sha256:
        raise TgvError(
            "digest-mismatch", len(contents), path, "the file is damaged: it is not of its own SHA-256"
        )
    return _Reader(contents, path).model(sha256)


class _Reader:
    """Reads the contents of a model file from front to back."""

    def __init__(self, data: bytes, path: str) -> None:
        self._data = data
        self._path = path
        self._position = 0

    def model(self, sha256: bytes) -> Model:
        head = self._fields(HEADER, self._path)
        if head.version != VERSION:
            raise TgvError(
                "unsupported-version", len(MAGIC), self._path, f"version {head.version} of model files"
            )
        hyper, medians = [], []
        for channel in range(head.hyper_channels):
            path = f"{self._path}.hyper[{channel}]"
            fields = self._fields(CHANNEL, path)
            frequencies = self._array(">u4", (fields.below + fields.above + 2,), path)
            if not frequencies.all() or frequencies.sum(dtype=np.uint64) != 1 << PRECISION:
                raise TgvError("out-of-range", self._position, path, "frequencies do not sum to 2^24")
            hyper.append(Distribution(-fields.below, frequencies.astype(np.int32)))
            medians.append(fields.median)
        mean, scale = (
            tuple(self._layers(head.latent_channels, head.hyper_channels, f"{self._path}.{name}"))
            for name in ("mean", "scale")
        )
        if self._position != len(self._data):
            raise TgvError("trailing-data", self._position, self._path, "bytes follow the last layer")
        return Model(tuple(hyper), np.array(medians, np.int32), mean, scale, sha256)

    def _layers(self, latent: int, hidden: int, path: str) -> Iterator[Layer]:
        for number, (outputs, size) in enumerate(zip((hidden, hidden, latent), KERNELS, strict=True)):
            place = f"{path}[{number}]"
            weights = self._array(">i2", (outputs, hidden, size, size), place)
            shift = self._array(">u1", (outputs,), place)
            if not np.logical_and(shift >= 1, shift <= MAX_SHIFT).all():
                raise TgvError("out-of-range", self._position, place, f"a shift is not in 1..{MAX_SHIFT}")
            bias = self._array(">i8", (outputs,), place)
            if not np.logical_and(bias >= -MAX_BIAS, bias <= MAX_BIAS).all():
                raise TgvError("out-of-range", self._position, place, "a bias exceeds 2^52")
            yield Layer(weights.astype(np.int16), shift.astype(np.uint8), bias.astype(np.int64))

    def _fields(self, declaration: Any, path: str) -> Any:
        fields, used = parse(declaration, self._data[self._position :][:64], self._position, path)
        self._position += used
        return fields

    def _array(self, dtype: str, shape: tuple[int, ...], path: str) -> NDArray[Any]:
        count = int(np.prod(shape))
        end = self._position + count * np.dtype(dtype).itemsize
        if end > len(self._data):
            raise TgvError("truncated", len(self._data), path, "the file ends here")
        found = np.frombuffer(self._data, dtype, count, self._position)
        self._position = end
        return found.reshape(shape)


@cache
def small_model() -> Model:
    """The model of clause 7.6.9, which every decoder has: N = 8, M = 6, random weights."""
    return read(small_model_file())


def small_model_file() -> bytes:
    """The file of :func:`small_model`."""
    draw = _Draw()
    hyper, medians = [], []
    for _ in range(6):
        below, above = draw.number(3, 8), draw.number(3, 8)
        frequencies = [draw.number(1, 1 << 19) for _ in range(below + above + 2)]
        frequencies[below] += (1 << PRECISION) - sum(frequencies)
        hyper.append(Distribution(-below, np.array(frequencies, np.int32)))
        medians.append(draw.number(-4096, 4095))
    mean, scale = ([draw.layer(*shape) for shape in ((6, 5), (6, 5), (8, 3))] for _ in range(2))
    return write(hyper, np.array(medians, np.int32), mean, scale)


class _Draw:
    """The linear congruential generator of clause 7.6.9."""

    def __init__(self) -> None:
        self._state = 1

    def number(self, low: int, high: int) -> int:
        """``low .. high``."""
        self._state = (self._state * 1664525 + 1013904223) & 0xFFFFFFFF
        return low + ((self._state >> 8) * (high - low + 1) >> 24)

    def layer(self, outputs: int, size: int) -> Layer:
        shape = (outputs, 6, size, size)
        weights = [self.number(-32767, 32767) for _ in range(outputs * 6 * size * size)]
        shift = [self.number(15, 17) for _ in range(outputs)]
        bias = [self.number(-(1 << 23), (1 << 23) - 1) << (s - 10) for s in shift]
        return Layer(
            np.array(weights, np.int16).reshape(shape), np.array(shift, np.uint8), np.array(bias, np.int64)
        )
