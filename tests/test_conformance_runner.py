"""The conformance runner tells decoders apart that go wrong in different ways."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from suites import Suite, everything, fake, still

from conformance import (
    decoder,
    divergence,
    report,
    report_badge,
    report_html,
    report_junit,
    report_text,
    run,
    verdict,
)
from conformance.decoder import CommandDecoder, Limits, Outcome, PersistentDecoder
from conformance.manifest import Vector, vectors
from conformance.verdict import Result, Verdict
from tgv_format.tables import load

SCHEMA = json.loads((Path(run.__file__).parent / "schema" / "report.schema.json").read_text())
PYTHON = f"{sys.executable} -S -E"
REFDEC = f"{sys.executable} -m conformance.examples.reference_server"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Two valid vectors and three invalid ones."""
    found = Suite(tmp_path_factory.mktemp("suite"))
    data = still()
    found.add("still", data, features=("raw", "one-sided"), requirements=("TGV-KEY-5", "TGV-CON-20"))
    found.add(
        "everything", everything(), features=("raw", "trajectories", "masks"), requirements=("TGV-TRJ-3",)
    )
    found.add("magic", b"X" + data[1:], ("bad-magic",), requirements=("TGV-CON-5",))
    found.add("cut", data[:-1], ("truncated", "trailing-data"), requirements=("TGV-CON-4",))
    found.add("codec", data, ("unsupported-codec",), classes=(3, 4), requirements=("TGV-KEY-12",))
    return found


def start(suite: Suite, *words: str) -> int:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    return run.main(parser.parse_args(["--suite", str(suite.folder), "-j", "2", *words]))


def verdicts(suite: Suite, tmp_path: Path, *words: str) -> dict[str, str]:
    """The verdicts of a run, by vector."""
    path = tmp_path / "report.json"
    start(suite, "--json", str(path), *words)
    return {row["vector"]: row["verdict"] for row in json.loads(path.read_text())["results"]}


# --- Verdicts


def test_the_reference_decoder_passes(suite: Suite, tmp_path: Path) -> None:
    command = f"{sys.executable} -m refdec.cli {{input}} [--params {{params}}] [--frames-md5 {{md5}}]"
    names = ["--decoder", command, "still", "everything", "magic", "cut"]
    assert set(verdicts(suite, tmp_path, *names).values()) == {"pass"}
    assert start(suite, *names) == 0


FAKES = {
    "crash": ("os.kill(os.getpid(), 11)", Verdict.CRASH),
    "status of its own": ("sys.exit(3)", Verdict.CRASH),
    "rejects without an identifier": ("sys.exit('no')", Verdict.CRASH),
    "traceback": ("raise ValueError('truncated')", Verdict.CRASH),
    "hangs": ("time.sleep(60)", Verdict.TIMEOUT),
    "busy": ("while True: pass", Verdict.TIMEOUT),
    "child hangs": ("import subprocess; subprocess.run(['sleep', '60'])", Verdict.TIMEOUT),
    "eats memory": ("block = bytearray(400 << 20); time.sleep(60)", Verdict.OUT_OF_MEMORY),
    "had eaten memory": ("block = bytearray(800 << 20)", Verdict.OUT_OF_MEMORY),
    "unsupported": ("sys.exit(69)", Verdict.UNSUPPORTED),
}


@pytest.mark.parametrize(("body", "expected"), FAKES.values(), ids=list(FAKES))
def test_how_a_decoder_ends(suite: Suite, tmp_path: Path, body: str, expected: Verdict) -> None:
    """Whatever the vector is: these are not answers."""
    limits = ["--timeout", "1" if expected is Verdict.TIMEOUT else "20", "--memory", "256"]
    found = verdicts(suite, tmp_path, "--decoder", fake(tmp_path, body), *limits, "still", "magic")
    assert found == {"still": expected.value, "magic": expected.value}


def test_accepting_everything(suite: Suite, tmp_path: Path) -> None:
    found = verdicts(suite, tmp_path, "--decoder", fake(tmp_path, "params.touch(); md5.touch()"))
    assert found == {
        "everything": "wrong-output",
        "still": "wrong-output",
        "codec": "accepted-invalid",
        "cut": "accepted-invalid",
        "magic": "accepted-invalid",
    }


def test_rejecting_everything(suite: Suite, tmp_path: Path) -> None:
    body = "print('dec: trailing-data at byte 3', file=sys.stderr); sys.exit(1)"
    found = verdicts(suite, tmp_path, "--decoder", fake(tmp_path, body))
    assert found == {
        "everything": "rejected-valid",
        "still": "rejected-valid",
        "codec": "wrong-error",
        "cut": "pass",
        "magic": "wrong-error",
    }


