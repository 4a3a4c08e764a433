"""Camera pose sections (specification clause 9.5): where the camera is in the frames of a clip (CPSGD).

Poses are sent for some frames of the clip, the key frames: for the last one, and for the middle of every
interval that is split. All other poses lie on curves between the key frames: straight lines, or parabolas
as bent as the interval around was found to be. The same curves predict the key frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from construct import BitsInteger, BitStruct, Flag, Struct
from numpy.typing import NDArray

from tgv_format.entropy import BinaryCoder, Cost, Decoder, Encoder, TraceSink, open_decoder
from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import ParameterError, Reserved, build, parse

SECTION = "camera_poses"
#: The finest step is step 0; the greatest magnitude of a coordinate of a pose or plane, in steps.
MAX_STEP = 63
MAX_TRANSLATION = 1 << 19
MAX_PLANE = 1 << 11
PLANE_UNIT = 256
#: Intrinsics are in sixteenths of a luma sample.
INTRINSICS_UNIT = 16
_FOCAL_SIDES = 8
#: Contexts: the level of the last key frame, above the four of lengths of intervals; a row of magnitudes;
#: the rotation that moves the picture as a translation does.
_END = 4
_ROW = 10
_PARTNER = (1, 0, 2)
_ROTATION_LIMIT = 8 << 18

HEADER = Struct(
    "rotation" / BitStruct("calibrated" / Flag, "plane" / Flag, "step" / BitsInteger(6)),
    "translation" / BitStruct("curved" / Flag, "reserved" / Reserved(1), "step" / BitsInteger(6)),
)

Pose = list[int]


@dataclass(frozen=True, eq=False)
class CameraPoses:
    """The path of the camera over the L + 1 frames of a clip.

    ``frames`` int32 [K]: the key frames in ascending order, without frame 0; the last one is L.
    ``poses`` int32 [K, 6]: rotation vector and translation of E_t E_0^-1, the transform from camera
    coordinates in frame 0 to those in frame t, in units of ``step_size(rotation_step)`` radians and
    ``step_size(translation_step)`` lengths; steps are 0..63.
    ``curved``: poses between key frames lie on parabolas instead of straight lines.
    ``intrinsics`` int32 [4]: fx, fy, cx, cy in sixteenths of a luma sample.
    ``plane`` int32 [3] or None: n / d of the dominant plane n·X = d in frame 0, in 1/256 of an inverse
    length.
    """

    frames: NDArray[np.int32]
    poses: NDArray[np.int32]
    curved: bool
    rotation_step: int
    translation_step: int
    intrinsics: NDArray[np.int32]
    plane: NDArray[np.int32] | None = None

    @property
    def last_frame(self) -> int:
        """L, the index of the clip's last frame."""
        return int(self.frames[-1])

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {
            "intrinsics": self.intrinsics.tolist(),
            "plane": [] if self.plane is None else self.plane.tolist(),
            "curved": int(self.curved),
            "rotation_step": self.rotation_step,
            "translation_step": self.translation_step,
            "frames": self.frames.tolist(),
            "poses": self.poses.tolist(),
        }


def step_size(step: int) -> float:
    """The unit that a step number 0..63 stands for: 4, 5, 6 or 7 times a power of two, 2^-16 to 0.875."""
    return float((4 + (step & 3)) * 2.0 ** ((step >> 2) - 18))


def rotation_limit(step: int) -> int:
    """The greatest magnitude of a component of a rotation vector: 8 radians."""
    return (_ROTATION_LIMIT >> (step >> 2)) // (4 + (step & 3))


