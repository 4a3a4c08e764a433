"""Camera poses: the section, its meaning, and the encoder that finds and quantises them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import SCENES, Rendered
from strategies import assert_cost, camera_poses, settings

from refenc.poses import Motion, errors, estimate, estimate_opencv, quantise
from tgv_format import camera_poses as poses
from tgv_format.camera_poses import CameraPoses, default_intrinsics, matrices, step_size
from tgv_format.canonical import dumps
from tgv_format.entropy import Encoder
from tgv_format.errors import TgvError
from tgv_format.levels import LEVELS
from tgv_format.syntax import ParameterError

LIMITS = LEVELS[1]
SIZE = (64, 48)
LENGTHS = [1, 2, 3, 4, 7, 16, 17, 28, 64]


def encode(params: CameraPoses, size: tuple[int, int] = SIZE) -> bytes:
    return poses.encode(params, *size, LIMITS)


def decode(data: bytes, last: int, size: tuple[int, int] = SIZE, trace: Any = None) -> CameraPoses:
    return poses.decode(data, 100, "clip[0].camera_poses", *size, last, LIMITS, trace)


def path(keys: dict[int, list[int]], **changes: Any) -> CameraPoses:
    """Camera poses with these key frames."""
    params = CameraPoses(
        frames=np.array(sorted(keys), np.int32),
        poses=np.array([keys[t] for t in sorted(keys)], np.int32),
        curved=False,
        rotation_step=32,
        translation_step=32,
        intrinsics=np.array(default_intrinsics(*SIZE), np.int32),
    )
    return replace(params, **changes)


STILL = [0] * 6
SOME = path({4: [3, 0, -1, 0, 9, 0], 8: [5, 0, 0, 0, 12, 1], 6: [4, 0, 2, 0, 10, 0]}, curved=True)


# --- The section


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int], CameraPoses]:
    size = draw(st.sampled_from([(1, 1), (64, 48), (1024, 400)]))
    return size, draw(camera_poses(*size, draw(st.sampled_from(LENGTHS))))


@settings(max_examples=300)
@given(cases())
def test_round_trip(case: tuple[tuple[int, int], CameraPoses]) -> None:
    size, params = case
    data = encode(params, size)
    decoded = decode(data, params.last_frame, size)
    assert dumps(decoded.to_json()) == dumps(params.to_json())
    assert encode(decoded, size) == data
    assert (decoded.frames.dtype, decoded.poses.dtype) == (np.int32, np.int32)
    records: list[dict[str, object]] = []
    assert decode(data, params.last_frame, size, records.append).to_json() == params.to_json()
    assert all(str(r["path"]).startswith("clip[0].camera_poses.") for r in records)
    assert_cost(poses.cost(params, *size), data, records)
    assert np.isfinite(matrices(decoded)).all()


@settings(max_examples=300)
@given(st.binary(max_size=40), st.sampled_from(LENGTHS))
def test_arbitrary_bytes(data: bytes, last: int) -> None:
    try:
        params = decode(data, last)
    except TgvError:
        return
    assert encode(params) == data


@settings(max_examples=30)
@given(camera_poses(*SIZE, 9))
def test_damage_is_noticed_or_changes_the_parameters(params: CameraPoses) -> None:
    data = encode(params)
    flipped = (
        data[: i // 8] + bytes([data[i // 8] ^ 1 << i % 8]) + data[i // 8 + 1 :] for i in range(8 * len(data))
    )
    for damaged in (*flipped, *(data[:n] for n in range(len(data))), data + b"\0", data + b"\1"):
        try:
            other = decode(damaged, 9)
        except TgvError:
            continue
        assert other.to_json() != params.to_json()


def test_a_camera_that_stands_still_takes_its_header() -> None:
    for last in LENGTHS:
        data = encode(path({last: STILL}))
        assert len(data) <= 3
        assert np.array_equal(matrices(decode(data, last)), np.tile(np.eye(4), (last + 1, 1, 1)))


def test_steady_motion_takes_one_key_frame() -> None:
    assert len(encode(path({64: [0, 0, 0, 200, 0, 0]}))) <= 7


def test_a_parabola_is_predicted() -> None:
    """Where the second derivative is constant all key frames after the first are free but for their flags."""
    keys = {t: [0, 3 * t * (32 - t), 0, 0, 0, 5 * t] for t in range(1, 33)}
    curved, straight = (len(encode(path(keys, curved=c))) for c in (True, False))
    assert curved < straight / 2


BAD: dict[str, tuple[CameraPoses, str]] = {
    "step": (replace(SOME, rotation_step=64), "out-of-range"),
    "shapes": (replace(SOME, poses=SOME.poses[:2]), "out-of-range"),
    "no key frame": (replace(SOME, frames=SOME.frames[:0], poses=SOME.poses[:0]), "out-of-range"),
    "order": (replace(SOME, frames=SOME.frames[::-1].copy()), "out-of-range"),
    "not a middle": (replace(SOME, frames=np.array([4, 7, 8], np.int32)), "out-of-range"),
    "a middle of no interval": (replace(SOME, frames=np.array([2, 6, 8], np.int32)), "out-of-range"),
    "frame 0": (replace(SOME, frames=np.array([0, 4, 8], np.int32)), "out-of-range"),
    "rotation": (path({8: [poses.rotation_limit(32) + 1, 0, 0, 0, 0, 0]}), "out-of-range"),
    "translation": (path({8: [0, 0, 0, poses.MAX_TRANSLATION + 1, 0, 0]}), "out-of-range"),
    "plane": (replace(SOME, plane=np.array([0, 0, 2049], np.int32)), "out-of-range"),
    "intrinsics": (replace(SOME, intrinsics=np.array([0, 1, 1, 1], np.int32)), "out-of-range"),
    "still with key frames": (path({4: STILL, 8: STILL}), "non-canonical"),
    "still and curved": (path({8: STILL}, curved=True), "non-canonical"),
}


@pytest.mark.parametrize("name", BAD)
def test_parameters_that_cannot_be_coded(name: str) -> None:
    params, expected = BAD[name]
    with pytest.raises(ParameterError) as caught:
        encode(params)
    assert caught.value.identifier == expected


def test_the_section_is_bounded() -> None:
    small = replace(LIMITS, section_bytes=8)
    data = encode(SOME)
    assert len(data) > 8
    with pytest.raises(ParameterError) as refused:
        poses.encode(SOME, *SIZE, small)
    with pytest.raises(TgvError) as caught:
        poses.decode(data, 0, "p", *SIZE, 8, small)
    assert refused.value.identifier == caught.value.identifier == "limit-exceeded"


# Symbol by symbol (clause 9.5.2): two frames, or one interval that can be split.


def crafted(head: bytes, *symbols: Callable[[Encoder], object]) -> bytes:
    coder = Encoder("camera_poses")
    for symbol in symbols:
        symbol(coder)
    return head + coder.finish()


def bits(name: str, *values: int) -> tuple[Callable[[Encoder], object], ...]:
    return tuple(lambda coder, i=i, v=v: coder.bit(name, i, v) for i, v in enumerate(values))


def end(value: int) -> tuple[Callable[[Encoder], object], ...]:
    """A rotation about x in the last frame, alone."""
    if not value:
        return (lambda coder: coder.bit("zero", 12, 1),)
    return (
        lambda coder: coder.bit("zero", 12, 0),
        lambda coder: coder.bypass(1, int(value < 0)),
        lambda coder: coder.unsigned("magnitude", 80, abs(value) - 1),
    )


HEAD = bytes([32, 32])
ONE = bits("moves", 1, 0, 0, 0, 0, 0)
NONE = bits("moves", 0, 0, 0, 0, 0, 0)


def test_symbol_by_symbol() -> None:
    assert decode(crafted(HEAD, *ONE, *end(-7)), 1).to_json() == path({1: [-7, 0, 0, 0, 0, 0]}).to_json()
    head = bytes([32, 0x80 | 32])
    split = (*ONE, *end(4), lambda coder: coder.bit("split", 0, 1), lambda coder: coder.bit("zero", 0, 1))
    found = decode(crafted(head, *split), 2)
    assert found.to_json() == path({1: [2, 0, 0, 0, 0, 0], 2: [4, 0, 0, 0, 0, 0]}, curved=True).to_json()


def test_contexts_of_translations_look_at_their_partners() -> None:
    """Of clause 9.5.2: the partners of x, y and z are the rotations about y, x and z."""
    for rotation, translation in ((1, 3), (0, 4), (2, 5)):
        pose = [0, 0, 0, 7, 7, 7]
        pose[rotation] = 5
        records: list[dict[str, object]] = []
        decode(encode(path({1: pose})), 1, trace=records.append)
        found = [r["context"] for r in records if str(r["context"]).startswith("zero")]
        assert found == ["zero[12]", *(f"zero[{14 if i == translation else 13}]" for i in (3, 4, 5))]


def unit(low: int, high: int, value: int) -> Callable[[Encoder], object]:
    return lambda coder: coder.uniform(high - low + 1, value - low)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "truncated"),
        (b"\0", "truncated"),
        (crafted(bytes([32, 0x40 | 32]), *NONE), "reserved-value"),
        (crafted(bytes([32, 0x80 | 32]), *NONE), "non-canonical"),
        (crafted(HEAD, *ONE, *end(0)), "non-canonical"),
        (crafted(HEAD, *ONE, *end(poses.rotation_limit(32) + 1)), "out-of-range"),
        (crafted(HEAD, *NONE) + b"\0", "non-canonical"),
        (
            crafted(
                bytes([0x80 | 32, 32]),
                *(
                    unit(low, high, value)
                    for (low, high), value in zip(
                        poses.intrinsic_ranges(*SIZE), default_intrinsics(*SIZE), strict=True
                    )
                ),
                *NONE,
            ),
            "non-canonical",
        ),
    ],
)
def test_sections_that_are_refused(data: bytes, expected: str) -> None:
    with pytest.raises(TgvError) as caught:
        decode(data, 1)
    assert caught.value.identifier == expected


# --- What the parameters mean (clause 9.5.4)


def test_steps() -> None:
    assert step_size(0) == 2.0**-16
    assert step_size(63) == 0.875
    sizes = [step_size(s) for s in range(64)]
    assert all(1.14 < b / a < 1.26 for a, b in pairwise(sizes))
    assert all(7 < poses.rotation_limit(s) * step_size(s) <= 8 for s in range(64))


@given(camera_poses(*SIZE, 16))
@pytest.mark.requirement("TGV-POS-7")
def test_matrices_of_key_frames(params: CameraPoses) -> None:
    found = matrices(params)
    assert np.array_equal(found[0], np.eye(4))
    for t, pose in zip(params.frames.tolist(), params.poses.astype(float), strict=True):
        rotation = cv2.Rodrigues(pose[:3] * step_size(params.rotation_step))[0]
        np.testing.assert_allclose(found[t, :3, :3], rotation, atol=1e-9)
        np.testing.assert_allclose(found[t, :3, 3], pose[3:] * step_size(params.translation_step), atol=1e-9)
    np.testing.assert_allclose(
        found[:, :3, :3] @ found[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (17, 1, 1)), atol=1e-9
    )


def test_between_key_frames() -> None:
    """A turn of almost pi about one axis at a steady rate, and a parabola through frames 0, 4 and 8."""
    last = round(np.pi / step_size(32)) - 1
    turn = matrices(path({8: [0, last, 0, 0, 0, 0]}))
    for t in range(9):
        rotation = cv2.Rodrigues(np.array([0, last * step_size(32) * t / 8, 0]))[0]
        np.testing.assert_allclose(turn[t, :3, :3], rotation, atol=1e-12)
    keys = {4: [0, 0, 0, 16, 0, 0], 8: [0, 0, 0, 32, 0, 0]}
    keys[4][3] += 16
    way = matrices(path(keys, curved=True))[:, 0, 3] / step_size(32)
    np.testing.assert_allclose(way, [4 * t + t * (8 - t) for t in range(9)], atol=1e-9)
    straight = matrices(path(keys))[:, 0, 3] / step_size(32)
    np.testing.assert_allclose(straight, [0, 8, 16, 24, 32, 32, 32, 32, 32], atol=1e-9)


# --- The encoder


@cache
def scene(name: str, frames: int = 17) -> Rendered:
    return SCENES[name](0, 256, 160, frames)


def exact(rendered: Rendered) -> Motion:
    """The motion of a scene's camera."""
    relative = rendered.poses @ np.linalg.inv(rendered.poses[0])
    vectors = np.stack([cv2.Rodrigues(r)[0][:, 0] for r in relative[:, :3, :3]])
    normal, offset = rendered.planes[0, :3], rendered.planes[0, 3]
    axes = rendered.poses[0, :3, :3]
    plane = axes @ normal / (offset + (axes @ normal) @ rendered.poses[0, :3, 3])
    return Motion(vectors, relative[:, :3, 3], rendered.intrinsics, plane)


