"""Encoder analysis: semantics, segmentation, tracking, instances, importance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refenc.clips import Source, split_by_meaning
from refenc.importance import TgvcOptions, paint_over, sample_points, select_semantic_points
from refenc.instances import motion_mask, segment_instances, track_features
from refenc.segmentation import CutDetector, SimilarityCuts, choose_keyframe
from refenc.semantics import SEMANTICS
from refenc.tracking import Tracks, _extrapolate, track_opencv
from tgv_format.picture import Picture, Plane, chroma_size

HANDCRAFTED = SEMANTICS["handcrafted"]
few = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def texture(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Smooth random texture with a mean of 128 and about ±40."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    world: NDArray[np.float32] = 128 + 40 * smooth / smooth.std()
    return world


def to_plane(values: NDArray[np.float32]) -> Plane:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def view(world: NDArray[np.float32], x: float, y: float, height: int, width: int) -> Plane:
    """What a camera at (x, y) sees of a world; fractions by Lanczos interpolation."""
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    return to_plane(cv2.warpAffine(world, shift, (width, height), flags=flags))


def pan(vx: float, vy: float, frames: int, seed: int = 1, height: int = 96, width: int = 160) -> list[Plane]:
    """A camera that moves by (vx, vy) per frame over a plane: points move by (−vx, −vy)."""
    reach = 8 + int(np.ceil(frames * max(abs(vx), abs(vy))))
    world = texture(seed, height + 2 * reach, width + 2 * reach)
    return [view(world, reach + t * vx, reach + t * vy, height, width) for t in range(frames)]


def picture(luma: Plane, u: int = 128, v: int = 128) -> Picture:
    width, height = chroma_size(luma.shape[1], luma.shape[0])
    return Picture(luma, np.full((height, width), u, np.uint8), np.full((height, width), v, np.uint8))


def two_movers(frames: int = 9) -> list[Plane]:
    """A still background with a 48×48 square going right and another, of 40×40, going up."""
    ground, right, up = texture(2, 160, 224), texture(3, 48, 48), texture(4, 40, 40)
    planes = []
    for t in range(frames):
        frame = ground.copy()
        frame[16:64, 16 + 5 * t : 64 + 5 * t] = right
        frame[112 - 6 * t : 152 - 6 * t, 160:200] = up
        planes.append(to_plane(frame))
    return planes


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(request.param)
    yield request.param
    cv2.setNumThreads(before)


# --------------------------------------------------------------------------------------- semantics


@given(seeds, st.integers(1, 70), st.integers(1, 70))
@few
def test_descriptor_is_a_unit_vector_of_fixed_size(seed: int, height: int, width: int) -> None:
    data = np.random.default_rng(seed)
    width_c, height_c = chroma_size(width, height)
    planes = [
        data.integers(0, 256, shape, np.uint8) for shape in ((height, width), *[(height_c, width_c)] * 2)
    ]
    descriptor = HANDCRAFTED.describe(Picture(*planes))
    assert descriptor.shape == (693,)
    assert descriptor.dtype == np.float32
    assert np.linalg.norm(descriptor) == pytest.approx(1, abs=1e-5)
    assert HANDCRAFTED.similarity(descriptor, descriptor) == 1


def test_similarity_falls_with_the_size_of_the_change() -> None:
    scene = view(texture(1, 120, 180), 0, 0, 96, 160)
    describe = HANDCRAFTED.describe
    original = describe(picture(scene))

    def similarity_with(size: int) -> float:
        changed = scene.copy()
        changed[:size, :size] = 20
        return HANDCRAFTED.similarity(original, describe(picture(changed)))

    falling = [similarity_with(size) for size in (0, 8, 16, 32, 64, 96)]
    assert falling[0] == 1
    assert all(a > b for a, b in pairwise(falling))
    assert 0 <= HANDCRAFTED.similarity(original, describe(picture(np.zeros_like(scene), 20, 230))) < 0.4


def test_descriptor_sees_colour_and_structure_but_not_size() -> None:
    scene = to_plane(texture(1, 96, 160))
    original = HANDCRAFTED.describe(picture(scene))

    def similarity_to(other: Picture) -> float:
        return HANDCRAFTED.similarity(original, HANDCRAFTED.describe(other))

    twice = cv2.resize(scene, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert similarity_to(picture(twice)) > 0.95
    assert similarity_to(picture(scene, u=150)) < 0.75
    assert similarity_to(picture(scene, v=150)) < 0.75
    across, down = (HANDCRAFTED.describe(picture(cv2.blur(scene, side))) for side in ((15, 1), (1, 15)))
    assert HANDCRAFTED.similarity(across, down) < 0.9


# ------------------------------------------------------------------------------------ segmentation


def scene(seed: int, frames: int) -> list[Picture]:
    """A pan over a texture of its own, with a tint of its own."""
    return [picture(luma, 118 + seed % 20, 138 - seed % 20) for luma in pan(3, 1, frames, seed)]


def cuts(pictures: list[Picture], look_ahead: bool = False) -> list[int]:
    detector = CutDetector()
    following = [*pictures[1:], None] if look_ahead else [None] * len(pictures)
    return [
        t for t, (now, after) in enumerate(zip(pictures, following, strict=True)) if detector.push(now, after)
    ]


def test_cut_is_found_between_moving_scenes() -> None:
    scenes = [*scene(1, 8), *scene(9, 8), *scene(17, 8)]
    assert cuts(scenes) == [0, 8, 16]
    assert cuts(scenes, look_ahead=True) == [0, 8, 16]


def test_fast_pan_is_no_cut() -> None:
    """12 % of the picture per frame, with the blur that comes with it, from dark to bright and back."""
    world = texture(1, 96, 160 + 20 * 12) * 0.6
    world += 80 * np.sin(np.arange(world.shape[1], dtype=np.float32) / 25)
    frames = [cv2.blur(to_plane(world[:, 20 * t : 20 * t + 160]), (20, 1)) for t in range(12)]
    assert cuts([picture(luma) for luma in frames]) == [0]


@pytest.mark.parametrize(
    "flash",
    [
        lambda luma: to_plane(luma * np.float32(1.5) + 30),
        lambda luma: np.full_like(luma, 235),
        lambda luma: np.full_like(luma, 16),
        lambda luma: to_plane(luma + 250 / (1 + np.exp((np.arange(160, dtype=np.float32) - 60) / 4))),
    ],
    ids=["exposure", "white", "black", "partial"],
)
def test_flash_is_no_cut(flash: Callable[[Plane], Plane]) -> None:
    frames = pan(2, 1, 12)
    frames[6] = flash(frames[6])
    assert cuts([picture(luma) for luma in frames]) == [0]


def test_look_ahead_forgives_a_damaged_frame() -> None:
    pictures = scene(1, 12)
    pictures[6] = scene(19, 1)[0]
    assert cuts(pictures) == [0, 6, 7]
    assert cuts(pictures, look_ahead=True) == [0]


def test_cut_through_black_is_found() -> None:
    black = [picture(np.full((96, 160), 16, np.uint8))] * 3
    assert cuts([*scene(1, 6), *black, *scene(9, 6)]) == [0, 9]


def test_change_of_light_is_no_cut() -> None:
    frames = pan(1, 0, 8)
    assert cuts([picture(luma, u=100 if t < 4 else 156) for t, luma in enumerate(frames)]) == [0]


def test_ripples_are_no_cut() -> None:
    """Nothing is found again from frame to frame, but all looks the same."""
    assert cuts([picture(to_plane(texture(seed, 96, 160))) for seed in range(12)]) == [0]


def test_permanent_chaos_is_not_cut_at_every_frame() -> None:
    assert len(cuts([scene(7 * seed, 1)[0] for seed in range(30)])) < 10


def test_detector_keeps_the_latest_descriptor() -> None:
    detector = CutDetector()
    with pytest.raises(ValueError, match="no picture"):
        _ = detector.descriptor
    for luma in (*pan(1, 1, 2), np.full((96, 160), 235, np.uint8)):
        detector.push(picture(luma))
        np.testing.assert_array_equal(detector.descriptor, HANDCRAFTED.describe(picture(luma)))


def test_cuts_by_similarity_alone() -> None:
    detector = SimilarityCuts(threshold=0.75)
    scenes = [*scene(1, 6), *[picture(np.full((96, 160), 16, np.uint8))] * 2, *scene(9, 6)]
    assert [t for t, now in enumerate(scenes) if detector.push(now)] == [0, 6, 8]
    never = SimilarityCuts(threshold=0)
    assert [t for t, now in enumerate(scenes) if never.push(now)] == [0]


@given(st.integers(2, 40), st.integers(1, 12), st.booleans(), seeds)
@few
def test_keyframes_are_chosen_once_a_span(count: int, interval: int, opens: bool, seed: int) -> None:
    """Clips join to the whole; between its ends there is one keyframe in every whole span."""
    data = np.random.default_rng(seed)
    numbered = tuple(picture(np.full((2, 2), t, np.uint8)) for t in range(count))
    spans: list[list[int]] = []

    def choose(pictures: Sequence[Picture]) -> int:
        spans.append([int(p.y[0, 0]) for p in pictures])
        return int(data.integers(len(pictures)))

    sources = split_by_meaning(Source(numbered, opens, 100), interval, choose)
    shown = [[int(p.y[0, 0]) for p in source.pictures] for source in sources]
    assert [t for source, s in zip(sources, shown, strict=True) for t in s[not source.opens_scene :]] == list(
        range(not opens, count)
    )
    assert all(source.length <= interval for source in sources)
    assert [source.opens_scene for source in sources] == [opens] + [False] * (len(sources) - 1)
    assert all(source.first_frame == 100 + s[0] for source, s in zip(sources, shown, strict=True))
    keyframes = {t for s in shown for t in (s[0], s[-1])}
    assert keyframes >= {0, count - 1}
    span = (interval + 1) // 2
    assert spans == [[*range(t, t + span)] for t in range(1, count - span, span)]
    assert all(len(keyframes.intersection(one)) == 1 for one in spans)


def test_keyframe_is_the_most_distinct_frame() -> None:
    frames = pan(0, 0, 9)
    frames[3] = to_plane(texture(7, 96, 160))
    descriptors = [HANDCRAFTED.describe(picture(luma)) for luma in frames]
    assert choose_keyframe(descriptors, 0, 8) == 3
    assert choose_keyframe(descriptors, 1, 4) == 3
    assert choose_keyframe(descriptors, 4, 8) == 4, "all alike: the lowest index"
    assert choose_keyframe(descriptors, 8, 8) == 8

    base = np.random.default_rng(0).random(21).astype(np.float32)
    alike = [np.roll(base, 3 * shift) / np.linalg.norm(base) for shift in range(7)]
    assert choose_keyframe(alike, 0, 6) == 0, "alike but for the rounding of sums"


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-1, 1), (0, 3)])
def test_keyframe_needs_a_span(first: int, last: int) -> None:
    descriptors = [HANDCRAFTED.describe(picture(luma)) for luma in pan(1, 0, 3)]
    with pytest.raises(IndexError):
        choose_keyframe(descriptors, first, last)


# ---------------------------------------------------------------------------------------- tracking


@given(st.floats(-6, 6), st.floats(-6, 6), seeds)
@few
def test_translation_is_tracked_and_carried_on(vx: float, vy: float, seed: int) -> None:
    tracks = track_opencv(pan(vx, vy, 7, seed))
    steps = np.arange(7)[:, None] * np.array([-vx, -vy])
    start = tracks.visible[:, 0]
    anchor = np.where(start[:, None], tracks.positions[:, 0], tracks.positions[:, -1] - steps[-1])
    error = np.linalg.norm(tracks.positions - (anchor[:, None] + steps), axis=2)
    at_border = (tracks.positions < 8) | (tracks.positions > (151, 87))
    whole = ~(at_border.any(axis=2) & tracks.visible).any(axis=1)
    assert whole.sum() > 15
    assert error[whole][tracks.visible[whole]].max() < 0.3
    assert np.quantile(error, 0.95) < 2, "half a window away from the border, and beyond it"


def test_pan_is_followed_out_of_and_into_the_picture() -> None:
    """Half the points leave during the clip; the backward tracks cover what enters."""
    vx, count = 9.0, 10
    tracks = track_opencv(pan(vx, 0, count))
    truth = tracks.positions[:, :1] - np.arange(count)[None, :, None] * np.array([vx, 0])
    forward = tracks.visible[:, 0]
    gone = forward & ~tracks.visible[:, -1]
    assert gone.sum() > 15
    assert np.linalg.norm(tracks.positions - truth, axis=2)[gone].max() < 4
    assert tracks.positions[gone, -1, 0].min() < -60

    entered = ~forward
    assert entered.sum() > 15
    from_end = tracks.positions[:, -1:] + np.arange(count)[None, ::-1, None] * np.array([vx, 0])
    assert np.linalg.norm(tracks.positions - from_end, axis=2)[entered].max() < 4
    inside = (tracks.positions >= 0).all(axis=2) & (tracks.positions <= (159, 95)).all(axis=2)
    assert inside[tracks.visible].all()
    seen_late = tracks.positions[tracks.visible[:, -1], -1, 0]
    assert np.histogram(seen_late, bins=5, range=(0, 160))[0].min() > 6, (
        "every part of the last frame is covered"
    )


def test_every_track_is_seen_at_an_end() -> None:
    tracks = track_opencv(two_movers())
    assert (tracks.visible[:, 0] | tracks.visible[:, -1]).all()
    assert (tracks.visible.sum(axis=1) >= 2).all()


def test_lost_point_gives_its_motion_up_by_halves() -> None:
    """Alone among still points it keeps half of what it moved otherwise, then half of that."""
    positions = np.zeros((6, 6, 2), np.float32)
    positions[1:, :, 1] = 10 * np.arange(1, 6)[:, None]
    positions[0, :3, 0] = 0, 8, 16
    visible = np.ones((6, 6), bool)
    visible[0, 3:] = False
    _extrapolate(positions, visible)
    np.testing.assert_array_equal(positions[0], [(0, 0), (8, 0), (16, 0), (20, 0), (22, 0), (23, 0)])


def test_covered_points_are_lost() -> None:
    frames = two_movers()
    tracks = track_opencv(frames)
    x, y = tracks.positions[:, 0].T
    covered = tracks.visible[:, 0] & (x > 70) & (x < 98) & (y > 22) & (y < 58)
    assert covered.sum() >= 2
    assert tracks.visible[covered, -1].mean() < 0.2


def test_static_scene_has_one_still_track_per_cell() -> None:
    tracks = track_opencv(pan(0, 0, 5))
    assert len(tracks.positions) == 6 * 10
    assert tracks.visible.all()
    assert np.abs(tracks.positions - tracks.positions[:, :1]).max() < 0.05


def test_single_colour_is_covered_sparsely() -> None:
    tracks = track_opencv([np.full((96, 160), 77, np.uint8)] * 3)
    assert len(tracks.positions) == 6
    assert tracks.visible.all()
    assert (tracks.positions == tracks.positions[:, :1]).all()


def test_hidden_points_are_found_again() -> None:
    """A bar passes over a still background; what it uncovers is known by the tracks that it covered."""
    frames = [luma.copy() for luma in pan(0, 0, 13)]
    bar = to_plane(texture(5, 96, 24))
    for t, luma in enumerate(frames):
        luma[:, 8 + 10 * t : 32 + 10 * t] = bar
    tracks = track_opencv(frames)
    x = tracks.positions[:, 0, 0]
    passed = tracks.visible[:, 0] & (x > 50) & (x < 110)
    still = np.abs(tracks.positions - tracks.positions[:, :1]).max(axis=(1, 2)) < 2
    assert passed.sum() >= 12
    assert (passed & still).sum() > 0.8 * passed.sum(), "kept in place while they are hidden"
    hidden = ~tracks.visible[passed & still]
    assert hidden.any(axis=1).mean() > 0.9
    assert tracks.visible[passed & still, -1].mean() > 0.9


def test_what_is_found_looks_alike() -> None:
    """A point whose surroundings become another texture, of faint contrast, is not followed into it."""
    frames = [luma.copy() for luma in pan(0, 0, 6)]
    other = to_plane(128 + (texture(9, 96, 160) - 128) / 4)
    for luma in frames[3:]:
        luma[:, :80] = other[:, :80]
    tracks = track_opencv(frames)
    changed = tracks.visible[:, 0] & (tracks.positions[:, 0, 0] < 70)
    assert changed.sum() >= 12
    assert tracks.visible[changed, 3:].mean() < 0.06


def test_fast_objects_are_searched() -> None:
    """48 samples per frame, and nothing else moves."""
    ground, square = texture(2, 160, 320), texture(3, 64, 64)
    frames = []
    for t in range(5):
        frame = ground.copy()
        frame[48:112, 16 + 48 * t : 80 + 48 * t] = square
        frames.append(to_plane(frame))
    tracks = track_opencv(frames)
    x, y = tracks.positions[:, 0].T
    inside = tracks.visible[:, 0] & (x > 30) & (x < 66) & (y > 62) & (y < 98)
    assert inside.sum() >= 4
    step = tracks.positions[inside, -1] - tracks.positions[inside, 0]
    assert (np.abs(step - (192, 0)).max(axis=1) < 1).mean() > 0.8


def test_flat_area_follows_the_dominant_motion() -> None:
    frames = [luma.copy() for luma in pan(-4, 0, 6, width=256)]
    for luma in frames:
        luma[:, 128:] = 120
    tracks = track_opencv(frames)
    flat = tracks.positions[:, 0, 0] > 160
    assert 1 <= flat.sum() <= 6
    np.testing.assert_allclose(tracks.positions[flat, -1, 0] - tracks.positions[flat, 0, 0], 20, atol=1)


def test_noise_gives_finite_tracks_or_none() -> None:
    frames = [np.random.default_rng(t).integers(0, 256, (96, 160), np.uint8) for t in range(4)]
    tracks = track_opencv(frames)
    assert np.isfinite(tracks.positions).all()
    assert len(tracks.positions) < 30


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 4), seeds)
@few
def test_any_size_is_tracked(height: int, width: int, frames: int, seed: int) -> None:
    tracks = track_opencv(pan(1, 0, frames, seed, height, width))
    assert tracks.positions.shape == (len(tracks.visible), frames, 2)
    assert tracks.positions.dtype == np.float32
    assert tracks.visible.dtype == np.bool_
    assert np.isfinite(tracks.positions).all()


def test_smallest_picture_and_clip() -> None:
    tracks = track_opencv(pan(1, 0, 2, 1, 16, 16))
    assert len(tracks.positions) >= 1
    assert (tracks.positions[:, 1] - tracks.positions[:, 0])[:, 0].mean() == pytest.approx(-1, abs=0.3)


def test_tracks_do_not_depend_on_threads(threads: int) -> None:
    tracks = track_opencv(two_movers())
    again = track_opencv(two_movers())
    np.testing.assert_array_equal(tracks.positions, again.positions)
    digest = tracks.positions.tobytes() + tracks.visible.tobytes()
    cv2.setNumThreads(3 - threads)
    other = track_opencv(two_movers())
    assert other.positions.tobytes() + other.visible.tobytes() == digest


@pytest.mark.parametrize("sizes", [[(16, 16)], [], [(16, 16), (16, 18)]])
def test_tracking_needs_two_frames_of_one_size(sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="two frames of one size"):
        track_opencv([np.zeros(size, np.uint8) for size in sizes])


# --------------------------------------------------------------------------------------- instances


def test_features_of_known_paths() -> None:
    straight = [(10 + 3 * t, 20) for t in range(5)]
    corner = [(0, 0), (4, 0), (8, 0), (8, 4), (8, 8)]
    still = [(5, 5)] * 5
    positions = np.array([straight, corner, still], np.float32)
    features = track_features(Tracks(positions, np.ones((3, 5), bool)))
    np.testing.assert_allclose(features[:, :5], [[10, 20, 12, 0, 12], [0, 0, 8, 8, 16], [5, 5, 0, 0, 0]])
    assert features[0, 5] == 0
    assert features[2, 5] == 0
    assert features[1, 5] == pytest.approx(np.pi / 2 / 3, rel=0.15)


def test_differently_moving_objects_are_instances() -> None:
    tracks = track_opencv(two_movers())
    labels = segment_instances(tracks)
    assert labels.dtype == np.int32
    x, y = tracks.positions[:, 0].T
    seen = tracks.visible[:, 0]
    right = seen & (x > 22) & (x < 58) & (y > 22) & (y < 58)
    up = seen & (x > 166) & (x < 194) & (y > 118) & (y < 146)
    ground = seen & (x > 20) & (x < 140) & (y > 80)
    names = [np.bincount(labels[part] + 1).argmax() - 1 for part in (right, up, ground)]
    assert len(set(names)) == 3
    assert -1 not in names
    for part, name in zip((right, up, ground), names, strict=True):
        assert (labels[part] == name).mean() > 0.9


@pytest.mark.parametrize("clip", [pan(0, 0, 6), pan(5, 2, 6), [np.full((96, 160), 9, np.uint8)] * 2])
def test_common_motion_is_one_instance(clip: list[Plane]) -> None:
    labels = segment_instances(track_opencv(clip))
    assert len(labels)
    assert (labels == 0).mean() > 0.9


def test_jitter_is_no_structure() -> None:
    """Half a sample between two halves of the background does not split it, a moving object apart."""
    data = np.random.default_rng(1)
    start = np.stack(np.meshgrid(np.arange(8, 512, 16), np.arange(8, 320, 16)), axis=-1).reshape(-1, 1, 2)
    positions = np.repeat(start, 9, axis=1) + data.normal(0, 0.05, (len(start), 9, 2))
    positions[start[:, 0, 0] < 256, -1, 1] += 0.5
    mover = (start[:, 0] > (200, 100)).all(axis=1) & (start[:, 0] < (300, 180)).all(axis=1)
    positions[mover] += 10 * np.arange(9)[:, None] * np.array([1, 0])
    labels = segment_instances(Tracks(positions.astype(np.float32), np.ones(positions.shape[:2], bool)))
    assert len(set(labels[mover])) == 1
    assert np.bincount(labels[~mover] + 1).max() > 0.95 * (~mover).sum()
    assert set(labels[mover]).isdisjoint(set(labels[~mover]))


def test_no_clusters_are_one_instance() -> None:
    positions = np.random.default_rng(0).uniform(0, 500, (14, 5, 2)).astype(np.float32)
    labels = segment_instances(Tracks(positions, np.ones((14, 5), bool)))
    assert (labels == 0).all()


def test_no_tracks_are_no_instances() -> None:
    none = Tracks(np.zeros((0, 3, 2), np.float32), np.zeros((0, 3), bool))
    assert len(segment_instances(none)) == 0
    black = picture(np.zeros((32, 32), np.uint8))
    indices, instances = select_semantic_points(none, segment_instances(none), black, black)
    assert len(indices) == len(instances) == 0


def test_mask_is_the_union_of_cells() -> None:
    points = np.array([(20, 30), (44.4, 30), (-5, 10), (63.6, 5), (500, 500)], np.float32)
    mask = motion_mask(points, (48, 64))
    expected = np.zeros((48, 64), bool)
    expected[18:43, 8:33] = expected[18:43, 32:57] = True
    np.testing.assert_array_equal(mask, expected)


# -------------------------------------------------------------------------------------- importance


@given(seeds)
@few
def test_painting_over_changes_the_mask_alone(seed: int) -> None:
    data = np.random.default_rng(seed)
    scene = Picture(*(data.integers(0, 256, shape, np.uint8) for shape in ((33, 47), (17, 24), (17, 24))))
    mask = data.random((33, 47)) < 0.3
    painted = paint_over(scene, mask)
    np.testing.assert_array_equal(painted.y[~mask], scene.y[~mask])
    assert (painted.y[mask] != scene.y[mask]).any()
    untouched = cv2.resize(mask.astype(np.float32), (24, 17), interpolation=cv2.INTER_AREA) == 0
    np.testing.assert_array_equal(painted.u[untouched], scene.u[untouched])


def test_object_vanishes_into_a_plain_background() -> None:
    luma, u, v = np.full((96, 160), 90, np.uint8), *np.full((2, 48, 80), 110, np.uint8)
    luma[31:60, 51:90] = to_plane(texture(1, 29, 39))
    u[15:30, 25:45] = 40
    mask = np.zeros(luma.shape, bool)
    mask[31:60, 51:90] = True
    painted = paint_over(Picture(luma, u, v), mask)
    assert (painted.y == 90).all()
    assert (painted.u == 110).all()
    assert (paint_over(picture(luma), np.ones_like(mask)).y == 128).all(), "nothing is left to paint with"


def test_moving_objects_are_sent_and_the_still_background_is_not() -> None:
    frames = two_movers()
    tracks = track_opencv(frames)
    labels = segment_instances(tracks)
    ends = picture(frames[0]), picture(frames[-1])
    indices, instances = select_semantic_points(tracks, labels, *ends)
    assert indices.dtype == np.intp
    assert instances.dtype == np.uint8
    assert len(set(indices.tolist())) == len(indices) == len(instances) > 4
    assert (labels[indices] >= 0).all()
    assert (np.diff(instances.astype(int)) >= 0).all()
    assert set(instances.tolist()) == set(range(instances.max() + 1))
    assert all(len(set(labels[indices[instances == k]])) == 1 for k in set(instances.tolist()))
    moved = np.linalg.norm(tracks.positions[indices, -1] - tracks.positions[indices, 0], axis=1)
    assert (moved > 16).mean() > 0.9
    motion = tracks.positions[indices, -1] - tracks.positions[indices, 0]
    assert (motion[:, 0] > 30).any(), "the one that goes right"
    assert (motion[:, 1] < -30).any(), "the one that goes up"

    again = select_semantic_points(tracks, labels, *ends)
    np.testing.assert_array_equal(again[0], indices)
    every = TgvcOptions(max_points=2, points_per_distance=100)
    np.testing.assert_array_equal(
        np.bincount(select_semantic_points(tracks, labels, *ends, every)[1]), [2, 2]
    )
    for strict in (TgvcOptions(threshold=1e9), TgvcOptions(min_path=1e9)):
        assert len(select_semantic_points(tracks, labels, *ends, strict)[0]) == 0


def test_instances_are_numbered_by_importance() -> None:
    """The faster of two like halves comes first, whichever side it is on."""
    for near, far in ((3, 6), (6, 3)):
        start = np.stack(np.meshgrid(np.arange(8, 160, 16), np.arange(8, 96, 16)), axis=-1).reshape(-1, 1, 2)
        left = start[:, 0, 0] < 80
        speed = np.where(left, -near, far)[:, None, None] * np.array([1, 0])
        positions = (start + np.arange(6)[None, :, None] * speed).astype(np.float32)
        tracks = Tracks(positions, np.ones(positions.shape[:2], bool))
        frame = picture(view(texture(1, 96, 160), 0, 0, 96, 160))
        indices, instances = select_semantic_points(
            tracks, np.where(left, 0, 1).astype(np.int32), frame, frame
        )
        assert set(left[indices[instances == 0]]) == {near > far}


def test_a_pan_gets_at_most_fifteen_points() -> None:
    frames = pan(9, 0, 10, height=160, width=240)
    tracks = track_opencv(frames)
    labels = segment_instances(tracks)
    indices, instances = select_semantic_points(tracks, labels, picture(frames[0]), picture(frames[-1]))
    assert 10 <= np.bincount(instances)[0] <= 15
    assert tracks.visible[indices].mean() > tracks.visible.mean(), "well seen tracks are preferred"


@pytest.mark.parametrize("clip", [pan(0, 0, 6), [np.full((96, 160), 9, np.uint8)] * 3])
def test_nothing_is_sent_where_nothing_moves(clip: list[Plane]) -> None:
    tracks = track_opencv(clip)
    labels = segment_instances(tracks)
    indices, _ = select_semantic_points(tracks, labels, picture(clip[0]), picture(clip[-1]))
    assert len(indices) == 0


@given(seeds, st.integers(1, 60), st.integers(1, 15))
@few
def test_samples_are_distinct_members_spread_over_the_instance(seed: int, size: int, count: int) -> None:
    data = np.random.default_rng(seed)
    positions = data.uniform(0, 300, (size, 1, 2)).astype(np.float32) + np.zeros((1, 5, 2), np.float32)
    visible = data.random((size, 5)) < 0.7
    visible[:, 0] = True
    chosen = sample_points(positions, visible, count)
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == min(size, count)
    assert chosen.min() >= 0
    assert chosen.max() < size


def test_one_sample_per_group() -> None:
    data = np.random.default_rng(0)
    centres = np.array([(20, 20), (200, 30), (90, 150)], np.float32)
    positions = np.repeat(centres, 8, axis=0)[:, None] + data.normal(0, 2, (24, 1, 2)).astype(np.float32)
    positions = np.repeat(positions, 4, axis=1)
    visible = np.ones((24, 4), bool)
    visible[::2, 2:] = False
    chosen = sample_points(positions, visible, 3)
    np.testing.assert_array_equal(chosen // 8, [0, 1, 2])
    assert visible[chosen].all(), "the better seen half"