def default_intrinsics(width: int, height: int) -> list[int]:
    """A focal length of the larger side of the picture, and its centre (clause 9.5.1)."""
    focal = INTRINSICS_UNIT * max(width, height)
    return [focal, focal, INTRINSICS_UNIT // 2 * (width - 1), INTRINSICS_UNIT // 2 * (height - 1)]


@dataclass(frozen=True)
class Interval:
    """An interval between two key frames, a and b, and the curve on it (clause 9.5.3).

    ``bend`` is how far the middle of the interval around it lies from the chord of that interval, and
    ``weight`` the product of that middle's distances from its ends; the curve leaves the chord by ``bend``
    times the product of the distances from a and b over ``weight``.
    """

    a: int
    b: int
    bend: Pose
    weight: int

    @property
    def middle(self) -> int:
        return (self.a + self.b) >> 1

    def chord(self, start: Pose, end: Pose) -> Pose:
        """The pose at the middle on a straight line, rounded."""
        steps, part = self.b - self.a, self.middle - self.a
        return [p + (2 * (q - p) * part + steps) // (2 * steps) for p, q in zip(start, end, strict=True)]

    def predicted(self, chord: Pose) -> Pose:
        """The pose at the middle on the curve, rounded."""
        part, weight = (self.middle - self.a) * (self.b - self.middle), self.weight
        return [p + (2 * c * part + weight) // (2 * weight) for p, c in zip(chord, self.bend, strict=True)]

    def halves(self, pose: Pose, chord: Pose, curved: bool) -> tuple[Interval, Interval]:
        """The intervals on both sides of the key frame ``pose`` at the middle."""
        middle = self.middle
        bend = [p - q for p, q in zip(pose, chord, strict=True)] if curved else self.bend
        weight = (middle - self.a) * (self.b - middle)
        return Interval(self.a, middle, bend, weight), Interval(middle, self.b, bend, weight)

    def inside(self, start: Pose, end: Pose) -> NDArray[np.float64]:
        """The poses strictly between the ends, float64 [b - a - 1, 6]."""
        t = np.arange(1, self.b - self.a)[:, None]
        first, steps = np.array(start, np.float64), self.b - self.a
        curve: NDArray[np.float64] = np.array(self.bend, np.float64) * (t * (steps - t) / self.weight)
        return first + (np.array(end) - first) * (t / steps) + curve


def whole(last: int) -> Interval:
    """All of a clip."""
    return Interval(0, last, [0] * 6, 1)


def intervals(params: CameraPoses) -> Iterator[tuple[Interval, Pose, Pose]]:
    """The intervals that are not split, and the poses at their ends."""
    keys = _keys(params)
    pending = [whole(params.last_frame)]
    while pending:
        interval = pending.pop()
        start, end = keys[interval.a], keys[interval.b]
        if interval.middle in keys and interval.b - interval.a > 1:
            pending += interval.halves(keys[interval.middle], interval.chord(start, end), params.curved)
        else:
            yield interval, start, end


def matrices(params: CameraPoses) -> NDArray[np.float64]:
    """E_t E_0^-1 of all frames, float64 [L+1, 4, 4] (clause 9.5.4).

    A point X of camera coordinates in frame 0 is R X + T in frame t, R and T being the upper rows.
    """
    poses = np.zeros((params.last_frame + 1, 6))
    for interval, start, end in intervals(params):
        poses[interval.b] = end
        poses[interval.a + 1 : interval.b] = interval.inside(start, end)
    vectors = poses[:, :3] * step_size(params.rotation_step)
    half = np.sqrt((vectors * vectors).sum(axis=1)) / 2
    w = np.cos(half)
    x, y, z = (vectors / 2 * np.sinc(half / np.pi)[:, None]).T
    out = np.zeros((len(poses), 4, 4))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    out[:, :3, :3] = np.moveaxis(np.array(rows), 2, 0)
    out[:, :3, 3] = poses[:, 3:] * step_size(params.translation_step)
    out[:, 3, 3] = 1
    return out


def _keys(params: CameraPoses) -> dict[int, Pose]:
    """Key poses by frame, that of frame 0 among them."""
    return {0: [0] * 6} | dict(zip(params.frames.tolist(), params.poses.tolist(), strict=True))


def encode(params: CameraPoses, width: int, height: int, limits: Level) -> bytes:
    """The section's bytes; the picture is ``width`` x ``height`` luma samples."""
    validate(params, width, height, limits)
    calibrated = params.intrinsics.tolist() != default_intrinsics(width, height)
    coder = Encoder(SECTION)
    _Code.of(coder, params, width, height).section()
    rotation = {"calibrated": calibrated, "plane": params.plane is not None, "step": params.rotation_step}
    translation = {"curved": params.curved, "step": params.translation_step}
    data = build(HEADER, rotation=rotation, translation=translation) + coder.finish()
    if len(data) > limits.section_bytes:
        raise ParameterError("limit-exceeded", "camera_poses", f"a section of {len(data)} bytes")
    return data


def cost(params: CameraPoses, width: int, height: int) -> float:
    """Bits that :func:`encode` would take, within a byte or so."""
    coder = Cost(SECTION)
    _Code.of(coder, params, width, height).section()
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
) -> CameraPoses:
    """Decode a section of a clip with frames 0 .. ``last_frame``; the picture is ``width`` x ``height``."""
    if len(data) > limits.section_bytes:
        raise TgvError("limit-exceeded", offset, path, f"a section of {len(data)} bytes")
    fields, used = parse(HEADER, data, offset, path)
    body = data[used:]
    coder = open_decoder(SECTION, body, offset + used, path, trace)
    code = _Code(coder, width, height, last_frame, fields.rotation.step, decoder=coder)
    code.calibrated, code.has_plane = fields.rotation.calibrated, fields.rotation.plane
    code.curved = fields.translation.curved
    code.section()
    coder.finish()
    frames = sorted(code.keys)[1:]
    return CameraPoses(
        frames=np.array(frames, np.int32),
        poses=np.array([code.keys[t] for t in frames], np.int32),
        curved=fields.translation.curved,
        rotation_step=fields.rotation.step,
        translation_step=fields.translation.step,
        intrinsics=np.array(code.intrinsics, np.int32),
        plane=np.array(code.plane, np.int32) if code.has_plane else None,
    )


def validate(params: CameraPoses, width: int, height: int, limits: Level) -> None:
    """Raise ParameterError unless :func:`encode` can code ``params`` as they are."""
    frames = params.frames.tolist()
    if not (0 <= params.rotation_step <= MAX_STEP and 0 <= params.translation_step <= MAX_STEP):
        raise ParameterError("out-of-range", "step", f"steps are 0..{MAX_STEP}")
    if params.poses.shape != (len(frames), 6) or not frames or params.intrinsics.shape != (4,):
        raise ParameterError("out-of-range", "poses", "the shapes do not fit together")
    if params.plane is not None and (
        params.plane.shape != (3,) or (np.abs(params.plane.astype(np.int64)) > MAX_PLANE).any()
    ):
        raise ParameterError("out-of-range", "plane", f"the plane is not in -{MAX_PLANE}..{MAX_PLANE}")
    legal = [range(low, high + 1) for low, high in intrinsic_ranges(width, height)]
    if any(value not in values for value, values in zip(params.intrinsics.tolist(), legal, strict=True)):
        raise ParameterError("out-of-range", "intrinsics", f"{params.intrinsics.tolist()}")
    bounds = [rotation_limit(params.rotation_step)] * 3 + [MAX_TRANSLATION] * 3
    if (np.abs(params.poses.astype(np.int64)) > bounds).any():
        raise ParameterError("out-of-range", "poses", "a pose is too far away")
    if frames != sorted(set(frames)) or set(_reachable(set(frames), frames[-1])) != set(frames):
        raise ParameterError("out-of-range", "frames", "key frames are the middles of split intervals")
    if not params.poses.any() and (len(frames) > 1 or params.curved):
        raise ParameterError("non-canonical", "frames", "a still camera has one key frame")


def _reachable(frames: set[int], last: int) -> list[int]:
    """The frames that intervals can have been split at."""
    found = [last]
    intervals = [(0, last)]
    while intervals:
        a, b = intervals.pop()
        middle = (a + b) >> 1
        if b - a > 1 and middle in frames:
            found.append(middle)
            intervals += [(a, middle), (middle, b)]
    return found


def intrinsic_ranges(width: int, height: int) -> list[tuple[int, int]]:
    """Least and greatest fx, fy, cx, cy: eight larger sides; a picture beyond the picture."""
    unit = INTRINSICS_UNIT
    focal = (1, unit * _FOCAL_SIDES * max(width, height))
    return [focal, focal, (-unit * width, 2 * unit * width), (-unit * height, 2 * unit * height)]


class _Code:
    """The syntax of clause 9.5.2, once for both directions.

    In an encoder the members hold what is coded; in a decoder, which is given as ``decoder`` and makes the
    errors, they are filled as the values come.
    """

    def __init__(
        self,
        coder: BinaryCoder,
        width: int,
        height: int,
        last: int,
        step: int,
        decoder: Decoder | None = None,
    ) -> None:
        self.coder = coder
        self.decoder = decoder
        self.size = (width, height)
        self.last = last
        self.limits = [rotation_limit(step)] * 3 + [MAX_TRANSLATION] * 3
        self.calibrated = False
        self.has_plane = False
        self.curved = False
        self.intrinsics = default_intrinsics(width, height)
        self.plane = [0, 0, 0]
        self.keys: dict[int, Pose] = {0: [0] * 6}
        self.moving: list[int] = []

    @classmethod
    def of(cls, coder: BinaryCoder, params: CameraPoses, width: int, height: int) -> _Code:
        """Ready to encode ``params``."""
        code = cls(coder, width, height, params.last_frame, params.rotation_step)
        code.calibrated = params.intrinsics.tolist() != code.intrinsics
        code.intrinsics = params.intrinsics.tolist()
        if params.plane is not None:
            code.has_plane, code.plane = True, params.plane.tolist()
        code.curved = params.curved
        code.keys = _keys(params)
        return code

    def section(self) -> None:
        """camera_poses()."""
        coder = self.coder
        if self.calibrated:
            coder.element = "intrinsics"
            self._intrinsics()
        if self.has_plane:
            coder.element = "plane"
            count = 2 * MAX_PLANE + 1
            self.plane = [coder.uniform(count, value + MAX_PLANE) - MAX_PLANE for value in self.plane]
        coder.element = "moves"
        poses = [] if self.decoder else [self.keys[t] for t in self.keys]
        self.moving = [i for i in range(6) if coder.bit("moves", i, int(any(pose[i] for pose in poses)))]
        if not self.moving:
            self.keys[self.last] = [0] * 6
            if self.curved:
                raise self._error("non-canonical", "a still camera is not curved")
            return
        self._pose(self.last, [0] * 6, _END)
        self._interval(whole(self.last))
        if any(not any(pose[i] for pose in self.keys.values()) for i in self.moving):
            raise self._error("non-canonical", "a parameter moves, but is zero throughout")

    def _intrinsics(self) -> None:
        values = [
            low + self.coder.uniform(high - low + 1, value - low)
            for value, (low, high) in zip(self.intrinsics, intrinsic_ranges(*self.size), strict=True)
        ]
        if values == default_intrinsics(*self.size):
            raise self._error("non-canonical", "the default intrinsics are coded explicitly")
        self.intrinsics = values

    def _pose(self, t: int, predicted: Pose, level: int) -> None:
        """pose(): the parameters that move, as differences from ``predicted``."""
        coder = self.coder
        coder.element = ("poses", t, "difference")
        actual = predicted if self.decoder else self.keys[t]
        pose = [0] * 6
        changed = [False] * 6
        for i in self.moving:
            partner = i > 2 and changed[_PARTNER[i - 3]]
            difference = self._difference(actual[i] - predicted[i], level, i > 2, partner)
            changed[i] = difference != 0
            pose[i] = predicted[i] + difference
            if abs(pose[i]) > self.limits[i]:
                raise self._error("out-of-range", f"{pose[i]} is more than {self.limits[i]} from zero")
        self.keys[t] = pose

    def _difference(self, value: int, level: int, translation: bool, partner: bool) -> int:
        """difference(): ``partner`` says whether that of the parameter's partner is not zero."""
        coder = self.coder
        if coder.bit("zero", 3 * level + translation + partner, int(value == 0)):
            return 0
        negative = coder.bypass(1, int(value < 0))
        size = 1 + coder.unsigned("magnitude", _ROW * (2 * level + translation), abs(value) - 1)
        return -size if negative else size

    def _interval(self, interval: Interval) -> None:
        """interval(): the poses strictly between the ends."""
        a, b, middle = interval.a, interval.b, interval.middle
        if b - a < 2:
            return
        coder, keys = self.coder, self.keys
        level = min(3, (b - a).bit_length() - 2)
        coder.element = ("poses", middle, "split")
        if not coder.bit("split", level, int(middle in keys)):
            return
        chord = interval.chord(keys[a], keys[b])
        self._pose(middle, interval.predicted(chord), level)
        for half in interval.halves(keys[middle], chord, self.curved):
            self._interval(half)

    def _error(self, identifier: str, detail: str) -> Exception:
        if self.decoder:
            return self.decoder.error(identifier, detail)
        return ParameterError(identifier, str(self.coder.element), detail)
