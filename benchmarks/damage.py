"""Bad input: every truncation and every single-bit flip of three streams, and damaged units concealed.

Every case has to end in exit status 1, one line with identifier, offset and path on standard error, and an
empty output folder, within the limits of time and memory. Most cases run inside worker processes, because
there are tens of thousands; a sample runs as real commands. Streams without checksums are the harder test:
there the damage gets to the entropy decoder and the AV1 decoder. Keyframes are stills: what damage spreads to
through keyframes that depend on others is not undamaged.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from types import FrameType

from common import (
    Row,
    Size,
    Target,
    arguments,
    conclude,
    find_clips,
    progress,
    read_units,
    run,
    scaling,
    table,
)

from tgv_format import clip, keyframe
from tgv_format.container import SIGNATURE, Unit, UnitType
from tgv_format.errors import IDENTIFIERS
from tgv_format.group import expanded
from tgv_format.keyframe import Role

MEMORY = 1 << 30
SECONDS = 20
LINE = re.compile(r"refdec: ([a-z0-9-]+) at byte (\d+), (\S+): \S[^\n]*\n")


@dataclass(frozen=True)
class Case:
    """What happens to stream number ``stream``: its first ``place`` bytes are kept (``cut``), or bit
    ``place`` is inverted (``flip``)."""

    stream: int
    kind: str
    place: int

    def apply(self, data: bytes) -> bytes:
        if self.kind == "cut":
            return data[: self.place]
        byte, bit = divmod(self.place, 8)
        return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]


@dataclass(frozen=True)
class Outcome:
    """``identifier`` of the error, or None with the reason in ``fault`` when a demand is not met."""

    case: Case
    identifier: str | None
    fault: str
    seconds: float
    peak_mib: float


def cases(streams: Sequence[bytes], step: int = 1) -> Iterator[Case]:
    """Every ``step``-th truncation and bit flip."""
    for index, data in enumerate(streams):
        yield from (Case(index, "cut", n) for n in range(0, len(data), step))
        yield from (Case(index, "flip", n) for n in range(0, 8 * len(data), step))


def judge(status: int | str, said: str, size: int, left: Sequence[str]) -> tuple[str | None, str]:
    """Identifier and fault of a finished case. ``size`` of the damaged file, ``left``: names of files."""
    match = LINE.fullmatch(said)
    if status != 1:
        return None, f"exit status {status}: {said[-300:]}"
    if not match or match[1] not in IDENTIFIERS or int(match[2]) > size:
        return None, f"not one line with identifier, offset and path: {said[-300:]!r}"
    if left:
        return None, f"left behind: {', '.join(left)}"
    return match[1], ""


class Worker:
    """Runs cases inside this process; made once per worker by :func:`start`."""

    def __init__(self, streams: Sequence[bytes], folder: Path) -> None:
        self.streams = streams
        self.folder = folder / str(os.getpid())
        self.folder.mkdir()
        # Also what libraries write past Python.
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115
        os.dup2(self.stderr.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        # Linux counts what the process had in memory that started this one.
        self.inherited = _peak_mib()
        signal.signal(signal.SIGALRM, self._late)

    def __call__(self, case: Case) -> Outcome:
        from refdec import cli

        data = case.apply(self.streams[case.stream])
        damaged, output = self.folder / "damaged.tgv", self.folder / "output"
        damaged.write_bytes(data)
        output.mkdir(exist_ok=True)
        begin = time.perf_counter()
        said = io.StringIO()
        status: int | str
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                status = cli.main([str(damaged), *outputs(output), "--threads", "1"])
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        seconds = time.perf_counter() - begin
        self.stderr.seek(0)
        text = said.getvalue() + self.stderr.read().decode(errors="replace")
        self.stderr.seek(0)
        self.stderr.truncate()
        left = sorted(p.name for p in output.iterdir())
        for name in left:
            (output / name).unlink()
        peak = _peak_mib()
        identifier, fault = judge(status, text, len(data), left)
        if not fault and peak > max(MEMORY >> 20, self.inherited):
            identifier, fault = None, f"{peak:.0f} MiB"
        return Outcome(case, identifier, fault, seconds, peak)

    @staticmethod
    def _late(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still running after {SECONDS} s")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outputs(folder: Path) -> list[str]:
    """Options that write a file of every kind into ``folder``."""
    side = ("--frames-md5", str(folder / "md5"), "--params", str(folder / "params.json"))
    return [str(folder / "video.y4m"), *side]


_worker: Worker


def start(streams: Sequence[bytes], folder: Path) -> None:
    """Make the worker of this process."""
    global _worker
    _worker = Worker(streams, folder)


def work(case: Case) -> Outcome:
    """Run a case in the worker of this process."""
    return _worker(case)


def run_inside(streams: Sequence[bytes], chosen: Iterable[Case], workers: int) -> Iterator[Outcome]:
    """Outcomes of cases in worker processes, in order."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(workers, context, start, (streams, Path(folder))) as pool,
    ):
        yield from pool.map(work, chosen, chunksize=64)


