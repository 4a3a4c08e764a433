"""The benchmarks still run: each one's core on a tiny rendered clip."""

from __future__ import annotations

import csv
import json
import math
import shlex
import sys
from argparse import Namespace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from scenes import SCENES, Rendered

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ablation
import analysis
import common
import damage
import entropy
import guidance
import memory
import peers
import plot
import rate
import rd
import speed
import streams
from rates import flow_tokens, masks, poses, trajectories, yardsticks
from y4m import Y4m

from refdec.baseline import reconstruct
from refdec.output import OutputInfo, open_writer
from refenc.flow_tokens import FlowAnalysis, FlowOptions, choose
from refenc.guidance import Analysis
from refenc.poses import Motion, errors
from tgv_format.clip import Clip
from tgv_format.container import UnitType
from tgv_format.picture import Colour, Picture

SIZE = (96, 64)
FRAMES = 14
OPTIONS = ["--keyframe-codec", "av1", "--keyframe-interval", "6", "--quality", "20", "--caption", "A wall."]


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


def test_ablation(video: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    arguments = ["--clips", str(video.parent), "--size", "96x64", "--json", str(target)]
    ablation.main(arguments)
    rows = {row["points"]: row for row in json.loads(target.read_text())["summary"]}
    assert next(iter(rows)) == "nothing"
    assert rows["nothing"]["bytes"] == rows["nothing"]["gain dB"] == 0
    assert abs(rows["random"]["count"] - rows["semantic"]["count"]) <= 2, "copies of points are not sent"
    assert rows["at most 15"] == rows["semantic"] | {"points": "at most 15"}
    assert 0 < rows["at most 5"]["count"] <= 5 < rows["dense"]["count"]
    assert rows["semantic"]["gain dB"] > 1, "it is a pan"


def test_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "SCENES", {name: SCENES[name] for name in ("pan", "cut", "static")})
    monkeypatch.setattr(analysis, "MOTION", ("pan", "static"))
    target = tmp_path / "out.json"
    assert analysis.main(["--seeds", "1", "--size", "192x128", "--json", str(target)]) == 0
    rows = {row["scene"]: row for row in json.loads(target.read_text())["rows"]}
    assert rows["cut"]["cuts"]
    assert rows["pan"]["error"] < 0.1
    assert rows["static"]["moved"] == rows["static"]["turned"] == 0


def test_analysis_names_what_is_missed() -> None:
    row = analysis.measure_scene("passing", 0, (192, 128)) | {"rand": 0.5, "cuts": False}
    missed = {target.demand: target.missed for target in analysis.targets([row])}
    assert missed["cuts exact"] == ["passing 0"]
    assert missed["adjusted Rand index at least 0.9"] == ["passing 0: 0.500"]


def test_cuts_are_read_from_the_table() -> None:
    lines = "| a.mp4 | two hard cuts: x | 64x48 |\n| b.mp4 | - | hard cuts at frames 25 and 75; film |\n"
    assert analysis.listed_cuts(lines) == {"b": [25, 75]}


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


# --- Rate and distortion


def rd_row(codec: str, kbps: float, clip: str = "pan", setting: str = "8", **metrics: float) -> common.Row:
    return {"clip": clip, "codec": codec, "setting": setting, "kbps": kbps, **metrics}


