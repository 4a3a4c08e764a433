"""Faults planted in the reference decoder are noticed by the vectors; the tool that plants them works."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from suites import Suite, still

from conformance import cli, mutants, mutate

pytest.importorskip("av")

KNOWN = tomllib.loads(mutate.KNOWN.read_text(encoding="utf-8"))
NOT_DECODING: dict[str, str] = KNOWN["not-decoding"]


def listed(monkeypatch: pytest.MonkeyPatch, source: str) -> list[str]:
    """The mutants of a module, as operator and the new source."""
    monkeypatch.setattr(mutants, "_tree", lambda module: ast.parse(source))
    return [f"{m.operator}: {m.after}" for m in mutants.listed("some.module", {"skipped": ""})]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a + 2", {"operator: a - 2", "constant: 3", "constant: 1"}),
        ("x = a < b", {"comparison: a <= b", "comparison: a >= b"}),
        ("if a:\n  f()", {"condition: if not a:", "dropped: pass"}),
        ("x = a and b", {"condition: a or b"}),
        ("f(range(n))", {"range: range(n + 1)", "range: range(n - 1)", "dropped: pass"}),
        ("x = f(a, b)", {"swapped: f(b, a)"}),
        ("x = p[a, b]", {"swapped: (b, a)"}),
        ("x = min(a)", {"swapped: max"}),
        ("x = coder.bit('name', k, value + 1)", {"context: coder.bit('name', k + 1, value + 1)"}),
        (
            "raise TgvError('truncated', 1 + 1, f'{path}', 'why')",
            {"dropped: pass", "error: raise TgvError('uleb128-invalid', 1 + 1, f'{path}', 'why')"},
        ),
        ("detail = a + 1", set()),
        ("x: int[1] = None", set()),
        ("def skipped():\n  return a + 1", set()),
        ("if self._conceal:\n  f(1)\nelse:\n  x = -1", {"operator: 1", "constant: 2", "constant: 0"}),
        ("@dataclass\nclass Colour:\n  x: int = 1", {"constant: 2", "constant: 0"}),
        ("@dataclass\nclass Other:\n  x: int = 1", set()),
        ("self._counts[name] += 1", set()),
        ("path[place] += 1", {"operator: path[place] -= 1", "constant: 2"}),
        ("x = 0 if self.decoder else f(1)", set()),
        ("x = not self.decoder and a + 1", set()),
        ("coded = a + 1", set()),
        ("f(offset + 1)", {"dropped: pass"}),
    ],
)
def test_faults(monkeypatch: pytest.MonkeyPatch, source: str, expected: set[str]) -> None:
    found = listed(monkeypatch, source)
    assert expected <= set(found)
    if not expected:
        assert not found


def test_no_faults_where_errors_are_concealed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "try:\n  x = 1\nexcept E:\n  if self.conceal is None:\n    raise\n  x = 7"
    found = listed(monkeypatch, source)
    assert "constant: 2" in found
    assert "constant: 8" not in found


def test_every_mutant_is_another_program() -> None:
    module = "tgv_format.range_coder"
    original = ast.unparse(mutants._tree(module))
    every = mutants.listed(module, NOT_DECODING)
    assert len({mutant.key for mutant in every}) == len(every) > 100
    programs = set()
    for mutant in every:
        walker = mutants._Walker(module, NOT_DECODING, mutant.index)
        programs.add(ast.unparse(walker.visit(ast.parse(original))))
    assert original not in programs
    assert len(programs) > 0.98 * len(every)


def test_a_sample_is_the_same_every_time_and_from_all_modules() -> None:
    every = {module: mutants.listed(module, NOT_DECODING) for module in (*mutants.MODULES, *mutants.TABLES)}
    chosen = mutants.sample(every, 150, 1)
    assert chosen == mutants.sample(every, 150, 1) != mutants.sample(every, 150, 2)
    assert len({mutant.module for mutant in chosen}) > 25


def test_the_lists_of_what_is_known_are_up_to_date() -> None:
    every = [m for name in (*mutants.MODULES, *mutants.TABLES) for m in mutants.listed(name, NOT_DECODING)]
    for row in KNOWN["equivalent"]:
        assert row["why"]
        assert any(mutate.fits(mutant, row) for mutant in every), row


def test_planted_faults_are_noticed(tmp_path: Path) -> None:
    report = tmp_path / "mutants.json"
    assert cli.main(["mutate", "--sample", "15", "--strict", "--json", str(report)]) == 0
    assert report.read_text(encoding="utf-8").count('"verdict"') == 15


@pytest.mark.parametrize(
    ("module", "before", "after", "verdict", "vector"),
    [
        ("tgv_format.reader", "end.digest != self._digest.value()", "==", "rejected-valid", "good"),
        ("tgv_format.container", "raise TgvError('bad-magic'", "pass", "accepted-invalid", "bad"),
        ("tgv_format.container", "raise TgvError('bad-magic'", "'crc-mismatch'", "wrong-error", "bad"),
        ("tgv_format.container", "not self._ended and", "not self._ended or", "timeout", "good"),
        ("tgv_format.picture", "width * height + 2", "width * height - 2", "rejected-valid", "good"),
        ("tgv_format.text_model", "map(sum, WEIGHTS)", "map(WEIGHTS, sum)", "stillborn", ""),
        ("tgv_format.container", "1 << 26", "1 >> 26", "survived", ""),
        ("tables.levels", "409920", "409921", "survived", ""),
    ],
)
def test_what_becomes_of_a_mutant(
    tmp_path: Path, module: str, before: str, after: str, verdict: str, vector: str
) -> None:
    suite = Suite(tmp_path)
    good = still()
    cases = mutate.cases([suite.add("good", good), suite.add("bad", b"?" + good[1:], ("bad-magic",))])
    mutant = next(m for m in mutants.listed(module, {}) if before in m.before and after in m.after)
    (fate,) = mutate.run([mutant], cases, {}, 1)
    assert (fate.verdict, fate.vector) == (verdict, vector)
    assert fate.killed == (verdict not in ("stillborn", "survived"))


def test_the_decoder_has_to_pass_without_a_fault(tmp_path: Path) -> None:
    vector = Suite(tmp_path).add("good", still()[:-1], ("bad-magic",))
    with pytest.raises(ValueError, match="good: wrong-error"):
        mutate.cases([vector])
