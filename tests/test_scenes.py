"""The synthetic scenes agree with their own ground truth."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import (
    SCENES,
    Bools,
    Camera,
    Curve,
    Floats,
    Labels,
    Layer,
    Rendered,
    Scene,
    Texture,
    concatenate,
    render,
)

WIDTH, HEIGHT, FRAMES = 96, 64, 12
MOVING = sorted(set(SCENES) - {"static", "single_colour"})


@cache
def scene(name: str) -> Rendered:
    return SCENES[name](7, WIDTH, HEIGHT, FRAMES)


def digest(rendered: Rendered) -> str:
    return hashlib.sha256(b"".join(p.to_bytes() for p in rendered.pictures)).hexdigest()


def grid(height: int, width: int) -> Floats:
    """Positions (x, y) of all samples, float64 [h, w, 2]."""
    y, x = np.mgrid[0.0:height, 0.0:width]
    return np.stack([x, y], axis=-1)


def bilinear(plane: Labels, positions: Floats) -> Floats:
    """Samples of ``plane`` at positions (x, y), clamped to the plane."""
    limit = np.array(plane.shape[::-1]) - 1.0
    p = np.clip(positions, 0.0, limit)
    low = np.minimum(np.floor(p), np.maximum(limit - 1.0, 0.0)).astype(int)
    x, y = low[..., 0], low[..., 1]
    fx, fy = np.moveaxis(p - low, -1, 0)
    rows = [plane[y + dy, x] * (1.0 - fx) + plane[y + dy, x + 1] * fx for dy in (0, 1)]
    return np.asarray(rows[0] * (1.0 - fy) + rows[1] * fy)


def far_from_edges(labels: Labels) -> Bools:
    """Samples whose 3×3 neighbours are of one layer: the picture blends layers at an edge."""
    padded = np.pad(labels, 1, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.asarray((windows == labels[..., None, None]).all(axis=(2, 3)))


@pytest.mark.parametrize("name", SCENES)
def test_shapes_and_types(name: str) -> None:
    r = scene(name)
    assert len(r.pictures) == FRAMES
    assert all((p.width, p.height) == (WIDTH, HEIGHT) for p in r.pictures)
    assert r.labels.shape == (FRAMES, HEIGHT, WIDTH)
    assert r.labels.dtype == np.uint8
    assert r.poses.shape == (FRAMES, 4, 4)
    rotations = r.poses[:, :3, :3]
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotations), 1.0)
    assert np.allclose(np.linalg.norm(r.planes[:, :3], axis=1), 1.0)
    assert r.cuts == ((FRAMES // 2,) if name == "cut" else ())
    luma = np.stack([p.y for p in r.pictures])
    assert luma.min() >= 16
    assert luma.max() <= 235
    # Contrast enough for a codec to have something to do.
    assert (luma.std() > 8) == (name != "single_colour")


@pytest.mark.parametrize("name", SCENES)
def test_flow_agrees_with_trajectories(name: str) -> None:
    r = scene(name)
    t = 2
    positions, visible = r.trajectories(t, grid(HEIGHT, WIDTH).reshape(-1, 2))
    for s in range(FRAMES):
        expected = (grid(HEIGHT, WIDTH) + r.flow(t, s)).reshape(-1, 2)
        assert np.allclose(positions[:, s], expected, atol=1e-9, equal_nan=True)
        assert (visible[:, s] == r.visible_in(t, s).ravel()).all()
    assert np.abs(r.flow(t, t)).max() < 1e-9
    assert r.visible_in(t, t).all()


@pytest.mark.parametrize("name", MOVING)
def test_warping_by_the_flow_reproduces_the_frame(name: str) -> None:
    r = scene(name)
    for t, s in ((0, 2), (2, 0), (3, 5)):
        flow = r.flow(t, s)
        positions = grid(HEIGHT, WIDTH) + flow
        error = np.abs(bilinear(r.pictures[s].y, positions) - r.pictures[t].y)
        inner = r.visible_in(t, s) & far_from_edges(r.labels[t])
        moving = inner & (np.hypot(*np.moveaxis(flow, -1, 0)) > 0.5)
        still = np.abs(r.pictures[s].y.astype(float) - r.pictures[t].y)
        assert inner.mean() > 0.5
        assert moving.any()
        assert error[inner].mean() < 2.5
        assert error[moving].mean() < 0.3 * still[moving].mean()


@pytest.mark.parametrize("name", SCENES)
def test_a_visible_point_keeps_its_label(name: str) -> None:
    r = scene(name)
    t, s = 3, 5
    target = np.rint(grid(HEIGHT, WIDTH) + r.flow(t, s)).astype(int)
    seen = r.visible_in(t, s)
    x, y = target[seen].T
    same = r.labels[s][y, x] == r.labels[t][seen]
    assert (same | ~far_from_edges(r.labels[s])[y, x]).all()


def test_each_object_hides_the_other_once() -> None:
    r = SCENES["two_objects_crossing"](3, WIDTH, HEIGHT, 24)
    for hidden, t, s in ((2, 0, 6), (1, 12, 18)):
        mine = r.labels[t] == hidden
        seen = r.visible_in(t, s)
        assert mine.sum() > 200
        assert not seen[mine].all()
        assert seen[r.labels[t] == 3 - hidden].all()
        target = np.rint((grid(HEIGHT, WIDTH) + r.flow(t, s))[mine & ~seen]).astype(int)
        found = r.labels[s][target[:, 1], target[:, 0]]
        # Rounded to a sample, a point just inside the outline of the nearer object may fall outside.
        assert (found == 3 - hidden).mean() > 0.95
        # Hidden points come out again where they must: halfway round, both objects are whole.
        later, whole = r.trajectories(t, np.argwhere(mine)[:, ::-1].astype(float))
        assert whole[:, (t + 12) % 24].all()
        assert np.isfinite(later).all()


def test_an_object_that_leaves_uncovers_the_background() -> None:
    r = scene("uncovering")
    assert (r.labels[0] == 1).mean() > 0.1
    assert not r.labels[-1].any()
    assert not r.visible_in(0, FRAMES - 1)[r.labels[0] == 1].any()
    uncovered = ~r.visible_in(FRAMES - 1, 0)
    assert (uncovered == (r.labels[0] == 1)).all()
    positions, _ = r.trajectories(0, np.argwhere(r.labels[0] == 1)[:, ::-1].astype(float))
    outside = (positions[:, -1, 0] < 0) | (positions[:, -1, 0] > WIDTH - 1)
    assert outside.all()


@pytest.mark.parametrize("name", ["pan", "zoom", "dolly", "orbit", "shake"])
def test_poses_and_plane_give_the_flow_of_the_background(name: str) -> None:
    r = scene(name)
    t, s = 1, 9
    fx, fy, cx, cy = r.intrinsics
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    relative = r.poses[s] @ np.linalg.inv(r.poses[t])
    n, d = r.planes[t, :3], r.planes[t, 3]
    # The plane in the coordinates of camera t: n·(Rᵀ(Y - T)) = d.
    normal = r.poses[t, :3, :3] @ n
    distance = d + normal @ r.poses[t, :3, 3]
    homography = k @ (relative[:3, :3] + np.outer(relative[:3, 3], normal) / distance) @ np.linalg.inv(k)
    points = grid(HEIGHT, WIDTH)
    mapped = np.concatenate([points, np.ones((HEIGHT, WIDTH, 1))], axis=-1) @ homography.T
    expected = mapped[..., :2] / mapped[..., 2:] - points
    background = r.labels[t] == 0
    assert np.abs(expected - r.flow(t, s))[background].max() < 1e-9
    assert np.abs(expected[background]).max() > 1.0


def test_an_orbiting_camera_looks_at_the_centre() -> None:
    r = scene("orbit")
    centre = r.poses @ np.array([0.0, 0.0, 2.6, 1.0])
    assert np.allclose(centre[:, :3], [0.0, 0.0, 2.6], atol=1e-4)
    assert np.ptp(-r.poses[:, :3, :3].transpose(0, 2, 1) @ r.poses[:, :3, 3:], axis=0)[0, 0] > 0.3


def test_pan_is_one_translation() -> None:
    r = SCENES["pan"](1, 128, 64, 5)
    flow = r.flow(0, 4)
    assert np.allclose(flow, flow[0, 0], atol=1e-9)
    assert abs(flow[0, 0, 0]) == pytest.approx(4.0, abs=1e-3)


def test_a_pan_by_whole_samples_does_not_flicker() -> None:
    texture = Texture("noise", ((0.2, 0.3, 0.1), (0.8, 0.7, 0.5)), seed=5)
    camera = Camera(Curve((0.0, 0.0, 0.0), (4.0 / 128.0, 0.0, 0.0)))
    r = render(Scene(camera, (Layer(texture, Curve((0.0, 0.0, 4.0))),)), 128, 64, 4)
    for f in range(1, 4):
        assert np.abs(r.pictures[f].y[:, :-f].astype(int) - r.pictures[0].y[:, f:]).max() <= 1
    # Nor does it by a fraction of one: detail is above the shortest wavelength that a bilinear filter keeps.
    half = Camera(Curve((0.0, 0.0, 0.0), (2.0 / 128.0, 0.0, 0.0)))
    r = render(Scene(half, (Layer(texture, Curve((0.0, 0.0, 4.0))),)), 128, 64, 2)
    y = r.pictures[0].y.astype(float)
    error = ((y[:, 1:] + y[:, :-1]) / 2.0 - r.pictures[1].y[:, :-1]).std()
    assert error < 0.1 * y.std()


def test_outlines_are_antialiased() -> None:
    black, white = (Texture("flat", ((level,) * 3,) * 2) for level in (0.0, 1.0))
    path = Curve((0.0, 0.0, 1.0), (0.3 / 64, 0.1 / 64, 0.0))
    disc = Layer(white, path, "ellipse", (0.3, 0.2))
    r = render(Scene(Camera(), (Layer(black, Curve((0.0, 0.0, 2.0))), disc)), 64, 48, 8)
    for picture, labels in zip(r.pictures, r.labels, strict=True):
        area = ((picture.y - 16.0) / 219.0).sum()
        assert area == pytest.approx(np.pi * 0.3 * 0.2 * 64**2, rel=0.002)
        assert ((picture.y >= 126) == (labels == 1)).all()


def test_static_scenes_do_not_change() -> None:
    for name in ("static", "single_colour"):
        r = scene(name)
        assert {p.md5() for p in r.pictures} == {r.pictures[0].md5()}
    picture = scene("single_colour").pictures[0]
    assert all(len(np.unique(plane)) == 1 for plane in picture.planes)


def test_nothing_is_known_beyond_a_cut() -> None:
    r = scene("cut")
    before, after = r.cuts[0] - 1, r.cuts[0]
    assert np.isnan(r.flow(before, after)).all()
    assert not r.visible_in(after, before).any()
    positions, visible = r.trajectories(after, np.array([[10.0, 10.0]]))
    assert np.isnan(positions[0, :after]).all()
    assert not visible[0, :after].any()
    assert np.isfinite(positions[0, after:]).all()
    with pytest.raises(IndexError, match="frame 12"):
        r.flow(0, FRAMES)
    with pytest.raises(ValueError, match="two frames"):
        SCENES["cut"](0, 16, 16, 1)
    with pytest.raises(ValueError, match="sizes"):
        concatenate(r, SCENES["pan"](0, WIDTH + 1, HEIGHT, 1))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SCENES)),
    st.integers(-(2**40), 2**40),
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(2, 6),
)
def test_every_size_and_seed(name: str, seed: int, width: int, height: int, frames: int) -> None:
    r = SCENES[name](seed, width, height, frames)
    assert [(p.width, p.height) for p in r.pictures] == [(width, height)] * frames
    assert r.flow(0, 0).shape == (height, width, 2)
    assert r.visible_in(frames - 1, frames - 1).all()


@pytest.mark.parametrize("name", SCENES)
def test_tiny_pictures_and_long_clips(name: str) -> None:
    r = SCENES[name](0, 16, 16, 240)
    assert len({p.md5() for p in r.pictures}) > (20 if name in MOVING else 0)
    assert (r.pictures[0].y.std() > 3) == (name != "single_colour")


def test_odd_sizes_repeat_the_last_chroma_column() -> None:
    odd = SCENES["fine_texture"](2, 33, 17, 1).pictures[0]
    assert odd.u.shape == (9, 17)
    assert odd.u.std() > 1


def test_colours_of_bt_709() -> None:
    flat = {
        (1.0, 1.0, 1.0): (235, 128, 128),
        (0.0, 0.0, 0.0): (16, 128, 128),
        (1.0, 0.0, 0.0): (63, 102, 240),
        (0.0, 1.0, 0.0): (173, 42, 26),
        (0.0, 0.0, 1.0): (32, 240, 118),
    }
    for colour, expected in flat.items():
        layer = Layer(Texture("flat", (colour, colour)), Curve((0.0, 0.0, 1.0)))
        picture = render(Scene(Camera(), (layer,)), 3, 3, 1).pictures[0]
        assert tuple(int(plane[1, 1]) for plane in picture.planes) == expected


def test_what_lies_behind_the_camera_is_refused() -> None:
    background = Layer(Texture("flat", ((0.5, 0.5, 0.5),) * 2), Curve((0.0, 0.0, 4.0)))
    turning = Camera(rotation=Curve((0.0, 0.0, 0.0), (0.0, 0.3, 0.0)))
    with pytest.raises(ValueError, match="horizon"):
        render(Scene(turning, (background,)), 16, 16, 8)
    near = Layer(background.texture, Curve((0.0, 0.0, 1.0), (0.0, 0.0, -0.5)), "ellipse", (0.1, 0.1))
    with pytest.raises(ValueError, match="layer 1 reaches behind"):
        render(Scene(Camera(), (background, near)), 16, 16, 4)


def test_the_same_seed_gives_the_same_bytes() -> None:
    for name in SCENES:
        first, again, other = (SCENES[name](seed, 32, 24, 3) for seed in (1, 1, 2))
        assert digest(first) == digest(again)
        assert digest(first) != digest(other)


@pytest.mark.parametrize(
    ("name", "expected"), [("orbit", "4c3ec935079ce7a9"), ("oscillating", "11af6d32f3c31269")]
)
def test_bytes_are_pinned(name: str, expected: str) -> None:
    """Whoever changes these changes all vectors made of scenes."""
    assert digest(SCENES[name](0, 64, 48, 4))[:16] == expected
