"""The file checker names the requirement that a stream breaks."""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    bytes_as_text,
    raw_keyframe,
    replace_payload,
    settings,
    small_header,
    spans,
    unit,
    write,
)
from suites import everything, still

from conformance import check as command
from conformance.checker import ERROR, NOT_APPLICABLE, PASSED, WARNING, Finding, check
from conformance.manifest import Vector, vectors
from conformance.rules import NORMALISATION, RULES
from tgv_format.keyframe import Role
from tgv_format.tables import load

SUITE = list(vectors())


def status(findings: list[Finding]) -> dict[str, str]:
    return {finding.requirement: finding.status for finding in findings}


def broken(data: bytes) -> set[str]:
    return {finding.requirement for finding in check(data) if finding.status == ERROR}


def test_there_is_a_rule_for_every_requirement_with_an_error() -> None:
    table = load("requirements")["requirements"]
    assert [rule.requirement for rule in RULES] == [
        row["id"] for row in table if row["error"] is not None or row["id"] == NORMALISATION
    ]


def test_a_stream_without_faults() -> None:
    found = status(check(everything()))
    assert set(found.values()) == {PASSED, NOT_APPLICABLE}
    absent = {name for name, value in found.items() if value == NOT_APPLICABLE}
    assert absent == {
        *("TGV-SEQ-4", "TGV-SEQ-5", "TGV-SEQ-8"),
        *(f"TGV-KEY-{n}" for n in (6, 7, 8, 9)),
        *("TGV-GRP-2", "TGV-GRP-3"),
        *("TGV-TRK-3", "TGV-TRK-4"),
        *(f"TGV-VVC-{n}" for n in (1, 3, 4, 5)),
        *(f"TGV-ILM-{n}" for n in (1, 3, 6)),
    }


def test_what_a_stream_does_not_have_is_not_applicable() -> None:
    found = status(check(still()))
    for name in ("TGV-TRJ-2", "TGV-ENT-3", "TGV-CLP-1", "TGV-TXT-2", "TGV-MSK-1"):
        assert found[name] == NOT_APPLICABLE


@pytest.mark.skipif(not SUITE, reason="there are no vectors")
def test_valid_vectors_break_nothing() -> None:
    for vector in SUITE:
        if vector.valid and 4 in vector.classes:
            assert broken(vector.stream_path.read_bytes()) == set(), vector.name


@pytest.mark.parametrize("vector", [v for v in SUITE if not v.valid], ids=lambda vector: str(vector.name))
def test_invalid_vectors_break_what_they_say(vector: Vector) -> None:
    findings = check(vector.stream_path.read_bytes())
    names = {finding.requirement for finding in findings if finding.status == ERROR}
    assert len(names) == 1
    if names == {"TGV-KEY-8"} and status(findings)["TGV-KEY-9"] == WARNING:
        # A picture of another size is not decoded at all, so that nothing large is allocated.
        names.add("TGV-KEY-9")
    assert names & set(vector.requirements)


@pytest.mark.skipif(not SUITE, reason="there are no vectors")
def test_every_rule_is_broken_by_some_vector() -> None:
    named = {name for vector in SUITE if not vector.valid for name in vector.requirements}
    assert {rule.requirement for rule in RULES} - named == {NORMALISATION}


def test_several_faults_are_all_found() -> None:
    """Reading goes on after an error, and what is missing by consequence is not held against the stream."""
    data = everything()
    clip = next(span for span in spans(data) if span.unit_type == 3)
    data = replace_payload(data, clip, b"\0" + data[clip.payload + 1 : clip.end - 4])
    first = next(span for span in spans(data) if span.unit_type == 2)
    data = replace_payload(data, first, data[first.payload : first.end - 5])
    found = check(data)
    assert {f.requirement for f in found if f.status == ERROR} == {"TGV-CON-2", "TGV-KEY-5"}
    assert status(found)["TGV-SEQ-9"] == WARNING
    (note,) = next(f for f in found if f.requirement == "TGV-KEY-5").notes
    assert (note["path"], note["offset"]) == ("keyframe[0].payload", first.payload + 2)


def test_text_that_is_not_normalised_is_a_warning() -> None:
    header = small_header(16, 12)
    data = write(header, [raw_keyframe(header, 0, Role.LEADING, 1)])
    # One frame, and a last section of type 5.
    clip = unit(3, b"\x01\x45" + bytes_as_text("e\u0301".encode()))
    end = spans(data)[-1]
    found = check(data[: end.begin] + clip + data[end.begin :])
    assert status(found)[NORMALISATION] == WARNING


def test_a_header_that_cannot_be_read_leaves_the_rest_unchecked() -> None:
    found = status(check(b"X" + still()[1:]))
    assert found["TGV-CON-5"] == ERROR
    assert found["TGV-KEY-5"] == WARNING


@given(st.data())
@settings(max_examples=60)
def test_damage_is_always_some_rule(data: st.DataObject) -> None:
    """Whatever is changed, the checker neither fails nor finds nothing."""
    stream = bytearray(everything())
    position = data.draw(st.integers(0, len(stream) - 1))
    stream[position] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del stream[data.draw(st.integers(0, len(stream) - 1)) :]
    elif data.draw(st.booleans()):
        for span in reversed(spans(everything())):
            stream[span.end - 4 : span.end] = zlib.crc32(stream[span.begin : span.end - 4]).to_bytes(4, "big")
    if bytes(stream) != everything():
        assert broken(bytes(stream))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    good, bad = tmp_path / "good.tgv", tmp_path / "bad.tgv"
    good.write_bytes(still())
    bad.write_bytes(still()[:-1])
    assert command.main(parser.parse_args([str(good)])) == 0
    assert "0 warning, 0 error" in capsys.readouterr().out
    assert command.main(parser.parse_args([str(bad), "--json", "-"])) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [row["requirement"] for row in report["rules"]] == [rule.requirement for rule in RULES]
    (row,) = [row for row in report["rules"] if row["status"] == ERROR]
    assert (row["requirement"], row["clause"]) == ("TGV-CON-4", "3.4")
    assert row["notes"][0]["offset"] == len(still()) - 1
    assert command.main(parser.parse_args([str(bad)])) == 1
    assert "-> byte" in capsys.readouterr().out
