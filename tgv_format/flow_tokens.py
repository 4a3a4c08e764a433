"""Flow token sections (specification clause 9.4): the optical flow of every frame as a few numbers.

A token is followed through the clip like a coordinate of a trajectory: it is zero in frame 0, its value
in the last frame is sent, and, where straight interpolation is not enough, deviations at the middle of
ever shorter intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from construct import BitsInteger, BitStruct, Struct
from numpy.typing import NDArray

from tgv_format.entropy import BinaryCoder, Cost, Decoder, Encoder, TraceSink, open_decoder
from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import ParameterError, Range, build, parse, uleb128
from tgv_format.tables import load

SECTION = "flow_tokens"
MAX_TOKENS = 64
MAX_STEP = 4096

_TABLE = load("flow_basis")
#: Horizontal and vertical frequency of every token, in half periods per picture.
FREQUENCIES: list[list[int]] = _TABLE["frequencies"]
_COSINE = np.array(_TABLE["cosine"], np.int64)
_QUARTER = len(_COSINE) - 1
_UNITY = 1 << 14
#: The farthest that a flow points, in 1/16 luma samples.
FLOW_LIMIT = 1 << 18

_CLASSES = 6
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1


class Tokenizer(IntEnum):
    """Registered tokenizers."""

    COSINE = 0
    LEARNED = 1


HEADER = Struct(
    "head"
    / BitStruct(
        "tokenizer_id" / Range(BitsInteger(2), min(Tokenizer), max(Tokenizer), "reserved-value"),
        "tokens_minus1" / BitsInteger(6),
    ),
    "step" / uleb128(1, MAX_STEP),
)


@dataclass(frozen=True, eq=False)
class FlowTokens:
    """The flow of the frames 1 .. L of a clip, each towards frame 0, in K numbers per component.

    ``tokens`` int16 [L, 2, K]: of the horizontal and of the vertical component.
    ``step`` 1..4096: quantiser step; of :attr:`Tokenizer.COSINE` in 1/16 luma samples.
    """

    tokens: NDArray[np.int16]
    step: int
    tokenizer_id: Tokenizer = Tokenizer.COSINE

    @property
    def last_frame(self) -> int:
        """L, the index of the clip's last frame."""
        return int(self.tokens.shape[0])

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {
            "tokenizer_id": int(self.tokenizer_id),
            "step": self.step,
            "tokens": self.tokens.tolist(),
        }


def encode(params: FlowTokens, limits: Level) -> bytes:
    """The section's bytes."""
    validate(params, limits)
    head = {"tokenizer_id": int(params.tokenizer_id), "tokens_minus1": params.tokens.shape[2] - 1}
    coder = Encoder(SECTION)
    _Code.of(coder, params).tokens()
    data = build(HEADER, head=head, step=params.step) + coder.finish()
    if len(data) > limits.section_bytes:
        raise ParameterError("limit-exceeded", "flow_tokens", f"a section of {len(data)} bytes")
    return data


def cost(params: FlowTokens) -> float:
    """Bits that :func:`encode` would take, within a byte or so."""
    coder = Cost(SECTION)
    _Code.of(coder, params).tokens()
    return coder.bits + 24


def decode(
    data: bytes, offset: int, path: str, last_frame: int, limits: Level, trace: TraceSink | None = None
) -> FlowTokens:
    """Decode a section of a clip with frames 0 .. ``last_frame``."""
    if len(data) > limits.section_bytes:
        raise TgvError("limit-exceeded", offset, path, f"a section of {len(data)} bytes")
    fields, used = parse(HEADER, data, offset, path)
    count = fields.head.tokens_minus1 + 1
    if count > limits.flow_tokens:
        raise TgvError("limit-exceeded", offset, f"{path}.head.tokens_minus1", f"{count} tokens")
    body = data[used:]
    coder = open_decoder(SECTION, body, offset + used, path, trace)
    code = _Code(coder, count, last_frame, decoder=coder)
    code.tokens()
    coder.finish()
    values = np.array(code.values, np.int16)
    return FlowTokens(
        np.ascontiguousarray(values[:, :, 1:].transpose(2, 0, 1)),
        fields.step,
        Tokenizer(fields.head.tokenizer_id),
    )


