"""The report as JUnit XML, as continuous integration systems read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from conformance.verdict import Result, Verdict

#: What XML 1.0 cannot hold, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: Verdicts that are about how a decoder ended rather than about its answer.
_ERRORS = {Verdict.CRASH, Verdict.TIMEOUT, Verdict.OUT_OF_MEMORY}


def render(results: Sequence[Result], report: dict[str, Any]) -> str:
    """One test suite for each outcome and topic; failures that are listed as expected are skipped tests."""
    root = ElementTree.Element("testsuites", name=f"{report['suite']} conformance")
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(f"{result.vector.outcome}.{result.vector.topic}", []).append(result)
    for name, members in groups.items():
        cases = [_case(name, result) for result in members]
        counts = {
            kind: str(sum(case.find(tag) is not None for case in cases))
            for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
        }
        seconds = f"{sum(result.seconds for result in members):.3f}"
        attributes = {"name": name, "tests": str(len(cases)), "time": seconds, **counts}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        suite.extend(cases)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _case(suite: str, result: Result) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=suite, name=result.vector.name, time=f"{result.seconds:.3f}"
    )
    if result.verdict is Verdict.PASS and result.as_expected:
        return case
    message = _ILLEGAL.sub("\ufffd", f"{result.verdict.words}: {result.message}".rstrip(": "))
    if result.as_expected:
        tag = "skipped"
    elif result.verdict is Verdict.PASS:
        tag, message = "failure", f"pass, though {result.expected.words} is expected"
    else:
        tag = "error" if result.verdict in _ERRORS else "failure"
    child = ElementTree.SubElement(case, tag, message=message.splitlines()[0])
    if tag != "skipped":
        child.set("type", result.verdict.value)
        child.text = f"{message}\n{', '.join(result.vector.requirements)}"
    return case
