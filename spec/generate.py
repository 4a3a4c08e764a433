"""Writes the parts of the specification that repeat something else.

``python spec/generate.py`` rewrites the marked blocks of ``spec/tgv.md`` from the construct declarations and
the tables, collects its requirements in ``spec/tables/requirements.json`` and makes the worked example of
Annex A. With ``--check`` nothing is written; the exit status is 1 when something is out of date.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import construct
import numpy as np

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from refdec.decoder import Decoder  # noqa: E402
from spec import kaitai  # noqa: E402
from tgv_format import (  # noqa: E402
    camera_poses,
    canonical,
    clip,
    container,
    end,
    entropy,
    flow_tokens,
    generator_hint,
    group,
    illm,
    illm_model,
    interpolation,
    keyframe,
    masks,
    sequence,
    syntax,
    tables,
    text,
    trajectories,
    vvc,
)
from tgv_format.levels import LEVELS, Level  # noqa: E402
from tgv_format.picture import Picture  # noqa: E402
from tgv_format.range_coder import RangeDecoder  # noqa: E402
from tgv_format.reader import Reader  # noqa: E402
from tgv_format.trajectories import Trajectories  # noqa: E402
from tgv_format.writer import Writer  # noqa: E402

DOCUMENT = ROOT / "spec" / "tgv.md"
REQUIREMENTS = ROOT / "spec" / "tables" / "requirements.json"
EXAMPLE = ROOT / "spec" / "examples" / "worked.tgv"
DESCRIPTION = ROOT / "spec" / "tgv.ksy"

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)
HEADING = re.compile(r"^#{2,4} (?:Annex )?([A-Z]|\d+(?:\.\d+)*) ", re.M)
REQUIREMENT = re.compile(
    r"^- \*\*\[(TGV-[A-Z]{3}-\d+)\]\*\*\s+(.*?)\s+Violation:\s+(none|`[\w-]+`)\.$", re.M | re.S
)

#: Declarations, by the names of their tables in the document.
DECLARATIONS = {
    "sequence_header": sequence.HEADER,
    "generator_hint": generator_hint.HEADER,
    "end_of_sequence": end.HEADER,
    "keyframe_header": keyframe.HEADER,
    "group_header": group.HEADER,
    "interval_header": group.INTERVAL_HEADER,
    "clip_header": clip.HEADER,
    "section_header": clip.SECTION_HEADER,
    "trajectories_header": trajectories.HEADER,
    "flow_tokens_header": flow_tokens.HEADER,
    "camera_poses_header": camera_poses.HEADER,
    "masks_header": masks.HEADER,
    "interpolation_header": interpolation.HEADER,
}
#: Declarations that are not part of units and sections themselves.
OTHER_DECLARATIONS = {
    "illm_header": illm.HEADER,
    "model_header": illm_model.HEADER,
    "model_channel": illm_model.CHANNEL,
}
#: Registered values and the element that takes them, by the names of their tables.
ENUMS: dict[str, tuple[str, type[IntEnum]]] = {
    "section_types": ("section_type", clip.SectionType),
    "codecs": ("codec", keyframe.Codec),
    "samplers": ("sampler", generator_hint.Sampler),
    "tokenizers": ("tokenizer_id", flow_tokens.Tokenizer),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when something is out of date"
    )
    check = parser.parse_args(argv).check
    stale = [path for path, data in outputs().items() if not path.is_file() or path.read_bytes() != data]
    for path in stale:
        print(f"{'out of date' if check else 'writing'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(outputs()[path])
    return int(check and bool(stale))


def outputs() -> dict[Path, bytes]:
    """Every generated file with the contents that it has to have."""
    document = DOCUMENT.read_text(encoding="utf-8")
    found = requirements(document)
    rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in found)
    table = f'{{\n  "clause": "3.5",\n  "requirements": [\n{rows}\n  ]\n}}\n'
    return {
        DOCUMENT: fill(document, blocks(found)).encode(),
        REQUIREMENTS: table.encode(),
        EXAMPLE: example(),
        DESCRIPTION: kaitai.description(DECLARATIONS, clauses(document), dict(ENUMS.values())).encode(),
    }


def fill(document: str, contents: dict[str, Callable[[], str]]) -> str:
    """``document`` with the text between its markers replaced; KeyError for an unknown marker."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{contents[m[2]]().strip()}\n\n{m[3]}", document)


