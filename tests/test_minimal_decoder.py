"""The second decoder, which was written from the specification alone, agrees with the reference decoder."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Stream, settings, spans, streams

from conformance import divergence, examples, reference, verdict
from conformance.decoder import Outcome, reported_error
from conformance.manifest import Vector, vectors
from conformance.verdict import Verdict, judge
from tgv_format.clip import Clip
from tgv_format.errors import TgvError

FOLDER = Path(examples.__file__).parent
SOURCE = FOLDER / "minimal_decoder.py"
SUITE = [vector for vector in vectors() if 2 in vector.classes]

#: The sections that it does not have.
ABSENT = ("flow_tokens", "camera_poses", "masks", "interpolation")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minimal_decoder", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


decoder = _load()


def test_it_shares_nothing_with_the_reference() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == set()


def test_it_runs_without_any_package(tmp_path: Path) -> None:
    """The worked example of the specification, by an interpreter without site-packages."""
    stream = Path(__file__).parents[1] / "spec" / "examples" / "worked.tgv"
    params = tmp_path / "params"
    subprocess.run([sys.executable, "-I", "-S", SOURCE, stream, params], check=True)
    units = reference.decode(stream.read_bytes()).units
    assert params.read_bytes() == reference.document([unit.value for unit in units])


@pytest.mark.parametrize(
    ("right", "wrong", "clause"),
    [
        ("", "", None),
        ("self.instance[m] == close", "self.instance[m] != close", "9.2.5"),
        ("8 * self.coarse + 4 + size", "8 * self.coarse + size", "9.2.7"),
        ("3 * self.coarse + near", "3 * self.coarse", "9.2.9"),
        ("4 * count + 5", "4 * count + 6", "9.3.2"),
        ("(fast + slow) >> 5", "(fast + fast) >> 5", "8.4"),
    ],
)
def test_its_trace_leads_to_what_is_wrong(right: str, wrong: str, clause: str | None, tmp_path: Path) -> None:
    """Faults of the decoder that end in an error long after."""
    module = ModuleType("faulty")
    module.__file__ = str(SOURCE)
    source = SOURCE.read_text(encoding="utf-8")
    assert right in source
    exec(compile(source.replace(right, wrong, 1), "faulty", "exec"), module.__dict__)
    stream = Path(__file__).parents[1] / "spec" / "examples" / "worked.tgv"
    trace = tmp_path / "trace"
    module.main([str(stream), str(tmp_path / "params"), str(trace)])
    found = divergence.in_trace(reference.decode(stream.read_bytes()), trace.read_text().splitlines())
    assert (found and found.clause) == clause


def without(stream: Stream, *names: str) -> Stream:
    """The stream without some sections."""
    nothing: dict[str, Any] = dict.fromkeys(names)
    units = [replace(unit, **nothing) if isinstance(unit, Clip) else unit for unit in stream.units]
    return replace(stream, units=units)


@given(streams())
@settings(max_examples=100)
def test_it_agrees_on_all_streams(stream: Stream) -> None:
    data = without(stream, *ABSENT).write()
    units = [unit.value for unit in reference.decode(data).units]
    lines = b",\n".join(map(decoder.canonical, decoder.decode(data)))
    assert b"[\n" + lines + b"\n]\n" == reference.document(units)


@given(streams())
@settings(max_examples=20)
def test_it_says_what_it_does_not_have(stream: Stream) -> None:
    clips = [unit for unit in stream.units if isinstance(unit, Clip)]
    if any(getattr(clip, name) is not None for clip in clips for name in ABSENT):
        with pytest.raises(decoder.UnsupportedError):
            list(decoder.decode(stream.write()))


@given(streams(most=2), st.data())
@settings(max_examples=150)
def test_it_agrees_on_damaged_streams(stream: Stream, data: st.DataObject) -> None:
    """The first error is the same, wherever a bit is wrong; with its CRC set right, inside units too."""
    plain = without(stream, *ABSENT).write()
    span = data.draw(st.sampled_from(spans(plain)))
    damaged = bytearray(plain[span.begin : span.end])
    position = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[position // 8] ^= 1 << position % 8
    if stream.header.crc and data.draw(st.booleans()):
        damaged[-4:] = zlib.crc32(damaged[:-4]).to_bytes(4, "big")
    bad = plain[: span.begin] + damaged + plain[span.end :]
    expected, found = "", ""
    try:
        reference.decode(bad)
    except TgvError as error:
        expected = error.identifier
    try:
        list(decoder.decode(bad))
    except decoder.StreamError as error:
        found = str(error)
    except decoder.UnsupportedError:
        return
    assert found == expected


def run(vector: Vector, params: Path, capsys: pytest.CaptureFixture[str]) -> Verdict:
    """The verdict on one vector, without a process of its own."""
    params.unlink(missing_ok=True)
    code = decoder.main([str(vector.stream_path), str(params)])
    outcome = Outcome(code, 0.0, "", reported_error(capsys.readouterr().err))
    return judge(vector, outcome, {"params": params}, (1, 2))[0]


@pytest.mark.skipif(not SUITE, reason="there are no vectors")
def test_it_conforms_but_for_what_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a change of the vectors, --write-expect writes the list anew."""
    found = {vector.name: run(vector, tmp_path / "params", capsys) for vector in SUITE}
    listed = verdict.read_expected((FOLDER / "minimal_decoder.txt").read_text(), found)
    assert set(listed.values()) == {Verdict.UNSUPPORTED}
    assert {name for name, value in found.items() if value is not Verdict.PASS} == set(listed)