def run_outside(streams: Sequence[bytes], case: Case, folder: Path) -> Outcome:
    """The outcome of a case as a command of its own, with the stream on standard input."""
    data = case.apply(streams[case.stream])
    output = folder / "output"
    output.mkdir(exist_ok=True)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "refdec.cli", "-", *outputs(output), "--threads", "2"]
    status: int | str
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS)
        status, said = done.returncode, (done.stdout + done.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired:
        status, said = "none", f"still running after {SECONDS} s"
    left = sorted(p.name for p in output.iterdir())
    for name in left:
        (output / name).unlink()
    return Outcome(case, *judge(status, said, len(data), left), time.perf_counter() - begin, 0.0)


# --- concealment ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extent:
    """A unit's place in the file, and the frames that may change when it is damaged."""

    name: str
    begin: int
    end: int
    frames: range


def extents(data: bytes) -> list[Extent]:
    """All units after the sequence header.

    Without a trailing keyframe, the clip before it and the clip after it are damaged; without a leading
    one, itself and the clip after it; without the parameters of a clip, the frames between its keyframes, and
    a leading keyframe before them, which is sharpened as they are.
    """
    header, (first, *units) = read_units(data)
    clips = [[u for u in expanded([unit]) if u.unit_type == UnitType.CLIP] for unit in units]
    counts = [[clip.split(u.payload, 0, "clip", header.limits)[0] for u in found] for found in clips]
    lengths = [sum(found) for found in counts]
    begin = len(SIGNATURE) + first.framing_bytes + len(first.payload)
    found: list[Extent] = []
    shown = leading = 0
    for i, unit in enumerate(units):
        end = begin + unit.framing_bytes + len(unit.payload)
        kind = UnitType(unit.unit_type)
        # A clip that follows this unit's picture has it as its frame 0, unless a cut lies between.
        after = 0
        if kind is UnitType.KEYFRAME:
            coded = keyframe.decode(unit.payload, unit.offset, "keyframe")
            trailing = coded.role is Role.TRAILING
            own = lengths[i + 1] if trailing else 1
            after = _next_clip(units, counts, i + 2 if trailing else i + 1)
            frames = range(shown - leading * trailing, shown + own + max(0, after - 1))
            shown += 0 if trailing else 1
            leading = leading if trailing else 1
        elif kind is UnitType.GROUP:
            after = _next_clip(units, counts, i + 1)
            frames = range(shown - leading, shown + lengths[i] + max(0, after - 1))
            shown += lengths[i]
            leading = 0
        elif kind is UnitType.CLIP:
            frames = range(shown - leading, shown + lengths[i] - 1)
            shown += lengths[i]
            leading = 0
        else:
            frames = range(shown, shown)
        found.append(Extent(f"{kind.name.lower()} at {begin}", begin, end, frames))
        begin = end
    return found


def _next_clip(units: Sequence[Unit], counts: Sequence[Sequence[int]], index: int) -> int:
    """Frames of the clip that begins with unit ``index`` and goes on from the picture before it."""
    for i in range(index, len(units)):
        unit = units[i]
        if counts[i]:
            return counts[i][0]
        if unit.unit_type != UnitType.KEYFRAME:
            break
        if keyframe.decode(unit.payload, unit.offset, "keyframe").role is Role.LEADING:
            break
    return 0


def damages(extent: Extent, following: Extent | None) -> dict[str, list[int]]:
    """Bits of a unit to invert, by what they belong to; the last damages the unit after it as well."""
    middle = [8 * ((e.begin + e.end) // 2) for e in (extent, following) if e]
    return {
        "type": [8 * extent.begin + 1],
        "size": [8 * (extent.begin + 1)],
        "payload": middle[:1],
        "crc": [8 * extent.end - 3],
        "two units": middle,
    }


def conceal(data: bytes, folder: Path) -> Iterator[Row]:
    """Damage every unit of a stream in turn; ``fault`` says what was not kept."""
    stream, md5, video = folder / "damaged.tgv", folder / "md5", folder / "video.y4m"
    stream.write_bytes(data)
    run("refdec", stream, "--frames-md5", md5)
    intact = _sums(md5)
    units = extents(data)
    for extent, following in zip_longest(units, units[1:]):
        for part, bits in damages(extent, following).items():
            damaged = data
            for bit in bits:
                damaged = Case(0, "flip", bit).apply(damaged)
            stream.write_bytes(damaged)
            changed = {*extent.frames, *(following.frames if following and part == "two units" else ())}
            files = [str(stream), str(video), "--frames-md5", str(md5)]
            command = [sys.executable, "-m", "refdec.cli", *files, "--conceal"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            made = _sums(md5) if md5.exists() else []
            wrong = [
                i
                for i, whole in enumerate(intact)
                if i not in changed and (i >= len(made) or made[i] != whole)
            ]
            fault = ""
            if done.returncode != 1:
                fault = f"exit status {done.returncode}: {done.stderr[-300:]}"
            elif "Traceback" in done.stderr:
                fault = done.stderr[-300:]
            elif not video.exists():
                fault = f"no output: {done.stderr}"
            elif wrong:
                fault = f"undamaged frames {wrong[0]}..{wrong[-1]} differ ({len(wrong)} of {len(intact)})"
            elif len(made) != len(intact):
                fault = f"{len(made)} frames instead of {len(intact)}"
            yield {"unit": extent.name, "part": part, "frames": len(made), "fault": fault}
            md5.unlink(missing_ok=True)
            video.unlink(missing_ok=True)


def _sums(md5: Path) -> list[str]:
    return [line.split()[1] for line in md5.read_text(encoding="ascii").splitlines()]


# --- all of it --------------------------------------------------------------------------------------------

#: Options of the three streams: all units there are, several short clips, and no checksums.
STREAMS = (
    ["--caption", "A clip of a few frames.", "--generator", "none", "--quality", "14"],
    ["--keyframe-interval", "5", "--quality", "20"],
    ["--no-crc", "--quality", "20"],
)


def make(video: Path, size: Size, folder: Path, options: Sequence[str]) -> bytes:
    """A stream of the video."""
    stream = folder / "made.tgv"
    run("refenc", video, stream, *scaling(size), "--keyframe-codec", "av1", *options)
    return stream.read_bytes()


def join(paths: Sequence[Path], frames: int, size: Size, folder: Path) -> Path:
    """The first frames of each clip, one after the other, as Y4M."""
    from y4m import Y4m

    joined = folder / f"{paths[0].stem}.y4m"
    parts = [Y4m.of(path, size) for path in paths]
    video = Y4m(parts[0].head, tuple(f for part in parts for f in part.frames[:frames]), parts[0].rate)
    video.feed(joined.open("wb"), len(video.frames))
    return joined


def summarise(streams: Sequence[bytes], outcomes: Iterable[Outcome]) -> tuple[list[Row], list[Outcome]]:
    """Counts by stream, kind and identifier, and the failures."""
    counts: dict[tuple[int, str], Counter[str]] = {}
    failed = []
    for outcome in outcomes:
        key = outcome.case.stream, outcome.case.kind
        counts.setdefault(key, Counter())[outcome.identifier or "FAULT"] += 1
        if outcome.fault:
            failed.append(outcome)
    rows = [
        {
            "stream": str(stream),
            "kind": kind,
            "bytes": len(streams[stream]),
            "cases": found.total(),
            "identifiers": ", ".join(f"{name} {count}" for name, count in found.most_common()),
        }
        for (stream, kind), found in sorted(counts.items())
    ]
    return rows, failed


def targets(outcomes: Sequence[Outcome], failed: Sequence[Outcome], concealed: Sequence[Row]) -> list[Target]:
    """The demands on errors and on concealment; of many faults the first ones."""
    faults = [f"stream {o.case.stream}, {o.case.kind} {o.case.place}: {o.fault}" for o in failed]
    more = [f"... and {len(faults) - 40} more"] if len(faults) > 40 else []
    return [
        Target(f"{len(outcomes)} truncations and bit flips: one line, exit status 1", faults[:40] + more),
        Target(
            f"{len(concealed)} damaged units concealed: all other frames are kept",
            [f"{r['unit']}, {r['part']}: {r['fault']}" for r in concealed if r["fault"]],
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__, size="128x80")
    p.add_argument(
        "--frames", type=int, default=15, metavar="N", help="of each of a stream's two scenes (default 15)"
    )
    p.add_argument("--step", type=int, default=1, metavar="N", help="take every N-th case only")
    p.add_argument("--sample", type=int, default=50, metavar="N", help="cases as real commands (default 50)")
    p.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (default 2)")
    args = p.parse_args(argv)
    paths = find_clips(args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = [[paths[2 * i % len(paths)], paths[(2 * i + 1) % len(paths)]] for i in range(len(STREAMS))]
        videos = [join(pair, args.frames, args.size, folder) for pair in pairs]
        streams = [make(v, args.size, folder, o) for v, o in zip(videos, STREAMS, strict=True)]
        chosen = list(cases(streams, args.step))
        sample = random.Random(1).sample(chosen, min(args.sample, len(chosen)))
        inside = progress(run_inside(streams, chosen, args.workers), "inside", len(chosen))
        outside = (run_outside(streams, case, folder) for case in progress(sample, "commands"))
        outcomes = list(chain(inside, outside))
        rows, failed = summarise(streams, outcomes)
        concealed = list(progress(conceal(streams[1], folder), "conceal"))
    print(
        table(
            rows, {"stream": "", "kind": "", "bytes": ".0f", "cases": ".0f", "identifiers": ""}, medians=False
        )
    )
    slowest = max(outcomes, key=lambda o: o.seconds)
    peak = max(o.peak_mib for o in outcomes)
    print(
        f"\nslowest case: {slowest.seconds:.2f} s ({slowest.case}); peak memory of a worker: {peak:.0f} MiB\n"
    )
    result = {
        "benchmark": "damage",
        "rows": rows,
        "faults": [vars(o.case) | {"fault": o.fault} for o in failed],
        "concealed": concealed,
    }
    return conclude(args, result, targets(outcomes, failed, concealed))


if __name__ == "__main__":
    sys.exit(main())
