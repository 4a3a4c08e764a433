"""Rate and distortion of TGV beside other codecs at very low rates.

    python benchmarks/rd.py --clips FOLDER --json FILE --bitrates 3,5,8,10,15 \\
        --peers rd.csv --measure 'python measure.py' --weights FOLDER --plots DIR --pictures DIR

Every clip is cropped to the shape of --size around its centre, scaled to it (Lanczos), and cut after --frames
frames. Then it is coded

- by TGV at every bitrate, with the options of refenc that --tgv gives (several times for several
  configurations), and
- by the peers that --run names, at a few qualities each: SVT-AV1 and x265, at full and half size, with all
  frames or every fourth one (-t4) and the others interpolated by the receiver. Points of peers that were
  measured elsewhere come from the file of --peers; of a codec that is run here it is not used.

TGV and a peer are compared at the rate that TGV really used, not at the one that was asked for. Between its
points a peer's value is interpolated in the logarithm of the rate; above its highest rate it keeps that
point's value; below its lowest rate it does not take part. The best peer is chosen for each clip and metric.

Rates: of TGV the whole file counts, with all of its framing and checksums, since it needs no container. Of
the peers the elementary stream alone counts, without a container, delimiters and SEI. The difference is to
TGV's disadvantage.

Metrics: without --measure, PSNR and SSIM of luma, means over frames. With it, those of the command, which is
run as COMMAND ORIGINAL.y4m DECODED.y4m --bits N --json --matrix 709 --step 3 [--weights FOLDER] and prints a
JSON object; lpips, flow_rel, ms_ssim (or else ssim) and psnr_y are compared, all others are kept in the file.
Seam: how much more than in the original TGV's pictures change at keyframes, beside how they change elsewhere.

FILE is written after every point, and points that it has are not computed again. To compute TGV's points
anew, after a change of the encoder, add --again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import peers
from common import Row, Size, Target, arguments, conclude, find_clips, progress, run, table
from guidance import psnr, read_original
from numpy.typing import NDArray
from peers import PEERS, Coded
from plot import svg

from refdec.output import OutputInfo, open_writer
from tgv_format.clip import Clip
from tgv_format.keyframe import Keyframe, Role
from tgv_format.picture import Colour, Picture, Plane
from tgv_format.reader import Reader

#: Metrics that are compared, the most telling one first, and whether more is better.
METRICS = {"lpips": False, "flow_rel": False, "ms_ssim": True, "ssim": True, "psnr_y": True}
TGV = "tgv"
#: What TGV has to reach on average: bitrate, metric, at most this share (at least, where more is better)...
DEMANDS = (
    (5, "lpips", 0.90),
    (5, "flow_rel", 0.95),
    (5, "ms_ssim", 1.00),
    (10, "lpips", 0.90),
    (10, "flow_rel", 0.95),
)
#: ... of this peer at the same rate, at full or half size.
RIVAL = "vvenc-t4"
#: At half of it there are 64 samples. With fewer x265 writes outside its memory.
SMALLEST = 128
#: How much more than in the original pictures may change at keyframes: see :func:`seam`.
SEAM = 1.5
#: How far the rate may be above the one that was asked for.
EXCESS = 1.1


@dataclass(frozen=True)
class Original:
    """A prepared clip: its ``pictures``, also in the file ``path``."""

    name: str
    pictures: list[Picture]
    info: OutputInfo
    path: Path


@dataclass(frozen=True)
class Job:
    """A point of a codec's curve: ``code`` takes the original and a folder to work in."""

    codec: str
    setting: str
    code: Callable[[Original, Path], Coded]


