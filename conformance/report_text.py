"""The report for a terminal: progress, what is not as expected, and a table by feature."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from conformance.verdict import Result, Verdict


def progress(count: int, stream: IO[str]) -> Callable[[Result], None]:
    """Tells of results as they come, on one line that is written over, and only on a terminal."""
    done, lock = 0, threading.Lock()

    def tell(result: Result) -> None:
        nonlocal done
        with lock:
            done += 1
            if stream.isatty():
                end = "\n" if done == count else ""
                stream.write(f"\r{done}/{count} {result.vector.name[:50]:50}{end}")
                stream.flush()

    return tell


def write(results: Sequence[Result], report: dict[str, Any], stream: IO[str]) -> None:
    """Results that are not as expected, the table, and the totals."""
    for result in results:
        if not result.as_expected:
            wish = "" if result.expected is Verdict.PASS else f" ({result.expected.words} expected)"
            message = "; ".join(result.message.splitlines())
            stream.write(
                f"{result.verdict.words:16} {result.vector.name}{wish}: {message}".rstrip(": ") + "\n"
            )
    shown = [verdict for verdict in Verdict if verdict is Verdict.PASS or report["totals"][verdict.value]]
    width = max([len("feature"), *map(len, report["features"])])
    rows = {**report["features"], "all": report["totals"]}
    stream.write(f"\n{'feature':{width}} {'vectors':>8}" + "".join(f" {v.words:>16}" for v in shown) + "\n")
    for name, counts in rows.items():
        cells = "".join(f" {counts[verdict.value]:16}" for verdict in shown)
        stream.write(f"{name:{width}} {sum(counts.values()):8}{cells}\n")
    surprises = sum(not result.as_expected for result in results)
    listed = sum(result.as_expected and result.verdict is not Verdict.PASS for result in results)
    end = f"{surprises} results are not as expected" if surprises else "all results are as expected"
    stream.write(f"\n{len(results)} vectors in {report['seconds']:.1f} s: {end}")
    stream.write(f", {listed} listed as failing\n" if listed else "\n")