@pytest.mark.parametrize("name", ["pan", "zoom", "dolly", "orbit", "shake"])
@pytest.mark.parametrize("budget", [(1e-2, 2e-2), (1e-3, 2e-3), (1e-4, 2e-4)])
def test_quantised_poses_keep_to_the_budget(name: str, budget: tuple[float, float]) -> None:
    motion = exact(scene(name))
    params = quantise(motion, 256, 160, *budget)
    found = errors(motion, matrices(params))
    assert found[0] <= budget[0]
    assert found[1] <= budget[1]
    data = poses.encode(params, 256, 160, LIMITS)
    assert poses.decode(data, 0, "p", 256, 160, 16, LIMITS).to_json() == params.to_json()
    coarse = quantise(motion, 256, 160, 8 * budget[0], 8 * budget[1])
    assert len(poses.encode(coarse, 256, 160, LIMITS)) <= len(data)


def test_a_background_moves_as_its_homography_says() -> None:
    """K (R + T N^T) K^-1 with exact poses and the exact plane, at the precision of the bitstream."""
    rendered = scene("dolly")
    motion = exact(rendered)
    params = quantise(motion, 256, 160, 1e-4, 1e-4, with_plane=True)
    assert params.plane is not None
    fx, fy, cx, cy = params.intrinsics / 16
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    e = matrices(params)[12]
    h = k @ (e[:3, :3] + np.outer(e[:3, 3], params.plane / 256)) @ np.linalg.inv(k)
    flow, background = rendered.flow(0, 12), rendered.labels[0] == 0
    for x, y in ((5, 5), (250, 5), (128, 80), (5, 150), (250, 150)):
        if background[y, x]:
            u, v, w = h @ [x, y, 1]
            np.testing.assert_allclose([u / w - x, v / w - y], flow[y, x], atol=0.3)