def prepare(path: Path, size: Size, count: int, folder: Path) -> Original:
    """The first ``count`` frames of a video, cropped to the shape of ``size`` and scaled to it."""
    import av
    from av.video.reformatter import ColorRange

    width, height = size
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.guessed_rate or stream.average_rate
        assert rate is not None
        graph = av.filter.Graph()
        crop = f"'min(iw,ih*{width}/{height})':'min(ih,iw*{height}/{width})'"
        graph.link_nodes(
            graph.add_buffer(template=stream),
            graph.add("crop", crop),
            graph.add("scale", f"{width}:{height}:flags=lanczos+accurate_rnd"),
            graph.add("setsar", "1"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ).configure()
        pictures = []
        full_range = False
        for frame in container.decode(stream):
            graph.vpush(frame)
            made = graph.vpull()
            full_range = made.color_range == ColorRange.JPEG
            pictures.append(Picture.from_bytes(made.to_ndarray().tobytes(), width, height))
            if len(pictures) == count:
                break
    info = OutputInfo(width, height, rate, Colour(full_range=full_range), (1, 1))
    target = folder / "original.y4m"
    save(target, pictures, info)
    return Original(path.stem, pictures, info, target)


def save(target: Path, pictures: Sequence[Picture], info: OutputInfo) -> None:
    """Write a Y4M file, or PNG files where ``target`` is a folder."""
    writer = open_writer(str(target), info)
    for picture in pictures:
        writer.write(picture)
    writer.close()


def code_tgv(options: str, bitrate: float, original: Original, folder: Path) -> Coded:
    """By the command lines of this project."""
    stream, decoded = folder / "coded.tgv", folder / "shown.y4m"
    wanted = ["--bitrate", f"{bitrate:g}", *shlex.split(options)]
    encoding, _ = run("refenc", original.path, stream, *wanted)
    decoding, _ = run("refdec", stream, decoded)
    pictures = read_original(decoded, None)
    seconds = encoding.cpu_seconds, decoding.cpu_seconds
    return Coded(8 * stream.stat().st_size, pictures, *seconds, scenes(stream))


def scenes(stream: Path) -> list[list[int]]:
    """For every scene of a TGV stream the numbers of the frames that are keyframes."""
    found: list[list[int]] = []
    frames = 0
    with stream.open("rb") as file:
        for element in Reader(file):
            if isinstance(element, Keyframe) and element.role is Role.LEADING:
                found.append([frames])
                frames += 1
            elif isinstance(element, Clip):
                frames += element.frame_count
                found[-1].append(frames - 1)
    return found


def code_peer(peer: peers.Peer, crf: int, original: Original, folder: Path) -> Coded:
    return peers.code(peer, crf, original.pictures, original.info.frame_rate)


def jobs(configurations: Sequence[str], bitrates: Sequence[float], names: Sequence[str]) -> list[Job]:
    """All points of a clip's curves."""
    return [
        Job(label(options), f"{bitrate:g}", partial(code_tgv, options, bitrate))
        for options in configurations
        for bitrate in bitrates
    ] + [
        Job(name, f"crf{crf}", partial(code_peer, PEERS[name], crf))
        for name in names
        for crf in PEERS[name].crfs
    ]


def label(options: str) -> str:
    """What a configuration of TGV is called."""
    return f"{TGV} {options}".strip()


# --- Metrics


def ssim(a: Plane, b: Plane) -> float:
    """Structural similarity of 8-bit planes (Wang et al. 2004), mean over all full windows."""
    import cv2

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5], np.float64)

    x, y = a.astype(np.float64), b.astype(np.float64)
    mx, my = mean(x), mean(y)
    variances, covariance = mean(x * x + y * y) - mx * mx - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (variances + c2))
    return float(similarity.mean())


def own_metrics(original: Original, coded: Coded) -> Row:
    """Of luma, means over frames."""
    pairs = [(a.y, b.y) for a, b in zip(original.pictures, coded.pictures, strict=True)]
    return {name: statistics.fmean(f(*p) for p in pairs) for name, f in (("psnr_y", psnr), ("ssim", ssim))}


def seam(
    original: Sequence[Picture], shown: Sequence[Picture], scenes: Sequence[Sequence[int]]
) -> float | None:
    """How much more than in the original luma changes where keyframes are shown, as a ratio.

    In both videos the mean absolute difference of a keyframe's luma from the frame before it and after it is
    divided by that of the other frames of the scenes. None where there are no other frames, or no keyframes.
    """

    def step(pictures: Sequence[Picture], numbers: Sequence[int]) -> float:
        pairs = ((pictures[t - 1].y, pictures[t].y) for t in numbers)
        # Still pictures have no seams.
        return 1e-3 + statistics.fmean(float(np.abs(a.astype(np.int16) - b).mean()) for a, b in pairs)

    at = [
        t for keyframes in scenes for k in keyframes for t in (k, k + 1) if keyframes[0] < t <= keyframes[-1]
    ]
    within = {t for keyframes in scenes for t in range(keyframes[0] + 1, keyframes[-1] + 1)}
    others = sorted(within.difference(at))
    if not at or not others:
        return None
    ours, theirs = (step(pictures, at) / step(pictures, others) for pictures in (shown, original))
    return ours / theirs


