"""The smooth motion and the masks that the encoder tries."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import SCENES, Rendered

from refdec.motion import Motion
from refenc import smooth
from refenc.instances import segment_instances
from refenc.smooth import Ground
from refenc.tracking import track_opencv
from tgv_format.clip import Clip
from tgv_format.picture import Picture

SIZE = 192, 128
LAST = 6


def scene(name: str) -> Rendered:
    return SCENES[name](3, *SIZE, LAST + 1)


def grounds(name: str, flow: bool, scene_kind: bool) -> list[Ground]:
    pictures = scene(name).pictures
    return smooth.grounds(pictures, track_opencv([p.y for p in pictures]), flow, scene_kind)


def miss(ground: Ground, rendered: Rendered) -> float:
    """Root mean square of what a ground misses of the true flow of the last frame, in luma samples."""
    motion = Motion(Clip(LAST, None, None, ground.flow_tokens, ground.camera_poses), SIZE[1], SIZE[0])
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    found = motion.smooth(LAST, False, 16 * np.stack([x, y], -1))
    known = 0 if found is None else found / 16
    return float(np.sqrt(np.square(rendered.flow(LAST, 0) - known).sum(2).mean()))


@pytest.mark.parametrize("kinds", [(False, False), (True, False), (False, True), (True, True)])
def test_grounds_have_the_sections_that_were_asked_for(kinds: tuple[bool, bool]) -> None:
    nothing, *found = grounds("shake", *kinds)
    assert vars(nothing) == vars(Ground())
    flow, camera = kinds
    expected = [(f, c) for f in (False, True) for c in (False, True) if f <= flow and c <= camera]
    combinations = {(g.flow_tokens is not None, g.camera_poses is not None) for g in (nothing, *found)}
    assert sorted(combinations) == expected


@pytest.mark.parametrize("name", ["pan", "zoom", "shake"])
def test_grounds_explain_the_motion_of_a_camera(name: str) -> None:
    """All of them do somewhat, the best one of each combination of sections does well."""
    rendered = scene(name)
    nothing, *found = grounds(name, True, True)
    still = miss(nothing, rendered)
    for flow, camera in ((True, False), (False, True), (True, True)):
        misses = [
            miss(g, rendered)
            for g in found
            if (g.flow_tokens is not None) == flow and (g.camera_poses is not None) == camera
        ]
        assert min(misses) < 0.25 * still
        assert max(misses) < 0.7 * still


def test_a_camera_leaves_little_to_tokens() -> None:
    _, finest, *found = grounds("shake", True, True)

    def reach(ground: Ground) -> int:
        tokens = ground.flow_tokens
        return 0 if tokens is None else int(np.abs(tokens.tokens).max()) * tokens.step

    alone = [reach(g) for g in found if g.camera_poses is None]
    rest = [reach(g) for g in found if g.camera_poses is finest.camera_poses]
    assert alone
    assert max(rest) < 0.3 * min(alone)


def test_nothing_moves() -> None:
    (nothing,) = grounds("static", True, True)
    assert vars(nothing) == vars(Ground())


def test_tokens_fit_where_there_is_texture() -> None:
    """Half of the picture is flat, and its flow is made up."""
    rendered = scene("pan")
    truth = rendered.flow(1, 0).mean((0, 1))

    def made_up(a: Picture, b: Picture, start: np.ndarray | None) -> np.ndarray:
        flow = np.tile(truth.astype(np.float32), (SIZE[1], SIZE[0], 1))
        flow[:, : SIZE[0] // 2] = 40
        return flow

    planes = [p.y.copy() for p in rendered.pictures[:2]]
    for plane in planes:
        plane[:, : SIZE[0] // 2] = 128
    pictures = [Picture(y, p.u, p.v) for y, p in zip(planes, rendered.pictures, strict=False)]
    tracks = track_opencv(planes)
    for ground in smooth.grounds(pictures, tracks, True, False, flow_estimator=made_up)[1:]:
        motion = Motion(Clip(1, flow_tokens=ground.flow_tokens), SIZE[1], SIZE[0])
        found = motion.smooth(1, False, np.array([[16 * 140, 16 * 64]]))
        assert found is not None
        assert np.abs(found / 16 - truth).max() < 2


def test_large_pictures_are_analysed_at_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = scene("pan")
    monkeypatch.setattr("refenc.flow._SAMPLES", SIZE[0] * SIZE[1] // 2)
    nothing, *found = grounds("pan", True, False)
    for ground in found:
        assert miss(ground, rendered) < 0.4 * miss(nothing, rendered)


def test_masks_of_moving_objects_alone() -> None:
    for name, objects in (("two_objects_crossing", True), ("static", False)):
        pictures = SCENES[name](3, 256, 160, 9).pictures
        tracks = track_opencv([p.y for p in pictures])
        masks = smooth.labels(pictures, tracks, segment_instances(tracks))
        assert (masks is not None) == objects
        if masks is not None:
            assert masks.last_frame == 8
            assert masks.labels.any()