def extreme(rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> Motion:
    intrinsics = np.array(default_intrinsics(64, 48)) / 16
    return Motion(rotation, translation, intrinsics, np.array([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("last", [1, 2, 5, 16])
def test_extreme_motions(last: int) -> None:
    """Turns by almost pi from frame to frame, and a jump to a great distance."""
    rotation = np.zeros((last + 1, 3))
    rotation[1::2, 1] = 3.1
    translation = np.zeros((last + 1, 3))
    translation[last, 2] = 1000.0
    motion = extreme(rotation, translation)
    params = quantise(motion, 64, 48, 1e-3, 1e-2)
    found = errors(motion, matrices(decode(encode(params), last)))
    assert found[0] <= 1e-3
    assert found[1] <= 1e-2


@pytest.mark.parametrize("last", [1, 2, 28])
def test_no_motion_at_all(last: int) -> None:
    motion = extreme(np.zeros((last + 1, 3)), np.zeros((last + 1, 3)))
    params = quantise(motion, 64, 48, 0.0, 0.0)
    assert not params.poses.any()
    assert params.frames.tolist() == [last]


def test_estimate_of_a_still_camera() -> None:
    motion = estimate_opencv([p.y for p in scene("static").pictures[:6]])
    assert not motion.rotation.any()
    assert not motion.translation.any()


def test_two_frames_and_no_texture() -> None:
    flat = [np.full((48, 64), 128, np.uint8)] * 2
    motion = estimate_opencv(flat)
    assert motion.rotation.shape == motion.translation.shape == (2, 3)
    assert not motion.rotation.any()


def projected(rotation: NDArray[np.float64], translation: NDArray[np.float64], depth: float) -> Any:
    """Tracks of 200 points between ``depth`` and twice as far, seen by a camera on this path."""
    rng = np.random.default_rng(3)
    intrinsics = np.array([256.0, 256.0, 127.5, 79.5])
    place = rng.uniform([-0.5, -0.3], [0.5, 0.3], (200, 2))
    z = rng.uniform(depth, 2 * depth, (200, 1))
    points = np.concatenate([place * z, z], axis=1)
    tracks = []
    for v, t in zip(rotation, translation, strict=True):
        x = points @ cv2.Rodrigues(v)[0].T + t
        tracks.append(x[:, :2] / x[:, 2:] * 256 + intrinsics[2:])
    positions = np.stack(tracks, axis=1)
    return positions, np.ones(positions.shape[:2], np.bool_), intrinsics


def test_estimate_of_exact_tracks() -> None:
    """A path with rotation and parallax comes back, up to its scale."""
    t = np.linspace(0, 1, 13)[:, None]
    rotation, translation = t * [0.02, -0.15, 0.05], np.sin(2 * t) * [0.8, 0.1, 0.4]
    motion = estimate(*projected(rotation, translation, 3.0))
    np.testing.assert_allclose(motion.rotation, rotation, atol=0.01)
    scale = (motion.translation * translation).sum() / (translation**2).sum()
    np.testing.assert_allclose(motion.translation / scale, translation, atol=0.04)
    assert scale * 4.2 == pytest.approx(1, rel=0.1), "the unit is the median depth"


def test_a_rotation_gets_no_translation() -> None:
    rotation = np.linspace(0, 1, 9)[:, None] * [0.05, 0.2, -0.1]
    motion = estimate(*projected(rotation, np.zeros((9, 3)), 3.0))
    np.testing.assert_allclose(motion.rotation, rotation, atol=1e-4)
    assert not motion.translation.any()


def test_objects_that_move_are_ignored() -> None:
    rotation = np.linspace(0, 1, 9)[:, None] * [0.05, 0.2, -0.1]
    positions, visible, intrinsics = projected(rotation, np.zeros((9, 3)), 3.0)
    positions[:40] += np.linspace(0, 30, 9)[:, None] * [0.3, -1.0]
    motion = estimate(positions, visible, intrinsics)
    np.testing.assert_allclose(motion.rotation, rotation, atol=1e-3)


def test_points_that_are_replaced() -> None:
    """The first half of the points is seen in the first frames only, the other half in the last."""
    t = np.linspace(0, 1, 17)[:, None]
    rotation, translation = t * [0.0, 0.1, 0.0], t * [0.9, 0.0, 0.0]
    positions, visible, intrinsics = projected(rotation, translation, 3.0)
    visible[:100, 10:] = False
    visible[150:, :6] = False
    motion = estimate(positions, visible, intrinsics)
    np.testing.assert_allclose(motion.rotation, rotation, atol=0.02)
    scale = (motion.translation * translation).sum() / (translation**2).sum()
    np.testing.assert_allclose(motion.translation / scale, translation, atol=0.06)
