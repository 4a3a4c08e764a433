"""The report of a run as data, described by ``schema/report.schema.json``; other forms are made from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from conformance.verdict import Result, Verdict

SUITE = "TGV 0.1"


def build(results: Sequence[Result], command: str, seconds: float) -> dict[str, Any]:
    """The report: totals, features, classes, requirements and every result."""
    return {
        "suite": SUITE,
        "decoder": command,
        "seconds": round(seconds, 3),
        "ok": all(result.as_expected for result in results),
        "totals": _counts(results),
        "features": _by(results, lambda result: result.vector.features),
        "classes": _by(results, lambda result: [str(number) for number in result.classes]),
        "requirements": _by(results, lambda result: result.vector.requirements),
        "results": [_result(result) for result in results],
    }


def dumps(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=1) + "\n"


def _counts(results: Iterable[Result]) -> dict[str, int]:
    counts = Counter(result.verdict.value for result in results)
    return {verdict.value: counts[verdict.value] for verdict in Verdict}


def _by(results: Sequence[Result], keys: Any) -> dict[str, dict[str, int]]:
    names = sorted({key for result in results for key in keys(result)}, key=_natural)
    return {name: _counts(result for result in results if name in keys(result)) for name in names}


def _natural(name: str) -> tuple[str, int]:
    """TGV-TRJ-10 after TGV-TRJ-9."""
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if number.isdecimal() else (name, 0)


def _result(result: Result) -> dict[str, Any]:
    vector = result.vector
    row: dict[str, Any] = {
        "vector": vector.name,
        "topic": vector.topic,
        "outcome": vector.outcome,
        "classes": list(result.classes),
        "profile": vector.profile,
        "level": vector.level,
        "features": list(vector.features),
        "requirements": list(vector.requirements),
        "verdict": result.verdict.value,
        "expected_verdict": result.expected.value,
        "as_expected": result.as_expected,
        "seconds": round(result.seconds, 4),
    }
    if vector.errors:
        row["errors"] = list(vector.errors)
    if result.error is not None:
        row["error"] = result.error
    if result.message:
        row["message"] = result.message
    if result.divergence is not None:
        row["divergence"] = result.divergence.to_json()
    return row