@pytest.mark.parametrize("missing", ["params", "md5"])
def test_a_file_that_was_asked_for_has_to_be_there(suite: Suite, tmp_path: Path, missing: str) -> None:
    other = {"params": "md5", "md5": "params"}[missing]
    path = tmp_path / "report.json"
    start(suite, "--json", str(path), "--decoder", fake(tmp_path, f"{other}.touch()"), "still")
    (row,) = json.loads(path.read_text())["results"]
    assert row["verdict"] == "wrong-output"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("truncated", "truncated"),
        ("refdec: crc-mismatch at byte 9", "crc-mismatch"),
        ("C:/dec.exe: unit-order", None),
        ("warning\ndec: unit-order: why\n", "unit-order"),
        ("it is truncated", None),
        ("truncated-x", None),
        ("bad-magic\ntruncated", "truncated"),
        ("Traceback (most recent call last):\nError: truncated", None),
        ("", None),
    ],
)
def test_reported_errors(message: str, expected: str | None) -> None:
    assert decoder.reported_error(message) == expected


# --- What is asked of a decoder


def test_parts_in_brackets_are_left_out(suite: Suite, tmp_path: Path) -> None:
    """A vector that says nothing of pictures is not asked for pictures."""
    (vector,) = [v for v in vectors(suite.folder) if v.name == "still"]
    log = tmp_path / "log"
    script = f"import sys; open({str(log)!r}, 'w').write(' '.join(sys.argv[1:]))"
    command = CommandDecoder(f'{PYTHON} -c "{script}" {{input}} [-p {{params}}] [-m {{md5}}]', Limits())
    assert (command.outputs, command.required) == ({"params", "md5"}, set())
    command.decode(vector.stream_path, {"params": Path("P")})
    assert log.read_text() == f"{vector.stream_path} -p P"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--decoder", "dec {params}"], "needs {input}"),
        (["--decoder", "dec {input} {yuv}"], "{yuv}"),
        (["--decoder", "dec {input} {trace}"], "trace"),
        (["--decoder", "dec {input}", "--persistent"], "--outputs"),
        (["--decoder", "dec", "--persistent", "--outputs", "params,video"], "video"),
        (["--decoder", "dec {input}", "--trace-decoder", "dec {input}"], "{trace}"),
        (["--decoder", "/nonexistent/dec {input}"], "/nonexistent/dec"),
        (["--decoder", "true {input}", "no-such-vector"], "no vector"),
        (["--decoder", "true {input}", "--feature", "nothing"], "no vector"),
    ],
)
def test_wrong_usage(
    suite: Suite, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(suite, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["valid/*"], {"still", "everything"}),
        (["sti*", "magic"], {"still", "magic"}),
        (["--feature", "masks"], {"everything"}),
        (["--requirement", "TGV-CON-*"], {"still", "magic", "cut"}),
        (["--class", "2"], {"still", "everything", "magic", "cut"}),
        (["--class", "3"], {"still", "everything", "magic", "cut", "codec"}),
        (["--profile", "0", "--level", "1", "invalid/*"], {"magic", "cut", "codec"}),
    ],
)
def test_filters(suite: Suite, tmp_path: Path, words: list[str], names: set[str]) -> None:
    assert set(verdicts(suite, tmp_path, "--decoder", "false {input} {params} {md5}", *words)) == names


def test_a_decoder_without_pictures_is_not_asked_about_them(suite: Suite, tmp_path: Path) -> None:
    found = verdicts(suite, tmp_path, "--decoder", f"{PYTHON} -c 0 {{input}} {{params}}")
    assert "codec" not in found


def test_a_vector_without_pictures_is_not_for_a_decoder_that_always_makes_them(suite: Suite) -> None:
    """Keyframe codecs without decoding process have decoded parameters, but no frames."""
    vector = suite.add("parameters", still(), classes=(1, 2))
    try:
        names = {"{input} {params} {md5}": False, "{input} {params} [{md5}]": True, "{input} {params}": True}
        for words, applies in names.items():
            workers = run_workers(f"dec {words}")
            assert workers.applies(vector) is applies
    finally:
        for path in (vector.recipe_path, vector.stream_path, vector.expectation_path):
            path.unlink()


def run_workers(command: str) -> Any:
    from conformance.workers import Workers

    return Workers(command, None, None, Limits(), 1, run.CLASSES)


# --- Persistent decoders

