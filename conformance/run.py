"""Run a decoder on the vectors and say which requirements it meets, and where it leaves the path."""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from conformance.manifest import VECTORS, Vector, changed_files, vectors

#: The conformance classes that this suite has vectors for.
CLASSES = (1, 2, 3, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--decoder",
        metavar="CMD",
        required=True,
        help="the command under test, with {input} and any of {params}, {frames} (Y4M), {md5}, {latents}; "
        "what stands in [ ] is left out for vectors that do not need the file named in it",
    )
    parser.add_argument(
        "--persistent",
        action="store_true",
        help="CMD has no placeholders, reads requests and writes responses as lines of JSON",
    )
    parser.add_argument(
        "--outputs",
        metavar="LIST",
        default="params,md5",
        help="what a persistent decoder can write, of params,frames,md5,latents (default: %(default)s)",
    )
    parser.add_argument(
        "--trace-decoder",
        metavar="CMD",
        help="a command with {input} and {trace}, run where a valid stream is not decoded to the right "
        "parameters, to find the first wrong symbol",
    )
    parser.add_argument("-j", "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--timeout", type=float, default=20.0, metavar="SECONDS", help="for one vector")
    parser.add_argument("--memory", type=_positive, default=1024, metavar="MIB", help="for one decoder")
    chosen = parser.add_argument_group("which vectors (all conditions have to hold; default: all vectors)")
    chosen.add_argument("vectors", nargs="*", metavar="GLOB", help="names, or outcome/topic/name")
    chosen.add_argument("--class", dest="classes", type=int, choices=CLASSES, action="append")
    chosen.add_argument("--profile", type=int, action="append", metavar="N")
    chosen.add_argument("--level", type=int, action="append", metavar="N")
    chosen.add_argument("--feature", action="append", metavar="NAME")
    chosen.add_argument("--requirement", action="append", metavar="ID", help="TGV-TRJ-8, or a glob")
    listed = parser.add_argument_group("failures that are expected")
    listed.add_argument(
        "--expect", metavar="FILE", type=Path, help="lines 'NAME-OR-GLOB VERDICT'; a pass there is a failure"
    )
    listed.add_argument("--write-expect", metavar="FILE", type=Path, help="write that list for this run")
    reports = parser.add_argument_group("reports")
    for name in ("json", "junit", "html", "badge"):
        reports.add_argument(f"--{name}", metavar="FILE", type=Path)
    parser.add_argument("--suite", type=Path, default=VECTORS, help=argparse.SUPPRESS)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def main(args: argparse.Namespace) -> int:
    from conformance import report, report_badge, report_html, report_junit, report_text
    from conformance.decoder import CommandError, Limits
    from conformance.verdict import ExpectationError, Verdict, read_expected, write_expected
    from conformance.workers import Workers

    suite = list(vectors(args.suite))
    try:
        if args.suite == VECTORS and (changed := changed_files()):
            raise CommandError(f"{changed[0]} is not the file of this suite")
        expected = {}
        if args.expect:
            text = args.expect.read_text(encoding="utf-8")
            expected = read_expected(text, [vector.name for vector in suite])
        workers = Workers(
            args.decoder,
            args.outputs.split(",") if args.persistent else None,
            args.trace_decoder,
            Limits(args.timeout, args.memory << 20),
            args.jobs,
            args.classes or CLASSES,
        )
        chosen = [vector for vector in suite if selected(vector, args) and workers.applies(vector)]
        if not chosen:
            raise CommandError("no vector is selected")
        start = time.monotonic()
        results = [
            replace(result, expected=expected.get(result.vector.name, Verdict.PASS))
            for result in workers.run(chosen, report_text.progress(len(chosen), sys.stderr))
        ]
    except (CommandError, ExpectationError) as error:
        print(f"tgv-conformance: {error}", file=sys.stderr)
        return 2
    summary = report.build(results, args.decoder, time.monotonic() - start)
    report_text.write(results, summary, sys.stdout)
    if args.write_expect:
        args.write_expect.write_text(write_expected(results), encoding="utf-8")
    writers: dict[str, Callable[[], str]] = {
        "json": lambda: report.dumps(summary),
        "junit": lambda: report_junit.render(results, summary),
        "html": lambda: report_html.render(results, summary),
        "badge": lambda: report_badge.render(summary),
    }
    for name, render in writers.items():
        if path := getattr(args, name):
            path.write_text(render(), encoding="utf-8")
    return 0 if all(result.as_expected for result in results) else 1


def selected(vector: Vector, args: argparse.Namespace) -> bool:
    """Whether a vector passes the filters."""
    place = f"{vector.outcome}/{vector.topic}/{vector.name}"

    def any_of(wanted: Sequence[object] | None, values: Iterable[object]) -> bool:
        return not wanted or any(fnmatch.fnmatchcase(str(v), str(w)) for v in values for w in wanted)

    return (
        any_of(args.vectors, [vector.name, place])
        and any_of(args.profile, [vector.profile])
        and any_of(args.level, [vector.level])
        and any_of(args.feature, vector.features)
        and any_of(args.requirement, vector.requirements)
    )