def clauses(document: str) -> dict[str, str]:
    """The clause of every marked block, by its name, and every clause by its title in lower case."""
    headings = list(HEADING.finditer(document))
    titles = {document[m.end() :].split("\n")[0].lower().replace(" ", "_"): m[1] for m in headings}
    return titles | {
        block[2]: [m[1] for m in headings if m.start() < block.start()][-1]
        for block in BLOCK.finditer(document)
    }


def requirements(document: str) -> list[dict[str, str | None]]:
    """Identifier, clause, error identifier or None, and text of every requirement, in order."""
    headings = [(m.start(), m[1]) for m in HEADING.finditer(document)]
    found: list[dict[str, str | None]] = []
    for m in REQUIREMENT.finditer(document):
        clause = [name for start, name in headings if start < m.start()][-1]
        error = None if m[3] == "none" else m[3].strip("`")
        found.append({"id": m[1], "clause": clause, "error": error, "text": " ".join(m[2].split())})
    return found


def blocks(found: list[dict[str, str | None]]) -> dict[str, Callable[[], str]]:
    """What goes between the markers, by name."""
    contents: dict[str, Callable[[], str]] = {
        "unit": unit_table,
        "unit_types": unit_types,
        "frame_rates": frame_rates,
        "upsampling": lambda: constants("upsampling", UPSAMPLING),
        "nal": nal_table,
        "nal_types": lambda: table(
            ["`nal_type`", "name"], [[str(int(kind)), kind.name] for kind in vvc.NalType]
        ),
        "vvc_constants": lambda: constants("vvc", VVC),
        "entropy_constants": lambda: constants("contexts", ENTROPY),
        "latent_constants": lambda: constants("latents", LATENTS),
        "text_constants": lambda: constants("text", TEXT),
        "reconstruction_constants": lambda: constants("reconstruction", RECONSTRUCTION),
        "interpolation_constants": lambda: constants("interpolation", INTERPOLATION),
        "context_sets": context_sets,
        "levels": levels,
        "errors": lambda: errors(found),
        "origins": origins,
        "bounds": bounds,
        "expansion": expansion,
        "worked_example": worked_example,
    }
    for name, declaration in {**DECLARATIONS, **OTHER_DECLARATIONS}.items():
        contents[name] = lambda d=declaration: syntax_table(d)  # type: ignore[misc]
    for name, (element, enum) in ENUMS.items():
        contents[name] = lambda t=f"`{element}`", e=enum: table(  # type: ignore[misc]
            [t, "name"], [[str(int(v)), v.name] for v in e]
        )
    return contents


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Syntax tables


def syntax_table(declaration: Any) -> str:
    return table(["element", "descriptor", "range", "condition"], list(elements(declaration)))


def elements(declaration: Any, prefix: str = "", condition: str = "") -> Iterator[list[str]]:
    """One row for each element of a construct declaration, groups flattened."""
    for renamed in declaration.subcons:
        code, name, when = renamed.subcon, prefix + renamed.name, condition
        if isinstance(code, construct.IfThenElse):
            when, code = _condition(code.condfunc), code.thensubcon
        if isinstance(code, construct.Restreamed | construct.Transformed):
            code = code.subcon
        if isinstance(code, construct.Struct):
            yield from elements(code, f"{name}.", when)
        else:
            descriptor, legal = _descriptor(code)
            yield [f"`{name}`", descriptor, legal, when]


def _condition(expression: Any) -> str:
    plain = re.sub(
        r"this((?:\['\w+'\])+)", lambda m: ".".join(re.findall(r"'(\w+)'", m[1])), repr(expression)
    )
    negated, plain = plain.startswith("not "), plain.removeprefix("not ").strip("()")
    return f"`{plain}`" if "==" in plain else f"`{plain} == {int(not negated)}`"