ANSWER = "print(json.dumps({'id': request['id'], 'status': %s}), flush=True)"
SERVER = """
import json, os, sys, time
for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    name = os.path.basename(request["input"])
    {body}
    print(json.dumps({{"id": request["id"], "status": 1, "error": "bad-magic"}}), flush=True)
"""


def server(tmp_path: Path, body: str) -> str:
    path = tmp_path / "server.py"
    path.write_text(SERVER.format(body=body))
    return f"{PYTHON} {path}"


def test_the_reference_server_passes(suite: Suite, tmp_path: Path) -> None:
    found = verdicts(suite, tmp_path, "--persistent", "--decoder", REFDEC, "--outputs", "params,md5,frames")
    assert found == {
        **dict.fromkeys(("everything", "still", "cut", "magic"), "pass"),
        "codec": "accepted-invalid",
    }


def test_one_process_serves_all(suite: Suite, tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = f"print(os.getpid(), number, file=open({str(log)!r}, 'a'))"
    verdicts(suite, tmp_path, "--persistent", "-j", "1", "--decoder", server(tmp_path, body))
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len({pid for pid, _ in lines}) == 1
    assert [int(number) for _, number in lines] == list(range(5))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("if name == 'still.tgv': os.kill(os.getpid(), 9)", "crash"),
        ("if name == 'still.tgv': sys.exit(0)", "crash"),
        ("if name == 'still.tgv': time.sleep(60)", "timeout"),
        ("if name == 'still.tgv': block = bytearray(400 << 20); time.sleep(60)", "out-of-memory"),
        ("if name == 'still.tgv': print('decoding', flush=True)", "crash"),
        ("if name == 'still.tgv': print(json.dumps({'id': 0, 'status': 0}), flush=True)", "crash"),
        (f"if name == 'still.tgv': {ANSWER % repr('ok')}", "crash"),
        ("if name == 'still.tgv': print('[]', flush=True)", "crash"),
        (f"if name == 'still.tgv': {ANSWER % 69}; continue", "unsupported"),
    ],
)
def test_a_persistent_decoder_is_started_again(
    suite: Suite, tmp_path: Path, body: str, expected: str
) -> None:
    """The failure is that of one vector; the next ones get an answer."""
    limits = ["--timeout", "2", "--memory", "256", "-j", "1"]
    command = server(tmp_path, body)
    found = verdicts(
        suite, tmp_path, "--persistent", "--decoder", command, *limits, "everything", "still", "magic"
    )
    assert found == {"everything": "rejected-valid", "still": expected, "magic": "pass"}


def test_a_server_that_never_answers_is_a_crash(tmp_path: Path) -> None:
    found = PersistentDecoder("true", Limits(), {"params"}).decode(tmp_path, {})
    assert found.code not in (decoder.DECODED, decoder.REJECTED, decoder.UNSUPPORTED)
    assert not found.stopped


# --- Expected failures


def test_expected_failures_are_strict(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "expected.txt"
    command = ["--decoder", fake(tmp_path, "params.touch(); md5.touch()")]
    assert start(suite, *command, "--write-expect", str(listed)) == 1
    assert start(suite, *command, "--expect", str(listed)) == 0
    capsys.readouterr()
    # A pass that is listed as failing is a failure, and so is another failure than the listed one.
    reference = ["--persistent", "--decoder", REFDEC, "--expect", str(listed), "still"]
    assert start(suite, *reference) == 1
    assert "wrong output expected" in capsys.readouterr().out
    listed.write_text("still crash\n")
    assert start(suite, *command, "--expect", str(listed), "still") == 1


def test_the_list_of_expected_failures() -> None:
    names = ["a-1", "a-2", "b"]
    found = verdict.read_expected("# all\n\na-*  crash # why\na-2 timeout\n", names)
    assert found == {"a-1": Verdict.CRASH, "a-2": Verdict.TIMEOUT}
    for text in ("c crash", "a-1", "a-1 bad", "a-1 crash now"):
        with pytest.raises(verdict.ExpectationError, match="line 1"):
            verdict.read_expected(text, names)


def test_a_stale_list_is_wrong_usage(suite: Suite, tmp_path: Path) -> None:
    listed = tmp_path / "expected.txt"
    listed.write_text("gone crash\n")
    assert start(suite, "--decoder", "true {input}", "--expect", str(listed)) == 2


# --- Reports


def results(suite: Suite) -> list[Result]:
    """One result of every verdict, with text that has to be escaped."""
    found = {vector.name: vector for vector in vectors(suite.folder)}
    out = []
    for number, value in enumerate(Verdict):
        vector = found[["still", "magic"][number % 2]]
        out.append(Result(vector, value, (1, 2), 0.25, "<b>&\x00\x1b]]>\nsecond", "truncated"))
    return out


def test_the_report_fits_its_schema(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    body = 'import json\nparams.write_text(\'[\\n{"unit":"sequence","version":NaN}\\n]\\n\'); md5.touch()'
    start(suite, "--json", str(path), "--decoder", fake(tmp_path, body))
    data = json.loads(path.read_text())
    assert violations(data, SCHEMA) == []
    assert set(data["totals"]) == {value.value for value in Verdict}
    assert data["totals"]["wrong-output"] == 2
    assert all(violations(report.build([row], "dec", 1.0), SCHEMA) == [] for row in results(suite))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("ok"),
        lambda data: data.update(extra=1),
        lambda data: data["results"][0].update(verdict="good"),
        lambda data: data["results"][0].update(seconds=-1),
        lambda data: data["totals"].update(good=1),
        lambda data: data["requirements"].update({"TGV-1": data["totals"]}),
        lambda data: data["results"][0].update(divergence={"stage": "parameters"}),
    ],
)
def test_the_schema_refuses_other_reports(suite: Suite, change: Any) -> None:
    data = report.build(results(suite), "dec", 1.0)
    change(data)
    assert violations(data, SCHEMA)