def test_rd(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From clips to tables, plots and pictures; what was computed once is not computed again."""
    one = peers.Peer(peers.X265, (40,), scale=2, spacing=4)
    monkeypatch.setitem(rd.PEERS, "x265-half-t4", one)
    elsewhere = tmp_path / "peers.csv"
    rows = [rd_row("vvenc", kbps, psnr_y=90.0, ssim=0.1) for kbps in (0.1, 1000)]
    rows += [rd_row("x265-half-t4", 0.1, psnr_y=99.0, ssim=1.0)]
    with elsewhere.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "lpips"])
        writer.writeheader()
        writer.writerows(rows)
    figures, plots, pictures = tmp_path / "rd.json", tmp_path / "plots", tmp_path / "pictures"
    command = ["--clips", str(video.parent), "--size", "128x128", "--frames", "10", "--bitrates", "8"]
    command += ["--run", "x265-half-t4", "--peers", str(elsewhere), "--listed", "--json", str(figures)]
    assert rd.main([*command, "--plots", str(plots), "--pictures", str(pictures)]) in (0, 1)

    found = json.loads(figures.read_text(encoding="utf-8"))
    assert [(row["codec"], row["setting"]) for row in found["rows"]] == [
        ("tgv", "8"),
        ("x265-half-t4", "crf40"),
    ]
    for row in found["rows"]:
        assert (row["frames"], row["fps"]) == (10, 25)
        assert row["kbps"] == pytest.approx(row["bits"] * 25 / 10 / 1000)
        assert row["psnr_y"] > 15
        assert 0 < row["ssim"] < 1
    (line,) = found["summary"][0]["clips"]
    # What was measured elsewhere of a codec that is run here is not used.
    assert (line["best psnr_y"], line["peers"]["psnr_y"]) == (90, "vvenc")
    assert line["psnr_y - best"] == pytest.approx(found["rows"][0]["psnr_y"] - 90)
    assert "tgv loses in psnr_y on 1 of 1: pan" in capsys.readouterr().out
    for name in ("pan", "mean"):
        assert "vvenc" in (plots / f"{name}.svg").read_text(encoding="utf-8")
    assert (pictures / "pan tgv_8.png").exists()

    computed = []
    monkeypatch.setattr(
        rd, "measure", lambda original, job, *_: computed.append(job.codec) or found["rows"][0]
    )
    rd.main(command)
    assert computed == []
    rd.main([*command, "--again"])
    assert computed == ["tgv"]
    with pytest.raises(SystemExit, match="made with"):
        rd.main([*command, "--measure", "other"])


def test_rd_measures_by_command(video: Path, tmp_path: Path) -> None:
    original = rd.prepare(video, SIZE, 5, tmp_path)
    coded = peers.Coded(1234, original.pictures, 0, 0)
    script = "import json, sys; print(json.dumps({'words': sys.argv[1:]}))"
    command = shlex.join([sys.executable, "-c", script])
    words = rd.measured(command, tmp_path, original, coded, tmp_path)["words"]
    first, second = (guidance.read_original(Path(word), None) for word in words[:2])
    assert [p.md5() for p in first] == [p.md5() for p in second] == [p.md5() for p in original.pictures]
    assert words[2:] == shlex.split(f"--bits 1234 --json --matrix 709 --step 3 --weights {tmp_path}")
    with pytest.raises(RuntimeError, match="broken"):
        rd.measured(shlex.join([sys.executable, "-c", "exit('broken')"]), None, original, coded, tmp_path)


def test_rd_own_metrics(scene: Rendered) -> None:
    info = OutputInfo(*SIZE, Fraction(25), Colour(), (1, 1))
    original = rd.Original("pan", scene.pictures[:2], info, Path())
    same = rd.own_metrics(original, peers.Coded(0, scene.pictures[:2], 0, 0))
    assert same == {"psnr_y": 100, "ssim": pytest.approx(1)}
    other = rd.own_metrics(original, peers.Coded(0, scene.pictures[1:3], 0, 0))
    assert other["psnr_y"] < 40
    assert other["ssim"] < 0.99


def test_rd_seam() -> None:
    """Of two scenes with keyframes 0, 4, 8 and 9, 13, one level a frame and ``jump`` levels at keyframes."""
    scenes = [[0, 4, 8], [9, 13]]

    def video(jump: int) -> list[Picture]:
        steps = [1, *[jump, 1, 1, jump] * 2, 50, jump, 1, 1, jump]
        half = np.full((8, 8), 128, np.uint8)
        return [Picture(np.full((16, 16), y, np.uint8), half, half) for y in np.cumsum(steps)]

    assert rd.seam(video(1), video(1), scenes) == pytest.approx(1)
    assert rd.seam(video(1), video(3), scenes) == pytest.approx(3, rel=0.01)
    assert rd.seam(video(3), video(3), scenes) == pytest.approx(1)
    assert rd.seam(video(1), video(3), ()) is None
    assert rd.seam(video(1), video(3), [[0, 1, 2]]) is None
    rows = [rd_row("tgv", 5, clip, seam=seam) for clip, seam in (("a", 1.6), ("b", 1.4), ("c", None))]
    assert rd.targets("tgv", 5, rows, [])[1].missed == ["a: 1.60"]


def test_rd_compares_at_equal_rates() -> None:
    """In the logarithm of the rate; a peer that does not get so low does not take part."""
    curves = rd.Curves.of(
        [
            rd_row("vvenc", 16, lpips=0.2, ms_ssim=0.9),
            rd_row("vvenc", 4, lpips=0.4, ms_ssim=0.7),
            rd_row("vvenc-half", 4, lpips=0.35, ms_ssim=0.6),
            rd_row("svt-av1", 9, lpips=0.1),
            rd_row("x265", 1, clip="other", lpips=0.0),
            rd_row("tgv", 1, lpips=0.0),
        ]
    )
    assert curves.best("pan", "lpips", 8) == (pytest.approx(0.3), "vvenc")
    assert curves.best("pan", "lpips", 5) == (0.35, "vvenc-half")
    assert curves.best("pan", "lpips", 5, "vvenc") == (0.35, "vvenc-half")
    assert curves.best("pan", "lpips", 20) == (0.1, "svt-av1")
    assert curves.best("pan", "lpips", 20, "vvenc") == (0.2, "vvenc")
    assert curves.best("pan", "lpips", 3) is None
    assert curves.best("pan", "ms_ssim", 8) == (pytest.approx(0.8), "vvenc")


def test_rd_says_where_tgv_loses() -> None:
    metrics = ["lpips", "ms_ssim"]
    rival = [rd_row(rd.RIVAL, 1, clip, lpips=0.4, ms_ssim=0.8) for clip in ("a", "b")]
    rows = [rd_row("tgv", 5.4, "a", lpips=0.5, ms_ssim=0.9), rd_row("tgv", 5.6, "b", lpips=0.2, ms_ssim=0.6)]
    # A third clip that the rival does not have is left out of the ratio of means.
    rows.append(rd_row("tgv", 5, "c", lpips=9.0, ms_ssim=0.0))
    curves = rd.Curves.of(rival)
    lines, means = rd.compare(rows, curves, metrics), rd.rivals(rows, curves, metrics)
    assert [line["lpips / best"] for line in lines] == [pytest.approx(1.25), pytest.approx(0.5), None]
    assert {m: [c.split()[0] for c in clips] for m, clips in rd.losses(lines, metrics).items()} == {
        "lpips": ["a"],
        "ms_ssim": ["b"],
    }
    assert [line["codec"] for line in means] == ["tgv", rd.RIVAL, "best"]
    assert means[1]["clips"] == 2
    assert means[1]["tgv / lpips"] == pytest.approx(0.35 / 0.4)
    assert "median" in rd.report("tgv", 5, lines, means)
    rate_, _, lpips, ms_ssim = rd.targets("tgv", 5, rows, means)
    assert rate_.missed == ["b: 5.60"]
    assert [list(target.missed) for target in (lpips, ms_ssim)] == [[], ["mean of 2 clips"]]
    assert len(rd.targets("tgv", 8, rows, means)) == 2


def test_peer_counts_what_decodes(scene: Rendered) -> None:
    packets = peers.encode(peers.X265, 30, scene.pictures[:3], Fraction(25))
    decoded = list(peers.decode(peers.X265, packets))
    assert all(guidance.psnr(a.y, b.y) > 25 for a, b in zip(scene.pictures, decoded, strict=False))
    assert len(decoded) == 3
    # x265 says its version in an SEI message.
    assert b"x265" not in b"".join(packets)
    units = [b"\x00\x00\x00\x01\x46\x01\x50", b"\x00\x00\x01\x26\x01\xaf", b"\x00\x00\x01\x4e\x01\x80"]
    assert peers.without_sei(b"".join(units)) == units[1]
    assert peers.without_delimiters(b"\x12\x00\x0a\x01\x00") == b"\x0a\x01\x00"


def test_peer_interpolates(scene: Rendered) -> None:
    """Every picture between is far nearer to the original than the cross-fade."""
    a, b = scene.pictures[0], scene.pictures[4]
    made, faded = peers.interpolate(a, b, 4), reconstruct(Clip(4), a, b, range(1, 4))
    for original, *others in zip(scene.pictures[1:4], made, faded, strict=True):
        for plane, gain in (("y", 9), ("u", 2)):
            warped, mixed = (guidance.psnr(getattr(original, plane), getattr(p, plane)) for p in others)
            assert warped > mixed + gain


def test_plot_places_points() -> None:
    text = plot.svg("a & b", {"lpips": {"tgv": [(8.0, 0.5), (2.0, 1.0)], "other": [(4.0, 0.75)]}})
    assert "a &amp; b" in text
    left, right, top = plot._LEFT, plot._LEFT + plot._WIDTH, plot._TOP
    assert f'points="{left:.1f},{top:.1f} {right:.1f},{top + plot._HEIGHT:.1f}"' in text
    assert f'cx="{(left + right) / 2:.1f}" cy="{top + plot._HEIGHT / 2:.1f}"' in text


# --- Rates


def test_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poses, "READINGS", (poses.PUBLISHED,))
    scene = SCENES["two_objects_crossing"](1, 128, 96, 18)
    writer = open_writer(str(tmp_path / "objects.mp4"), OutputInfo(128, 96, Fraction(25), Colour(), (1, 1)))
    for picture in scene.pictures:
        writer.write(picture)
    writer.close()
    figures = tmp_path / "rate.json"
    clips = ["--clips", str(tmp_path), "--size", "128x96", "--workers", "1", "--json", str(figures)]
    assert rate.main(clips) in (0, 1)
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert [found[kind]["clips"] for kind in rate.KINDS] == [1, 1, 1, 1, 1, 40]
    for name, kind in rate.KINDS.items():
        mean, rows = found[name], found["rows"][name]
        assert mean["published"] == mean[kind.PUBLISHED]
        assert mean["best_general"] == min(mean[general] for general in kind.GENERAL)
        assert mean["tgv"] == pytest.approx(np.mean([row["tgv"] for row in rows]))
    same, free = found["trajectories"], found["trajectories_rdo"]
    assert (free["published"], free["points"]) == (same["published"], same["points"])
    assert free["tgv"] <= same["tgv"]
    assert free["error"] <= 1.05 * free["published_error"]
    assert found["text"]["utf8"] > found["text"]["tgv"]


def test_half_is_that_of_the_folder(tmp_path: Path) -> None:
    """Whatever ``only`` chooses of it."""
    for name in "cadb":
        (tmp_path / f"{name}.mp4").touch()

    def names(**options: object) -> str:
        return "".join(path.stem for path in rate.chosen(Namespace(clips=tmp_path, **options)))

    assert names(only="*", half=False) == "abcd"
    assert names(only="*", half=True) == "bd"
    assert names(only="[cd]", half=True) == "d"


def test_rate_targets() -> None:
    """A mean that is too large is missed once, an error in the clip that makes it; no clips miss nothing."""
    rows: rate.Rows = {kind: [] for kind in rate.KINDS}
    errors_of_poses = {"rotation_error": 1e-3, "translation_error": 1e-3}
    row = {name + key: value for name in ("tgv_", "published_") for key, value in errors_of_poses.items()}
    bytes_of_poses = dict.fromkeys((poses.PUBLISHED, *poses.GENERAL), 100)
    rows["poses"] = [{"video": "a", "first": 0, "tgv": 24, **bytes_of_poses, **row}]

    def missed() -> list[str]:
        means = {name: rate.summary(kind, rows[name]) for name, kind in rate.KINDS.items()}
        assert "poses" in rate.overview(means)
        return [line for target in rate.targets(rows, means) for line in target.missed]

    assert missed() == []
    rows["poses"][0]["tgv"] = 26
    assert missed() == ["mean of all clips"]
    rows["poses"][0]["tgv_rotation_error"] = 1.1e-3
    assert missed()[1].startswith("a, frame 0: 0.0011 ")


def test_order0_learns_what_it_codes() -> None:
    assert yardsticks.order0(np.zeros(100, np.int64)) == 0
    # Two equally frequent values cost a bit each, and the learning of that.
    assert 512 < yardsticks.order0(np.resize([0, 1], 512)) < 520
    assert yardsticks.order0(np.array([], np.int64)) == 0


def test_layouts_hold_the_array() -> None:
    values = np.array([[[1, -2], [3, 300]], [[5, 6], [-7, 8]]])
    found = list(yardsticks.layouts(values))
    assert len(found) == 2 * 6
    assert np.array_equal(np.frombuffer(found[0], "<i2").reshape(2, 2, 2), values)
    assert found[1] == found[0][::2] + found[0][1::2]
    assert bytes([0, 255]) in list(yardsticks.layouts(np.array([0, 255])))
    assert len(next(yardsticks.layouts(np.array([1 << 15])))) == 4


def test_general_yardsticks_take_the_best_layout() -> None:
    data = bytes(range(256)) * 8
    found = yardsticks.general([np.random.default_rng(1).bytes(2048), data], 3)
    assert found["xz"] == 3 + yardsticks.xz(data) < 350
    assert found["brotli"] == 3 + yardsticks.brotli_bytes(data) < 350


def points_of(tracks: np.ndarray, instance: list[int], visible: np.ndarray | None = None) -> Analysis:
    count = len(tracks)
    return Analysis(
        positions=tracks.astype(np.float32),
        visible=np.ones(tracks.shape[:2], np.bool_) if visible is None else visible,
        instance=np.array(instance, np.uint8),
        weight=np.ones(count, np.float32),
        semantic=np.arange(count),
    )


def test_points_are_rounded_to_units_of_the_latent_grid() -> None:
    """The centre of the first latent sample is at luma sample 3.5."""
    steps = np.arange(17)[:, None] * np.array([8.0, 0.0])
    outside = np.full((17, 2), -100.0)
    starts = np.array([[11.5, 27.5], [3.5, 3.5], [43.5, 3.5]])
    tracks = np.stack([*(steps + start for start in starts), outside])
    analysis = points_of(tracks, [7, 3, 3, 3])
    points = trajectories.round_points(analysis, (512, 320))
    assert points is not None
    assert points.index.tolist() == [1, 2, 0]
    assert points.rounded.instance.tolist() == [0, 0, 1]
    assert points.rounded.positions[:, 1].tolist() == [[1, 0], [6, 0], [2, 3]]
    assert trajectories.position_error(points.rounded, analysis, points.index) == 0
    moved = points_of(tracks + np.array([3.0, 4.0]), [7, 3, 3, 3])
    assert trajectories.position_error(points.rounded, moved, points.index) == pytest.approx(5)
    assert trajectories.round_points(points_of(tracks[3:], [1]), (512, 320)) is None
    border = trajectories.round_points(points_of(np.full((1, 17, 2), [7.4, 7.6]), [1]), (512, 320))
    assert border is not None
    assert border.rounded.positions[0, 0].tolist() == [0, 1]


def test_position_error_is_that_of_visible_points() -> None:
    """A trajectory stands for one track alone."""
    tracks = np.repeat([[[3.5, 3.5]], [[11.5, 3.5]]], 17, 1)
    points = trajectories.round_points(points_of(tracks, [0, 1]), (64, 64))
    assert points is not None
    both = np.arange(2)
    moved = tracks + np.array([[[0.0, 0.0]], [[-8.0, 0.0]]])
    for seen, error in ((False, 0), (True, 4)):
        visible = np.repeat([[True], [seen]], 17, 1)
        analysis = points_of(moved, [0, 1], visible)
        assert trajectories.position_error(points.rounded, analysis, both) == pytest.approx(error)


def test_optimised_points_are_within_the_error(scene: Rendered) -> None:
    rng = np.random.default_rng(1)
    tracks = rng.uniform(20, 40, (12, 1, 2)) + rng.normal(0, 1, (12, 1, 2)) * np.arange(17)[:, None]
    points = trajectories.round_points(points_of(tracks, [0] * 6 + [1] * 6), (64, 64))
    assert points is not None
    row = trajectories.sizes(points.rounded, points.size)
    free = trajectories.optimised_sizes(points, row, scene.pictures)
    assert free["tgv"] <= free["same_tgv"] < row["tgv"]
    assert 2.5 < free["published_error"] < 3.5
    for name in ("error", "same_error"):
        assert free[name] <= trajectories.ERROR_SHARE * free["published_error"]
    assert 5 < free["psnr"] < 99
    # Positions of uniform noise cost what they are worth: 8 x 8 cells, 12 points.
    assert row["tgvc"] > 12 * 6 / 8 + row["tgvc_visibility"]
    assert row["tgvc"] < min(row["xz"], row["brotli"])


def test_visibility_takes_the_cheapest_code() -> None:
    visible = np.ones((3, 17), np.bool_)
    assert trajectories.visibility_bits(visible, ~visible) == 0
    visible[1, :8] = False
    # Which point, its first flag, and the lengths of its two runs.
    runs = yardsticks.order0(np.array([0, 1, 0])) + 1 + math.log2(17) + math.log2(9)
    assert trajectories.visibility_bits(visible, ~visible) == pytest.approx(runs)
    packed, by_frames, runs_of_points, _ = trajectories.visibility_bytes(~visible)
    assert (len(packed), len(by_frames)) == (7, 7)
    assert runs_of_points == bytes([1, 0, 8])
    visible[::2] = np.arange(17) % 2
    flags = yardsticks.order0(visible.astype(np.int64))
    assert trajectories.visibility_bits(visible, ~visible) == flags


def motion(turn: float) -> Motion:
    """A camera that turns and moves by noise."""
    steps = np.random.default_rng(2).normal(0, 0.002, (2, 29, 3)).cumsum(1)
    steps -= steps[:, :1]
    return Motion(turn * steps[0], turn * steps[1], np.array([512.0, 512, 256, 160]), np.array([0.0, 0, 1]))


@pytest.mark.parametrize("reading", poses.READINGS)
def test_published_poses(reading: str) -> None:
    found = poses.published(motion(1), reading)
    parameters = 12 if reading.startswith("matrix") else 6
    assert found.side_bytes == 4 * parameters
    assert found.symbols.shape == (14, parameters)
    assert (found.symbols.min(), found.symbols.max()) == (0, 255)
    rotation, translation = errors(motion(1), found.decoded)
    # Every other frame lies between its neighbours; a step of the others is 1/255 of the largest difference.
    assert 1e-4 < rotation < 3e-3
    assert 1e-4 < translation < 3e-3


def test_published_poses_of_a_still_camera_have_no_symbols() -> None:
    found = poses.published(motion(0), "matrix_open")
    assert found.symbols.size == 0
    assert errors(motion(0), found.decoded) == (0, 0)
    assert poses.huffman_bytes(found, poses.trained([])) == 48


def test_huffman() -> None:
    assert poses.huffman({1: 5, 2: 2, 3: 1, 4: 1}) == {1: 1, 2: 2, 3: 3, 4: 3}
    assert poses.huffman({7: 9}) == {7: 1}
    assert set(poses.trained([]).values()) == {8}
    few = poses.Published(np.array([[1, 1, 2]]), 4, np.empty(0))
    # A table of its own: two symbols of a bit, three of them, twice 12 bits.
    assert poses.huffman_bytes(few, dict.fromkeys(range(256), 20)) == 4 + 4
    assert poses.huffman_bytes(few, poses.trained([])) == 4 + 3


def test_poses_are_within_the_error_of_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poses, "READINGS", ("matrix_open", "vector_open"))
    row = poses.rate(motion(1), 512, 320)
    poses.add_huffman([row])
    assert 150 < row["matrix_open"] < 230
    assert 75 < row["vector_open"] < 120
    assert row["tgv"] < row["matrix_open"]
    assert row["tgv_rotation_error"] <= row["published_rotation_error"]
    assert row["tgv_translation_error"] <= row["published_translation_error"]
    assert "symbols" not in row


def test_flow_token_yardsticks() -> None:
    wanted = np.random.default_rng(1).normal(0, 0.4, (29, 2, 8)).cumsum(0)
    analysis, options = FlowAnalysis(wanted, 0.5), FlowOptions(tokens=8)
    found = flow_tokens.sizes(choose(analysis, options))
    assert found["tgv"] < found["dynamics"] < min(found["xz"], found["brotli"])
    assert flow_tokens.residuals(np.array([[[3]], [[5]], [[4]]])).ravel().tolist() == [3, 2, -1]
    rounded = flow_tokens.rounded(analysis, options)
    assert np.abs(rounded.tokens * rounded.step / 16 - wanted).max() <= rounded.step / 32


def test_mask_yardsticks(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:24, :40]
    labels = np.stack([((x - 12 - t) ** 2 + (y - 12) ** 2 < 40).astype(np.uint8) for t in range(6)])
    assert 0 < masks.svtav1(labels) < labels.size
    assert masks.png(labels[0]) < 24 * 40 // 8 + 60
    still = np.repeat(3 * labels[:1], 6, axis=0)
    packed, by_frames, planes, difference = masks.bit_planes(still)
    assert (len(packed), len(by_frames), len(planes), len(difference)) == (1440, 1440, 11520, 5760)
    assert np.frombuffer(difference, np.uint8).sum() == still[0].sum()
    assert np.frombuffer(planes, np.uint8).sum() == 2 * labels[0].sum()
    monkeypatch.setattr(masks, "SVTAV1", {"preset": "12", "crf": "60"})
    with pytest.raises(RuntimeError, match="not lossless"):
        masks.svtav1(labels)