def validate(params: FlowTokens, limits: Level) -> None:
    """Raise ParameterError unless :func:`encode` can code ``params`` as they are."""
    tokens = params.tokens
    if tokens.ndim != 3 or tokens.shape[0] < 1 or tokens.shape[1] != 2 or tokens.shape[2] < 1:
        raise ParameterError("out-of-range", "tokens", f"the shape {tokens.shape} is not [L, 2, K]")
    if tokens.dtype != np.int16:
        raise ParameterError("out-of-range", "tokens", f"tokens are int16, not {tokens.dtype}")
    if tokens.shape[2] > limits.flow_tokens:
        raise ParameterError("limit-exceeded", "head.tokens_minus1", f"{tokens.shape[2]} tokens")
    if params.tokenizer_id not in set(Tokenizer):
        raise ParameterError("reserved-value", "head.tokenizer_id", f"{params.tokenizer_id} is unknown")
    if not 1 <= params.step <= MAX_STEP:
        raise ParameterError("out-of-range", "step", f"{params.step} is not in 1..{MAX_STEP}")


class _Code:
    """The syntax of clause 9.4.2, once for both directions.

    In an encoder ``values`` holds what is coded; in a decoder, which is given as ``decoder`` and makes the
    errors, it is filled as the values come. ``sizes`` are the magnitudes of what was coded: the last token
    and the deviations, each at its frame; ``splits`` the intervals that were split, each at its middle.
    """

    def __init__(self, coder: BinaryCoder, count: int, last: int, decoder: Decoder | None = None) -> None:
        self.coder = coder
        self.decoder = decoder
        self.count = count
        self.last = last
        self.values = [[[0] * (last + 1) for _ in range(count)] for _ in range(2)]
        # Two tokens of zeros before the first one.
        self.sizes = [[[0] * (last + 1) for _ in range(count + 2)] for _ in range(2)]
        self.splits = [[[0] * (last + 1) for _ in range(count + 2)] for _ in range(2)]

    @classmethod
    def of(cls, coder: BinaryCoder, params: FlowTokens) -> _Code:
        """Ready to encode ``params``."""
        code = cls(coder, params.tokens.shape[2], params.last_frame)
        code.values = [
            [[0, *path] for path in component] for component in params.tokens.T.swapaxes(0, 1).tolist()
        ]
        return code

    def tokens(self) -> None:
        """tokens(): every token of both components, from the lowest frequency on."""
        coder = self.coder
        last = self.last
        for k in range(self.count):
            for c in (0, 1):
                coder.element = ("tokens", 2 * k + c, "last_token")
                path = self.values[c][k]
                near = _near(self.sizes, c, k, last)
                path[last] = coder.signed("last_token", min(near.bit_length(), _CLASSES - 1), path[last])
                self._check(path[last])
                self.sizes[c][k + 2][last] = abs(path[last])
                coder.element = ("tokens", 2 * k + c, "path")
                if last > 1:
                    self._interval(path, c, k, 0, last, (abs(path[last]) + 3) >> 2)

    def _interval(self, path: list[int], c: int, k: int, a: int, b: int, parent: int) -> None:
        """interval(): the values strictly between frames a and b (clause 9.4.2)."""
        coder = self.coder
        steps = b - a
        start, change, middle = path[a], path[b] - path[a], (a + b) >> 1
        size = min(3, steps.bit_length() - 2)
        slope = 0 if change == 0 else 1 if 2 * abs(change) <= steps else 2
        activity = (size * 3 + min(parent, 2)) * 3 + slope
        offset = activity * 3 + min(_near(self.splits, c, k, middle), 2)
        split = not self.decoder and path[a + 1 : b] != _line(start, change, steps)
        if not coder.bit("split", offset, split):
            path[a + 1 : b] = _line(start, change, steps)
            return
        self.splits[c][k + 2][middle] = 1
        predicted = start + (2 * change * (middle - a) + steps) // (2 * steps)
        near = _near(self.sizes, c, k, middle) + parent
        row = min(near.bit_length(), _CLASSES - 1) + (_CLASSES if steps > 2 else 0)
        deviation = coder.signed("deviation", row, path[middle] - predicted)
        path[middle] = predicted + deviation
        self._check(path[middle])
        self.sizes[c][k + 2][middle] = abs(deviation)
        if middle - a > 1:
            self._interval(path, c, k, a, middle, abs(deviation))
        if b - middle > 1:
            self._interval(path, c, k, middle, b, abs(deviation))
        if not deviation and path[a + 1 : b] == _line(start, change, steps):
            raise self._error("non-canonical", "a straight interval is split")

    def _check(self, value: int) -> None:
        if not _LOW <= value <= _HIGH:
            raise self._error("out-of-range", f"the token {value} has more than 16 bits")

    def _error(self, identifier: str, detail: str) -> Exception:
        if self.decoder:
            return self.decoder.error(identifier, detail)
        return ParameterError(identifier, str(self.coder.element), detail)


