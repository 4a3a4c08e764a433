"""The first difference is named: of fifty faults planted in a decoder's output, and of each kind."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from suites import Suite, everything, fake, random_picture

from conformance import divergence, reconstruction, reference
from conformance.decoder import Limits, Outcome
from conformance.divergence import Divergence
from conformance.manifest import Vector
from conformance.reference import Reference
from conformance.verdict import Verdict, judge
from conformance.workers import Workers
from refdec import baseline, motion
from refdec.camera import Camera
from tgv_format import flow_tokens
from tgv_format.clip import Clip
from tgv_format.flow_tokens import FlowTokens
from tgv_format.interpolation import Interpolation, Mode, no_vectors
from tgv_format.masks import Masks
from tgv_format.picture import Picture
from tgv_format.tables import load
from tgv_format.trajectories import Trajectories

DOCUMENT = Path(__file__).parents[1] / "spec" / "tgv.md"
ELEMENTS = {row["element"]: row for row in load("elements")["elements"]}


@pytest.fixture(scope="module")
def vector(tmp_path_factory: pytest.TempPathFactory) -> Vector:
    return Suite(tmp_path_factory.mktemp("suite")).add("everything", everything())


@pytest.fixture(scope="module")
def right(vector: Vector) -> Reference:
    return reference.load(vector)


@pytest.fixture(scope="module")
def pictures(right: Reference) -> list[Picture]:
    return right.pictures()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in leaves(part, (*path, key))]
    if isinstance(value, list):
        return [leaf for i, part in enumerate(value) for leaf in leaves(part, (*path, i))]
    return [path]


def written(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def y4m(frames: list[Picture]) -> bytes:
    header = f"YUV4MPEG2 W{frames[0].width} H{frames[0].height} F25:1 C420mpeg2\n".encode()
    return header + b"".join(b"FRAME\n" + picture.to_bytes() for picture in frames)


def judged(vector: Vector, tmp_path: Path, **files: bytes) -> Divergence:
    """What the runner says of these files."""
    outputs = {name: tmp_path / name for name in files}
    for name, data in files.items():
        outputs[name].write_bytes(data)
    found, _, where = judge(vector, Outcome(0, 0.1), outputs, (1, 2, 3, 4))
    assert found is Verdict.WRONG_OUTPUT
    assert where is not None
    return where


# Each plants one fault and says whether the runner named it.


def plant_parameter(rng: random.Random, vector: Vector, right: Reference, tmp_path: Path) -> bool:
    units = [copy.deepcopy(unit.value) for unit in right.units]
    number = rng.randrange(len(units))
    # A section, then an element of it: otherwise nearly all faults would be in positions.
    part, path = units[number], ()
    while isinstance(part, dict):
        key = rng.choice(sorted(part))
        part, path = part[key], (*path, key)
    path = (*path, *rng.choice([leaf for leaf in leaves(part)] or [()]))
    *above, last = path
    owner: Any = units[number]
    for key in above:
        owner = owner[key]
    expected = owner[last]
    owner[last] = expected + rng.choice([-1, 1]) if isinstance(expected, int) else f"{expected}x"
    found = judged(vector, tmp_path, params=reference.document(units))
    element = right.units[number].path + written(path)
    names = [name for name in path if isinstance(name, str)]
    row = ELEMENTS[".".join([right.units[number].path.split("[")[0], *names])]
    clauses = {other["clause"] for other in (row, *row.get("elsewhere", []))}
    got = found.got if names == ["unit"] else owner[last]
    return (
        (found.stage, found.element, found.got) == ("parameters", element, got)
        and found.clause in clauses
        and found.bit_offset is not None
        and right.units[number].offset * 8 <= found.bit_offset < 8 * len(right.data)
    )


def plant_sample(rng: random.Random, vector: Vector, frames: list[Picture], tmp_path: Path) -> bool:
    number, plane = rng.randrange(len(frames)), rng.randrange(3)
    planes = [part.copy() for part in frames[number].planes]
    row, column = (rng.randrange(size) for size in planes[plane].shape)
    planes[plane][row, column] ^= 1 << rng.randrange(8)
    changed = [*frames[:number], Picture(*planes), *frames[number + 1 :]]
    found = judged(vector, tmp_path, frames=y4m(changed))
    # Frames 0 and 6 are keyframes 0 and 1, the clip of frames 1 to 6 is two-sided, that of 7 and 8 is not.
    owner = {0: "keyframe[0]", 6: "keyframe[1]", 7: "clip[1]", 8: "clip[1]"}.get(number, "clip[0]")
    stage = "keyframe" if owner.startswith("keyframe") else "baseline"
    clauses = {
        "keyframe[0]": {"7.2"},
        "keyframe[1]": {"7.2"},
        "clip[0]": {"9.4.3", "10.2.1", "10.2.2", "10.2.3", "10.2.4", "10.3", "10.4"},
        "clip[1]": {"10.2.3", "10.3"},
    }[owner]
    if plane > 0 and stage == "baseline":
        clauses &= {"10.3", "10.4"}
    return (found.stage, found.unit, found.frame, found.element, found.index) == (
        stage,
        owner,
        number,
        f"{owner}.frame[{number}].{'YUV'[plane]}",
        [row, column],
    ) and set(found.clause.split(", ")) <= clauses


#: Faults of a decoder's reconstruction by the clause that they break: what to put in the place of what.
FAULTS: list[tuple[str, Any, str, Callable[[Any], Any]]] = [
    ("9.4.3", flow_tokens, "flow", lambda old: lambda *a: old(*a) * 0),
    ("9.4.3", flow_tokens, "flow", lambda old: lambda *a: old(*a) // 2),
    ("10.2.1", Camera, "to_first", lambda old: lambda *a: old(*a) * 0),
    ("10.2.1", Camera, "_project", lambda old: lambda *a: old(*a) * 0),
    ("10.2.2", motion, "_SEARCHES", lambda old: 0),
    ("10.2.2", motion, "LIMIT", lambda old: 8),
    ("10.2.3", motion, "_weights", lambda old: lambda *a: old(*a) ** 0),
    ("10.2.3", motion, "positions", lambda old: lambda *a: old(*a) + 7),
    ("10.2.4", motion.Motion, "labels_of", lambda old: lambda *a: None),
    ("10.2.4", motion, "upsample", lambda old: lambda *a: old(*a)[::-1, ::-1]),
    ("10.3", baseline, "_HALF", lambda old: 0),
    ("10.3", baseline, "sample", lambda old: lambda quads, field: old(quads, field & ~15)),
    ("10.4", baseline, "warp", lambda old: lambda *a: (old(*a)[0], None)),
    ("10.4", baseline, "frame", lambda old: lambda m, anchors, t: old(m, anchors[: 1 + (t == m.length)], t)),
]


def plant_step(fault: int, vector: Vector, right: Reference, tmp_path: Path) -> list[str]:
    """The clauses that the runner names for a fault in one step of the reconstruction."""
    _, owner, name, make = FAULTS[fault]
    with mock.patch.object(owner, name, make(getattr(owner, name))):
        wrong = right.pictures()
    found = judged(vector, tmp_path, frames=y4m(wrong))
    assert found.stage == "baseline"
    return found.clause.split(", ")


def plant_symbol(rng: random.Random, right: Reference) -> bool:
    trace = copy.deepcopy(right.trace)
    number = rng.randrange(len(trace))
    trace[number]["value"] ^= 1
    found = divergence.in_trace(right, [json.dumps(record) for record in trace])
    assert found is not None
    names = {row["symbol"]: row["clause"] for row in load("elements")["symbols"]}
    name = re.sub(r"\[\d+\]", "", str(found.element).partition(f"{found.section}.")[2])
    return (found.stage, found.element, found.index, found.clause) == (
        "symbols",
        trace[number]["path"],
        [number],
        names.get(name),
    )


def test_fifty_planted_faults(
    vector: Vector, right: Reference, pictures: list[Picture], tmp_path: Path
) -> None:
    rng = random.Random(4)
    plants: list[Callable[[], bool]] = [
        *[lambda: plant_parameter(rng, vector, right, tmp_path)] * 22,
        *[lambda: plant_sample(rng, vector, pictures, tmp_path)] * 6,
        *[lambda: plant_symbol(rng, right)] * 8,
        *[
            lambda n=n, fault=fault: fault[0] in plant_step(n, vector, right, tmp_path)
            for n, fault in enumerate(FAULTS)
        ],
    ]
    named = sum(plant() for plant in plants)
    assert len(plants) == 50
    assert named == 50


@pytest.mark.parametrize("fault", [0, 3, 8, 12, 13], ids=lambda n: FAULTS[n][0])
def test_a_step_that_is_missing_is_named_alone(
    fault: int, vector: Vector, right: Reference, tmp_path: Path
) -> None:
    assert plant_step(fault, vector, right, tmp_path) == [FAULTS[fault][0]]


# --- Decoded parameters


def changed(right: Reference, path: tuple[Any, ...], value: Any, unit: str = "clip[0]") -> bytes:
    """The document with another value at ``path`` of a unit."""
    units = [copy.deepcopy(u.value) for u in right.units]
    (number,) = (n for n, u in enumerate(right.units) if u.path == unit)
    owner: Any = units[number]
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    return reference.document(units)


@pytest.mark.parametrize(
    ("path", "value", "clause", "symbol"),
    [
        (("trajectories", "instance", 2), 4, "9.2.5", "points[2].instance"),
        (("trajectories", "span", 2, 1), 5, "9.2.4", "points[2].span"),
        (("trajectories", "positions", 1, 0, 0), 99, "9.2.4", "points[1].anchor_gap"),
        (("trajectories", "positions", 1, 6, 0), 99, "9.2.4", "points[1].displacement"),
        (("trajectories", "positions", 2, 6, 0), 99, "9.2.4", "points[2].displacement"),
        (("trajectories", "positions", 1, 3, 1), 99, "9.2.7", "points[1].path"),
        (("trajectories", "visible", 1, 2), 1, "9.2.9", "points[1].visibility"),
        (("flow_tokens", "tokens", 5, 1, 2), 99, "9.4.2", "tokens[5].last_token"),
        (("flow_tokens", "tokens", 2, 0, 1), 99, "9.4.2", "tokens[2].path"),
        (("camera_poses", "poses", 0, 1), 99, "9.5.2", "poses[3].difference"),
        (("camera_poses", "frames", 0), 2, "9.5.3", "poses[3].split"),
        (("masks", "motion", 3, 1, 0), 1, "9.6.2", None),
        (("masks", "runs", 1, 0), 2, "9.6.4", "labels[0].row"),
        (("text", "text"), "a bark", "9.3.2", "bytes[3]"),
        (("text", "text"), "a boa", "9.3.2", "bytes[5]"),
        (("text", "text"), "a boats", "9.3.2", "bytes[6]"),
    ],
)
def test_entropy_coded_elements_are_found_in_the_trace(
    right: Reference, path: tuple[Any, ...], value: Any, clause: str, symbol: str | None
) -> None:
    found = divergence.in_parameters(right, changed(right, path, value))
    assert found is not None
    assert (found.element, found.clause, found.got) == (f"clip[0]{written(path)}", clause, value)
    assert found.index == [part for part in path if isinstance(part, int)]
    if symbol is not None:
        offsets = [r["bit_offset"] for r in right.trace if r["path"] == f"clip[0].{path[0]}.{symbol}"]
        assert found.bit_offset == offsets[0]


@pytest.mark.parametrize(
    ("point", "frame", "clause", "symbol"),
    [
        (0, 0, "9.2.4", "anchor_gap"),
        (0, 1, "9.2.8", "steps"),
        (0, 2, "9.2.8", "steps"),
        (1, 0, "9.2.8", "steps"),
        (1, 2, "9.2.4", "anchor_gap"),
    ],
)
def test_positions_of_stepwise_paths(
    right: Reference, point: int, frame: int, clause: str, symbol: str
) -> None:
    path = ("trajectories", "positions", point, frame, 0)
    found = divergence.in_parameters(right, changed(right, path, 99, "clip[1]"))
    assert found is not None
    assert (found.element, found.clause) == (f"clip[1]{written(path)}", clause)
    name = f"clip[1].trajectories.points[{point}].{symbol}"
    assert found.bit_offset == next(r["bit_offset"] for r in right.trace if r["path"] == name)


def test_the_first_in_decoding_order_is_named(right: Reference) -> None:
    """Not the first in the order of names: follows, instance, positions, span, visible."""
    data = changed(right, ("trajectories", "visible", 0, 0), 0)
    units = json.loads(data)
    clip = units[[u.path for u in right.units].index("clip[0]")]
    clip["trajectories"]["positions"][2][1][0] += 1
    clip["camera_poses"]["poses"][0][0] += 1
    clip["text"]["text"] = ""
    found = divergence.in_parameters(right, reference.document(units))
    assert found is not None
    assert found.element == "clip[0].trajectories.visible[0][0]"


def test_later_tokens_are_wrong_by_consequence(right: Reference) -> None:
    """Tokens are decoded one after the other, each through all frames; the document has them by frame."""
    units = json.loads(changed(right, ("flow_tokens", "tokens", 4, 0, 1), 99))
    clip = units[[u.path for u in right.units].index("clip[0]")]
    clip["flow_tokens"]["tokens"][0][1][2] += 1
    found = divergence.in_parameters(right, reference.document(units))
    assert found is not None
    assert found.element == "clip[0].flow_tokens.tokens[4][0][1]"


@pytest.mark.parametrize(
    ("change", "stage", "detail"),
    [
        (lambda text: text.replace(b'"version":0', b'"version":0.0'), "parameters", ""),
        (lambda text: text.replace(b'"crc":1', b'"crc":true'), "parameters", ""),
        (lambda text: text.replace(b'"version":0', b'"version": 0'), "canonical form", "form"),
        (lambda text: text[:-1], "canonical form", "form"),
        (lambda text: text.replace(b"\n", b"\r\n"), "canonical form", "form"),
        (lambda text: text.replace(b'"version":0', b'"version":NaN'), "canonical form", "JSON"),
        (lambda text: b"[" * 100000, "canonical form", "JSON"),
        (lambda text: b"", "canonical form", "JSON"),
        (lambda text: b"{}", "canonical form", "array"),
        (lambda text: b"[]", "parameters", ""),
        (lambda text: b"[1]", "parameters", ""),
        (lambda text: text.replace(b"\n]\n", b',\n{"unit":"clip"}\n]\n'), "parameters", "document"),
        (lambda text: text.replace(b'"frame_count":6,', b'"frame_count":6,"new":1,'), "parameters", ""),
    ],
)
def test_documents_of_another_form(
    right: Reference, change: Callable[[bytes], bytes], stage: str, detail: str
) -> None:
    text = reference.document([unit.value for unit in right.units])
    assert change(text) != text
    found = divergence.in_parameters(right, change(text))
    assert found is not None
    assert found.stage == stage
    assert detail in found.detail
    json.dumps(found.to_json(), allow_nan=False)


def test_a_missing_section_is_named(right: Reference) -> None:
    units = json.loads(reference.document([unit.value for unit in right.units]))
    del units[[u.path for u in right.units].index("clip[0]")]["masks"]
    found = divergence.in_parameters(right, reference.document(units))
    assert found is not None
    assert (found.element, found.got, found.clause) == ("clip[0].masks", "absent", "9.6")


def test_what_is_right_has_no_difference(right: Reference, vector: Vector, pictures: list[Picture]) -> None:
    assert divergence.in_parameters(right, reference.document([u.value for u in right.units])) is None
    assert divergence.in_trace(right, [json.dumps(record) for record in right.trace]) is None
    assert divergence.in_frames(right, vector.expectation, [p.md5() for p in pictures]) is None


def test_every_element_and_symbol_has_a_clause(right: Reference) -> None:
    """The table has all that a stream with everything has, and no more."""
    names = set()
    for unit in right.units:
        kind = unit.path.split("[")[0]
        for leaf in leaves(unit.value):
            parts = [kind, *(part for part in leaf if isinstance(part, str))]
            names |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    assert set(ELEMENTS) == names
    known = {(row["section"], row["symbol"]) for row in load("elements")["symbols"]}
    assert known == {
        (section, re.sub(r"\[\d+\]", "", name))
        for _, section, name in (record["path"].split(".", 2) for record in right.trace)
    }


def test_the_table_has_the_members_of_clause_11_2() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    clause = text[text.index("### 11.2 ") : text.index("### 11.3 ")]
    rows = {
        row.split("|")[1].strip(): set(re.findall(r"`(\w+)`", row))
        for row in re.findall(r"^\|.*", clause, re.M)
    }
    kinds = {
        "sequence header": "sequence",
        "end of sequence": "end_of_sequence",
        "generator hint": "generator_hint",
    }
    for title, members in rows.items():
        kind = kinds.get(title, title)
        prefix = (
            kind
            if kind in ("sequence", "keyframe", "clip", *kinds.values())
            else f"clip.{kind.replace(' ', '_')}"
        )
        table = {name.removeprefix(f"{prefix}.") for name in ELEMENTS if name.rpartition(".")[0] == prefix}
        assert table - {"unit"} <= members, title


def test_the_clauses_of_the_table_exist() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    clauses = set(re.findall(r"^#{2,4} (\d[\d.]*) ", text, re.M))
    rows = [*load("elements")["elements"], *load("elements")["symbols"]]
    rows += [other for row in rows for other in row.get("elsewhere", [])]
    assert {row["clause"] for row in rows} <= clauses


# --- Documents of decoders that refuse a valid stream


@pytest.mark.parametrize(
    ("cut", "element", "got"),
    [
        (lambda text: text.split(b'{"digest"')[0], "end_of_sequence", "absent"),
        (
            lambda text: text.split(b'{"frame_count":2')[0] + b'{"frame_count":3,"unit":"clip"}',
            "clip[1].frame_count",
            3,
        ),
        (lambda text: text[: text.index(b'"masks"')], "clip[0]", "absent"),
        (lambda text: b"", "sequence", "absent"),
        (lambda text: b"\xff[[[", "sequence", "absent"),
    ],
)
def test_what_was_left_is_looked_at(
    right: Reference, cut: Callable[[bytes], bytes], element: str, got: Any
) -> None:
    text = reference.document([unit.value for unit in right.units])
    found = divergence.in_part(right, cut(text))
    assert found is not None
    assert (found.element, found.got) == (element, got)
    assert divergence.in_part(right, text) is None


def test_the_form_of_what_was_left_counts(right: Reference) -> None:
    """A decoder that writes other JSON computes another digest, and refuses the stream."""
    text = reference.document([unit.value for unit in right.units])
    written = text.split(b',\n{"digest"')[0].replace(b'"version":0', b'"version": 0')
    found = divergence.in_part(right, written)
    assert found is not None
    assert (found.stage, found.unit, found.clause) == ("canonical form", "line 2", "11.1")


@pytest.mark.parametrize(("code", "verdict"), [(1, Verdict.REJECTED_VALID), (-11, Verdict.CRASH)])
def test_a_refused_stream_is_located(
    vector: Vector, right: Reference, tmp_path: Path, code: int, verdict: Verdict
) -> None:
    """A decoder whose parameters are wrong refuses the stream, because the digest is not the right one."""
    path = tmp_path / "params"
    data = changed(right, ("masks", "scale_log2"), 3)
    path.write_bytes(data[: data.index(b'{"digest"')])
    outcome = Outcome(code, 0.1, error="digest-mismatch" if code == 1 else None, message="digest-mismatch")
    found, message, where = judge(vector, outcome, {"params": path}, (1, 2))
    assert found is verdict
    assert where is not None
    assert where.element == "clip[0].masks.scale_log2"
    assert "digest-mismatch" in message
    assert "clause 9.6.1" in message


# --- Pictures


def test_keyframes_come_before_what_is_made_of_them(
    vector: Vector, pictures: list[Picture], tmp_path: Path
) -> None:
    """All frames of the clip are wrong when its trailing keyframe is."""
    wrong = [replace(p, y=p.y ^ np.uint8(1)) if 1 <= n <= 6 else p for n, p in enumerate(pictures)]
    found = judged(vector, tmp_path, frames=y4m(wrong))
    assert (found.stage, found.unit, found.frame) == ("keyframe", "keyframe[1]", 6)


def test_frames_that_are_missing(vector: Vector, pictures: list[Picture], tmp_path: Path) -> None:
    lines = [f"{n} {picture.md5()}\n" for n, picture in enumerate(pictures)]
    found = judged(vector, tmp_path, md5="".join(lines[:-1]).encode())
    assert (found.frame, found.got) == (8, "absent")
    found = judged(vector, tmp_path, md5="".join([*lines, lines[0]]).encode())
    assert (found.stage, found.expected, found.got) == ("frames", 9, 10)


@pytest.mark.parametrize("change", [lambda text: text.replace(" ", "  "), str.upper, lambda text: text[:-1]])
def test_the_form_of_the_list_counts(
    vector: Vector, pictures: list[Picture], tmp_path: Path, change: Callable[[str], str]
) -> None:
    text = "".join(f"{n} {picture.md5()}\n" for n, picture in enumerate(pictures))
    judged(vector, tmp_path, md5=change(text).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"YUV4MPEG2 W1\n",
        b"YUV4MPEG2 W2 H2 C444\nFRAME\n" + bytes(12),
        b"YUV4MPEG2 W2 H2\nFRAME\n",
    ],
)
def test_other_video_files(vector: Vector, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "frames"
    path.write_bytes(data)
    found, message, _ = judge(vector, Outcome(0, 0.1), {"frames": path}, (1, 2, 3, 4))
    assert found is Verdict.WRONG_OUTPUT
    assert "Y4M" in message


def test_class_3_looks_at_keyframes_alone(vector: Vector, right: Reference, pictures: list[Picture]) -> None:
    md5s = [picture.md5() if n in (0, 6) else "" for n, picture in enumerate(pictures)]
    assert divergence.in_frames(right, vector.expectation, md5s, between=False) is None
    assert divergence.in_frames(right, vector.expectation, md5s) is not None


@pytest.mark.parametrize(
    ("clip", "two_sided", "clauses"),
    [
        ({}, False, ["10.1"]),
        ({}, True, ["10.4"]),
        ({"text": {}, "masks": {}}, True, ["10.4"]),
        ({"flow_tokens": {"tokenizer_id": 1}}, False, ["10.1"]),
        ({"flow_tokens": {"tokenizer_id": 0}}, False, ["9.4.3", "10.2.2", "10.3"]),
        ({"camera_poses": {}}, False, ["10.2.1", "10.2.2", "10.3"]),
        ({"trajectories": {}}, True, ["10.2.3", "10.3", "10.4"]),
        ({"trajectories": {}, "masks": {}}, False, ["10.2.3", "10.2.4", "10.3"]),
        ({"interpolation": {"mode": 1}, "camera_poses": {}}, True, ["10.6"]),
        ({"interpolation": {"mode": 2}, "flow_tokens": {"tokenizer_id": 0}}, True, ["9.4.3", "10.6"]),
        ({"interpolation": {"mode": 2}, "flow_tokens": {"tokenizer_id": 1}}, True, ["10.6"]),
    ],
)
def test_the_sections_say_which_steps_there_are(
    clip: dict[str, Any], two_sided: bool, clauses: list[str]
) -> None:
    assert reconstruction.steps(clip, two_sided) == clauses


def test_md5s_are_enough_for_a_missing_step(vector: Vector, right: Reference, tmp_path: Path) -> None:
    with mock.patch.object(flow_tokens, "flow", lambda tokens, t, place, *size: 0 * place):
        wrong = right.pictures()
    lines = "".join(f"{n} {picture.md5()}\n" for n, picture in enumerate(wrong))
    found = judged(vector, tmp_path, md5=lines.encode())
    assert (found.clause, found.frame) == ("9.4.3", 1)
    assert found.detail == "the frame is what comes out without flow tokens"


def test_flow_tokens_that_do_not_correct_interpolation() -> None:
    anchors = [random_picture(24, 16, seed) for seed in (1, 2)]
    tokens = FlowTokens(np.full((2, 2, 1), 40, np.int16), 16)
    plain = Clip(2, interpolation=Interpolation(Mode.INTERPOLATED, 0, no_vectors()))
    clip = replace(plain, flow_tokens=tokens)
    right, without = (next(baseline.reconstruct(c, *anchors)) for c in (clip, plain))
    case = reconstruction.Case(clip, anchors, 1, right)
    found = case.suspicion(without.md5(), None)
    assert found is not None
    assert found.clauses == ["9.4.3"]
    assert case.suspicion(anchors[0].md5(), anchors[0]) is None


def two_halves(points: list[list[int]], labels: list[int]) -> reconstruction.Case:
    """Frame 2 of 4, 32 x 16; points in the right half move to the right, by two samples a frame."""
    count = len(points)
    paths = np.array([[[x + 2 * t * (x >= 16), y] for t in range(5)] for x, y in points], np.int32)
    trajectories = Trajectories(
        positions=paths,
        span=np.array([[0, 4]] * count, np.int32),
        visible=np.ones((count, 5), np.bool_),
        instance=np.zeros(count, np.uint8),
        follows=np.zeros(count, np.bool_),
        precision=3,
        lattice_log2=0,
    )
    plane = np.repeat(np.array([labels], np.uint8), 2, 0)
    masks = Masks(np.repeat(plane[None], 5, 0), np.zeros((4, max(labels), 2), np.int16), 3)
    clip = Clip(4, trajectories, None, None, None, masks)
    anchors = [random_picture(32, 16, seed) for seed in (1, 2)]
    right = list(baseline.reconstruct(clip, *anchors))[1]
    return reconstruction.Case(clip, anchors, 2, right)


@pytest.mark.parametrize(
    ("rows", "columns", "plane", "clauses"),
    [
        (slice(None), slice(0, 16), 0, None),
        (slice(3, 9), slice(17, 25), 0, ["10.2.4"]),
        (slice(3, 9), slice(29, 31), 0, ["10.4"]),
        (slice(3, 9), slice(29, 31), 1, ["10.3", "10.4"]),
    ],
)
def test_the_places_of_wrong_samples_tell(
    rows: slice, columns: slice, plane: int, clauses: list[str] | None
) -> None:
    case = two_halves([[4, 4], [18, 8]], [0, 0, 1, 1])
    planes = [part.copy() for part in case.right.planes]
    planes[plane][rows, columns.start >> (plane > 0) : columns.stop >> (plane > 0)] ^= 1
    found = case.suspicion("", Picture(*planes))
    assert (found and found.clauses) == clauses


def test_pictures_of_another_size_have_no_places() -> None:
    assert two_halves([[4, 4]], [0, 0, 1, 1]).suspicion("", random_picture(16, 16, 1)) is None


# --- Symbols


def test_the_trace_decoder_finds_the_symbol(vector: Vector, right: Reference, tmp_path: Path) -> None:
    """A decoder with wrong parameters is run again for its trace."""
    trace = copy.deepcopy(right.trace)
    trace[40]["value"] ^= 1
    (tmp_path / "trace").write_text("".join(json.dumps(record) + "\n" for record in trace))
    params = changed(right, ("trajectories", "visible", 0, 0), 0)
    (tmp_path / "params").write_bytes(params)
    command = fake(tmp_path, f"params.write_bytes(Path({str(tmp_path / 'params')!r}).read_bytes())")
    tracer = f"sh -c 'cp {tmp_path / 'trace'} {{trace}} # {{input}}'"
    workers = Workers(command.replace(" {md5}", " -"), None, tracer, Limits(), 1, (1, 2))
    (result,) = workers.run([vector], lambda _: None)
    assert result.divergence is not None
    assert (result.divergence.stage, result.divergence.index) == ("symbols", [40])
    assert result.divergence.element == trace[40]["path"]


@pytest.mark.parametrize(
    ("key", "value", "clause"), [("probability", 1, "8.4"), ("range", "0" * 16, "8.2"), ("value", 2, None)]
)
def test_what_differs_in_a_record_leads_to_its_clause(
    right: Reference, key: str, value: Any, clause: str | None
) -> None:
    trace = copy.deepcopy(right.trace)
    trace[3][key] = value
    found = divergence.in_trace(right, [json.dumps(record) for record in trace])
    assert found is not None
    assert found.index == [3]
    assert found.clause == (clause or "9.2.4")
    assert (found.expected, found.got) == ({key: right.trace[3][key]}, {key: value})


@pytest.mark.parametrize("lines", [[], ["no json"], ["[]"], ["{}"]])
def test_traces_of_another_form(right: Reference, lines: list[str]) -> None:
    found = divergence.in_trace(right, lines)
    assert found is not None
    assert found.index == [0]


def test_a_trace_that_goes_on(right: Reference) -> None:
    lines = [json.dumps(record) for record in right.trace]
    found = divergence.in_trace(right, [*lines, lines[-1]])
    assert found is not None
    assert found.index == [len(lines)]
