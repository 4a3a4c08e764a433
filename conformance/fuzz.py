"""Feed the reference decoder inputs made from the vectors by chance, or every vector with one bit wrong.

With atheris installed (``pip install atheris``) inputs are guided by coverage; without it they are the
vectors changed at random. An input is at fault when it raises anything but a TgvError, takes more than two
seconds or more than one GiB, or breaks what its target says. It is written to a file; given as one
(``fuzz --target NAME FILE``) it runs alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

SECONDS, MEBIBYTES = 2, 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="*", metavar="FILE", help="inputs to run; with --exhaustive: names of vectors"
    )
    parser.add_argument("--target", action="append", metavar="NAME", help="default: all, one after the other")
    parser.add_argument(
        "--runs", type=int, default=10_000, metavar="N", help="for each target (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="keep what atheris finds interesting, by target"
    )
    parser.add_argument(
        "--findings", type=Path, metavar="DIR", default=Path("findings"), help="default: %(default)s"
    )
    parser.add_argument(
        "--engine", choices=("atheris", "random"), help="default: atheris where it is installed"
    )
    parser.add_argument(
        "--exhaustive",
        action="store_true",
        help="every bit flip and every truncation of every valid vector instead",
    )
    parser.add_argument("--sample", type=int, metavar="N", help="with --exhaustive: about N of them a vector")
    parser.add_argument(
        "-j", "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="with --exhaustive"
    )


def main(args: argparse.Namespace) -> int:
    if args.exhaustive:
        from conformance import fuzz_exhaustive

        return fuzz_exhaustive.main(args)
    engine = args.engine or ("atheris" if find_spec("atheris") else "random")
    context = get_context("spawn")
    failed = 0
    for name in args.target or _names():
        work = (_replay, (name, args.inputs)) if args.inputs else (_ENGINES[engine], (name, args))
        # A process each: atheris instruments what is imported, and ends the process that it runs in.
        process = context.Process(target=work[0], args=work[1])
        start = time.monotonic()
        process.start()
        process.join()
        failed += process.exitcode != 0
        status = "ok" if process.exitcode == 0 else f"FOUND SOMETHING (status {process.exitcode})"
        print(f"{name}: {engine}, {args.runs} runs, {time.monotonic() - start:.0f} s: {status}", flush=True)
    return int(failed > 0)


def _names() -> Sequence[str]:
    from conformance.fuzz_targets import TARGETS

    return list(TARGETS)


def _replay(name: str, inputs: Sequence[str]) -> None:
    from conformance.fuzz_targets import TARGETS

    for path in inputs:
        TARGETS[name].run(Path(path).read_bytes())


def _guided(name: str, args: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=["tgv_format", "refdec"]):
        from conformance.fuzz_targets import MAX_BYTES, TARGETS
    target = TARGETS[name]
    args.findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = args.corpus / name if args.corpus else Path(folder) / "corpus"
        seeds = Path(folder) / "seeds"
        for path in (corpus, seeds):
            path.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(seed)
        options = [
            f"-runs={args.runs}",
            f"-seed={args.seed}",
            f"-max_len={MAX_BYTES}",
            # Instrumented, the decoder takes up to ten times as long, and this is time on the clock.
            f"-timeout={10 * SECONDS}",
            f"-rss_limit_mb={MEBIBYTES}",
            f"-artifact_prefix={args.findings}/{name}-",
            "-print_final_stats=1",
        ]
        atheris.Setup([name, *options, str(corpus), str(seeds)], target.run)
        atheris.Fuzz()


def _random(name: str, args: argparse.Namespace) -> None:
    from conformance.fuzz_targets import TARGETS

    target = TARGETS[name]
    seeds = sorted(set(target.seeds()))
    rng = random.Random(args.seed)
    signal.signal(signal.SIGPROF, _stop)
    for _ in range(args.runs):
        data = changed(rng, seeds)
        problem = _problem(target.run, data)
        if problem:
            args.findings.mkdir(parents=True, exist_ok=True)
            path = args.findings / f"{name}-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            path.write_bytes(data)
            print(f"{problem}\n{path}", file=sys.stderr)
            sys.exit(1)


_ENGINES: dict[str, Callable[[str, argparse.Namespace], None]] = {"atheris": _guided, "random": _random}


class _TooLongError(BaseException):
    """Not an Exception, so that no decoder catches it."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLongError(f"more than {SECONDS} seconds")


def _problem(run: Callable[[bytes], None], data: bytes) -> str:
    """What is wrong with an input; nothing, if nothing is."""
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            run(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except (Exception, _TooLongError):
        return traceback.format_exc()
    import resource

    # In KiB on Linux.
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MEBIBYTES << 10:
        return f"more than {MEBIBYTES} MiB"
    return ""


def changed(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` after a few changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        size = rng.randrange(1, 9)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = rng.randbytes(size)
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)
