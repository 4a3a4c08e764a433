"""What the benchmarks share: arguments, clips, measured processes, tables and verdicts.

Every benchmark is run as ``python benchmarks/NAME.py --clips FOLDER``. Its exit status is 0 when all of
its targets are met and 1 when one is missed; the targets and the clips that miss them are named at the end.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from tgv_format import clip, group, keyframe, sequence
from tgv_format.clip import SectionType
from tgv_format.container import SIGNATURE, Unit, UnitReader, UnitType
from tgv_format.sequence import SequenceHeader

T = TypeVar("T")
Row = dict[str, Any]
Size = tuple[int, int]

# Started by a small process of its own: the peak memory that Linux reports for a child is at least that
# of the process which started it.
_LAUNCHER = """
import json, os, sys, time
begin = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
status, usage = os.wait4(child, 0)[1:]
figures = {"seconds": time.perf_counter() - begin, "cpu_seconds": usage.ru_utime + usage.ru_stime,
           "peak_mib": usage.ru_maxrss / 1024, "status": os.waitstatus_to_exitcode(status)}
open(sys.argv[1], "w").write(json.dumps(figures))
sys.exit(max(0, figures["status"]))
"""


def arguments(description: str | None, size: str = "512x320", clips: bool = True) -> argparse.ArgumentParser:
    """The options that every benchmark has; ``clips``: whether it needs them."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--clips", required=clips, type=Path, metavar="FOLDER", help="folder of *.mp4 files")
    p.add_argument("--only", default="*", metavar="GLOB", help="names of the clips to use (default: all)")
    p.add_argument("--size", type=parse_size, default=parse_size(size), metavar="WxH", help=f"default {size}")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return p


def parse_size(text: str) -> Size:
    width, height = text.split("x")
    return int(width), int(height)


def scaling(size: Size | None) -> list[str]:
    """The encoder's options for pictures of ``size``; None leaves them at their own."""
    return [] if size is None else ["--size", f"{size[0]}x{size[1]}", "--crop"]


def find_clips(args: argparse.Namespace) -> list[Path]:
    """The clips that were asked for, by name; the program ends when there are none."""
    paths = sorted(args.clips.glob(f"{args.only}.mp4"))
    if not paths:
        sys.exit(f"no clip {args.only}.mp4 in {args.clips}")
    return paths


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """``items``, with a progress bar on a terminal."""
    from tqdm import tqdm

    yield from tqdm(items, desc=description, total=total, disable=not sys.stderr.isatty())


