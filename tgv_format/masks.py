"""Mask sections (specification clause 9.6): which object each part of every frame belongs to.

A label plane is predicted from the plane before it, labels moved as a whole first, and its rows are coded as
their difference from the prediction: which of the predicted edges stay, which move and by how much, which
vanish, and where there are new ones. In the first plane every row is predicted from the row above.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from operator import ne
from typing import Any

import numpy as np
from construct import BitsInteger, BitStruct, Struct
from numpy.typing import NDArray

from tgv_format.entropy import BinaryCoder, Cost, Decoder, Encoder, TraceSink, open_decoder
from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import U8, ParameterError, Range, Reserved, build, parse

SECTION = "masks"
MAX_SCALE_LOG2 = 6

HEADER = Struct(
    "head" / BitStruct("scale_log2" / Range(BitsInteger(3), 0, MAX_SCALE_LOG2), "reserved" / Reserved(5)),
    "label_count" / U8,
)

# What became of the last edge to a label.
_STAYED, _LEFT, _RIGHT, _OTHER = range(4)

#: The byte of every label.
_SAMPLE = [bytes([label]) for label in range(256)]

Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Masks:
    """Labels of the frames 0 .. L of a clip.

    ``labels`` uint8 [L+1, h, w]: 0 is the background, 1 .. C are objects. A label sample covers
    ``2 ** scale_log2`` (0..6) luma samples in both directions, the last ones of a row or column fewer.
    ``motion`` int16 [L, C, 2]: by how many label samples (x, y) each object is moved as a whole from the
    frame before, to predict frames 1 .. L; a choice of the coding.
    """

    labels: Labels
    motion: NDArray[np.int16]
    scale_log2: int

    @property
    def label_count(self) -> int:
        """C, the number of labels without the background."""
        return int(self.motion.shape[1])

    @property
    def last_frame(self) -> int:
        """L, the index of the clip's last frame."""
        return int(self.labels.shape[0]) - 1

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes: the labels of all planes in raster order, as runs."""
        flat = self.labels.reshape(-1)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
        runs = np.stack([flat[starts], np.diff(starts, append=len(flat))], 1)
        return {
            "scale_log2": self.scale_log2,
            "label_count": self.label_count,
            "size": list(self.labels.shape),
            "runs": runs.tolist(),
            "motion": self.motion.tolist(),
        }


def plane_size(width: int, height: int, scale_log2: int) -> tuple[int, int]:
    """Height and width of a label plane for a picture of ``width`` x ``height`` luma samples."""
    return ((height - 1) >> scale_log2) + 1, ((width - 1) >> scale_log2) + 1


def upsample(plane: Labels, width: int, height: int, scale_log2: int) -> Labels:
    """The labels of all luma samples, uint8 [height, width] (clause 9.6.6)."""
    repeated = plane.repeat(1 << scale_log2, 0).repeat(1 << scale_log2, 1)
    return np.ascontiguousarray(repeated[:height, :width])


def moved(plane: Labels, motion: list[list[int]]) -> Labels:
    """``plane`` with each label k moved by ``motion[k - 1]`` label samples (x, y) (clause 9.6.3).

    Vectors are less than the plane in both directions. What a moved label leaves becomes background. It
    covers what is there where it goes; greater labels cover lesser ones.
    """
    height, width = plane.shape
    moving = [(label, x, y) for label, (x, y) in enumerate(motion, 1) if x or y]
    out = plane.copy()
    for label, _, _ in moving:
        out[plane == label] = 0
    for label, x, y in moving:
        target = out[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        source = plane[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
        target[source == label] = label
    return out


def encode(params: Masks, width: int, height: int, limits: Level) -> bytes:
    """The section's bytes; the picture is ``width`` x ``height`` luma samples."""
    validate(params, width, height, limits)
    coder = Encoder(SECTION)
    _Code.of(coder, params).planes(params.last_frame, params)
    data = (
        build(HEADER, head={"scale_log2": params.scale_log2}, label_count=params.label_count) + coder.finish()
    )
    if len(data) > limits.section_bytes:
        raise ParameterError("limit-exceeded", "masks", f"a section of {len(data)} bytes")
    return data


def cost(params: Masks) -> float:
    """Bits that :func:`encode` would take, within a byte or so."""
    coder = Cost(SECTION)
    _Code.of(coder, params).planes(params.last_frame, params)
    return coder.bits + 16


def decode(
    data: bytes,
    offset: int,
    path: str,
    width: int,
    height: int,
    last_frame: int,
    limits: Level,
    trace: TraceSink | None = None,
) -> Masks:
    """Decode a section of a clip with frames 0 .. ``last_frame``; the picture is ``width`` x ``height``."""
    if len(data) > limits.section_bytes:
        raise TgvError("limit-exceeded", offset, path, f"a section of {len(data)} bytes")
    fields, used = parse(HEADER, data, offset, path)
    h, w = plane_size(width, height, fields.head.scale_log2)
    if (last_frame + 1) * h * w > limits.mask_samples:
        raise TgvError("limit-exceeded", offset, path, f"{last_frame + 1} planes of {w}x{h} label samples")
    body = data[used:]
    coder = open_decoder(SECTION, body, offset + used, path, trace)
    code = _Code(coder, h, w, fields.label_count, decoder=coder)
    labels, motion = code.planes(last_frame)
    coder.finish()
    return Masks(labels, motion, fields.head.scale_log2)