def violations(value: Any, schema: dict[str, Any], path: str = "report") -> list[str]:
    """Where ``value`` breaks ``schema``: the keywords of JSON Schema that this schema uses, and no others."""
    known = {"$schema", "title", "description", "$defs", "$ref", "type", "required", "additionalProperties"}
    known |= {"properties", "propertyNames", "items", "enum", "minimum", "pattern"}
    assert set(schema) <= known
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if "type" in schema:
        right = isinstance(value, types[schema["type"]]) and (
            schema["type"] == "boolean" or not isinstance(value, bool)
        )
        if not right:
            return [f"{path} is no {schema['type']}"]
    out = []
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{path} is {value}")
    if "minimum" in schema and value < schema["minimum"]:
        out.append(f"{path} is {value}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        out.append(f"{path} is {value}")
    if isinstance(value, dict):
        out += [f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, member in value.items():
            out += violations(name, schema.get("propertyNames", {}), f"{path}.{name}")
            other = schema.get("additionalProperties", {})
            part = schema.get("properties", {}).get(name, other)
            if part is False:
                out.append(f"{path}.{name} is unknown")
            else:
                out += violations(member, part, f"{path}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            out += violations(item, schema.get("items", {}), f"{path}[{number}]")
    return out


def test_the_schema_knows_every_verdict() -> None:
    assert SCHEMA["$defs"]["verdict"]["enum"] == [value.value for value in Verdict]


def test_junit(suite: Suite) -> None:
    rows = results(suite)
    listed = Result(rows[0].vector, Verdict.CRASH, (1,), 0.1, "", None, None, Verdict.CRASH)
    unexpected = Result(rows[0].vector, Verdict.PASS, (1,), 0.1, "", None, None, Verdict.CRASH)
    rows = [*rows, listed, unexpected]
    root = ElementTree.fromstring(report_junit.render(rows, report.build(rows, "dec", 1.0)))
    cases = root.findall("testsuite/testcase")
    assert len(cases) == len(rows)
    # Only the expected pass has no child.
    assert sum(len(case) == 0 for case in cases) == 1
    assert len(root.findall(".//error")) == 3
    assert len(root.findall(".//failure")) == 6
    assert len(root.findall(".//skipped")) == 1
    for element in root.findall("testsuite"):
        assert int(element.attrib["tests"]) == len(element)
        assert int(element.attrib["failures"]) == len(element.findall("testcase/failure"))


class Page(HTMLParser):
    """Tags of a page, which have to be closed in order; text and identifiers."""

    VOID = ("meta", "br", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        self.links += [values["href"]] if values.get("href") else []
        self.outside += [name for name in ("src", "href") if not (values.get(name) or "#").startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html(suite: Suite) -> None:
    rows = results(suite)
    page = Page()
    text = report_html.render(rows, report.build(rows, "dec <x>", 1.0))
    page.feed(text)
    assert page.open == []
    assert page.outside == []
    assert "<b>&" in page.text
    assert "http" not in text
    for row in load("requirements")["requirements"]:
        assert row["id"] in page.text
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_badge(suite: Suite) -> None:
    rows = results(suite)
    for chosen, value in ((rows, f"1/{len(rows)}"), (rows[:1], "1/1")):
        root = ElementTree.fromstring(report_badge.render(report.build(chosen, "dec", 1.0)))
        assert value in "".join(root.itertext())


def test_the_table_counts_by_feature(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    rows = results(suite)
    report_text.write(rows, report.build(rows, "dec", 1.0), sys.stdout)
    table = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()
    }
    assert table["one-sided"][0] == "5"
    assert table["all"] == [str(len(rows)), *["1"] * len(rows)]


def test_all_reports_are_written(suite: Suite, tmp_path: Path) -> None:
    words = [
        word for name in ("json", "junit", "html", "badge") for word in (f"--{name}", str(tmp_path / name))
    ]
    start(suite, "--decoder", "false {input}", *words)
    assert all((tmp_path / name).stat().st_size for name in ("json", "junit", "html", "badge"))


# --- The command


def test_help_imports_nothing_heavy() -> None:
    script = """
import argparse, sys
from conformance import check, fluster, run
for module in (check, fluster, run):
    module.add_arguments(argparse.ArgumentParser())
print(sorted({"numpy", "av", "cv2", "construct"} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


def test_an_outcome_has_one_verdict(suite: Suite) -> None:
    vector: Vector = next(iter(vectors(suite.folder)))
    assert verdict.judge(vector, Outcome(None, 1.0, "timeout"), {}, (1,))[0] is Verdict.TIMEOUT
    assert verdict.judge(vector, Outcome(-11, 1.0), {}, (1,))[0] is Verdict.CRASH
    assert verdict.judge(vector, Outcome(0, 1.0), {}, (1,))[0] is Verdict.PASS


# --- Latents


LATENTS = ["latents-clip", "latents-steps", "latents-reserved-1"]


def latents_run(tmp_path: Path, command: str) -> dict[str, Any]:
    """The results of a few vectors with learned keyframes, by name."""
    path = tmp_path / "report.json"
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    run.main(parser.parse_args(["-j", "1", "--json", str(path), "--decoder", command, *LATENTS]))
    return {row["vector"]: row for row in json.loads(path.read_text())["results"]}


def test_latents_of_the_reference_decoder(tmp_path: Path) -> None:
    found = latents_run(tmp_path, f"{sys.executable} -m refdec.cli {{input}} --latents {{latents}}")
    assert {name: row["verdict"] for name, row in found.items()} == dict.fromkeys(LATENTS, "pass")


def test_a_decoder_of_pictures_is_not_asked_for_latents(tmp_path: Path) -> None:
    script = tmp_path / "decoder.py"
    script.write_text("import sys; sys.exit('truncated' if len(sys.argv) > 2 else 0)", encoding="utf-8")
    found = latents_run(tmp_path, f"{PYTHON} {script} {{input}} [{{md5}}]")
    assert {name: (row["verdict"], row["classes"]) for name, row in found.items()} == {
        "latents-clip": ("pass", [1]),
        "latents-steps": ("pass", [1]),
    }


@pytest.mark.parametrize(
    ("before", "after", "place", "clause"),
    [
        ("", "", None, None),
        (r"^1 \w+ (\w+)", r"1 {0} \1", "keyframe[1].z", "7.6.1, 7.6.3"),
        (r"^1 (\w+) \w+", r"1 \1 {0}", "keyframe[1].y", "7.6.5, 7.6.6"),
        (r"^1 .*\n", "", "keyframe[1].number", "11.7"),
        (r"^1 .*\n(.*\n)*", "", "keyframe[1].number", "11.7"),
        (r"\n\Z", "", None, "11.7"),
        (r"\Z", "9 {0} {0}\n", None, "11.7"),
    ],
)
def test_the_first_latents_that_differ(
    before: str, after: str, place: str | None, clause: str | None
) -> None:
    expected = next(vector for vector in vectors() if vector.name == "latents-steps").expectation
    text = re.sub(before, after.format("0" * 32), expected.latents_text(), count=1, flags=re.M)
    found = divergence.in_latents(expected, text)
    if clause is None:
        assert found is None
    else:
        assert found is not None
        assert (found.element, found.clause) == (place, clause)


def test_wrong_latents_are_wrong_output(tmp_path: Path) -> None:
    script = tmp_path / "decoder.py"
    script.write_text("import sys; open(sys.argv[1], 'w').write('0 a b\\n')", encoding="utf-8")
    found = latents_run(tmp_path, f"{PYTHON} {script} {{latents}} {{input}}")
    assert found["latents-clip"]["verdict"] == "wrong-output"
    assert "keyframe[0].z" in found["latents-clip"]["message"]
    assert found["latents-reserved-1"]["verdict"] == "accepted-invalid"