@dataclass(frozen=True)
class Figures:
    """What a process cost: wall-clock and processor seconds, and its largest resident set in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    status: int


class Process:
    """A command line of this project (``refenc`` or ``refdec``), measured.

    Pipes are given as to :class:`subprocess.Popen`; ``stdin`` and ``stdout`` are those of the process.
    """

    def __init__(self, name: str, options: Sequence[str | Path], **pipes: Any) -> None:
        self._figures = tempfile.NamedTemporaryFile("r", suffix=".json")  # noqa: SIM115
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._command = [sys.executable, "-m", f"{name}.cli", *map(str, options)]
        self._popen = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _LAUNCHER, self._figures.name, *self._command],
            stderr=self._errors,
            **pipes,
        )
        self.stdin: IO[bytes] | None = self._popen.stdin
        self.stdout: IO[bytes] | None = self._popen.stdout

    def wait(self) -> Figures:
        """Wait for the process to end. RuntimeError with what it said when it failed."""
        self._popen.wait()
        with self._figures, self._errors:
            self._errors.seek(0)
            self.errors = self._errors.read().strip()
            figures = Figures(**json.load(self._figures))
        if figures.status:
            raise RuntimeError(f"{' '.join(self._command)}: {self.errors}")
        return figures


def run(name: str, *options: str | Path, **pipes: Any) -> tuple[Figures, str]:
    """Run a command line of this project to its end: what it cost, and what it said on standard error."""
    process = Process(name, options, **{"stdout": subprocess.DEVNULL, **pipes})
    return process.wait(), process.errors


@dataclass
class Spending:
    """Bytes of a stream by part, counted from the file alone; they add up to its size.

    ``largest`` is the most that one unit spends on a part; ``units`` counts those that groups stand for.
    """

    total: Counter[str] = field(default_factory=Counter)
    largest: Counter[str] = field(default_factory=Counter)
    units: Counter[UnitType] = field(default_factory=Counter)

    def add(self, part: str, size: int) -> None:
        self.total[part] += size
        self.largest[part] = max(self.largest[part], size)

    @property
    def guidance(self) -> float:
        """Share of the sections that guide the reconstruction."""
        sections = "trajectories", "flow_tokens", "camera_poses", "masks", "interpolation"
        return sum(self.total[name] for name in sections) / self.total.total()


def read_units(stream: bytes) -> tuple[SequenceHeader, list[Unit]]:
    """All units of a stream, undecoded, and its sequence header; TgvError when its framing is damaged."""
    reader = UnitReader(io.BytesIO(stream))
    reader.signature()
    first = reader.read()
    assert first is not None
    header = sequence.decode(first.payload, first.offset)
    reader.crc, reader.max_bytes = header.crc, header.limits.unit_bytes
    return header, [first, *iter(reader.read, None)]


def spending(stream: Path) -> Spending:
    """What the bytes of a stream are spent on."""
    header, units = read_units(stream.read_bytes())
    found = Spending()
    found.add("signature", len(SIGNATURE))
    for unit in units:
        kind = UnitType(unit.unit_type)
        found.units.update(UnitType(part.unit_type) for part in group.expanded([unit]))
        framing = unit.framing_bytes
        if kind is UnitType.KEYFRAME:
            payload = len(keyframe.decode(unit.payload, unit.offset, "keyframe").payload)
            found.add("keyframes", payload)
            found.add("keyframe framing", framing + len(unit.payload) - payload)
        elif kind in (UnitType.CLIP, UnitType.GROUP):
            framing += len(unit.payload)
            for part, size in _parts(unit, header):
                framing -= size
                found.add(part, size)
            found.add(f"{kind.name.lower()} framing", framing)
        else:
            found.add(kind.name.lower(), framing + len(unit.payload))
    return found


def _parts(unit: Unit, header: SequenceHeader) -> Iterator[tuple[str, int]]:
    """The keyframes and sections of a clip or group, and their sizes; repeated sections have none."""
    before = -1
    for part in group.expanded([unit]):
        if part.unit_type == UnitType.KEYFRAME:
            yield "keyframes", len(keyframe.decode(part.payload, part.offset, "keyframe").payload)
        elif part.offset != before:
            for section in clip.split(part.payload, part.offset, "clip", header.limits)[1]:
                yield SectionType(section.section_type).name.lower(), len(section.body)
            before = part.offset


@dataclass(frozen=True)
class Target:
    """Something that is demanded; ``missed`` says where it is not met."""

    demand: str
    missed: Sequence[str] = ()


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")


def table(rows: Sequence[Row], columns: dict[str, str], medians: bool = True) -> str:
    """Columns (key: format) of ``rows`` as text, the medians of all numbers below them; None is a dash."""
    numbers = {k for k in columns if all(isinstance(r[k], int | float | None) for r in rows)}
    middle = {k: median(r[k] for r in rows if r[k] is not None) if k in numbers else "" for k in columns}
    texts = [
        ["-" if r[k] is None else f"{r[k]:{f if k in numbers else ''}}" for k, f in columns.items()]
        for r in [*rows, middle][: None if medians else -1]
    ]
    if medians and next(iter(columns)) not in numbers:
        texts[-1][0] = "median"
    cells = [list(columns), *texts]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            text.rjust(width) if key in numbers else text.ljust(width)
            for text, width, key in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]
    if medians:
        lines.insert(-1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def conclude(args: argparse.Namespace, result: Row, targets: Sequence[Target]) -> int:
    """Print which targets are met, write ``result`` where it was asked for, and return the exit status."""
    print()
    for target in targets:
        print(f"{'MISSED' if target.missed else 'met   '}  {target.demand}")
        for line in target.missed:
            print(f"          {line}")
    if args.json:
        verdicts = [{"demand": t.demand, "missed": list(t.missed)} for t in targets]
        args.json.write_text(json.dumps({**result, "targets": verdicts}, indent=2) + "\n", encoding="utf-8")
    return int(any(t.missed for t in targets))
