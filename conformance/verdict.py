"""What a decoder's behaviour on a vector means: verdicts, and the list of those that are expected."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from conformance import decoder, divergence, reference, y4m
from conformance.decoder import Outcome
from conformance.divergence import Divergence
from conformance.manifest import Vector
from tgv_format.picture import Picture

#: A written document longer than this is not read: no vector has one of a tenth of it.
_MOST_BYTES = 1 << 28


class Verdict(Enum):
    """The verdicts, which exclude one another. Only ``PASS`` is good."""

    PASS = "pass"
    WRONG_OUTPUT = "wrong-output"
    REJECTED_VALID = "rejected-valid"
    ACCEPTED_INVALID = "accepted-invalid"
    WRONG_ERROR = "wrong-error"
    CRASH = "crash"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    UNSUPPORTED = "unsupported"

    @property
    def words(self) -> str:
        return self.value.replace("-", " ")


@dataclass(frozen=True)
class Result:
    """The verdict on one vector, and why.

    ``classes`` are the conformance classes that were checked; ``expected`` is the verdict that the list of
    expected failures gives, ``PASS`` where it says nothing.
    """

    vector: Vector
    verdict: Verdict
    classes: tuple[int, ...]
    seconds: float
    message: str = ""
    error: str | None = None
    divergence: Divergence | None = None
    expected: Verdict = Verdict.PASS

    @property
    def as_expected(self) -> bool:
        return self.verdict is self.expected


def wanted(vector: Vector, classes: Iterable[int], offered: set[str]) -> set[str]:
    """Which of the ``offered`` outputs a decoder has to write to check the ``classes`` of a vector."""
    checked = set(classes) & set(vector.classes)
    outputs = {"params"} if 2 in checked else set()
    if checked & {3, 4}:
        outputs |= {"latents"} if vector.learned else {"md5", "frames"}
    return outputs & offered


def judge(
    vector: Vector, outcome: Outcome, outputs: dict[str, Path], classes: Sequence[int]
) -> tuple[Verdict, str, Divergence | None]:
    """The verdict on one run of a decoder, a sentence, and for wrong output the first difference."""
    if outcome.stopped == "timeout":
        return Verdict.TIMEOUT, f"no result after {outcome.seconds:.1f} s", None
    if outcome.stopped == "memory":
        return Verdict.OUT_OF_MEMORY, "more memory than the limit", None
    if outcome.code == decoder.UNSUPPORTED:
        return Verdict.UNSUPPORTED, outcome.message, None
    if outcome.code == decoder.REJECTED and outcome.error is not None:
        if vector.valid:
            said = outcome.message.splitlines()[-1:] or [outcome.error]
            return Verdict.REJECTED_VALID, *_what_was_left(vector, outputs, said[0])
        if outcome.error in vector.errors:
            return Verdict.PASS, "", None
        return Verdict.WRONG_ERROR, f"{' or '.join(vector.errors)} expected, {outcome.error} reported", None
    if outcome.code != decoder.DECODED:
        return Verdict.CRASH, *_what_was_left(vector, outputs, _crash(outcome))
    if not vector.valid:
        return Verdict.ACCEPTED_INVALID, f"{' or '.join(vector.errors)} expected, decoded", None
    for name, path in outputs.items():
        if not path.is_file():
            return Verdict.WRONG_OUTPUT, f"the file for {{{name}}} was not written", None
        if path.stat().st_size > _MOST_BYTES:
            return Verdict.WRONG_OUTPUT, f"the file for {{{name}}} is longer than {_MOST_BYTES} bytes", None
    try:
        found = _compare(vector, outputs, classes)
    except y4m.Y4mError as error:
        return Verdict.WRONG_OUTPUT, f"the file for {{frames}} is no Y4M of 4:2:0 pictures: {error}", None
    except reference.MismatchError as error:
        return Verdict.WRONG_OUTPUT, f"not as expected; where cannot be told: {error}", None
    if found is None:
        return Verdict.PASS, "", None
    return Verdict.WRONG_OUTPUT, found.sentence(), found


def _what_was_left(vector: Vector, outputs: dict[str, Path], message: str) -> tuple[str, Divergence | None]:
    """Where a decoder that did not finish a valid stream left the path, by the document that it had begun."""
    path = outputs.get("params")
    if not vector.valid or path is None or not path.is_file() or not 0 < path.stat().st_size <= _MOST_BYTES:
        return message, None
    try:
        found = divergence.in_part(reference.load(vector), path.read_bytes())
    except reference.MismatchError:
        return message, None
    return "\n".join([message, *([found.sentence()] if found else [])]), found


def _crash(outcome: Outcome) -> str:
    code = outcome.code or 0
    how = f"ended by signal {-code}" if code < 0 else f"exit status {code}"
    if code == decoder.REJECTED:
        how += " without an error identifier"
    last = outcome.message.splitlines()[-1:] or [""]
    return f"{how}: {last[0]}" if last[0] else how


def _compare(vector: Vector, outputs: dict[str, Path], classes: Sequence[int]) -> Divergence | None:
    """The first difference of all that was written; parameters are decoded before pictures."""
    expected = vector.expectation
    if "params" in outputs:
        written = outputs["params"].read_bytes()
        if hashlib.sha256(written).hexdigest() != expected.document_sha256:
            return divergence.in_parameters(reference.load(vector), written)
    if "latents" in outputs:
        return divergence.in_latents(expected, outputs["latents"].read_bytes().decode("utf-8", "replace"))
    lists: list[tuple[list[str], list[Picture] | None]] = []
    if "frames" in outputs:
        pictures = y4m.read(outputs["frames"].read_bytes())
        lists.append(([picture.md5() for picture in pictures], pictures))
    if "md5" in outputs:
        text = outputs["md5"].read_bytes().decode("utf-8", "replace")
        if text != "".join(f"{n} {md5}\n" for n, md5 in enumerate(expected.frames)):
            lists.append((_md5s(text), None))
    for md5s, written_pictures in lists:
        if md5s != list(expected.frames):
            found = divergence.in_frames(
                reference.load(vector), expected, md5s, written_pictures, 4 in classes
            )
            if found is not None:
                return found
    return None


def _md5s(text: str) -> list[str]:
    """The MD5s of a list in the form of clause 11.4; a line that is not in that form stands for itself."""
    out = []
    lines = text.split("\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1]):
        index, _, md5 = line.partition(" ")
        complete = number + 1 < len(lines)
        out.append(md5 if index == str(number) and complete else line)
    return out


# --- Expected failures


class ExpectationError(ValueError):
    """A list of expected failures that does not fit the suite; the message is one line for the user."""


def read_expected(text: str, names: Iterable[str]) -> dict[str, Verdict]:
    """The verdicts expected for vectors: lines ``NAME-OR-GLOB VERDICT``, ``#`` begins a comment.

    ExpectationError for an unknown verdict, and for a line that fits no vector of the suite: what does not
    exist any more should not be listed. Where several lines fit a vector, the last counts.
    """
    names = list(names)
    out: dict[str, Verdict] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            pattern, value = words
            verdict = Verdict(value)
        except ValueError:
            raise ExpectationError(f"line {number}: not a vector and a verdict: {line.strip()}") from None
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            raise ExpectationError(f"line {number}: no vector is called {pattern}")
        out.update(dict.fromkeys(fitting, verdict))
    return out


def write_expected(results: Iterable[Result]) -> str:
    """The list that makes these results the expected ones."""
    bad = [result for result in results if result.verdict is not Verdict.PASS]
    width = max((len(result.vector.name) for result in bad), default=0)
    return "".join(f"{r.vector.name:{width}} {r.verdict.value}\n" for r in bad)