def measured(command: str, weights: Path | None, original: Original, coded: Coded, folder: Path) -> Row:
    """What an external command finds. RuntimeError with what it said when it fails."""
    decoded = folder / "decoded.y4m"
    save(decoded, coded.pictures, original.info)
    words = [*shlex.split(command), str(original.path), str(decoded), "--bits", str(coded.bits), "--json"]
    words += ["--matrix", "709", "--step", "3", *(["--weights", str(weights)] if weights else [])]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    found: Row = json.loads(done.stdout)
    return found


def measure(original: Original, job: Job, args: argparse.Namespace, folder: Path) -> Row:
    """The row of a point. RuntimeError when it cannot be coded or measured."""
    coded = job.code(original, folder)
    if len(coded.pictures) != len(original.pictures):
        raise RuntimeError(f"{len(coded.pictures)} frames came back of {len(original.pictures)}")
    if args.measure:
        found = measured(args.measure, args.weights, original, coded, folder)
    else:
        found = own_metrics(original, coded)
    if args.pictures:
        keep_middle(
            frame_file(args.pictures, original.name, job.codec, job.setting), coded.pictures, original
        )
    rate, count = original.info.frame_rate, len(original.pictures)
    return {
        **found,
        "seam": seam(original.pictures, coded.pictures, coded.scenes),
        "clip": original.name,
        "codec": job.codec,
        "setting": job.setting,
        "kbps": coded.bits * float(rate) / count / 1000,
        "bpp": coded.bits / (count * original.info.width * original.info.height),
        "bits": coded.bits,
        "frames": count,
        "fps": float(rate),
        "encode_seconds": coded.encode_seconds,
        "decode_seconds": coded.decode_seconds,
    }


def measure_all(args: argparse.Namespace, clips: Sequence[Path]) -> tuple[list[Row], list[str]]:
    """Rows of all points, those that are there first; and why points are missing."""
    from av import FFmpegError

    rows, wanted = load(args), jobs(args.tgv, args.bitrates, args.run)
    key = itemgetter("clip", "codec", "setting")
    there = {key(row) for row in rows if not (args.again and is_tgv(row["codec"]))}
    work = [
        (path, job)
        for path in clips
        for job in wanted
        if (path.stem, job.codec, job.setting) not in there
        or (args.pictures and not frame_file(args.pictures, path.stem, job.codec, job.setting).exists())
    ]
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path, some in groupby(progress(work, "rd", len(work)), key=itemgetter(0)):
            original = prepare(path, args.size, args.frames, folder)
            if args.pictures:
                keep_middle(frame_file(args.pictures, path.stem, "original"), original.pictures, original)
            for _, job in some:
                rows = [row for row in rows if key(row) != (path.stem, job.codec, job.setting)]
                try:
                    rows.append(measure(original, job, args, folder))
                except (RuntimeError, FFmpegError) as error:
                    failed.append(f"{path.stem}, {job.codec}, {job.setting}: {error}")
                store(args, rows)
    return rows, failed


# --- Files


def settings(args: argparse.Namespace) -> Row:
    """What all rows of a file have in common."""
    return {
        "size": list(args.size),
        "frames": args.frames,
        "measure": args.measure,
        "weights": str(args.weights) if args.weights else None,
    }


def load(args: argparse.Namespace) -> list[Row]:
    """The rows that are there; the program ends when they were measured otherwise."""
    if not args.json or not args.json.exists():
        return []
    found = json.loads(args.json.read_text(encoding="utf-8"))
    if found["settings"] != settings(args):
        sys.exit(f"{args.json} was made with {found['settings']}: take another file, or the same options")
    rows: list[Row] = found["rows"]
    return rows


def store(args: argparse.Namespace, rows: Sequence[Row]) -> None:
    """All or nothing, so that an interruption loses one point at most."""
    if args.json:
        part = args.json.with_name(f"{args.json.name}.part")
        found = {"benchmark": "rd", "settings": settings(args), "rows": rows}
        part.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        os.replace(part, args.json)


