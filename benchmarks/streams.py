"""Round trip and rate of every clip, by default quality, at 8 kbit/s, and at the clip's own size.

Every stream is encoded with one and two threads and decoded with one and two threads; sizes are counted
from the file and compared with the encoder's report.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from common import Row, Size, Target, arguments, conclude, find_clips, progress, run, scaling, spending, table

from tgv_format.container import UnitType

BITRATE = 8.0
CLIP_FRAMING, SEQUENCE_HEADER = 12, 24
QUALITIES = (0, 78)


def settings(size: Size) -> dict[str, tuple[Size | None, list[str]]]:
    """Size and options by name."""
    return {
        "default": (size, []),
        f"{BITRATE:g} kbit/s": (size, ["--bitrate", f"{BITRATE:g}"]),
        "own size": (None, []),
    }


def measure(path: Path, setting: str, size: Size | None, options: Sequence[str], folder: Path) -> Row:
    """Encode and decode a clip; ``problems`` of the row lists broken facts of the round trip."""
    report_file = folder / "report.json"
    choice = [*scaling(size), *options]
    stream, again = folder / "1.tgv", folder / "2.tgv"
    _, remark = run("refenc", path, stream, *choice, "--workers", "1", "--report", report_file)
    run("refenc", path, again, *choice, "--workers", "2")
    report = json.loads(report_file.read_text(encoding="utf-8"))

    decoded, *md5 = folder / "decoded.y4m", folder / "1.md5", folder / "2.md5"
    run("refdec", stream, decoded, "--threads", "1", "--frames-md5", md5[0])
    run("refdec", stream, "--threads", "2", "--frames-md5", md5[1])

    spent = spending(stream)
    problems = []
    if stream.read_bytes() != again.read_bytes():
        problems.append("other bytes with two threads")
    if md5[0].read_bytes() != md5[1].read_bytes():
        problems.append("other frames with two threads")
    made, wanted = _video_facts(decoded, md5[0]), _source_facts(path, size)
    problems += [f"{k}: {made[k]} instead of {wanted[k]}" for k in wanted if made[k] != wanted[k]]
    if not (8 * stream.stat().st_size == sum(report["bits"].values()) == 8 * spent.total.total()):
        problems.append("the sections do not add up to the size of the file")
    if report["bits"].get("trajectories", 0) != 8 * spent.total["trajectories"]:
        problems.append("the report has another size of the trajectories than the file")
    for name in ("decoded.y4m", "1.md5", "2.md5"):
        (folder / name).unlink()

    row = {
        "clip": path.stem,
        "setting": setting,
        "frames": made["frames"],
        "kbit/s": report["kbps"],
        "guidance %": 100 * spent.guidance,
        "points": sum(c["points"] for c in report["clips"]),
        "clips": spent.units[UnitType.CLIP],
        "framing/clip": spent.largest["clip framing"],
        "framing/keyframe": spent.largest["keyframe framing"],
        "header": spent.total["sequence"],
        "says so": "yes" if remark else "",
        "problems": problems,
    }
    if "--bitrate" in options and abs(report["kbps"] / BITRATE - 1) > 0.1:
        row["reach"] = _reach(path, size, report["kbps"] > BITRATE, folder)
    return row


def _reach(path: Path, size: Size | None, low: bool, folder: Path) -> float:
    """The lowest, or the highest, kbit/s that the ladder of qualities allows."""
    report = folder / "reach.json"
    quality = str(QUALITIES[0 if low else 1])
    run("refenc", path, folder / "reach.tgv", *scaling(size), "--quality", quality, "--report", report)
    return float(json.loads(report.read_text(encoding="utf-8"))["kbps"])


def _source_facts(path: Path, size: Size | None) -> Row:
    """Frames, size and rate according to FFmpeg, not to the encoder."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        rate = stream.average_rate
        return {"frames": frames, "size": size or (stream.width, stream.height), "rate": rate}


