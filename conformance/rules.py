"""The requirements on bitstreams: to which streams each applies, and which one an error breaks.

Several requirements share an error identifier; the element's path, and where that is not enough the decoder's
explanation, tell them apart. Requirements with the error *none* bind decoders and are not listed, except the
one that an encoder can break.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from conformance.reference import framing
from tgv_format import sequence
from tgv_format.container import SIGNATURE
from tgv_format.errors import TgvError
from tgv_format.syntax import parse
from tgv_format.tables import load

_SECTIONS = {
    "TRJ": "trajectories",
    "FLW": "flow_tokens",
    "POS": "camera_poses",
    "MSK": "masks",
    "TXT": "text",
    "INT": "interpolation",
    "KEY": "keyframe",
    "TRK": "keyframe",
    "VVC": "vvc",
    "CLP": "sections",
    "GRP": "group",
    "HNT": "generator_hint",
    "ENT": "symbols",
}

#: Requirements without an error that a checker of files can test.
NORMALISATION = "TGV-TXT-3"


@dataclass(frozen=True)
class Rule:
    """``part`` is what a stream has to have for the rule to apply, "" for rules that always do.

    ``path`` and ``detail`` are regular expressions for the error that tells of a violation.
    """

    requirement: str
    clause: str
    text: str
    error: str | None
    part: str
    path: str
    detail: str


#: Part (None: that of the identifier's subject), path and detail by requirement.
_DISTINCTIONS: dict[str, tuple[str | None, str, str]] = {
    "TGV-CON-2": (None, r"", "is not in"),
    "TGV-CON-4": (None, r"", "the data ends here|bytes missing"),
    "TGV-CON-6": (None, r"", "there is no"),
    "TGV-CON-7": (None, r"^file$", ""),
    "TGV-CON-8": (None, r"^unit\.", "first unit"),
    "TGV-CON-9": ("units", r"^unit\.", ""),
    "TGV-CON-12": (None, r"^file$", ""),
    "TGV-CON-14": (None, r"^(sequence|generator_hint|end)", ""),
    "TGV-CON-15": (None, r"", "first unit"),
    "TGV-CON-16": (None, r"", "second sequence"),
    "TGV-CON-17": (None, r"", "first keyframe is"),
    "TGV-CON-18": (None, r"", "before the first"),
    "TGV-CON-19": (None, r"", "waits for its clip"),
    "TGV-CON-20": (None, r"^(keyframe|clip)", ""),
    "TGV-CON-21": (None, r"^end", ""),
    "TGV-GRP-2": (None, r"^group\[\d+\]\.interval\[\d+\]$", ""),
    "TGV-GRP-3": (None, r"^group", ""),
    "TGV-SEQ-3": (None, r"^sequence\.level$", ""),
    "TGV-SEQ-4": ("frame_rate", r"^sequence", "SEQ-4"),
    "TGV-SEQ-5": ("frame_rate", r"^sequence", "SEQ-5"),
    "TGV-SEQ-6": (None, r"^sequence", "SEQ-6"),
    "TGV-SEQ-7": (None, r"^sequence", "SEQ-7"),
    "TGV-SEQ-8": ("sample_aspect", r"^sequence", "SEQ-8"),
    "TGV-HNT-2": (None, r"hint", ""),
    "TGV-KEY-1": (None, r"head\.codec$", ""),
    "TGV-KEY-2": (None, r"head\.downscale_log2$", ""),
    "TGV-KEY-3": (None, r"", "is empty"),
    "TGV-KEY-5": ("raw", r"", "bytes do not hold"),
    "TGV-KEY-6": ("av1", r"", "an OBU"),
    "TGV-KEY-7": ("av1", r"", "OBU types .* no keyframe"),
    "TGV-ILM-1": ("illm", r"", ""),
    "TGV-ILM-3": ("illm", r"payload\.y$", "32 bits"),
    "TGV-ILM-6": ("illm", r"payload\.[yz]\[", "escape"),
    "TGV-KEY-8": ("av1", r"", "AV1 data"),
    "TGV-KEY-9": ("av1", r"", "AV1 picture is"),
    "TGV-TRK-1": (None, r"", "could depend"),
    "TGV-TRK-2": (None, r"head\.dependent$", ""),
    "TGV-TRK-3": ("av1", r"", "no dependent keyframe"),
    "TGV-TRK-4": ("av1", r"", "AV1 frames$"),
    "TGV-VVC-1": (None, r"", "NAL units of types"),
    "TGV-VVC-3": (None, r"", "not supported in keyframes|a parameter set"),
    "TGV-VVC-4": (None, r"", "does not hold one of"),
    "TGV-VVC-5": (None, r"", "VVC data|VVC picture is"),
    "TGV-ENT-3": (None, r"", "another message"),
    "TGV-ENT-5": (None, r"", "escape"),
    "TGV-CLP-1": ("clip", r"frame_count$", ""),
    "TGV-CLP-2": (None, r"section\[", ""),
    "TGV-CLP-4": (None, r"^clip\[\d+\]$", ""),
    "TGV-CLP-5": (None, r"^clip\[\d+\]$", ""),
    "TGV-CLP-6": (None, r"^clip\[\d+\]$", ""),
    "TGV-TRJ-1": (None, r"trajectories$", ""),
    "TGV-TRJ-2": (None, r"trajectories\.count_minus1$", ""),
    "TGV-TRJ-4": (None, r"trajectories.*anchor_gap$", "lattice cell"),
    "TGV-TRJ-5": (None, r"trajectories", "anchored at its first frame"),
    "TGV-TRJ-6": (None, r"trajectories.*span$", "full span"),
    "TGV-TRJ-7": (None, r"trajectories.*instance$", "256 instances"),
    "TGV-TRJ-8": (None, r"trajectories.*path$", "split for nothing"),
    "TGV-TRJ-9": (None, r"trajectories.*visibility$", "default visibility"),
    "TGV-TRJ-10": (None, r"trajectories", "too far"),
    "TGV-TXT-1": (None, r"\.text\.", ""),
    "TGV-TXT-2": (None, r"\.text$", ""),
    "TGV-FLW-1": (None, r"flow_tokens$", ""),
    "TGV-FLW-2": (None, r"tokenizer_id$", ""),
    "TGV-FLW-3": (None, r"tokens_minus1$", ""),
    "TGV-FLW-5": (None, r"flow_tokens", "more than 16 bits"),
    "TGV-FLW-6": (None, r"flow_tokens", "straight interval"),
    "TGV-POS-1": (None, r"camera_poses$", ""),
    "TGV-POS-3": (None, r"camera_poses\.intrinsics$", ""),
    "TGV-POS-4": (None, r"camera_poses", "still camera"),
    "TGV-POS-5": (None, r"camera_poses", "zero throughout"),
    "TGV-POS-6": (None, r"camera_poses", "from zero"),
    "TGV-MSK-1": (None, r"masks$", "a section of"),
    "TGV-MSK-2": (None, r"masks$", "planes of"),
    "TGV-MSK-4": (None, r"masks", "out of its plane"),
    "TGV-MSK-5": (None, r"masks", "no label is moved"),
    "TGV-MSK-6": (None, r"masks", "rows where"),
    "TGV-MSK-7": (None, r"masks", "still by its flag"),
    "TGV-MSK-8": (None, r"masks", "an edge at"),
    "TGV-MSK-9": (None, r"masks", "of a choice"),
    "TGV-INT-1": (None, r"interpolation\.head\.mode$", ""),
    "TGV-INT-2": (None, r"interpolation$", ""),
    "TGV-INT-4": (None, r"interpolation.*component$", "a component of"),
    "TGV-INT-5": (None, r"interpolation", "no correction"),
    "TGV-LVL-1": (None, r"^sequence", ""),
}
#: These take what no other rule with their error takes.
_GENERAL = ("TGV-CON-3", "TGV-CON-2", "TGV-CON-4")


def _rules() -> tuple[Rule, ...]:
    out = []
    for row in load("requirements")["requirements"]:
        name = row["id"]
        if row["error"] is None and name != NORMALISATION:
            continue
        part, path, detail = _DISTINCTIONS.get(name, (None, "", ""))
        part = _SECTIONS.get(name.split("-")[1], "") if part is None else part
        out.append(Rule(name, row["clause"], row["text"], row["error"], part, path, detail))
    return tuple(out)


#: All rules in the order of the specification.
RULES = _rules()


def broken(error: TgvError, data: bytes) -> str:
    """The requirement that ``error`` tells a violation of, in the stream ``data``."""
    detail = error.detail
    if error.identifier == "non-canonical" and error.path.startswith("sequence"):
        detail = _broken_in_header(data)
    elif error.identifier == "limit-exceeded" and error.offset == len(SIGNATURE) + 1:
        detail = "first unit"
    fitting = [
        rule.requirement
        for rule in RULES
        if rule.error == error.identifier
        and re.search(rule.path, error.path)
        and re.search(rule.detail, detail)
    ]
    special = [name for name in fitting if name not in _GENERAL]
    return (special or fitting)[0]


def _broken_in_header(data: bytes) -> str:
    """Which of TGV-SEQ-4 to TGV-SEQ-8 a sequence header breaks first."""
    fields = header_fields(data)
    rate, colour, aspect = fields.frame_rate, fields.colour, fields.sample_aspect
    faults: dict[str, Callable[[], bool]] = {
        "SEQ-5": lambda: rate is not None and math.gcd(rate.numerator, rate.denominator) != 1,
        "SEQ-4": lambda: (
            rate is not None and Fraction(rate.numerator, rate.denominator) in sequence.FRAME_RATES.values()
        ),
        "SEQ-6": lambda: (
            colour is not None
            and (colour.primaries, colour.transfer, colour.matrix, colour.full_range) == (1, 1, 1, 0)
        ),
        "SEQ-7": lambda: aspect is not None and (aspect.width, aspect.height) == (1, 1),
        "SEQ-8": lambda: aspect is not None and math.gcd(aspect.width, aspect.height) != 1,
    }
    return next(name for name, is_broken in faults.items() if is_broken())


def header_fields(data: bytes) -> Any:
    """The elements of the sequence header as they are coded; TgvError where there is none."""
    for unit in framing(data):
        return parse(sequence.HEADER, unit.payload, unit.offset, "sequence")[0]
    raise TgvError("truncated", len(SIGNATURE), "sequence", "there is no sequence header")