def validate(params: Masks, width: int, height: int, limits: Level) -> None:
    """Raise ParameterError unless :func:`encode` can code ``params`` as they are."""
    if not 0 <= params.scale_log2 <= MAX_SCALE_LOG2:
        raise ParameterError("out-of-range", "head.scale_log2", f"{params.scale_log2} is not in 0..6")
    h, w = plane_size(width, height, params.scale_log2)
    if params.labels.shape[1:] != (h, w) or params.labels.dtype != np.uint8 or params.last_frame < 0:
        raise ParameterError("out-of-range", "labels", f"not planes of {w}x{h} bytes")
    if params.motion.shape != (params.last_frame, params.label_count, 2) or params.label_count > 255:
        raise ParameterError("out-of-range", "motion", "not a pair for each label and frame from 1 on")
    if params.labels.size > limits.mask_samples:
        raise ParameterError("limit-exceeded", "labels", f"more than {limits.mask_samples} label samples")
    if (params.labels > params.label_count).any():
        raise ParameterError("out-of-range", "labels", f"a label above {params.label_count}")
    if (abs(params.motion.astype(np.int64)) >= (w, h)).any():
        raise ParameterError("out-of-range", "motion", "a label is moved out of its plane")


class _Code:
    """The syntax of clauses 9.6.2 to 9.6.5, for both directions; ``decoder`` is the coder when it decodes."""

    def __init__(
        self, coder: BinaryCoder, height: int, width: int, count: int, decoder: Decoder | None = None
    ) -> None:
        self.coder, self.decoder = coder, decoder
        self.height, self.width, self.count = height, width, count

    @classmethod
    def of(cls, coder: BinaryCoder, params: Masks) -> _Code:
        """For encoding ``params``."""
        _, height, width = params.labels.shape
        return cls(coder, height, width, params.label_count)

    def planes(self, last_frame: int, params: Masks | None = None) -> tuple[Labels, NDArray[np.int16]]:
        """masks(): all planes, and how their labels are moved."""
        coder = self.coder
        labels = np.zeros((last_frame + 1, self.height, self.width), np.uint8)
        motion = np.zeros((last_frame, self.count, 2), np.int16)
        moving, still = 0, 2
        for t in range(last_frame + 1 if self.count else 0):
            predicted = labels[max(t - 1, 0)]
            if t:
                vectors = [] if params is None else params.motion[t - 1].tolist()
                coder.element = ("motion", t, "moving")
                moving = coder.bit("moving", moving, int(any(map(any, vectors))))
                if moving:
                    vectors = self._vectors(t, vectors)
                    motion[t - 1] = vectors
                    predicted = moved(predicted, vectors)
            before = predicted.tobytes()
            target = b"" if params is None else params.labels[t].tobytes()
            coder.element = ("labels", t, "still")
            still = coder.bit("still", still, target == before)
            plane = before if still else self._plane(t, bytearray(before), target)
            labels[t] = np.frombuffer(plane, np.uint8).reshape(labels.shape[1:])
        return labels, motion

    def _vectors(self, t: int, vectors: list[list[int]]) -> list[list[int]]:
        """vectors(): by how much each label but the background is moved."""
        coder = self.coder
        coder.element = ("motion", t, "vector")
        if self.decoder:
            vectors = [[0, 0] for _ in range(self.count)]
        for vector in vectors:
            for axis, size in ((0, self.width), (1, self.height)):
                vector[axis] = coder.signed("vector", axis, vector[axis])
                if abs(vector[axis]) >= size:
                    raise self._error("out-of-range", "a label is moved out of its plane")
        if not any(map(any, vectors)):
            raise self._error("non-canonical", "no label is moved")
        return vectors

    def _plane(self, t: int, plane: bytearray, target: bytes) -> bytearray:
        """plane(): runs of rows that are as predicted, and rows between them that are not.

        ``plane`` holds the prediction from the frame before.
        """
        coder, width, height = self.coder, self.width, self.height
        self.temporal = int(t > 0)
        self.fate = [_STAYED] * (self.count + 1)
        above, y, later = bytearray(width), 0, 0
        while True:
            run = 0 if self.decoder else self._same_rows(plane, target, above, y)
            coder.element = ("labels", t, "same_rows")
            run = coder.unsigned("same_rows", 10 * (2 * self.temporal + later), run)
            if run > height - y:
                raise self._error("out-of-range", f"{run} rows where {height - y} are left")
            if not t:
                plane[y * width : (y + run) * width] = above * run
            y += run
            if y == height:
                if not later:
                    raise self._error("non-canonical", "a plane is coded as still by its flag")
                return plane
            begin, end = y * width, (y + 1) * width
            if run:
                above = plane[begin - width : begin]
            coder.element = ("labels", t, "row")
            reference = plane[begin:end] if t else above
            above = plane[begin:end] = self._row(reference, above, target[begin:end])
            y, later = y + 1, 1
            if y == height:
                return plane

    def _same_rows(self, plane: bytearray, target: bytes, above: bytearray, y: int) -> int:
        """How many rows from ``y`` on are as predicted."""
        width, first = self.width, y
        while y < self.height:
            row = target[y * width : (y + 1) * width]
            if row != (plane[y * width : (y + 1) * width] if self.temporal else above):
                break
            y += 1
        return y - first

    def _row(self, reference: bytearray, above: bytearray, target: bytes) -> bytearray:
        """row(): a row that differs from its prediction ``reference``; ``above`` is the row above it."""
        coder, width, count, fate = self.coder, self.width, self.count, self.fate
        decoding, temporal = self.decoder is not None, self.temporal
        edges = [*compress(range(width), map(ne, reference, b"\0" + reference)), width]
        out = bytearray()
        x, label, excluded, i, changed = 0, 0, {0}, 0, False
        at = to = 0
        while x < width:
            edge = edges[i]
            while edge < x or (edge < width and reference[edge] in excluded):
                i += 1
                edge = edges[i]
            if not decoding:
                at = x
                while at < width and target[at] == label:
                    at += 1
                to = target[at] if at < width else -1
            if edge == width:
                if changed and (len(excluded) > count or coder.bit("end", temporal, at == width)):
                    break
                changed = True
                at, to = self._new(x, edge, excluded, reference, above, at, to)
            else:
                head = reference[edge]
                c = 4 * (temporal and 1 + (above[edge] == head)) + fate[head]
                if (changed or edge + 1 < width) and coder.bit("stay", c, at == edge and to == head):
                    at, to = edge, head
                    fate[head] = _STAYED
                else:
                    changed = True
                    if (x < edge or edge + 1 < width) and coder.bit("shift", c, to == head):
                        at, to = self._shift(c, x, edge, at), head
                        fate[head] = _LEFT if at < edge else _RIGHT
                    elif len(excluded) >= count or coder.bit("pass", temporal, at > edge):
                        excluded.add(head)
                        fate[head] = _OTHER
                        x = edge + 1
                        continue
                    else:
                        at, to = self._new(x, edge, excluded, reference, above, at, to)
            out += _SAMPLE[label] * (at - len(out))
            x, label, excluded = at + 1, to, {to}
        return out + _SAMPLE[label] * (width - len(out))

    def _shift(self, c: int, x: int, edge: int, at: int) -> int:
        """shift(): where the edge is that was predicted at ``edge``."""
        coder = self.coder
        left = x < edge
        if left and edge + 1 < self.width:
            left = bool(coder.bit("shift_left", c, at < edge))
        distance = 1 + coder.unsigned("distance", 10 * self.temporal, abs(at - edge) - 1)
        at = edge - distance if left else edge + distance
        self._check(at, x, self.width - 1)
        return at

    def _new(
        self,
        x: int,
        edge: int,
        excluded: set[int],
        reference: bytearray,
        above: bytearray,
        at: int,
        to: int,
    ) -> tuple[int, int]:
        """new_edge(): place and label of an edge that is not predicted."""
        coder, temporal = self.coder, self.temporal
        last = min(edge, self.width - 1)
        barred = excluded if edge == self.width else excluded | {reference[edge]}
        if temporal:
            model = next((i for i in range(x, last + 1) if above[i] not in barred), None)
            if model is not None:
                head = above[model]
                if len(barred) == self.count or coder.bit("follow", 0, to == head):
                    at = model + coder.signed("offset", 0, at - model)
                    self._check(at, x, last)
                    self.fate[head] = _OTHER
                    return at, head
                barred = barred | {head}
        at = x + coder.unsigned("gap", 10 * temporal, at - x)
        self._check(at, x, last)
        label, choice = 0, self.count + 1 - len(barred)
        if choice > 1:
            label = coder.unsigned("rank", 10 * temporal, to - sum(k < to for k in barred))
            if label >= choice:
                raise self._error("out-of-range", f"label {label} of a choice of {choice}")
        for other in sorted(barred):
            label += other <= label
        self.fate[label] = _OTHER
        return at, label

    def _check(self, at: int, first: int, last: int) -> None:
        if not first <= at <= last:
            raise self._error("out-of-range", f"an edge at {at}, which is not in {first}..{last}")

    def _error(self, identifier: str, detail: str) -> Exception:
        if self.decoder:
            return self.decoder.error(identifier, detail)
        return ParameterError(identifier, str(self.coder.element), detail)