def _video_facts(video: Path, md5: Path) -> Row:
    """The same of a Y4M file, whose frames have to be those of the list of MD5s."""
    sums = [line.split()[1] for line in md5.read_text(encoding="ascii").splitlines()]
    with video.open("rb") as file:
        head = file.readline().decode("ascii")
        width, height, numerator, denominator = map(
            int,
            re.match(r"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+) ", head).groups(),  # type: ignore[union-attr]
        )
        count = width * height + 2 * (-(-width // 2)) * (-(-height // 2))
        found = []
        while file.readline() == b"FRAME\n":
            found.append(hashlib.md5(file.read(count), usedforsecurity=False).hexdigest())
    return {
        "frames": len(found) if found == sums else "those of other MD5s",
        "size": (width, height),
        "rate": Fraction(numerator, denominator),
    }


def targets(rows: Sequence[Row]) -> list[Target]:
    """The demands on the round trip, the framing and the rate."""
    names = list(dict.fromkeys(r["setting"] for r in rows))
    default, bitrate = ([r for r in rows if r["setting"] == name] for name in names[:2])
    outside = [f"{r['clip']}: {r['kbit/s']:.2f}" for r in default if not 4 <= r["kbit/s"] <= 15]
    away = [r for r in bitrate if abs(r["kbit/s"] / BITRATE - 1) > 0.1]
    silent = [f"{r['clip']}: {r['kbit/s']:.2f}, without a word" for r in away if not r["says so"]]
    possible = [
        f"{r['clip']}: {r['kbit/s']:.2f}, though the ladder goes to {r['reach']:.2f}"
        for r in away
        if (r["reach"] < 1.1 * BITRATE if r["kbit/s"] > BITRATE else r["reach"] > 0.9 * BITRATE)
    ]
    return [
        Target(
            "same frames, size and rate; same bytes and MD5s with 1 and 2 threads; sections add up",
            [f"{r['clip']}, {r['setting']}: {p}" for r in rows for p in r["problems"]],
        ),
        Target(
            f"framing of a clip unit at most {CLIP_FRAMING} bytes, sequence header {SEQUENCE_HEADER}",
            [
                f"{r['clip']}, {r['setting']}: {r['framing/clip']} and {r['header']}"
                for r in rows
                if r["framing/clip"] > CLIP_FRAMING or r["header"] > SEQUENCE_HEADER
            ],
        ),
        Target(
            f"most clips between 4 and 15 kbit/s ({len(default) - len(outside)} of {len(default)})",
            outside if 2 * len(outside) >= len(default) else (),
        ),
        Target(
            f"{BITRATE:g} kbit/s within 10 % where possible ({len(bitrate) - len(away)} of {len(bitrate)})",
            silent + possible,
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__)
    args: argparse.Namespace = p.parse_args(argv)
    rows, failed = [], []
    jobs = [(c, *s) for c in find_clips(args) for s in settings(args.size).items()]
    with tempfile.TemporaryDirectory() as folder:
        for path, name, (size, options) in progress(jobs, "streams"):
            try:
                rows.append(measure(path, name, size, options, Path(folder)))
            except RuntimeError as error:
                failed.append(f"{path.stem}, {name}: {error}")
    columns = {
        "clip": "",
        "frames": "",
        "kbit/s": ".2f",
        "guidance %": ".1f",
        "points": ".0f",
        "clips": ".0f",
    }
    columns |= {"framing/clip": ".0f", "framing/keyframe": ".0f", "header": ".0f", "says so": ""}
    for name in settings(args.size):
        print(f"\n{name}")
        print(table([r for r in rows if r["setting"] == name], columns))
    verdicts = [Target("every clip encodes and decodes", failed), *targets(rows)]
    return conclude(args, {"benchmark": "streams", "size": args.size, "rows": rows}, verdicts)


if __name__ == "__main__":
    sys.exit(main())