#: The greatest value of descriptors; a range up to it from 0 says nothing.
WIDEST = {"`u8`": 2**8 - 1, "`uleb128`": 2**35 - 1}


def _descriptor(code: Any) -> tuple[str, str]:
    """Descriptor and legal range of one element."""
    if isinstance(code, syntax.Range):
        descriptor, _ = _descriptor(code.code)
        if (code.low, code.high) == (0, WIDEST.get(descriptor)):
            return descriptor, ""
        error = "" if code.identifier == "out-of-range" else f", else `{code.identifier}`"
        return descriptor, f"{int(code.low)} .. {int(code.high)}{error}"
    if code is syntax.Uleb128:
        return "`uleb128`", ""
    if isinstance(code, syntax.Reserved):
        return f"`u({code.bits})`", "0, else `reserved-value`"
    if isinstance(code, construct.BitsInteger):
        return f"`u({code.length})`", ""
    if code is construct.Flag:
        return "`u(1)`", ""
    if isinstance(code, construct.FormatField):
        return f"`{'i' if code.fmtstr[1:].islower() else 'u'}{8 * code.length}`", ""
    if isinstance(code, construct.Bytes):
        size = (
            code.length if isinstance(code.length, int) else _condition(code.length).split(" ")[0].strip("`")
        )
        return f"`bytes({size})`", ""
    raise TypeError(code)


def unit_table() -> str:
    rows = [
        *elements(container.UNIT_HEADER),
        ["`payload`", "`bytes(unit_size)`", "", ""],
        *([*row[:3], "see below"] for row in elements(container.UNIT_CRC)),
    ]
    return table(["element", "descriptor", "range", "condition"], rows)


def nal_table() -> str:
    rows = [*elements(vvc.HEADER), ["`rbsp`", "`bytes(rbsp_size)`", "", ""]]
    return table(["element", "descriptor", "range", "condition"], rows)


# Tables of values


def unit_types() -> str:
    clauses = {
        "SEQUENCE": "6.2",
        "KEYFRAME": "7.1",
        "CLIP": "9.1",
        "END": "6.4",
        "GROUP": "5.6",
        "GENERATOR_HINT": "6.3",
    }
    rows = [
        [f"0x{int(t):02X}", t.name, "ancillary" if t & container.ANCILLARY else "critical", clauses[t.name]]
        for t in container.UnitType
    ]
    return table(["`unit_type`", "name", "kind", "clause"], rows)


def frame_rates() -> str:
    rows = [[str(row[k]) for k in row] for row in tables.load("frame_rates")["frame_rates"]]
    return table(["`frame_rate_code`", "numerator", "denominator"], rows)


UPSAMPLING = {"TAPS": ("upsampling_taps",), "SHIFT": ("shift",)}
ENTROPY = {
    "FAST_RATE": ("estimator", "fast_rate"),
    "SLOW_RATE": ("estimator", "slow_rate"),
    "START_RATE": ("estimator", "start_rate"),
    "PREFIX_CONTEXTS": ("binarisation", "prefix_contexts"),
    "UNARY_LIMIT": ("binarisation", "unary_limit"),
    "ESCAPE_BITS": ("binarisation", "escape_bits"),
}
LATENTS = {"LATENT_ESCAPE_BITS": ("escape_bits",), "STEPS": ("steps",), "SCALES": ("scales",)}
VVC = {name.upper(): (name,) for name in ("default_sps", "default_pps")}
TEXT = {name.upper(): (name,) for name in ("orders", "count_limit", "weights", "squash")}
RECONSTRUCTION = {
    name.upper(): (name,)
    for name in (
        "node_spacing_log2",
        "distance_shift",
        "distance_offset",
        "distance_max",
        "weight_numerator_log2",
        "smooth_weight",
    )
}

INTERPOLATION = {
    name.upper(): (name,)
    for name in (
        "pyramid_levels",
        "coarsest_bits",
        "last_level",
        "search_range",
        "search_radius",
        "search_penalty",
        "flow_steps",
        "flow_radius",
        "flow_damping",
        "step_max",
        "smooth_radius",
        "projection_steps",
        "border_width",
        "border_ramp",
        "sharp_radius",
    )
}


