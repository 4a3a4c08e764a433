"""Plant single faults in the reference decoder, and see whether the vectors notice each of them.

A mutant is killed when the verdict on any vector is not ``pass``. Every mutant runs in a process of its own,
which imports the decoder anew with the fault in it and decodes one vector after the other until one fails;
a decoder that takes ten times as long as it should, and two seconds, hangs. A mutant that cannot even be
imported does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from multiprocessing import connection, get_context
from pathlib import Path
from types import FrameType
from typing import Any, cast

from conformance.manifest import VECTORS, Vector, vectors

#: Functions that do not decode, and mutants that decode as the original does; with reasons.
KNOWN = Path(__file__).parent / "mutants.toml"
COUNT, SEED = 300, 1
_PACKAGES = ("tgv_format", "refdec")
_MEMORY = 4 << 30
_IMPORT_SECONDS = 2
#: The plain-Python decoder, which makes the trace, uses these in another way; with it as well, then.
_PLAIN = ("tgv_format.entropy", "tgv_format.range_coder", "tgv_format.symbol_coder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="MODULE", help="modules, or parts of their names; default: all"
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=COUNT,
        metavar="N",
        help="how many mutants (default: %(default)s; 0: all)",
    )
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="which (default: %(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--strict", action="store_true", help="fail when a survivor is not explained")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all mutants and what became of them")
    parser.add_argument("--suite", type=Path, default=VECTORS, help=argparse.SUPPRESS)


@dataclass(frozen=True)
class Case:
    """A vector, what the decoder has to make of it, and how many seconds of the processor it may take."""

    name: str
    data: bytes
    pictures: bool
    learned: bool
    errors: tuple[str, ...]
    document_sha256: str
    frames: tuple[str, ...]
    latents: str
    seconds: float


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: a verdict, or ``survived``, ``equivalent`` or ``stillborn``."""

    mutant: Any
    verdict: str
    vector: str = ""
    why: str = ""

    @property
    def killed(self) -> bool:
        return self.verdict not in ("survived", "equivalent", "stillborn")


class _TooLongError(BaseException):
    """Not an Exception, so that no decoder catches it."""


def main(args: argparse.Namespace) -> int:
    from conformance import mutants

    known = tomllib.loads(KNOWN.read_text(encoding="utf-8"))
    modules = [
        name
        for name in (*mutants.MODULES, *mutants.TABLES)
        if not args.names or any(part in name for part in args.names)
    ]
    every = {module: mutants.listed(module, known["not-decoding"]) for module in modules}
    chosen = mutants.sample(every, args.sample or sum(map(len, every.values())), args.seed)
    suite = cases(list(vectors(args.suite)))
    start = time.monotonic()
    fates = []
    for fate in run(chosen, suite, known["not-decoding"], args.jobs):
        fates.append(_explained(fate, known["equivalent"]))
        if sys.stderr.isatty():
            print(f"\r{len(fates)} of {len(chosen)}", end="", file=sys.stderr)
    fates.sort(key=lambda fate: (fate.mutant.module, fate.mutant.line, fate.mutant.index))
    _report(fates, time.monotonic() - start)
    if args.json:
        rows = [{**asdict(f.mutant), "verdict": f.verdict, "vector": f.vector, "why": f.why} for f in fates]
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return int(args.strict and any(fate.verdict == "survived" for fate in fates))


def cases(suite: Sequence[Vector]) -> list[Case]:
    """The vectors, quick ones first; ValueError when the reference decoder itself does not pass one."""
    found = []
    for vector in suite:
        expectation = vector.expectation if vector.valid else None
        case = Case(
            vector.name,
            vector.stream_path.read_bytes(),
            3 in vector.classes and not vector.learned,
            3 in vector.classes and vector.learned,
            vector.errors,
            expectation.document_sha256 if expectation else "",
            expectation.frames if expectation else (),
            expectation.latents_text() if expectation else "",
            0.0,
        )
        start = time.process_time()
        verdict = _verdict(case, False)
        if verdict != "pass":
            raise ValueError(f"{vector.name}: {verdict}")
        found.append(Case(**{**vars(case), "seconds": time.process_time() - start}))
    return sorted(found, key=lambda case: case.seconds)


def _verdict(case: Case, plain: bool) -> str:
    """What the runner would say about the decoder that can be imported now."""
    from tgv_format.errors import TgvError

    try:
        found = _decode(case, plain)
    except TgvError as error:
        if not case.errors:
            return "rejected-valid"
        return "pass" if error.identifier in case.errors else "wrong-error"
    except Exception:
        return "crash"
    if case.errors:
        return "accepted-invalid"
    expected = case.document_sha256, case.frames, case.latents
    return "pass" if found == expected else "wrong-output"