def read_points(path: Path) -> list[Row]:
    """The rows of a CSV file with the columns clip, codec, setting, kbps and metrics; no text is None."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                name: value if name in ("clip", "codec", "setting") else float(value) if value else None
                for name, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


def frame_file(pictures: Path, clip: str, codec: str, setting: str = "") -> Path:
    """Where the middle frame of a point lies."""
    name = re.sub(r"[^\w.+-]+", "_", f"{codec} {setting}".strip())
    return pictures / "frames" / clip / name / "000000.png"


def keep_middle(target: Path, pictures: Sequence[Picture], original: Original) -> None:
    """Write the middle one of ``pictures`` as a PNG file of the name that :func:`save` gives it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    save(target.parent, pictures[len(pictures) // 2 :][:1], original.info)


# --- Comparison


def is_tgv(codec: str) -> bool:
    return codec.split(" ")[0] == TGV


def family(codec: str) -> str:
    """A codec at full and half size counts as one, which takes the better size."""
    return codec.replace("-half", "")


@dataclass(frozen=True)
class Curves:
    """(rate, value) of every codec but TGV, ascending, by clip, codec and metric."""

    points: Mapping[tuple[str, str, str], Sequence[tuple[float, float]]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Curves:
        points: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
        for row in rows:
            for metric in METRICS:
                if row.get(metric) is not None and not is_tgv(row["codec"]):
                    key = row["clip"], row["codec"], metric
                    points.setdefault(key, []).append((row["kbps"], row[metric]))
        return cls({key: sorted(found) for key, found in points.items()})

    def best(self, clip: str, metric: str, kbps: float, among: str | None = None) -> tuple[float, str] | None:
        """Value and codec of the best peer, of a family if one is named; None when none reaches the rate."""
        found = [
            (interpolated(points, kbps), codec)
            for (name, codec, kind), points in self.points.items()
            if (name, kind) == (clip, metric) and among in (None, family(codec)) and points[0][0] <= kbps
        ]
        return (max if METRICS[metric] else min)(found, default=None)


def interpolated(points: Sequence[tuple[float, float]], kbps: float) -> float:
    """The value at ``kbps``, which is no less than the first rate; above the last one the last value."""
    rates, values = zip(*points, strict=True)
    return float(np.interp(math.log(kbps), [math.log(rate) for rate in rates], values))


def against(metric: str, ours: float, theirs: float) -> float:
    """Difference of decibels, ratio of everything else."""
    return ours - theirs if metric == "psnr_y" else ours / theirs


def against_name(metric: str) -> str:
    return f"{metric} {'-' if metric == 'psnr_y' else '/'} best"


def loses(metric: str, ours: float, theirs: float) -> bool:
    return ours < theirs if METRICS[metric] else ours > theirs


def compare(rows: Sequence[Row], curves: Curves, metrics: Sequence[str]) -> list[Row]:
    """TGV's ``rows`` of one setting, each beside the best peers."""
    found = []
    for row in rows:
        line: Row = {"clip": row["clip"], "kbit/s": row["kbps"], "seam": row.get("seam"), "peers": {}}
        for metric in metrics:
            ours, best = row.get(metric), curves.best(row["clip"], metric, row["kbps"])
            line[metric] = ours
            line[f"best {metric}"] = best[0] if best else None
            line[against_name(metric)] = None if ours is None or not best else against(metric, ours, best[0])
            line["peers"][metric] = best[1] if best else None
        found.append(line)
    return found


def losses(lines: Sequence[Row], metrics: Sequence[str]) -> dict[str, list[str]]:
    """By metric, the clips on which TGV is worse than the best peer, and which that is."""
    return {
        metric: [
            f"{line['clip']} ({line[against_name(metric)]:.2f}, {line['peers'][metric]})"
            for line in lines
            if line[against_name(metric)] is not None and loses(metric, line[metric], line[f"best {metric}"])
        ]
        for metric in metrics
    }


def rivals(rows: Sequence[Row], curves: Curves, metrics: Sequence[str]) -> list[Row]:
    """Means of TGV, of every family of peers at TGV's rates, and of the best peers.

    A family's means are over the clips on which it reaches TGV's rate; TGV's share is over the same ones.
    """
    names = sorted({family(codec) for _, codec, _ in curves.points})
    found = [{"codec": TGV, "clips": len(rows), **{m: mean(r.get(m) for r in rows) for m in metrics}}]
    found[0].update({f"{TGV} / {metric}": None for metric in metrics})
    for name, among in [*((name, name) for name in names), ("best", None)]:
        line: Row = {"codec": name, "clips": 0}
        for metric in metrics:
            pairs = [
                (row[metric], best[0])
                for row in rows
                if row.get(metric) is not None
                and (best := curves.best(row["clip"], metric, row["kbps"], among)) is not None
            ]
            ours, theirs = mean(a for a, _ in pairs), mean(b for _, b in pairs)
            line["clips"] = max(line["clips"], len(pairs))
            line[metric] = theirs
            line[f"{TGV} / {metric}"] = None if ours is None or not theirs else ours / theirs
        if line["clips"]:
            found.append(line)
    return found


def mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def with_averages(lines: Sequence[Row]) -> list[Row]:
    """``lines``, the means and the medians of their numbers."""
    names = [name for name in lines[0] if name not in ("clip", "peers")]
    columns = {name: [line[name] for line in lines if line[name] is not None] for name in names}
    return [
        *lines,
        *(
            {"clip": title, **{name: f(values) if values else None for name, values in columns.items()}}
            for title, f in (("mean", statistics.fmean), ("median", statistics.median))
        ),
    ]


def report(codec: str, bitrate: float, lines: list[Row], table_of_rivals: list[Row]) -> str:
    """The tables of one configuration and bitrate."""
    metrics = list(lines[0]["peers"])
    digits = {metric: ".2f" if metric == "psnr_y" else ".3f" for metric in metrics}
    columns = {"clip": "", "kbit/s": ".2f", "seam": ".2f"}
    for metric in metrics:
        columns |= {metric: digits[metric], f"best {metric}": digits[metric], against_name(metric): ".2f"}
    shares = {f"{TGV} / {metric}": ".2f" for metric in metrics if metric != "psnr_y"}
    text = [
        f"\n{codec}, {bitrate:g} kbit/s asked for\n",
        table(with_averages(lines), columns, medians=False),
        "\nMeans at TGV's rates; TGV's share over the clips on which the peer reaches them\n",
        table(table_of_rivals, {"codec": "", "clips": ".0f"} | digits | shares, medians=False),
        "",
    ]
    for metric, clips in losses(lines, metrics).items():
        text.append(f"{codec} loses in {metric} on {len(clips)} of {len(lines)}: {', '.join(clips) or '-'}")
    return "\n".join(text)


def targets(codec: str, bitrate: float, rows: Sequence[Row], table_of_rivals: Sequence[Row]) -> list[Target]:
    """What is demanded of one configuration at one bitrate, as far as the peers' points are there."""
    over = [f"{r['clip']}: {r['kbps']:.2f}" for r in rows if r["kbps"] > EXCESS * bitrate]
    name = f"{codec}, {bitrate:g} kbit/s"
    found = [Target(f"{name}: no clip takes more than {EXCESS:g} times that", over)]
    seams = [f"{r['clip']}: {r['seam']:.2f}" for r in rows if (r.get("seam") or 0) > SEAM]
    found.append(
        Target(f"{name}: keyframes stand out at most {SEAM:g} times as much as in the original", seams)
    )
    for line in table_of_rivals:
        for wanted, metric, share in DEMANDS if line["codec"] == RIVAL else ():
            ratio = line.get(f"{TGV} / {metric}")
            if wanted == bitrate and ratio is not None:
                limit = f"at {'least' if METRICS[metric] else 'most'} {share:.2f} x {RIVAL}"
                demand = f"{name}: mean {metric} {limit}: {ratio:.3f}"
                missed = loses(metric, ratio, share)
                found.append(Target(demand, [f"mean of {line['clips']} clips"] if missed else ()))
    return found


# --- Plots and pictures


def draw_plots(folder: Path, rows: Sequence[Row], curves: Curves, metrics: Sequence[str]) -> None:
    """For every clip the points of all codecs; for all clips the means of those that reach a rate on all."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = [row for row in rows if is_tgv(row["codec"])]
    clips = sorted({row["clip"] for row in ours})
    for clip in clips:
        panels: dict[str, dict[str, list[tuple[float, float]]]] = {metric: {} for metric in metrics}
        for row in ours:
            for metric in metrics if row["clip"] == clip else ():
                if row.get(metric) is not None:
                    panels[metric].setdefault(row["codec"], []).append((row["kbps"], row[metric]))
        for (name, codec, metric), points in curves.points.items():
            if name == clip and metric in metrics:
                panels[metric][codec] = list(points)
        (folder / f"{clip}.svg").write_text(svg(clip, panels), encoding="utf-8")
    panels = {metric: {} for metric in metrics}
    for codec, setting in dict.fromkeys((row["codec"], row["setting"]) for row in ours):
        some = [row for row in ours if (row["codec"], row["setting"]) == (codec, setting)]
        if {row["clip"] for row in some} != set(clips):
            continue
        rate = statistics.fmean(row["kbps"] for row in some)
        for metric in metrics:
            for line in rivals(some, curves, metrics):
                if line["clips"] == len(clips) and line[metric] is not None:
                    name = codec if line["codec"] == TGV else line["codec"]
                    panels[metric].setdefault(name, []).append((rate, line[metric]))
    title = f"Means of {len(clips)} clips, peers at TGV's rates"
    (folder / "mean.svg").write_text(svg(title, panels), encoding="utf-8")


def draw_pictures(folder: Path, rows: Sequence[Row], curves: Curves, metric: str) -> None:
    """Original, TGV, and the points of the best peer next below and above TGV's rate, side by side.

    Only peers of which there are frames can be shown. Where none of them reaches the rate, it is the point of
    the lowest rate.
    """
    shown = [
        row
        for row in rows
        if not is_tgv(row["codec"]) and frame_file(folder, row["clip"], row["codec"], row["setting"]).exists()
    ]
    shown_curves = Curves.of(shown)
    for row in rows:
        if not is_tgv(row["codec"]):
            continue
        clip, rate = row["clip"], row["kbps"]
        columns = [("original", frame_file(folder, clip, "original")), _captioned(folder, row, metric)]
        others = [other for other in shown if other["clip"] == clip and other.get(metric) is not None]
        others.sort(key=itemgetter("kbps"))
        best = shown_curves.best(clip, metric, rate)
        if best:
            points = [other for other in others if other["codec"] == best[1]]
            near = [p for p in points if p["kbps"] <= rate][-1:] + [p for p in points if p["kbps"] > rate][:1]
        else:
            near = others[:1]
        columns += [_captioned(folder, point, metric) for point in near]
        name = frame_file(folder, clip, row["codec"], row["setting"]).parent.name
        _draw_sheet(columns, folder / f"{clip} {name}.png")


def _captioned(folder: Path, row: Row, metric: str) -> tuple[str, Path]:
    value = "" if row.get(metric) is None else f", {metric} {row[metric]:.3f}"
    caption = f"{row['codec']} {row['setting']}: {row['kbps']:.2f} kbit/s{value}"
    return caption, frame_file(folder, row["clip"], row["codec"], row["setting"])


def _draw_sheet(columns: Sequence[tuple[str, Path]], target: Path) -> None:
    from PIL import Image, ImageDraw

    images = [Image.open(file) for _, file in columns]
    width, height = images[0].size
    sheet = Image.new("RGB", (len(images) * (width + 8) - 8, height + 20), "white")
    pen = ImageDraw.Draw(sheet)
    for number, ((caption, _), image) in enumerate(zip(columns, images, strict=True)):
        pen.text((number * (width + 8) + 4, 4), caption, "black")
        sheet.paste(image, (number * (width + 8), 20))
    sheet.save(target)


# --- Command line


def parser() -> argparse.ArgumentParser:
    p = arguments(__doc__)
    p.add_argument(
        "--bitrates",
        type=lambda text: [float(word) for word in text.split(",")],
        default=[3.0, 5.0, 8.0, 10.0, 15.0],
        metavar="KBIT[,KBIT]",
        help="that TGV is to aim at (default: 3,5,8,10,15)",
    )
    p.add_argument(
        "--frames", type=int, default=96, metavar="N", help="of a clip at most (default: %(default)s)"
    )
    p.add_argument(
        "--tgv",
        action="append",
        metavar="OPTIONS",
        help="more options for refenc, as one word: --tgv='--guidance all'; '' for none (the default); "
        "may be given several times",
    )
    p.add_argument(
        "--run",
        type=_names,
        default=list(PEERS),
        metavar="PEER[,PEER]",
        help=f"peers to run here, or none (default: all of {', '.join(PEERS)})",
    )
    p.add_argument("--peers", type=Path, metavar="FILE", help="CSV with points of peers measured elsewhere")
    p.add_argument("--listed", action="store_true", help="only the clips that the file of --peers has")
    p.add_argument("--measure", metavar="COMMAND", help="what measures; without it there are PSNR and SSIM")
    p.add_argument("--weights", type=Path, metavar="FOLDER", help="of LPIPS, for --measure")
    p.add_argument("--again", action="store_true", help="compute TGV's points anew, keep those of peers")
    p.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw curves there: one SVG a clip, and mean.svg"
    )
    p.add_argument("--pictures", type=Path, metavar="DIR", help="put middle frames there, side by side")
    return p


def _names(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PEERS)}")
    return names


def chosen(args: argparse.Namespace, elsewhere: Sequence[Row]) -> list[Path]:
    """The clips to measure; the program ends when there are none."""
    listed = {row["clip"] for row in elsewhere}
    paths = [path for path in find_clips(args) if not args.listed or path.stem in listed]
    return paths or sys.exit(f"no clip in {args.clips} is one of {args.peers}")


def main(argv: list[str] | None = None) -> int:
    p = parser()
    args: argparse.Namespace = p.parse_args(argv)
    if any(length % 4 for length in args.size):
        p.error("--size: width and height have to be multiples of 4, for half the size in 4:2:0")
    if args.run and min(args.size) < SMALLEST:
        p.error(f"--size: without --run none, at least {SMALLEST}x{SMALLEST}")
    if args.listed and not args.peers:
        p.error("--listed needs --peers")
    if args.weights and not args.measure:
        p.error("--weights needs --measure")
    args.tgv = args.tgv or [""]
    os.environ.setdefault("SVT_LOG", "1")  # Nothing but errors.
    elsewhere = read_points(args.peers) if args.peers else []
    clips = chosen(args, elsewhere)
    rows, failed = measure_all(args, clips)

    names = {path.stem for path in clips}
    rows_here = [row for row in rows if row["clip"] in names]
    run_here = {(row["clip"], row["codec"]) for row in rows_here}
    others = [row for row in elsewhere if row["clip"] in names]
    curves = Curves.of(rows_here + [r for r in others if (r["clip"], r["codec"]) not in run_here])
    metrics = [name for name in METRICS if any(row.get(name) is not None for row in rows_here)]
    metrics = [name for name in metrics if name != "ssim" or "ms_ssim" not in metrics]
    verdicts = [Target("every point is coded and measured", failed)]
    summary = []
    for codec in map(label, args.tgv):
        for bitrate in args.bitrates:
            some = [r for r in rows_here if (r["codec"], r["setting"]) == (codec, f"{bitrate:g}")]
            if not some:
                continue
            lines, means = compare(some, curves, metrics), rivals(some, curves, metrics)
            print(report(codec, bitrate, lines, means))
            verdicts += targets(codec, bitrate, some, means)
            summary.append({"codec": codec, "bitrate": bitrate, "clips": lines, "means": means})
    missing = sorted({f"{k}: {v}" for row in rows_here for k, v in row.get("missing", {}).items()})
    for line in missing:
        print(f"not measured: {line}")
    wanted = [row for row in rows_here if not is_tgv(row["codec"]) or row["codec"] in map(label, args.tgv)]
    if args.plots and summary:
        draw_plots(args.plots, wanted, curves, metrics)
    if args.pictures and summary:
        draw_pictures(args.pictures, wanted, curves, metrics[0])
    result = {"benchmark": "rd", "settings": settings(args), "rows": rows, "summary": summary}
    return conclude(args, result, verdicts)


if __name__ == "__main__":
    sys.exit(main())