def constants(name: str, names: Mapping[str, tuple[str, ...]]) -> str:
    rows = []
    for constant, keys in names.items():
        value = tables.load(name)
        for key in keys:
            value = value[key]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append([f"`{constant}`", shown, f"`{name}.json`: `{'.'.join(keys)}`"])
    return table(["constant", "value", "source"], rows)


def context_sets() -> str:
    rows = []
    for section, sets in tables.load("contexts")["sections"].items():
        for name, initial in sets.items():
            rows.append([f"`{section}`", f"`{name}`", str(len(initial))])
    return table(["section", "set", "contexts"], rows)


def levels() -> str:
    rows = tables.load("levels")["levels"]
    return table([f"`{k}`" for k in rows[0]], [[str(v) for v in row.values()] for row in rows])


def errors(found: list[dict[str, str | None]]) -> str:
    rows = []
    for row in tables.load("errors")["errors"]:
        causes = [f"{r['id']} ({r['clause']})" for r in found if r["error"] == row["id"]]
        rows.append([f"`{row['id']}`", row["meaning"], ", ".join(causes)])
    return table(["identifier", "meaning", "requirements (clauses)"], rows)


# Bounds of clauses 10.5 and 14


def _units(level: Level, precision: int) -> int:
    """The longest picture side of a level in position units."""
    return -(-(level.dimension << precision) // 8)


def _weight(distance: int) -> int:
    t = tables.load("reconstruction")
    e = min((distance >> t["distance_shift"]) + t["distance_offset"], t["distance_max"])
    weight: int = (1 << t["weight_numerator_log2"]) // e**3
    return weight


def level_bounds(level: Level) -> dict[str, int]:
    """An upper bound of the magnitude of intermediate values of clauses 7.5 to 10.6, by description."""
    last, count, precisions = level.clip_frames, level.trajectories, range(8)
    reach = max(3 * _units(level, p) + 127 for p in precisions)
    cells = level.luma_samples << 8
    low_bits = cells.bit_length() - 2
    vector = max((3 * _units(level, p) + 127) << (7 - p) for p in precisions)
    outermost = max(((2 * _units(level, p) + 127) << (7 - p)) + 56 for p in precisions)
    node = level.dimension + (1 << tables.load("reconstruction")["node_spacing_log2"])
    away = max(outermost >> 4, node + level.dimension)
    total = count * _weight(0) + tables.load("reconstruction")["smooth_weight"]
    taps = sum(abs(tap) for tap in tables.load("upsampling")["upsampling_taps"])
    spacing = tables.load("reconstruction")["node_spacing_log2"]
    # Of clause 10.2.1: a curve leaves its chord by half of what key poses differ by at most.
    unit = 7 << 15
    turn = 512 * (1 << 21) + 2 * unit
    translation = (512 * camera_poses.MAX_TRANSLATION + 2) * unit * camera_poses.MAX_PLANE
    smooth, focal, place = 1 << 16, 128 * level.dimension, outermost + 3 * (1 << 18)
    ray = (2 << 30 + 23) + (1 << 30 + 20) + (1 << 19)
    depth = ray >> 20
    cosine = max(tables.load("flow_basis")["cosine"])
    return {
        "sum of a doubled sample (7.5)": taps * taps * 255,
        "`cells` (9.2.2)": cells,
        "result of `golomb` (8.5)": (entropy.UNSIGNED_MAX + 1 << low_bits) - 1,
        "coordinate of a position in units (9.2.10)": max(2 * _units(level, p) + 127 for p in precisions),
        "coordinate before its check (9.2.4, 9.2.7)": reach * 3 + entropy.UNSIGNED_MAX + 1,
        "squared distance of points (9.2.6)": 2 * reach * reach,
        "dividend of `interpolate` (9.2.7)": 2 * reach * 2 * (last - 1) + last,
        "number in `predicted` (9.5.3)": 2 * camera_poses.MAX_TRANSLATION,
        "component of a pose before its check (9.5.2)": 2 * camera_poses.MAX_TRANSLATION
        + entropy.UNSIGNED_MAX
        + 1,
        "dividend of `predicted` (9.5.3)": 4 * camera_poses.MAX_TRANSLATION * (last // 2 + 1) ** 2,
        "component of a rotation vector (10.2.1)": turn,
        "sum `s` before its shift (10.2.1)": 3 * turn * turn + (1 << 35),
        "term in `M` before its shift (10.2.1)": translation + 32,
        "entry of `A` (10.2.1)": 2 << 60,
        "dividend of `u` and `v` (10.2.1)": (place + (32 * level.dimension) << 20) + focal // 2,
        "`X` before its shift (10.2.1)": ray,
        "product with `z` (10.2.1)": depth << 23,
        "dividend of `motion` (10.2.1)": 2 * focal * (depth + (depth << 3) + 1) + depth,
        "sum of `flow` times `step` (9.4.3)": (level.flow_tokens << 15) * cosine * cosine * 4096,
        "product in the phase of `cosine` (9.4.3)": (place + (1 << 18) + 8) * 8 * 128,
        "coordinate in 1/16 luma samples (10.2.3)": outermost,
        "component of a vector in 1/16 luma samples (10.2.3)": vector + smooth,
        "squared distance of point and node (10.2.3)": 2 * away * away,
        "`total` (10.2.3)": total,
        "`sum` (10.2.3)": total * (vector + smooth),
        "`2 * sum + total` (10.2.3)": 2 * total * (vector + smooth) + total,
        "`sum` of `field` (10.3)": (vector + 2 * smooth) << 2 * spacing,
        "sum of samples (10.3, 10.4)": 255 * 256 + 128,
        **_interpolation_bounds(level),
    }


def _interpolation_bounds(level: Level) -> dict[str, int]:
    """Those of clause 10.6."""
    t = tables.load("interpolation")
    steps, sample = t["flow_steps"] * t["step_max"], 255 << 2
    vector = 16 * t["search_range"] + steps
    for _ in range(t["pyramid_levels"] - t["last_level"]):
        vector = 2 * vector + steps
    area, blurred = (2 * t["flow_radius"] + 1) ** 2, (2 * t["sharp_radius"] + 1) ** 4
    # The magnitude of a shifted negative product is rounded up.
    total = area * ((sample * (sample >> 1) >> 4) + 1)
    damped = total + t["flow_damping"]
    correction = (64 << 2) + flow_tokens.FLOW_LIMIT
    spacing = t["last_level"]
    # Planes are extended to whole samples of the coarsest level.
    nodes = (level.dimension + (1 << t["pyramid_levels"])) >> spacing
    luma = vector << spacing
    found = 2 * luma + correction
    return {
        "component of `V` (10.6.2)": vector,
        "sum of `box` (10.6.2)": damped,
        "`det` (10.6.2)": damped * damped,
        "dividend of a step (10.6.2)": 16 * 2 * total * damped,
        "component of `g` (10.6.3)": correction,
        "product with `moment` (10.6.3)": vector * 128 + 2048,
        "row or column of `V` (10.6.3)": nodes + (correction >> spacing + 4) + 1 + (vector * 128 >> 12) + 1,
        "component of `U` (10.6.3)": luma,
        "sum in `doubled` (10.6.2, 10.6.3)": 8 * luma + 4,
        "product of `U` with `weight` (10.6.4)": luma * 256 + 128,
        "component of `to_first` and `to_last` (10.6.4)": found,
        "`px` and `py` (10.6.4)": 16 * level.dimension + found,
        "dividend of `weight` (10.6.4)": 255 * t["border_ramp"] + (t["border_ramp"] >> 1),
        "dividend of `out` (10.6.5)": blurred * (255 * (8 + interpolation.MAX_SHARP) + 4),
    }


def bounds() -> str:
    columns = [level_bounds(level) for level in LEVELS.values()]
    rows = []
    for name in columns[0]:
        worst = max(column[name] for column in columns)
        rows.append([name, *(str(column[name]) for column in columns), str(worst.bit_length() + 1)])
    return table(["value (clause)", *(f"level {n}" for n in LEVELS), "bits"], rows)


def largest_section(level: Level) -> int:
    """Bytes of a short section with as many points as a level allows, all alive in every frame."""
    frames, count = level.clip_frames + 1, level.trajectories
    points = Trajectories(
        positions=np.zeros((count, frames, 2), np.int32),
        span=np.tile(np.array([0, frames - 1], np.int32), (count, 1)),
        visible=np.ones((count, frames), np.bool_),
        instance=np.zeros(count, np.uint8),
        follows=np.zeros(count, np.bool_),
        precision=0,
        lattice_log2=0,
    )
    return len(trajectories.encode(points, level.dimension, level.luma_samples // level.dimension, level))


@cache
def longest_text(size: int) -> int:
    """Bytes of the section of a text of ``size`` times the same character."""
    level = next(level for level in LEVELS.values() if level.text_bytes == size)
    return len(text.encode(text.Text("a" * size), level))


def origins() -> str:
    """Where the elements of the document come from, by clause."""
    rows = []
    for row in tables.load("elements")["elements"]:
        name = f"`{row['element']}`"
        rows.append([name, row["clause"], _coded_in(row)])
        for other in row.get("elsewhere", []):
            rows.append([f"{name}, {other['where']}", other["clause"], _coded_in(other)])
    return table(["element", "clause", "coded in"], rows)


def _coded_in(row: dict[str, str]) -> str:
    return f"`{re.sub(r'{.*?}', 'n', row['symbol'])}`" if "symbol" in row else ""


def expansion() -> str:
    rows: dict[str, list[str]] = {}

    def put(name: str, value: int) -> None:
        rows.setdefault(name, []).append(f"{value:,}".replace(",", " "))

    for level in LEVELS.values():
        frames = level.clip_frames
        shortest = len(
            container.write_unit(container.UnitType.CLIP, clip.HEADER.build({"frame_count": frames}), False)
        )
        picture = level.luma_samples + 2 * -(-level.luma_samples // 4)
        spacing = 1 << tables.load("reconstruction")["node_spacing_log2"]
        width, height = level.dimension, level.luma_samples // level.dimension
        nodes = ((height - 1) // spacing + 2) * ((width - 1) // spacing + 2)
        put("bytes of a picture of the greatest size", picture)
        put("bytes of the shortest clip unit with the most frames", shortest)
        put("bytes of pictures that this unit makes", frames * picture)
        put("bytes of a section with the most points, each alive in all frames", largest_section(level))
        put("bytes of its positions as 32-bit numbers", level.trajectories * (frames + 1) * 8)
        put("weights computed for one frame with these points", nodes * level.trajectories)
        put("bytes of a trajectory, flow token, camera pose or mask section", level.section_bytes)
        put("flow tokens of a section", 2 * level.flow_tokens * frames)
        put("numbers in the poses of a camera pose section", 6 * frames)
        put("label samples of a mask section", level.mask_samples)
        put("bytes of a text", level.text_bytes)
        put("bytes of a section with this text, in one character", longest_text(level.text_bytes))
        put("symbols of a text, or states that it adds for each order", 8 * (level.text_bytes + 1))
        put("bytes of a unit", level.unit_bytes)
    return table(["worst case", *(f"level {n}" for n in LEVELS)], [[k, *v] for k, v in rows.items()])


# The worked example


def example() -> bytes:
    """A stream of five frames of 16x16 samples with three trajectories and a text."""
    header = sequence.SequenceHeader(width=16, height=16, frame_rate=Fraction(25), level=1)
    stream = io.BytesIO()
    writer = Writer(stream, header)
    for role, number, shift in ((keyframe.Role.LEADING, 0, 0), (keyframe.Role.TRAILING, 4, 2)):
        payload = _gradient(shift).to_bytes()
        writer.keyframe(keyframe.Keyframe(keyframe.Codec.RAW, role, number, 0, payload))
    writer.clip(clip.Clip(4, _points(), text.Text("a wave")))
    writer.finish()
    return stream.getvalue()


def _gradient(shift: int) -> Picture:
    """A gradient moved ``shift`` luma samples to the right."""
    y, x = np.mgrid[:16, :16]
    cy, cx = np.mgrid[:8, :8]
    x, cx = np.maximum(x - shift, 0), np.maximum(cx - shift // 2, 0)
    planes = (16 + 12 * x + 2 * y, 96 + 8 * cx, 160 - 4 * cx - 4 * cy)
    return Picture(*(np.ascontiguousarray(plane.astype(np.uint8)) for plane in planes))


def _points() -> Trajectories:
    """A straight path, one that is split and hidden for a frame, and one that enters in frame 1."""
    paths = [
        [(3, 3), (4, 3), (4, 3), (5, 3), (5, 3)],
        [(3, 9), (3, 10), (4, 11), (4, 10), (5, 9)],
        [(10, 12), (10, 12), (10, 12), (11, 13), (11, 13)],
    ]
    return Trajectories(
        positions=np.array(paths, np.int32),
        span=np.array([[0, 4], [0, 4], [1, 4]], np.int32),
        visible=np.array([[1] * 5, [1, 1, 0, 1, 1], [0, 1, 1, 1, 1]], np.bool_),
        instance=np.array([0, 0, 1], np.uint8),
        follows=np.zeros(3, np.bool_),
        precision=3,
        lattice_log2=1,
    )


def worked_example() -> str:
    data = example()
    trace: list[dict[str, Any]] = []
    reader = Reader(io.BytesIO(data), trace=trace.append)
    units = list(reader)
    records = [record for record in trace if ".trajectories." in record["path"]]
    pictures = list(Decoder(reader.header).pictures(iter(units)))
    coded = next(u for u in units if isinstance(u, clip.Clip))
    assert coded.trajectories is not None
    parameters = coded.trajectories.to_json()
    parts = [
        f"The file has {len(data)} bytes.",
        table(["start", "length", "contents", "description"], list(_annotate(data))),
        f"**Symbols** of the trajectory section ({len(records)}), with the state before each:",
        table(
            ["", "element", "context", "p", "lower", "range", "point", "symbol"],
            [_symbol(i, r) for i, r in enumerate(records)],
        ),
        _final_state(data, records),
        "**Bytes** of the text section, with the probabilities of the eight symbols of each:",
        table(["", "character", "byte", "p"], list(_bytes(trace[len(records) :]))),
        "**Decoded parameters** of the trajectory section, in canonical JSON, and their digest:",
        f"```\n{canonical.dumps(parameters).decode()}\n```",
        f"```\n{canonical.digest(parameters)}\n```",
        "**Document** of the stream (clause 11.2):",
        "```\n"
        + "[\n"
        + ",\n".join(canonical.dumps(u.to_json()).decode() for u in (reader.header, *units))
        + "\n]\n```",
        "**Frames** (clause 11.4):",
        "```\n" + "\n".join(f"{i} {p.md5()}" for i, p in enumerate(pictures)) + "\n```",
    ]
    return "\n\n".join(parts)


def _framed(data: bytes) -> tuple[sequence.SequenceHeader, list[container.Unit]]:
    """The units of ``data``, the sequence header's among them, with undecoded payloads."""
    reader = container.UnitReader(io.BytesIO(data))
    reader.signature()
    first = reader.read()
    assert first is not None
    header = sequence.decode(first.payload, first.offset)
    reader.crc, reader.max_bytes = header.crc, header.limits.unit_bytes
    return header, [first, *iter(reader.read, None)]


def _final_state(data: bytes, records: list[dict[str, Any]]) -> str:
    """The variables of check_end() after the last symbol of the only trajectory section of ``data``."""
    header, units = _framed(data)
    (unit,) = (u for u in units if u.unit_type == container.UnitType.CLIP)
    section = clip.split(unit.payload, unit.offset, "clip", header.limits)[1][0]
    message = section.body[records[0]["bit_offset"] // 8 - section.offset :]
    coder = RangeDecoder(message)
    for record in records:
        coder.decode_bit(record["probability"])
    power = next(k for k in range(8, -1, -1) if -coder.lower % 256**k < coder.range)
    values = {
        "n": len(message),
        "next": coder.position,
        **{k: f"{getattr(coder, k):016x}" for k in ("lower", "range", "point")},
        "k": power,
        "rest": f"{-coder.lower % 256**power:016x}",
    }
    return "After the last symbol (clause 8.3): " + ", ".join(f"`{k}` {v}" for k, v in values.items()) + "."


def _symbol(index: int, record: dict[str, Any]) -> list[str]:
    element = record["path"].split("trajectories.")[1]
    return [
        str(index),
        f"`{element}`",
        record["context"] or "",
        str(record["probability"]),
        *(record[k] for k in ("lower", "range", "point")),
        str(record["value"]),
    ]


def _bytes(records: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Index, character, byte and probabilities of every byte of an ASCII text."""
    for i in range(0, len(records), 8):
        symbols = records[i : i + 8]
        byte = int("".join(str(record["value"]) for record in symbols), 2)
        character = f"`{chr(255 - byte)}`" if byte else "end"
        yield [
            str(i // 8),
            character,
            f"`{byte:02x}`",
            ", ".join(str(record["probability"]) for record in symbols),
        ]


def _annotate(data: bytes) -> Iterator[list[str]]:
    """Rows start, length, contents, description that cover ``data`` without gaps."""
    position = 0

    def row(size: int, description: str) -> list[str]:
        nonlocal position
        start, position = position, position + size
        return [str(start), str(size), f"`{data[start:position].hex(' ')}`", description]

    def rows(declaration: Any) -> Iterator[list[str]]:
        for size, description in _fields(declaration, data[position:]):
            yield row(size, description)

    yield row(len(container.SIGNATURE), "signature")
    header, units = _framed(data)
    for unit in units:
        kind = container.UnitType(unit.unit_type)
        stop = unit.offset + len(unit.payload)
        yield from rows(container.UNIT_HEADER)
        if kind is container.UnitType.SEQUENCE:
            yield from rows(sequence.HEADER)
        elif kind is container.UnitType.KEYFRAME:
            yield from rows(keyframe.HEADER)
            for plane, lines, size in (("Y", 16, 16), ("U", 8, 8), ("V", 8, 8)):
                for line in range(lines):
                    yield row(size, f"`payload`: {plane}, row {line}")
        elif kind is container.UnitType.CLIP:
            yield from rows(clip.HEADER)
            _, sections = clip.split(unit.payload, unit.offset, "clip", header.limits)
            for section in sections:
                yield from rows(clip.SECTION_HEADER)
                after = section.offset + len(section.body)
                if section.section_type == clip.SectionType.TRAJECTORIES:
                    yield from rows(trajectories.HEADER)
                    yield row(after - position, "entropy-coded data")
                else:
                    yield row(after - position, "text: entropy-coded data")
        else:
            yield from rows(end.HEADER)
        assert position == stop
        yield row(container.UNIT_CRC.sizeof(), "`crc`")
    assert position == len(data)


def _fields(declaration: Any, data: bytes) -> Iterator[tuple[int, str]]:
    """Size and description of every top-level element that is present."""
    names = [renamed.name for renamed in declaration.subcons]
    marked = [member for r in declaration.subcons for member in (f"{r.name} at" / construct.Tell, r)]
    values = construct.Struct(*marked, "end at" / construct.Tell).parse(data)
    for name, after in zip(names, [*names[1:], "end"], strict=True):
        value, size = values[name], values[f"{after} at"] - values[f"{name} at"]
        if size == 0:
            continue
        if isinstance(value, construct.Container):
            bits = ", ".join(f"{k} {int(v)}" for k, v in value.items() if not k.startswith("_"))
            yield size, f"`{name}`: {bits}"
        else:
            yield size, f"`{name}`" if isinstance(value, bytes) else f"`{name}`: {int(value)}"


if __name__ == "__main__":
    sys.exit(main())
