"""The benchmarks still run: each one's core on a tiny rendered clip."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from scenes import SCENES, Rendered

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import common
import damage
import entropy
import guidance
import memory
import speed
import streams
from y4m import Y4m

from refdec.baseline import reconstruct
from refdec.output import OutputInfo, open_writer
from tgv_format.clip import Clip
from tgv_format.container import UnitType
from tgv_format.picture import Colour

SIZE = (96, 64)
FRAMES = 14
OPTIONS = ["--keyframe-interval", "6", "--quality", "20", "--caption", "A wall."]


@pytest.fixture(scope="module")
def scene() -> Rendered:
    return SCENES["pan"](1, *SIZE, FRAMES)


@pytest.fixture(scope="module")
def video(scene: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "pan.mp4"
    writer = open_writer(str(path), OutputInfo(*SIZE, Fraction(25), Colour(), (1, 1)))
    for picture in scene.pictures:
        writer.write(picture)
    writer.close()
    return path


@pytest.fixture(scope="module")
def stream(video: Path) -> Path:
    path = video.with_suffix(".tgv")
    common.run("refenc", video, path, *common.scaling(SIZE), *OPTIONS)
    return path


def test_table_has_medians_and_dashes() -> None:
    rows: list[common.Row] = [{"clip": "a", "dB": 1.0}, {"clip": "b", "dB": None}, {"clip": "c", "dB": 4.0}]
    lines = common.table(rows, {"clip": "", "dB": ".2f"}).splitlines()
    assert [line.split() for line in lines[1:4]] == [["a", "1.00"], ["b", "-"], ["c", "4.00"]]
    assert lines[-1].split() == ["median", "2.50"]
    assert len(common.table(rows, {"clip": "", "dB": ".2f"}, medians=False).splitlines()) == 4


def test_failing_command_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="bad-magic"):
        common.run("refdec", __file__, tmp_path / "out.y4m")


def test_spending_adds_up(stream: Path) -> None:
    spent = common.spending(stream)
    assert spent.total.total() == stream.stat().st_size
    assert spent.units[UnitType.CLIP] >= 2
    assert spent.total["text"] > 0


def test_y4m_is_looped(video: Path, tmp_path: Path) -> None:
    looped = Y4m.of(video, SIZE)
    with (tmp_path / "looped.y4m").open("wb") as file:
        looped.feed(file, 2 * FRAMES + 1)
    pictures = [p.md5() for p in guidance.read_original(tmp_path / "looped.y4m", None)]
    once = [p.md5() for p in guidance.read_original(video, SIZE)]
    assert pictures == [*once, *once, once[0]]


def test_streams(video: Path, tmp_path: Path) -> None:
    row = streams.measure(video, "default", SIZE, OPTIONS, tmp_path)
    assert row["problems"] == []
    assert row["frames"] == FRAMES
    rows = [row, row | {"setting": "8 kbit/s", "kbit/s": 9.5, "reach": 7.0, "says so": ""}]
    assert [bool(t.missed) for t in streams.targets(rows)[:2]] == [False, False]
    # Neither said so, nor at the end of the ladder.
    assert len(streams.targets(rows)[3].missed) == 2
    broken = streams.targets([row | {"problems": ["other bytes"]}, rows[1]])
    assert broken[0].missed == ["pan, default: other bytes"]


def test_guidance_clips_are_contiguous(stream: Path) -> None:
    found = [(begin, clip.frame_count) for begin, clip, _, _ in guidance.coded_clips(stream)]
    assert found[0][0] == 0
    assert all(b + n == after for (b, n), (after, _) in pairwise(found))
    assert sum(found[-1]) == FRAMES - 1


def test_guidance(video: Path, stream: Path) -> None:
    pictures = guidance.read_original(video, SIZE)
    row = guidance.measure(stream, pictures, guidance.DenseFlow(pictures))
    assert row["dense gain dB"] > guidance.SOME_GAIN
    assert row["share %"] == pytest.approx(100 * row["gain dB"] / row["dense gain dB"])
    (missed, *_) = guidance.targets(
        "x", [row | {"clip": "pan"}], {"mean share %": 34.9, "mean guidance %": 1.0}
    )
    assert missed.missed


def test_dense_reconstruction_follows_the_flow(scene: Rendered) -> None:
    length, t = FRAMES - 1, FRAMES // 2
    first, last = scene.pictures[0].y, scene.pictures[-1].y
    made = {}
    for name, scale in (("true", 1), ("none", 0)):
        flow = guidance.DenseFlow(scene.pictures)
        for end in (0, length):
            flow._known[t, end] = (scale * scene.flow(t, end)).astype(np.float32)
        picture = guidance.dense_reconstruction(flow, 0, t, length, first, last)
        made[name] = guidance.psnr(scene.pictures[t].y, picture)
    (faded,) = reconstruct(Clip(length), scene.pictures[0], scene.pictures[-1], range(t, t + 1))
    assert made["none"] == pytest.approx(guidance.psnr(scene.pictures[t].y, faded.y), abs=0.05)
    assert made["true"] > made["none"] + 6


def test_speed(video: Path, tmp_path: Path) -> None:
    row = speed.measure(video, SIZE, 1, tmp_path)
    assert row["frames"] == FRAMES
    assert all(math.isfinite(v) and v > 0 for k, v in row.items() if k not in ("clip", "kbin", "kbin/s"))
    (grown,) = speed.growth_with_length(video, SIZE, [2], tmp_path)
    assert grown["amount"] == 2 * FRAMES
    slower = grown | {"amount": 4 * FRAMES, "enc cpu s": 4 * grown["enc cpu s"]}
    assert speed.exponent([grown, slower], "enc cpu s") == pytest.approx(2)


def test_entropy(video: Path, tmp_path: Path) -> None:
    rows = entropy.measure(video, SIZE, 1, tmp_path)
    *parts, whole = rows
    assert [r["kind"] for r in rows] == [*entropy.KINDS, "all"]
    assert whole["bins"] == sum(r["bins"] for r in parts) > 0
    assert whole["x rt"] == pytest.approx(FRAMES / 25 / sum(r["seconds"] for r in parts))


def test_memory(video: Path) -> None:
    row = memory.measure(Y4m.of(video, SIZE), SIZE, 2 * FRAMES + 1)
    assert row["frames back"] == 2 * FRAMES + 1
    assert 10 < row["decoder MiB"] < row["encoder MiB"] < 1000
    more = row | {"decoder MiB": 2 * row["decoder MiB"]}
    assert [len(t.missed) for t in memory.targets([row, more])] == [1, 0]


def test_damage_is_judged(stream: Path, tmp_path: Path) -> None:
    data = stream.read_bytes()
    every = list(damage.cases([data]))
    assert len(every) == 9 * len(data)
    assert len({case.apply(data) for case in every}) == 9 * len(data)
    chosen = every[:: len(every) // 12]
    outcomes = [*damage.run_inside([data], chosen, 1), damage.run_outside([data], chosen[-1], tmp_path)]
    rows, failed = damage.summarise([data], outcomes)
    assert not failed
    assert sum(row["cases"] for row in rows) == len(outcomes)
    assert damage.judge(1, "refdec: truncated at byte 3, unit: 2 bytes missing\n", 3, []) == ("truncated", "")
    for status, said, left in (
        (0, "", []),
        (1, "Traceback\n", []),
        (1, "refdec: truncated at byte 9, unit: x\n", []),
        (1, "refdec: truncated at byte 3, unit: x\nmore\n", []),
        (1, "refdec: truncated at byte 3, unit: x\n", ["video.y4m"]),
    ):
        assert damage.judge(status, said, 3, left)[1]


def test_damage_extents(stream: Path) -> None:
    data = stream.read_bytes()
    units = damage.extents(data)
    assert units[-1].end == len(data)
    first, *_, end = units
    # The leading keyframe is frame 0, and the first clip goes on from it.
    assert first.frames.start == 0
    assert len(first.frames) > 1
    assert len(end.frames) == 0
    assert max(u.frames.stop for u in units) == FRAMES


def test_damage_is_concealed(stream: Path, tmp_path: Path) -> None:
    rows = list(islice(damage.conceal(stream.read_bytes(), tmp_path), 5, 8))
    assert [row["fault"] for row in rows] == ["", "", ""]
