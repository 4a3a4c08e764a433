"""What the encoder decides: keyframes' places, sizes and quality, and the measure by which it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import SCENES
from strategies import random_picture, settings

from refenc.clips import Source, divide, split
from refenc.distortion import Distortion
from refenc.keyframes import CODECS, CodedPicture, KeyframeCodec
from refenc.layout import Interval, Layout, keyframe_pictures, ranked
from refenc.rate import Keyframes
from tgv_format.keyframe import Codec
from tgv_format.picture import Picture

cv2 = pytest.importorskip("cv2")

GREY = Picture(*(np.full(shape, 128, np.uint8) for shape in ((2, 2), (1, 1), (1, 1))))


# --- division ---------------------------------------------------------------------------------------------


def numbers(source: Source) -> list[int]:
    return [int(picture.y[0, 0]) for picture in source.pictures]


def numbered(count: int) -> list[Picture]:
    return [replace(GREY, y=np.full((2, 2), n, np.uint8)) for n in range(count)]


@given(st.integers(1, 90), st.integers(1, 30), st.sets(st.integers(1, 89)), st.integers(1, 12))
@settings()
def test_periods_and_clips_share_keyframes(count: int, most: int, cuts: set[int], interval: int) -> None:
    def starts_scene(picture: Picture, following: Picture | None) -> bool:
        return int(picture.y[0, 0]) in cuts

    frame = 0
    for period in divide(numbered(count), most, starts_scene):
        assert period.length <= most
        assert period.first_frame == frame - (not period.opens_scene)
        assert period.opens_scene == (frame == 0 or frame in cuts)
        clips = split(period, interval)
        lengths = [clip.length for clip in clips]
        assert max(lengths) <= interval
        assert max(lengths) - min(lengths) <= 1
        for clip in clips:
            assert clip.opens_scene == (clip is clips[0] and period.opens_scene)
            shown = numbers(clip)[not clip.opens_scene :]
            assert shown == [*range(frame, frame + len(shown))]
            frame += len(shown)
        keyframes = keyframe_pictures(clips)
        assert len(keyframes) == period.opens_scene + len([length for length in lengths if length])
        assert keyframes[-1] is period.pictures[-1]
    assert frame == count


# --- rate -------------------------------------------------------------------------------------------------


class Fake:
    """A codec whose payloads have ``sizes`` bytes, step by step."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes, self.tried = sizes, set[int]()
        self.ladder = tuple((0, step) for step in range(len(sizes)))

    def encode(self, pictures: Sequence[Picture], step: int) -> list[CodedPicture]:
        self.tried.add(step)
        return [CodedPicture(Codec.RAW, 0, bytes(self.sizes[step]), False, one) for one in pictures]


@given(
    st.floats(0.01, 0.06),
    st.lists(st.floats(0.97, 1.03), min_size=3, max_size=150),
    st.floats(-0.5, 1.5),
    st.integers(1, 3),
)
@settings()
def test_the_step_that_fits_is_found_soon(
    slope: float, noise: list[float], place: float, groups: int
) -> None:
    exact = [round(300 * math.exp(slope * step) * factor) for step, factor in enumerate(noise)]
    codec = Fake(np.maximum.accumulate(exact).tolist())
    budget = groups * codec.sizes[0] * (codec.sizes[-1] / codec.sizes[0]) ** place
    keyframes = Keyframes([[GREY]] * groups, cast(KeyframeCodec, codec), lambda *a: list(map(*a)))
    steps = keyframes.fit(budget)
    assert max(steps) - min(steps) <= 1
    nearest = min(abs(groups * size - budget) for size in codec.sizes)
    assert abs(keyframes.size(steps) - budget) <= max(nearest, 0.02 * budget)
    assert len(codec.tried) <= 12


@pytest.mark.parametrize(("budget", "step"), [(0.0, 0), (10**9, 3)])
def test_a_budget_out_of_reach(budget: float, step: int) -> None:
    codec = cast(KeyframeCodec, Fake([10, 20, 30, 40]))
    assert Keyframes([[GREY]], codec, lambda *a: list(map(*a))).fit(budget) == [step]


def test_all_qualities_of_one_size() -> None:
    codec = CODECS["av1-sequence"]
    for downscale, qualities in codec.sizes.items():
        ladder = codec.of_size(downscale).ladder
        assert ladder == tuple((downscale, quality) for quality in qualities)
        assert {rung for rung in codec.ladder if rung[0] == downscale} <= set(ladder)


# --- distortion -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moving() -> list[Picture]:
    return list(SCENES["pan"](0, 192, 128, 4).pictures)


def test_nothing_is_wrong_with_the_originals(moving: list[Picture]) -> None:
    assert Distortion(moving)(0, moving) == 0


def changed(pictures: list[Picture], name: str, strength: float) -> list[Picture]:
    """Blurred by a Gaussian, with shifted colours, or with frames that come nearer to the first one."""
    if name == "blur":
        return [replace(p, y=cv2.GaussianBlur(p.y, (0, 0), strength)) for p in pictures]
    if name == "colour":
        return [replace(p, u=np.clip(p.u + 10.0 * strength, 0, 255).astype(np.uint8)) for p in pictures]
    if name == "noise":
        noise = np.random.default_rng(0).normal(0, 8 * strength, pictures[0].y.shape)
        return [replace(p, y=np.clip(p.y + noise, 0, 255).astype(np.uint8)) for p in pictures]
    return [pictures[round(i * (1 - strength / 3))] for i in range(len(pictures))]


@pytest.mark.parametrize("name", ["blur", "colour", "noise", "freeze"])
def test_what_is_more_wrong_has_more_distortion(moving: list[Picture], name: str) -> None:
    measure = Distortion(moving)
    found = [measure(0, changed(moving, name, strength)) for strength in (1.0, 2.0, 3.0)]
    assert 0 < found[0] < found[1] < found[2]


def test_distortion_adds_up_over_clips(moving: list[Picture]) -> None:
    measure, made = Distortion(moving), changed(moving, "blur", 1.0)
    parts = measure(0, made[:3]) + measure(2, made[2:])
    assert measure(0, made) == pytest.approx(parts)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (17, 33), (1200, 700)])
def test_pictures_of_any_size_are_compared(size: tuple[int, int]) -> None:
    pictures = [random_picture(*size, seed) for seed in range(3)]
    assert Distortion(pictures)(0, pictures) == 0
    assert Distortion(pictures)(0, pictures[::-1]) > 0


# --- layouts ----------------------------------------------------------------------------------------------


def layout(size: int, distortion: float, rung: tuple[int, int] = (0, 0)) -> Layout:
    """One clip of ten frames with a keyframe of ``size`` bytes."""
    codec = Fake([size])
    codec.ladder = (rung,)
    keyframes = Keyframes([[GREY]], cast(KeyframeCodec, codec), lambda *a: list(map(*a)))
    (coded,) = keyframes.at([0])
    source = Source((GREY,) * 11, False, 0)
    return Layout(keyframes, [0], [Interval(source, coded, coded, distortion=distortion)], None)


def test_the_best_layout() -> None:
    good, cheap, huge = layout(1000, 2.0), layout(500, 2.1), layout(3000, 1.9)
    assert ranked([good, cheap, huge], None) == [cheap, good, huge]
    # What is left of a budget is lost.
    assert ranked([cheap, huge, good], 1100) == [good, cheap, huge]
    assert ranked([huge, good], 300) == [good, huge]
    # A quarter of the size has to be clearly better.
    quarter = layout(1000, 1.95, (2, 0))
    assert ranked([quarter, good], 1100) == [good, quarter]
