"""All kinds of guidance together, in one clip and in the baseline reconstruction."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import SCENES
from strategies import camera_poses, random_picture, raw_keyframe, read, settings, small_header, trajectories
from strategies import write as write_stream
from test_baseline import Slow, SlowCamera, assert_same, check, crossfade, drifting, error
from test_camera_poses import exact

from refdec import baseline
from refdec.camera import Camera
from refdec.decoder import Decoder
from refdec.motion import Motion
from refenc.poses import quantise
from tgv_format.camera_poses import CameraPoses, default_intrinsics, matrices
from tgv_format.clip import Clip
from tgv_format.flow_tokens import FlowTokens, Tokenizer
from tgv_format.keyframe import Role
from tgv_format.masks import Masks
from tgv_format.picture import Picture
from tgv_format.text import Text

SIZE = (24, 20)
COUNT = 4


def tokens_of(*vectors: tuple[int, int], step: int = 1) -> FlowTokens:
    """The flow of every frame is one vector, in ``step``/16 luma samples."""
    return FlowTokens(np.array(vectors, np.int16)[:, :, None], step)


def still_camera(last: int, size: tuple[int, int] = SIZE) -> CameraPoses:
    intrinsics = np.array(default_intrinsics(*size), np.int32)
    return CameraPoses(
        np.array([last], np.int32), np.zeros((1, 6), np.int32), False, 40, 40, intrinsics, None
    )


def turning_camera(last: int, size: tuple[int, int] = SIZE) -> CameraPoses:
    """Turns, approaches and moves sideways before a plane that is not parallel to the picture."""
    poses = np.array([[2, -5, 1, 3, -2, -4]], np.int32)
    return replace(still_camera(last, size), poses=poses, plane=np.array([30, -20, 250], np.int32))


def two_halves(last: int, size: tuple[int, int] = SIZE) -> Masks:
    """An object on the right that moves to the left by a label sample of two luma samples a frame."""
    labels = np.zeros((last + 1, (size[1] + 1) // 2, (size[0] + 1) // 2), np.uint8)
    for t, plane in enumerate(labels):
        plane[:, max(0, plane.shape[1] // 2 - t) :] = 1
    return Masks(labels, np.zeros((last, 1, 2), np.int16), 1)


SECTIONS = {
    "trajectories": drifting(SIZE, 4, COUNT, step=(3, -2)),
    "flow_tokens": FlowTokens(np.arange(-12, 12, dtype=np.int16).reshape(COUNT, 2, 3), 20),
    "camera_poses": turning_camera(COUNT),
    "masks": two_halves(COUNT),
    "text": Text("a small thing before a large one"),
}
SUBSETS = [names for n in range(1, 6) for names in combinations(SECTIONS, n)]


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_every_combination_of_sections(names: tuple[str, ...]) -> None:
    """Written, read and decoded between two keyframes; then after one alone."""
    header = small_header(*SIZE)
    clip = Clip(COUNT, **{name: SECTIONS[name] for name in names})  # type: ignore[arg-type]
    keyframes = [raw_keyframe(header, 0, Role.LEADING, 1), raw_keyframe(header, COUNT, Role.TRAILING, 2)]
    assert header == read(write_stream(header, [*keyframes, clip]))[0]
    for used in (keyframes, keyframes[:1]):
        _, units = read(write_stream(header, [*used, clip]))
        (found,) = (unit for unit in units if isinstance(unit, Clip))
        assert found.to_json() == clip.to_json()
        pictures = list(Decoder(header).pictures(iter(units)))
        first, last = random_picture(*SIZE, 1), random_picture(*SIZE, 2) if len(used) == 2 else None
        slow = Slow(clip, first, last)
        assert len(pictures) == COUNT + 1
        for t in (1, COUNT - 1):
            assert_same(pictures[t], slow.picture(t))


def test_each_section_changes_the_pictures() -> None:
    """All but text do in the presence of the others: the reconstruction leaves nothing out."""
    first, last = random_picture(*SIZE, 1), random_picture(*SIZE, 2)
    whole = Clip(COUNT, **SECTIONS)  # type: ignore[arg-type]
    made = [p.md5() for p in baseline.reconstruct(whole, first, last)]
    for name in SECTIONS:
        without = [p.md5() for p in baseline.reconstruct(replace(whole, **{name: None}), first, last)]
        assert (without == made) == (name == "text")


# --- What must not change anything


@settings(max_examples=30)
@given(st.tuples(st.integers(1, 40), st.integers(1, 36)), st.integers(1, 5), st.booleans(), st.data())
def test_sections_that_say_nothing(
    size: tuple[int, int], count: int, two_sided: bool, data: st.DataObject
) -> None:
    """Masks without points, empty and full masks, text and learned tokens leave the pictures as they are."""
    points = data.draw(st.none() | trajectories(*size, count))
    first, last = random_picture(*size, 1), random_picture(*size, 2) if two_sided else None
    shape = count + 1, size[1], size[0]
    labels = st.sampled_from([(0, 0), (1, 0), (1, 1), (255, 0), (255, 255), (255, 7)])
    most, label = data.draw(labels)
    masks = Masks(np.full(shape, label, np.uint8), np.zeros((count, most, 2), np.int16), 0)
    learned = replace(tokens_of(*[(99, -99)] * count, step=99), tokenizer_id=Tokenizer.LEARNED)
    plain = list(baseline.reconstruct(Clip(count, points), first, last))
    for clip in (Clip(count, points, Text("x"), learned, masks=masks), Clip(count, points, masks=masks)):
        for a, b in zip(plain, baseline.reconstruct(clip, first, last), strict=True):
            assert_same(a, b)


@settings(max_examples=30)
@given(st.tuples(st.integers(1, 40), st.integers(1, 36)), st.integers(1, 5), st.data())
def test_a_still_camera_and_tokens_of_zero_are_a_cross_fade(
    size: tuple[int, int], count: int, data: st.DataObject
) -> None:
    """Whatever the intrinsics and the plane of the camera."""
    camera = data.draw(camera_poses(*size, count))
    still = replace(
        camera, frames=np.array([count], np.int32), poses=np.zeros((1, 6), np.int32), curved=False
    )
    tokens = tokens_of(*[(0, 0)] * count)
    first, last = random_picture(*size, 1), random_picture(*size, 2)
    for clip in (Clip(count, camera_poses=still), Clip(count, flow_tokens=tokens)):
        *inner, end = baseline.reconstruct(clip, first, last)
        for t, picture in enumerate(inner, 1):
            assert_same(picture, crossfade(first, last, t, count))
        assert end is last


# --- Degenerate input


def many_labels(size: tuple[int, int], last: int) -> Masks:
    """As many of the labels 0 .. 255 as there are luma samples, others in every frame."""
    labels = np.arange((last + 1) * size[0] * size[1]) * 7 % 256
    plane = labels.reshape(last + 1, size[1], size[0]).astype(np.uint8)
    return Masks(plane, np.zeros((last, 255, 2), np.int16), 0)


@pytest.mark.parametrize("size", [(1, 1), (17, 1), (20, 19)])
@pytest.mark.parametrize("last", [1, 2])
def test_255_labels_in_small_pictures(size: tuple[int, int], last: int) -> None:
    points = drifting(size, 6, last, step=(1, 1))
    clip = Clip(
        last, points, None, tokens_of(*[(9, -5)] * last), turning_camera(last, size), many_labels(size, last)
    )
    check(clip, random_picture(*size, 1), random_picture(*size, 2))
    check(clip, random_picture(*size, 1), None)


# --- The camera


@settings(max_examples=60)
@given(st.sampled_from([(1, 1), (64, 48), (8192, 1088)]), st.integers(1, 9), st.data())
def test_the_camera_fits_64_bits(size: tuple[int, int], last: int, data: st.DataObject) -> None:
    """Against the one that checks every value, with any parameters, at positions as far as they can be."""
    params = data.draw(camera_poses(*size, last))
    camera, slow = Camera(params), SlowCamera(params, last)
    assert (camera.forth, camera.back) == (slow.forth, slow.back)
    far = 300_000 + 3 * (1 << 18)
    coordinate = st.integers(-far, far) | st.sampled_from([-far, far]) | st.integers(0, 16 * max(size))
    places = data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4))
    at = np.array(places).reshape(2, 2, 2)
    for t in {1, last}:
        for found, matrix in (
            (camera.to_first(t, at), slow.back[t]),
            (camera.from_first(t, at), slow.forth[t]),
        ):
            assert found.reshape(-1, 2).tolist() == [list(slow.motion(matrix, p)) for p in places]


@settings(max_examples=60)
@given(st.integers(1, 9), st.data())
def test_rotations_are_close_to_the_exact_ones(last: int, data: st.DataObject) -> None:
    """In key frames; in the others poses are rounded to 1/256 steps."""
    params = data.draw(camera_poses(64, 48, last))
    camera = SlowCamera(replace(params, plane=None), last)
    for t in params.frames:
        assert np.abs(np.array(camera.forth[t]) / 2**28 - matrices(params)[t, :3, :3]).max() < 2.0**-20


def homography(params: CameraPoses, t: int) -> NDArray[np.float64]:
    fx, fy, cx, cy = params.intrinsics / 16
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    e = matrices(params)[t]
    plane = np.zeros(3) if params.plane is None else params.plane / 256
    out: NDArray[np.float64] = k @ (e[:3, :3] + np.outer(e[:3, 3], plane)) @ np.linalg.inv(k)
    return out


@pytest.mark.parametrize("curved", [False, True])
def test_the_camera_moves_positions_as_its_homography(curved: bool) -> None:
    """Towards both ends, to a tenth of a sample, in a key frame and between two."""
    size = (512, 320)
    poses = np.array([[1000, -3000, 800, 4000, -2000, -3500], [2500, -5500, 900, 9000, -3000, -9000]])
    params = replace(
        turning_camera(8, size),
        frames=np.array([4, 8], np.int32),
        poses=poses.astype(np.int32),
        curved=curved,
        rotation_step=0,
        translation_step=4,
    )
    y, x = np.mgrid[0:320:40, 0:512:64]
    places = np.stack([x, y], -1)
    motion = Motion(Clip(8, camera_poses=params), size[1], size[0])
    for t in (3, 4, 6):
        for to_last in (False, True):
            h = np.linalg.inv(homography(params, t))
            if to_last:
                h = homography(params, 8) @ h
            there = np.concatenate([places, np.ones((*x.shape, 1))], 2) @ h.T
            exactly = there[..., :2] / there[..., 2:] - places
            found = motion.smooth(t, to_last, 16 * places.astype(np.int64))
            assert found is not None
            assert np.abs(exactly).max() > 4
            np.testing.assert_allclose(found / 16, exactly, atol=0.1)


@pytest.mark.parametrize(("name", "gain"), [("pan", 100), ("zoom", 20), ("shake", 20)])
def test_true_poses_give_the_frames_between(name: str, gain: float) -> None:
    """The middle frame has ``gain`` times less squared error than the cross-fade of the keyframes has."""
    scene = SCENES[name](3, 192, 128, 9)
    first, middle, last = (scene.pictures[t] for t in (0, 4, 8))
    camera = quantise(exact(scene), 192, 128, 1e-4, 1e-4, with_plane=True)
    made = list(baseline.reconstruct(Clip(8, camera_poses=camera), first, last))[3]
    assert error(made, middle) * gain < error(crossfade(first, last, 4, 8), middle)


# --- Flow tokens


@pytest.mark.parametrize("two_sided", [False, True])
def test_a_translation_is_the_same_by_tokens_and_by_a_point(two_sided: bool) -> None:
    size = (48, 40)
    first, last = random_picture(*size, 9), random_picture(*size, 10) if two_sided else None
    point = drifting(size, 1, 3, step=(1, -1), precision=1)
    tokens = tokens_of((-4, 4), (-8, 8), (-12, 12), step=16)
    for a, b in zip(
        baseline.reconstruct(Clip(3, point), first, last),
        baseline.reconstruct(Clip(3, flow_tokens=tokens), first, last),
        strict=True,
    ):
        assert_same(a, b)


def test_flow_towards_the_last_frame_depends_on_where_it_ends() -> None:
    """A picture that grows to 1.25 times its size around its centre, by tokens of the lowest frequencies."""
    size, last = (256, 256), 4
    x = np.arange(256) - 127.5
    wave = np.cos(np.pi * (np.arange(256) + 0.5) / 256) * np.sqrt(2)
    coefficients = []
    for t in range(1, last + 1):
        flow = x * (1 / (1 + t / 16) - 1)
        coefficients.append(float(flow @ wave / 256))
    values = np.zeros((last, 2, 3), np.int16)
    values[:, 0, 1] = values[:, 1, 2] = np.round(np.array(coefficients) * 16)
    motion = Motion(Clip(last, flow_tokens=FlowTokens(values, 1)), size[1], size[0])
    place = np.array([[64, 64], [100, 180], [128, 200]], np.int64) * 16
    # What the flow means: a position and its place in the last frame have the same origin.
    for t in (1, 2, 3):
        origin = motion.smooth(t, False, place)
        forth = motion.smooth(t, True, place)
        assert origin is not None
        assert forth is not None
        again = motion.smooth(last, False, place + forth)
        assert again is not None
        assert np.abs(origin - forth - again).max() <= 2
        assert np.abs(forth).max() > 16


@given(st.data())
def test_points_agree_with_their_own_motion(data: st.DataObject) -> None:
    """Where there is but one point, next to a node, the vector there is nearly that of the point, whatever
    the smooth motion is."""
    size, last = (64, 48), 4
    vectors = data.draw(st.lists(st.tuples(*(st.integers(-99, 99),) * 2), min_size=last, max_size=last))
    point = drifting(size, 1, last, step=(1, 2), precision=7)
    clip = Clip(last, point, None, tokens_of(*vectors), turning_camera(last, size))
    motion = Motion(clip, size[1], size[0])
    for t in (1, 2, 3):
        for to_last, field in enumerate(motion.fields(t)):
            assert field is not None
            x, y = point.positions[0, t]
            wanted = point.positions[0, last if to_last else 0] - (x, y)
            found = field.nodes[0, (y + 128) // 256, (x + 128) // 256]
            assert np.abs(found - wanted).max() <= 24


# --- Masks


def painted(x: int, background: Picture, thing: Picture) -> Picture:
    """``thing``'s upper left 16 x 16 luma samples before ``background``, at column ``x`` of row 16."""
    planes = []
    for back, front, scale in zip(background.planes, thing.planes, (1, 2, 2), strict=True):
        plane = back.copy()
        rows, columns = slice(16 // scale, 32 // scale), slice(x // scale, (x + 16) // scale)
        plane[rows, columns] = front[: 16 // scale, : 16 // scale]
        planes.append(plane)
    return Picture(*planes)


def test_a_moving_object_leaves_its_background_alone() -> None:
    """One point on a square that moves by 8 samples a frame before a background that stands still."""
    size, last = (96, 48), 4
    background, thing = random_picture(*size, 1), random_picture(*size, 2)
    frames = [painted(16 + 8 * t, background, thing) for t in range(last + 1)]
    labels = np.zeros((last + 1, size[1] // 8, size[0] // 8), np.uint8)
    for t, plane in enumerate(labels):
        plane[2:4, 2 + t : 4 + t] = 1
    point = drifting(size, 1, last, step=(1, 0), precision=0)
    point.positions[0] = [(3 + t, 3) for t in range(last + 1)]
    clip = Clip(last, point, masks=Masks(labels, np.zeros((last, 1, 2), np.int16), 3))
    for made, one_sided, t in zip(
        baseline.reconstruct(clip, frames[0], frames[-1]),
        baseline.reconstruct(clip, frames[0], None),
        range(1, last + 1),
        strict=True,
    ):
        still = np.ones((size[1], size[0]), np.bool_)
        # Where the object is in a keyframe, the background is not known from it.
        still[16:32, 16:32] = still[16:32, 48:64] = still[16:32, 16 + 8 * t : 32 + 8 * t] = False
        assert np.array_equal(made.y[still], background.y[still])
        assert np.array_equal(one_sided.y[still], background.y[still])
        inside = slice(16, 32), slice(16 + 8 * t, 32 + 8 * t)
        assert np.array_equal(made.y[inside], frames[t].y[inside])
        assert np.array_equal(one_sided.y[inside], frames[t].y[inside])
    bleeding = next(baseline.reconstruct(replace(clip, masks=None), frames[0], None))
    assert not np.array_equal(bleeding.y[:16], background.y[:16])


def test_an_object_without_points_follows_the_background() -> None:
    size, last = (48, 40), 2
    first = random_picture(*size, 1)
    point = drifting(size, 1, last, step=(1, 0), precision=0)
    point.positions[0] = [(1 + t, 1) for t in range(last + 1)]
    labels = np.zeros((last + 1, 40, 48), np.uint8)
    labels[:, 24:, 30:] = 3
    masks = Masks(labels, np.zeros((last, 3, 2), np.int16), 0)
    for a, b in zip(
        baseline.reconstruct(Clip(last, point), first, None),
        baseline.reconstruct(Clip(last, point, masks=masks), first, None),
        strict=True,
    ):
        assert_same(a, b)


def test_a_point_belongs_to_the_label_it_is_at_most() -> None:
    """Of two labels that it is at equally often, to the least; only its span counts."""
    size, last = (16, 16), 4
    clip = Clip(last, drifting(size, 1, last), masks=two_halves(last, size))
    masks = clip.masks
    assert masks is not None
    for sequence, span, label in (
        ([1, 1, 1, 0, 0], (0, 4), 1),
        ([1, 0, 1, 0, 0], (0, 4), 0),
        ([1, 1, 0, 0, 0], (0, 3), 0),
        ([1, 1, 0, 0, 0], (0, 2), 1),
    ):
        masks.labels[:] = np.array(sequence, np.uint8)[:, None, None]
        place = np.zeros((1, last + 1, 2), np.int64)
        found = Motion(clip, *size).labels_of(place, np.array([span], np.int32))
        assert found is not None
        assert found.tolist() == [label]
