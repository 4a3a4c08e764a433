"""The whole suite, run on the reference decoder, one that accepts everything, and one that refuses it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conformance.cli import main
from conformance.manifest import Vector, vectors

pytest.importorskip("av")

VECTORS = {vector.name: vector for vector in vectors()}
ANSWER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({{"id": request["id"], **{answer!r}}}), flush=True)
"""


def passed(tmp_path: Path, decoder: str) -> list[Vector]:
    """The vectors that a persistent decoder passes."""
    report = tmp_path / "report.json"
    outputs = ["--outputs", "params,md5,latents"]
    main(["run", "--persistent", "--decoder", decoder, *outputs, "-j", "2", "--json", str(report)])
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert {row["vector"] for row in results} == VECTORS.keys()
    return [VECTORS[row["vector"]] for row in results if row["verdict"] == "pass"]


def answering(tmp_path: Path, **answer: object) -> str:
    script = tmp_path / "decoder.py"
    script.write_text(ANSWER.format(answer=answer), encoding="utf-8")
    return f"{sys.executable} -S -E {script}"


def test_the_reference_decoder_passes_all(tmp_path: Path) -> None:
    reference = f"{sys.executable} -m conformance.examples.reference_server"
    assert len(passed(tmp_path, reference)) == len(VECTORS)


def test_a_decoder_that_accepts_everything_passes_nothing(tmp_path: Path) -> None:
    assert not passed(tmp_path, answering(tmp_path, status=0))


def test_a_decoder_that_refuses_everything_passes_no_valid_vector(tmp_path: Path) -> None:
    found = passed(tmp_path, answering(tmp_path, status=1, error="truncated"))
    assert found == [vector for vector in VECTORS.values() if "truncated" in vector.errors]
    assert not any(vector.valid for vector in found)