def _decode(case: Case, plain: bool) -> tuple[str, tuple[str, ...], str]:
    """Digest of the document, MD5s of the frames, list of latents; with the plain-Python decoder, if so."""
    import hashlib
    import io

    from refdec import keyframes
    from refdec.decoder import Decoder
    from tgv_format import canonical
    from tgv_format.keyframe import Codec, Keyframe
    from tgv_format.reader import Reader

    trace = (lambda record: None) if plain else None
    reader = Reader(io.BytesIO(case.data), trace=trace)
    values = [canonical.dumps(reader.header.to_json())]
    latents = ""

    def elements() -> Iterator[Any]:
        nonlocal latents
        number = 0
        for element in reader:
            values.append(canonical.dumps(element.to_json()))
            if isinstance(element, Keyframe):
                if case.learned and element.codec is Codec.ILLM:
                    size = reader.header.width, reader.header.height
                    found = keyframes.latents(element, *size, trace=trace)
                    latents += f"{number} {found.z_md5()} {found.y_md5()}\n"
                number += 1
            yield element

    stream = elements()
    frames: tuple[str, ...] = ()
    if case.pictures:
        frames = tuple(picture.md5() for picture in Decoder(reader.header).pictures(stream))
    for _ in stream:
        pass
    return hashlib.sha256(b"[\n" + b",\n".join(values) + b"\n]\n").hexdigest(), frames, latents


def run(chosen: Sequence[Any], suite: Sequence[Case], skipped: dict[str, str], jobs: int) -> Iterator[Fate]:
    """What becomes of each mutant, in the order in which they end."""
    context = get_context("fork")
    waiting = list(reversed(chosen))
    running: dict[Any, tuple[Any, Any]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_live, args=(mutant, suite, skipped, theirs))
            process.start()
            theirs.close()
            running[ours] = mutant, process
        for pipe in cast(list[Any], connection.wait(list(running))):
            mutant, process = running.pop(pipe)
            try:
                verdict, vector = pipe.recv()
            except EOFError:
                verdict, vector = "crash", ""
            process.join()
            yield Fate(mutant, verdict, vector)


def _live(mutant: Any, suite: Sequence[Case], skipped: dict[str, str], pipe: Any) -> None:
    """The life of one mutant, in its process."""
    from conformance import imports, mutants

    limit = _address_space() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, _stop)
    modules = [] if mutant.table else [mutant.module]
    with imports.anew(_PACKAGES, modules, lambda name, path: mutants.code(mutant, skipped)):
        born = _timed(_IMPORT_SECONDS, lambda: _birth(mutant))
        pipe.send(
            (born, "")
            if born != "pass"
            else _killer(suite, (False, True) if mutant.module in _PLAIN else (False,))
        )


def _address_space() -> int:
    """Bytes that this process has mapped already, by the libraries of whoever runs this; 0 if not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _birth(mutant: Any) -> str:
    """Import the decoder: ``pass``, or ``stillborn``."""
    from conformance import mutants

    try:
        if mutant.table:
            mutants.plant_entry(mutant, import_module("tgv_format.tables").load(mutant.table))
        for name in (*mutants.MODULES, "tgv_format.tables"):
            import_module(name)
    except Exception:
        return "stillborn"
    return "pass"


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLongError


def _timed(seconds: float, call: Callable[[], str]) -> str:
    """What ``call`` returns, or ``timeout``."""
    try:
        signal.setitimer(signal.ITIMER_PROF, 10 * seconds + 2)
        try:
            return call()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _TooLongError:
        return "timeout"


def _killer(suite: Sequence[Case], decoders: Sequence[bool]) -> tuple[str, str]:
    """The first verdict that is not a pass, and its vector; ``decoders`` says which, plain Python or not."""
    for case in suite:
        for plain in decoders:
            verdict = _timed((5 if plain else 1) * case.seconds, partial(_verdict, case, plain))
            if verdict != "pass":
                return verdict, case.name
    return "survived", ""


def _explained(fate: Fate, equivalent: Sequence[dict[str, Any]]) -> Fate:
    """A survivor that is known to be equivalent, with the reason."""
    for row in equivalent if fate.verdict == "survived" else ():
        if fits(fate.mutant, row):
            return replace(fate, verdict="equivalent", why=row["why"])
    return fate


def fits(mutant: Any, row: dict[str, Any]) -> bool:
    """Whether an entry of the list of equivalent mutants is about this one."""
    return all(vars(mutant)[name] == value for name, value in row.items() if name != "why")


def _report(fates: Sequence[Fate], seconds: float) -> None:
    rows: dict[str, Counter[str]] = {}
    for fate in fates:
        column = "killed" if fate.killed else fate.verdict
        for name in (fate.mutant.module, "all"):
            rows.setdefault(name, Counter())[column] += 1
    rows["all"] = rows.pop("all", Counter())
    columns = ("killed", "survived", "equivalent", "stillborn")
    print(f"{'module':<28}" + "".join(f"{column:>12}" for column in columns) + f"{'kill rate':>12}")
    for name, row in rows.items():
        alive = row["killed"] + row["survived"]
        rate = f"{row['killed'] / alive:.1%}" if alive else ""
        print(f"{name:<28}" + "".join(f"{row[column]:>12}" for column in columns) + f"{rate:>12}")
    killers = Counter(fate.verdict for fate in fates if fate.killed)
    print("\nkilled by " + ", ".join(f"{verdict} {count}" for verdict, count in killers.most_common()))
    print(f"{len(fates)} mutants in {seconds:.0f} s")
    for fate in fates:
        if fate.verdict == "survived":
            print(f"survived: {fate.mutant}")
