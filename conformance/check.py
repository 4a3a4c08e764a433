"""Check a file against every requirement on bitstreams, for authors of encoders."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.checker import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.tgv")
    parser.add_argument("--json", metavar="FILE", help="write the findings as JSON; - for standard output")


def main(args: argparse.Namespace) -> int:
    from conformance.checker import ERROR, check

    findings = check(args.file.read_bytes())
    ok = all(finding.status != ERROR for finding in findings)
    if args.json != "-":
        write(findings, sys.stdout)
    if args.json:
        text = json.dumps(
            {"file": str(args.file), "ok": ok, "rules": [asdict(f) for f in findings]}, indent=1
        )
        if args.json == "-":
            print(text)
        else:
            Path(args.json).write_text(text + "\n", encoding="utf-8")
    return 0 if ok else 1


def write(findings: list[Finding], stream: IO[str]) -> None:
    """All findings as text, and how many there are of each kind."""
    from conformance.checker import STATUSES

    for finding in findings:
        stream.write(f"{finding.requirement:11} {finding.status:14} {finding.text}\n")
        for note in finding.notes:
            place = f"byte {note['offset']}, " if "offset" in note else ""
            path = f"{note['path']}: " if "path" in note else ""
            stream.write(f"{'':11} {'':14} -> {place}{path}{note['detail']}\n")
    counts = {status: sum(finding.status == status for finding in findings) for status in STATUSES}
    stream.write("\n" + ", ".join(f"{count} {status}" for status, count in counts.items()) + "\n")
