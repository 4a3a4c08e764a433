"""Which requirements a file meets: the work behind ``tgv-conformance check``."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from conformance.reference import framing
from conformance.rules import NORMALISATION, RULES, Rule, broken, header_fields
from refdec import keyframes
from tgv_format import clip as clips
from tgv_format.clip import Clip, SectionType
from tgv_format.container import UnitType
from tgv_format.errors import TgvError
from tgv_format.group import expanded
from tgv_format.keyframe import Codec, Keyframe
from tgv_format.reader import Element, Reader
from tgv_format.sequence import SequenceHeader

PASSED, NOT_APPLICABLE, WARNING, ERROR = STATUSES = "passed", "not applicable", "warning", "error"

#: Rules about the sequence as a whole, which say nothing once a unit is missing from it.
_OF_THE_WHOLE = {f"TGV-CON-{n}" for n in (6, 7, *range(15, 22))} | {"TGV-SEQ-9", "TGV-TRK-1"}


@dataclass
class Finding:
    """What a file does about one requirement; ``notes`` say where and why."""

    requirement: str
    clause: str
    text: str
    status: str = PASSED
    notes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, status: str, detail: str, **place: Any) -> None:
        self.status = status
        self.notes.append({**place, "detail": detail})


def check(data: bytes) -> list[Finding]:
    """One finding for every rule, in the order of the specification."""
    stream = _Stream(data)
    findings = {rule.requirement: Finding(rule.requirement, rule.clause, rule.text) for rule in RULES}
    for number, error in enumerate(stream.errors):
        requirement = broken(error, data)
        # What is missing from the whole after an error may be missing because of it.
        if number == 0 or requirement not in _OF_THE_WHOLE:
            findings[requirement].add(ERROR, error.detail, offset=error.offset, path=error.path)
    for rule in RULES:
        finding = findings[rule.requirement]
        if finding.status == ERROR:
            continue
        if unchecked := stream.unchecked(rule):
            finding.add(WARNING, f"not checked: {unchecked}")
        elif rule.part and rule.part not in stream.parts:
            finding.status = NOT_APPLICABLE
    for path in stream.not_normalised:
        findings[NORMALISATION].add(WARNING, "the text is not in Normalization Form C", path=path)
    return list(findings.values())


class _Stream:
    """Everything that reading a stream tells: all errors, what it consists of, what could not be checked."""

    def __init__(self, data: bytes) -> None:
        self.errors: list[TgvError] = []
        self.parts: set[str] = set()
        self.not_normalised: list[str] = []
        self.header: SequenceHeader | None = None
        self.damaged = False
        self._missing = ""
        # Once as a decoder does, which stops at the first error, then on from there as far as possible.
        elements: list[Element] = []
        try:
            elements = list(Reader(io.BytesIO(data)))
        except TgvError as error:
            self._note(error)
            self.damaged = True
        try:
            reader = Reader(io.BytesIO(data), conceal=self._note)
            self.header = reader.header
            elements = list(reader) if self.damaged else elements
        except TgvError:
            pass
        self._keyframes(elements)
        self._survey(data, elements)

    def _note(self, error: TgvError) -> None:
        if all((error.identifier, error.offset) != (e.identifier, e.offset) for e in self.errors):
            self.errors.append(error)

    def _keyframes(self, elements: list[Element]) -> None:
        found: list[Keyframe] = [element for element in elements if isinstance(element, Keyframe)]
        if self.header is None:
            return
        size = self.header.width, self.header.height
        track = keyframes.KeyframeDecoder(*size)
        for number, keyframe in enumerate(found):
            path = f"keyframe[{number}]"
            try:
                if keyframe.codec is Codec.ILLM:
                    keyframes.latents(keyframe, *size, path)
                else:
                    track.decode(keyframe, path)
            except TgvError as error:
                self._note(error)
            except ModuleNotFoundError as error:
                self._missing = f"{error.name} is not installed"

    def _survey(self, data: bytes, elements: list[Element]) -> None:
        """What there is, also in units with errors inside, up to the first that cannot be read at all."""
        try:
            fields = header_fields(data)
            self.parts |= {name for name in ("frame_rate", "sample_aspect") if fields[name] is not None}
            units = list(framing(data))[1:]
            for unit in units:
                self.parts |= {"units", "group"} if unit.unit_type == UnitType.GROUP else {"units"}
            for unit in expanded(units):
                if unit.unit_type == UnitType.KEYFRAME:
                    codecs = {int(codec): codec.name.lower() for codec in Codec}
                    self.parts |= {"keyframe", codecs.get(unit.payload[0] >> 4, "")}
                elif unit.unit_type == UnitType.GENERATOR_HINT:
                    self.parts.add("generator_hint")
                elif unit.unit_type == UnitType.CLIP and self.header is not None:
                    self.parts.add("clip")
                    _, sections = clips.split(unit.payload, unit.offset, "clip", self.header.limits)
                    for section in sections:
                        self.parts.add("sections")
                        if section.section_type not in set(SectionType):
                            continue
                        self.parts |= {"symbols", SectionType(section.section_type).name.lower()}
        except (TgvError, IndexError):
            pass
        decoded = [element for element in elements if isinstance(element, Clip)]
        for number, clip in enumerate(decoded):
            if clip.text is not None and not unicodedata.is_normalized("NFC", clip.text.text):
                self.not_normalised.append(f"clip[{number}].text")

    def unchecked(self, rule: Rule) -> str:
        """Why a rule could not be checked, or ""."""
        if self.header is None and rule.requirement not in ("TGV-CON-5", "TGV-CON-8", "TGV-CON-15"):
            return "there is no valid sequence header"
        if self.damaged and rule.requirement in _OF_THE_WHOLE:
            return "the stream has errors before"
        if rule.part in ("av1", "vvc") and rule.part in self.parts and self._missing:
            return self._missing
        if rule.requirement == "TGV-KEY-9" and "the AV1 data does not decode" in self._details():
            # A decoder that allocates no picture of another size cannot tell why.
            return "an AV1 keyframe does not decode, or has another size"
        return ""

    def _details(self) -> set[str]:
        return {error.detail for error in self.errors}
