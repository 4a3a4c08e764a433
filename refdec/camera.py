"""The camera's motion of the picture (specification clause 10.2.1), in integers that fit 64 bits.

A decoded pose and the scene plane make a matrix per frame, which maps camera coordinates in frame 0 to those
in the frame. It is found once per clip, with Python integers; pixels are mapped with NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tgv_format.camera_poses import CameraPoses, intervals

Matrix = list[list[int]]
Positions = NDArray[np.int64]

#: Binary fraction digits of poses in steps, of quaternions, of matrices before scaling, of rays.
_POSE_BITS, _QUATERNION_BITS, _MATRIX_BITS, _RAY_BITS = 8, 30, 28, 20
# The bits that an entry of a scaled matrix has at most.
_ENTRY_BITS = 30
# A rotation vector is divided by this power of two for the series of its sine and cosine.
_SQUARINGS = 6
# Rays and motions end there: at eight focal lengths, and at 2^14 luma samples.
_RAY_LIMIT = 1 << 23
_REACH = 1 << 18


class Camera:
    """Where the camera's motion takes positions of the frames of a clip.

    ``forth``, ``back``: by frame, the matrices F and B of clause 10.2.1.
    """

    def __init__(self, params: CameraPoses) -> None:
        plane = [0, 0, 0] if params.plane is None else params.plane.tolist()
        factors = [(4 + (s & 3)) << (s >> 2) for s in (params.rotation_step, params.translation_step)]
        self._focal, self._centre = np.split(params.intrinsics.astype(np.int64), 2)
        self.forth = [_scaled(_homography(pose, factors, plane)) for pose in interpolated(params)]
        self.back = [_scaled(_adjugate(matrix)) for matrix in self.forth]

    def to_first(self, t: int, positions: Positions) -> Positions:
        """How far frame t's ``positions`` int64 [..., 2] have moved in frame 0; 1/16 luma samples."""
        return self._project(self.back[t], positions)

    def from_first(self, t: int, positions: Positions) -> Positions:
        """How far frame 0's ``positions`` int64 [..., 2] have moved in frame t; 1/16 luma samples."""
        return self._project(self.forth[t], positions)

    def _project(self, matrix: Matrix, positions: Positions) -> Positions:
        focal = self._focal
        rays = (((positions - self._centre) << _RAY_BITS) + (focal >> 1)) // focal
        rays = np.clip(rays, -_RAY_LIMIT, _RAY_LIMIT)
        m = np.array(matrix, np.int64)
        half = 1 << (_RAY_BITS - 1)
        x, y = rays[..., :1], rays[..., 1:]
        points = (m[:, 0] * x + m[:, 1] * y + (m[:, 2] << _RAY_BITS) + half) >> _RAY_BITS
        depth = np.maximum(points[..., 2:], 1)
        moved = points[..., :2] - ((rays * depth + half) >> _RAY_BITS)
        motion: Positions = np.clip((2 * focal * moved + depth) // (2 * depth), -_REACH, _REACH)
        return motion


def interpolated(params: CameraPoses) -> list[list[int]]:
    """The poses of all frames in 1/256 steps."""
    poses = [[0] * 6 for _ in range(params.last_frame + 1)]
    for interval, start, end in intervals(params):
        a, b, weight = interval.a, interval.b, interval.weight
        for t in range(a + 1, b + 1):
            for i, (p, q, bend) in enumerate(zip(start, end, interval.bend, strict=True)):
                chord = (512 * (q - p) * (t - a) + b - a) // (2 * (b - a))
                curve = (512 * bend * (t - a) * (b - t) + weight) // (2 * weight)
                poses[t][i] = (p << _POSE_BITS) + chord + curve
    return poses


def _homography(pose: list[int], factors: list[int], plane: list[int]) -> Matrix:
    """R + T N^T with 28 binary fraction digits."""
    rotation = _rotation([v * factors[0] for v in pose[:3]])
    # Translations have 26 fraction digits, planes 8.
    return [
        [r + ((t * factors[1] * n + 32) >> 6) for r, n in zip(row, plane, strict=True)]
        for row, t in zip(rotation, pose[3:], strict=True)
    ]


def _rotation(vector: list[int]) -> Matrix:
    """The rotation by ``vector``, in 2^-26 radians, with 28 binary fraction digits.

    The quaternion of the 64th part of the rotation follows from the first terms of the series of sine and
    cosine, that of the whole by six squarings.
    """
    one, half = 1 << _QUATERNION_BITS, 1 << (_QUATERNION_BITS - 1)
    square = (sum(v * v for v in vector) + (1 << 35)) >> 36
    w, k = one - square // 30, one - square // 42
    w, k = one - (square * w >> 30) // 12, one - (square * k >> 30) // 20
    w, k = one - (square * w >> 30) // 2, one - (square * k >> 30) // 6
    x, y, z = ((v * k + (1 << 32)) >> 33 for v in vector)
    for _ in range(_SQUARINGS):
        w, x, y, z = (
            (w * w - x * x - y * y - z * z + half) >> _QUATERNION_BITS,
            *((2 * w * v + half) >> _QUATERNION_BITS for v in (x, y, z)),
        )

    def entry(product: int) -> int:
        return (product + (1 << 30)) >> 31

    unit = 1 << _MATRIX_BITS
    return [
        [unit - entry(y * y + z * z), entry(x * y - w * z), entry(x * z + w * y)],
        [entry(x * y + w * z), unit - entry(x * x + z * z), entry(y * z - w * x)],
        [entry(x * z - w * y), entry(y * z + w * x), unit - entry(x * x + y * y)],
    ]


def _scaled(matrix: Matrix) -> Matrix:
    """``matrix`` divided by the least power of two that leaves no entry more than 30 bits, rounded."""
    shift = max(0, max(abs(v) for row in matrix for v in row).bit_length() - _ENTRY_BITS)
    return [[(v + (1 << shift >> 1)) >> shift for v in row] for row in matrix]


def _adjugate(m: Matrix) -> Matrix:
    """The transposed cofactors: the inverse but for a factor."""
    return [
        [
            m[(j + 1) % 3][(i + 1) % 3] * m[(j + 2) % 3][(i + 2) % 3]
            - m[(j + 1) % 3][(i + 2) % 3] * m[(j + 2) % 3][(i + 1) % 3]
            for j in range(3)
        ]
        for i in range(3)
    ]