def _line(start: int, change: int, steps: int) -> list[int]:
    """The values strictly between two frames ``steps`` apart, in equal steps from ``start`` on."""
    return [start + (change * way + steps) // (2 * steps) for way in range(2, 2 * steps, 2)]


def _near(table: list[list[list[int]]], c: int, k: int, t: int) -> int:
    """near(): sum over the two tokens before, and the other component's latest one."""
    own = table[c]
    return own[k + 1][t] + own[k][t] + table[1 - c][k + 1 + c][t]


def basis(frequency: int | NDArray[np.int64], positions: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The integer cosine of clause 9.4.3 at ``positions`` on a side of ``size`` luma samples.

    Positions are in 1/16 luma samples, 0 at the centre of the first. Values are in units of 2^-14; their
    mean square over the side is about 1.
    """
    phase = ((positions + 8) * (frequency * (_QUARTER >> 3)) + (size >> 1)) // size & (4 * _QUARTER - 1)
    phase = np.minimum(phase, 4 * _QUARTER - phase)
    wave = np.where(phase <= _QUARTER, 1, -1) * _COSINE[np.minimum(phase, 2 * _QUARTER - phase)]
    return np.where(np.equal(frequency, 0), _UNITY, wave)


def with_flow(params: FlowTokens | None) -> FlowTokens | None:
    """The tokens if there are any and clause 9.4.3 says what they mean, else None."""
    return params if params is not None and params.tokenizer_id == Tokenizer.COSINE else None


def flow(
    params: FlowTokens, t: int, positions: NDArray[np.int64], height: int, width: int
) -> NDArray[np.int64]:
    """The flow of frame ``t`` at ``positions`` int64 [..., 2] (clause 9.4.3).

    int64 [..., 2]; both are (x, y) in 1/16 luma samples. ``t`` 1 .. L; ``height`` and ``width`` are those of
    the picture in luma samples. ValueError for a learned tokenizer, which this document does not describe.
    """
    horizontal, vertical, tokens = _amplitudes(params, t)
    across = _cosines(horizontal, positions[..., 0], width)[horizontal]
    down = _cosines(vertical, positions[..., 1], height)[vertical]
    return _flow(np.tensordot(across * down, tokens, (0, 1)), params.step)


class PlaneFlow:
    """What :func:`flow` has at all luma samples of a picture, frame by frame; ValueError where it has one."""

    def __init__(self, params: FlowTokens, height: int, width: int) -> None:
        self._params = params
        horizontal, vertical, _ = _amplitudes(params, 1)
        self._across = _cosines(horizontal, 16 * np.arange(width), width)
        self._down = _cosines(vertical, 16 * np.arange(height), height)

    def frame(self, t: int) -> NDArray[np.int64]:
        """int64 [2, height, width], (x, y) in 1/16 luma samples, of frame ``t`` 1 .. L."""
        horizontal, vertical, tokens = _amplitudes(self._params, t)
        spectrum = np.zeros((2, len(self._down), len(self._across)))
        spectrum[:, vertical, horizontal] = tokens
        return _flow(self._down.T @ spectrum @ self._across, self._params.step)


def _amplitudes(
    params: FlowTokens, t: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Frequencies [K] across and down, and the tokens [2, K] of frame ``t``."""
    if with_flow(params) is None:
        raise ValueError(f"tokens of tokenizer {params.tokenizer_id} have no normative flow")
    tokens = params.tokens[t - 1].astype(np.float64)
    horizontal, vertical = np.array(FREQUENCIES[: tokens.shape[1]]).T
    return horizontal, vertical, tokens


def _cosines(frequencies: NDArray[np.int64], positions: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """[F, ...]: the cosines of all frequencies up to the highest along one side, integers as float64."""
    known = np.arange(int(frequencies.max()) + 1).reshape(-1, *[1] * positions.ndim)
    return basis(known, positions, size).astype(np.float64)


def _flow(sums: NDArray[np.float64], step: int) -> NDArray[np.int64]:
    """The flow that has these sums of tokens times cosines."""
    # They and their partial sums are integers below 2^50, hence exact in any order.
    scaled = sums.astype(np.int64)
    scaled *= step
    scaled += 1 << 27
    scaled >>= 28
    return np.clip(scaled, -FLOW_LIMIT, FLOW_LIMIT, out=scaled)
