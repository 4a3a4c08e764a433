"""The fuzzer's targets hold for a few inputs, and the fuzzer notices what it is made to notice."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from suites import everything, still

from conformance import cli, fuzz, fuzz_exhaustive, fuzz_targets, manifest
from conformance.fuzz_exhaustive import Damage, Stream
from conformance.fuzz_targets import TARGETS, Finding, Target
from tgv_format.canonical import SequenceDigest

pytest.importorskip("av")


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name: str) -> None:
    seeds = sorted(set(TARGETS[name].seeds()))
    assert seeds
    rng = random.Random(5)
    for data in [*rng.sample(seeds, min(20, len(seeds))), *(fuzz.changed(rng, seeds) for _ in range(60))]:
        TARGETS[name].run(data)


def test_seeds_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections of small pictures decode, so that their changes are close to what decodes."""
    seen: list[bytes] = []
    monkeypatch.setattr(fuzz_targets, "_same", lambda made, data: seen.append(data))
    for name in ("trajectories", "flow-tokens", "camera-poses", "masks", "text", "clip", "end", "sequence"):
        seen.clear()
        for seed in TARGETS[name].seeds():
            TARGETS[name].run(seed)
        assert seen, name


def _fails(data: bytes) -> None:
    if b"\x80" in data:
        raise Finding("a byte of 128")


def _loops(data: bytes) -> None:
    while True:
        pass


def _seeds() -> Iterator[bytes]:
    yield b"seed"


def test_a_defect_is_found_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "end", Target(_fails, _seeds))
    args = cli.parser().parse_args(["fuzz", "--runs", "10000", "--findings", str(tmp_path)])
    with pytest.raises(SystemExit):
        fuzz._random("end", args)
    (path,) = tmp_path.iterdir()
    assert b"\x80" in path.read_bytes()
    with pytest.raises(Finding):
        fuzz._replay("end", [str(path)])


def test_an_input_that_takes_too_long_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    signal.signal(signal.SIGPROF, fuzz._stop)
    assert "_TooLongError" in fuzz._problem(_loops, b"")
    assert not fuzz._problem(_fails, b"")


def test_the_command_runs_each_target_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fuzz", "--engine", "random", "--runs", "20", "--target", "range-coder"]) == 0
    assert capsys.readouterr().out.startswith("range-coder: random, 20 runs")


# --- Flips and truncations


def test_a_sample_of_all_damages() -> None:
    rng = random.Random(3)
    vectors = [v for v in manifest.vectors() if v.valid and v.stream_path.stat().st_size <= 4096]
    for vector in rng.sample(vectors, 60):
        stream = Stream(vector.stream_path.read_bytes())
        for damage in fuzz_exhaustive.damages(stream, 25, 1):
            assert stream.outcome(damage) != "different", (vector.name, damage)


def test_all_damages_of_a_stream_are_tried() -> None:
    stream = Stream(still())
    every = list(fuzz_exhaustive.damages(stream, None, 1))
    assert len(set(every)) == len(every)
    size = len(stream.data)
    assert sum(damage.kind == "flip" for damage in every) == 8 * size
    assert sum(damage.kind == "cut" for damage in every) == size
    # Not in the signature, nor in CRCs.
    assert sum(damage.kind == "repaired" for damage in every) == 8 * (size - 8 - 4 * len(stream.places))
    assert len({stream.damaged(damage) for damage in every}) == len(every)


def test_a_unit_alone_is_refused_as_in_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(everything())
    sample = list(fuzz_exhaustive.damages(stream, 300, 2))
    found = [stream.outcome(damage) for damage in sample]
    monkeypatch.setattr(Stream, "_rejected_alone", lambda *_: False)
    assert found == [stream.outcome(damage) for damage in sample]


def test_what_a_decoder_does_not_notice_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(still())
    inside = Damage("repaired", stream.places[1].payload[5])
    assert stream.outcome(inside) == "rejected"
    digest = stream.data[-12:-4]
    monkeypatch.setattr(SequenceDigest, "value", lambda self: digest)
    assert stream.outcome(inside) == "different"


def test_harmless_damage() -> None:
    """In an ancillary section nothing is decoded; in a generator hint, what the digest does not cover."""
    vector = next(v for v in manifest.vectors() if v.name == "ancillary-sections")
    stream = Stream(vector.stream_path.read_bytes())
    outcomes = {stream.outcome(damage) for damage in fuzz_exhaustive.damages(stream, 2000, 4)}
    assert outcomes == {"rejected", "harmless"}
    stream = Stream(everything())
    (hint,) = (place for place in stream.places if place.unit_type == 0x81)
    assert stream.outcome(Damage("repaired", hint.payload[-1])) == "hint"
    assert stream.outcome(Damage("flip", hint.payload[-1])) == "rejected"
