"""The specification agrees with the tables, the code and itself."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from refdec.decoder import Decoder
from tgv_format import canonical, container, illm_model, sequence
from tgv_format.clip import Clip
from tgv_format.entropy import LAYOUTS, adapt, probability
from tgv_format.errors import IDENTIFIERS
from tgv_format.levels import LEVELS, PROFILES, Level
from tgv_format.reader import Reader
from tgv_format.tables import load

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "spec" / "tgv.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```\n(.*?)^```$", TEXT, re.M | re.S)


def _load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spec_generate", ROOT / "spec" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _load_generator()
REQUIREMENTS = generate.requirements(TEXT)
CLAUSES = {m[1] for m in generate.HEADING.finditer(TEXT)}


def _cited(text: str) -> set[str]:
    """Clause numbers in phrases such as "clause 5", "clauses 8.1 to 8.3" and "clauses 5.3, 5.5 and 11.3"."""
    text = re.sub(r"\bits clause \S+", "", " ".join(text.split()))  # clauses of other documents
    number = r"\d+(?:\.\d+)*"
    found = re.findall(rf"\b[Cc]lauses? ({number}(?:(?:, | and | to ){number})*)", text)
    return {n for phrase in found for n in re.findall(number, phrase)}


def test_generated_parts_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0, "run: python spec/generate.py"


def test_check_notices_a_changed_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(generate.ENTROPY, "FAST_RATE", ("estimator", "slow_rate"))
    assert generate.main(["--check"]) == 1


def test_requirement_identifiers_are_unique_and_counted_from_one() -> None:
    identifiers = [row["id"] for row in REQUIREMENTS]
    assert sorted(re.findall(r"^- \*\*\[(.*?)\]", TEXT, re.M)) == sorted(identifiers)
    for prefix in {i.rpartition("-")[0] for i in identifiers}:
        numbers = [int(i.rpartition("-")[2]) for i in identifiers if i.startswith(prefix)]
        assert numbers == list(range(1, len(numbers) + 1)), prefix


@pytest.mark.parametrize("row", REQUIREMENTS, ids=lambda row: row["id"])
def test_requirement_keeps_to_the_template(row: dict[str, str]) -> None:
    assert len(re.findall(r"\bshall\b", row["text"])) == 1
    assert row["text"].endswith(".")
    assert "Violation" not in row["text"]
    assert row["error"] is None or row["error"] in IDENTIFIERS
    assert row["clause"] in CLAUSES


def test_shall_occurs_in_requirements_only() -> None:
    rest = generate.REQUIREMENT.sub("", TEXT)
    assert re.findall(r".*\bshall\b.*", rest) == [
        "> **[TGV-XXX-n]** *subject* shall (not) *predicate*. Violation: `error`."
    ]


def test_every_error_has_a_requirement() -> None:
    assert {row["error"] for row in REQUIREMENTS} - {None} == set(IDENTIFIERS)


def test_error_calls_in_pseudo_code_are_registered() -> None:
    raised = {name for block in CODE for name in re.findall(r"error\(([\w-]+)\)", block)}
    assert raised
    assert raised <= set(IDENTIFIERS)


def test_requirements_named_in_the_text_exist() -> None:
    named = set(re.findall(r"TGV-[A-Z]{3}-\d+", TEXT))
    assert named == {row["id"] for row in REQUIREMENTS}


def test_clauses_cited_in_the_text_exist() -> None:
    assert _cited(TEXT) <= CLAUSES


@pytest.mark.parametrize("package", ["tgv_format", "refdec", "refenc"])
def test_clauses_cited_in_code_exist(package: str) -> None:
    for path in sorted((ROOT / package).glob("*.py")):
        assert _cited(path.read_text(encoding="utf-8")) <= CLAUSES, path.name


def test_clauses_cited_in_tables_exist() -> None:
    for path in (ROOT / "spec" / "tables").glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["clause"] in CLAUSES, path.name


def test_headings_are_in_order() -> None:
    numbers = [
        [int(n) for n in name.split(".")]
        for name in (m[1] for m in generate.HEADING.finditer(TEXT))
        if name[0].isdigit()
    ]
    assert numbers == sorted(numbers)
    for number in numbers:
        assert number[-1] == 1 or [*number[:-1], number[-1] - 1] in numbers


def test_constants_of_pseudo_code_are_defined_by_tables() -> None:
    used = set(re.findall(r"\b(?:[A-Z]+_[A-Z0-9_]+|TAPS|SHIFT)\b", "".join(CODE)))
    names = {name for name in (*generate.TEXT, *generate.LATENTS) if "_" in name}
    reconstruction = {*generate.RECONSTRUCTION, *generate.INTERPOLATION}
    assert used == {*generate.UPSAMPLING, *generate.VVC, *generate.ENTROPY, *names, *reconstruction}


def test_context_sets_of_pseudo_code_are_those_of_the_table() -> None:
    code = "".join(CODE)
    sets = set(re.findall(r"\b(?:bit|unsigned|golomb)\((?!set\b|name_)(\w+),", code))
    for name in re.findall(r"\bsigned\((?!name\b)(\w+),", code):
        sets |= {f"{name}_zero", f"{name}_sign", f"{name}_magnitude"}
    assert sets == {name for section in load("contexts")["sections"].values() for name in section}


@pytest.mark.parametrize("section", load("contexts")["sections"])
@pytest.mark.parametrize("bit", [0, 1])
def test_initial_states_keep_probabilities_legal(section: str, bit: int) -> None:
    """Equal symbols in a row are the extreme: both estimators are monotonic in their state."""
    layout = LAYOUTS[section]
    for name, context in zip(layout.names, layout.contexts(), strict=True):
        for _ in range(400):
            assert 1 <= probability(context) <= 4095, name
            adapt(context, bit)


def test_literals_in_prose() -> None:
    signature = container.SIGNATURE.hex(" ").upper()
    assert set(re.findall(r"`(89(?: [0-9A-F]{2})+)`", TEXT)) == {signature, illm_model.MAGIC.hex(" ").upper()}
    (size, identity) = re.findall(r"Its file has (\d+) bytes; its identity is `([0-9a-f ]+)`", TEXT)[0]
    assert int(size) == len(illm_model.small_model_file())
    assert bytes.fromhex(identity) == illm_model.small_model().identity
    (check,) = re.findall(r'crc32\("123456789"\) is 0x([0-9A-F]{8})', TEXT)
    assert int(check, 16) == zlib.crc32(b"123456789")
    (size,) = re.findall(r"`unit_size` of the first unit of a file shall not exceed (\d+)\.", TEXT)
    assert int(size) == container.MAX_SEQUENCE_BYTES
    (budget,) = re.findall(r"one budget of 2\^(\d+) bytes", TEXT)
    assert 1 << int(budget) == container._RESYNC_BUDGET
    assert f"first {canonical.DIGEST_BYTES} bytes of the SHA-256" in TEXT
    assert f"This document describes version {sequence.VERSION}." in TEXT
    assert re.findall(r"^\| (\d+) \| core \|", TEXT, re.M) == [str(p) for p in PROFILES]


def test_weight_falls_to_one() -> None:
    """The note of clause 10.2.3; clause 10.5 counts on weights of at least 1."""
    t = load("reconstruction")
    assert generate._weight(t["distance_max"] << t["distance_shift"]) == 1


@pytest.mark.parametrize("level", LEVELS.values(), ids=str)
def test_bounds_stated_in_clause_10_5(level: Level) -> None:
    bounds = generate.level_bounds(level)
    assert bounds["`sum` (10.2.3)"] < 2**53
    assert bounds["sum of samples (10.3, 10.4)"] < 2**16
    assert max(bounds.values()) < 2**63


def test_worked_example_covers_every_byte() -> None:
    annex = TEXT[TEXT.index("## Annex A") :]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| `([0-9a-f ]+)` \|", annex, re.M)
    position, data = 0, b""
    for start, length, contents in rows:
        assert int(start) == position
        data += bytes.fromhex(contents)
        position += int(length)
        assert position == len(data)
    assert data == generate.EXAMPLE.read_bytes()


def test_worked_example_decodes_to_what_the_annex_says() -> None:
    reader = Reader(io.BytesIO(generate.EXAMPLE.read_bytes()))
    units = list(reader)
    blocks = re.findall(r"^```\n(.*?)\n```$", TEXT[TEXT.index("## Annex A") :], re.M | re.S)
    (section,) = (u.trajectories for u in units if isinstance(u, Clip))
    assert section is not None
    parameters, digest, document, frames = blocks[:4]
    assert json.loads(parameters) == section.to_json()
    assert digest == canonical.digest(section.to_json())
    assert json.loads(document) == [reader.header.to_json(), *(u.to_json() for u in units)]
    assert all(
        line.rstrip(",").encode() == canonical.dumps(json.loads(line.rstrip(",")))
        for line in document.splitlines()[1:-1]
    )
    pictures = Decoder(reader.header).pictures(iter(units))
    assert frames.splitlines() == [f"{i} {p.md5()}" for i, p in enumerate(pictures)]
