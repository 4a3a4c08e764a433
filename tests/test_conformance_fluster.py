"""What is written for fluster is what fluster reads."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from suites import Suite, everything, fake, still

from conformance import fluster
from conformance.manifest import ROOT, Vector

# The parameters of fluster's classes TestSuite and TestVector, which take the members of its JSON files as
# keyword arguments and so refuse others (version of July 2026).


def read_suite(
    name: str,
    codec: str,
    description: str,
    test_vectors: list[dict[str, Any]],
    failing_test_vectors: list[dict[str, Any]] | None = None,
    test_method: str = "md5",
    negative_test: bool = False,
) -> None:
    assert codec in ("None", "Dummy", "AV1", "H.264", "H.265", "H.266", "VP8", "VP9")
    for vector in test_vectors:
        read_vector(**vector)
    names = [vector["name"] for vector in test_vectors]
    assert len(names) == len(set(names))


def read_vector(
    name: str,
    source: str,
    source_checksum: str,
    input_file: str,
    output_format: str,
    result: str,
    profile: str | None = None,
    optional_params: dict[str, Any] | None = None,
) -> None:
    assert output_format in ("None", "yuv420p")
    assert source.endswith(f"/{input_file}")
    assert len(source_checksum) == 32
    assert result


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Vector]:
    suite = Suite(tmp_path_factory.mktemp("suite"))
    return [
        suite.add("everything", everything()),
        suite.add("still", still()),
        suite.add("magic", b"X" + still()[1:], ("bad-magic",)),
        suite.add("cut", still()[:-1], ("crc-mismatch", "truncated")),
    ]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch: pytest.MonkeyPatch, members: list[Vector]) -> None:
    """The suite of this test takes the place of the installed one."""
    monkeypatch.setattr(fluster, "ROOT", members[0].recipe_path.parents[2])
    monkeypatch.setattr(fluster, "vectors", lambda: members)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    parser = argparse.ArgumentParser()
    fluster.add_arguments(parser)
    command = fake(tmp_path, ANSWERS).replace("{md5}", "[{md5}]")
    words = ["--output", str(tmp_path / "out"), "--decoder", command, "--name", "TGV-test"]
    assert fluster.main(parser.parse_args(words)) == 0
    return tmp_path / "out"


#: A decoder that is right about half of the streams.
ANSWERS = """
name = stream.stem
if name == "magic": print("dec: bad-magic", file=sys.stderr); sys.exit(1)
if name == "cut": print("dec: truncated at byte 7", file=sys.stderr); sys.exit(1)
if name == "everything": sys.exit(69)
params.write_bytes(b"params")
if len(sys.argv) > 3: md5.write_bytes(b"md5")
"""


@pytest.mark.parametrize("name", ["TGV-parameters", "TGV-frames"])
def test_suites_are_what_fluster_reads(written: Path, members: list[Vector], name: str) -> None:
    data = json.loads((written / "test_suites" / f"{name}.json").read_text())
    read_suite(**data)
    assert data["name"] == name
    assert [row["name"] for row in data["test_vectors"]] == [vector.name for vector in members]


def test_unknown_members_are_refused(written: Path) -> None:
    data = json.loads((written / "test_suites" / "TGV-frames.json").read_text())
    data["test_vectors"][0]["extra"] = 1
    with pytest.raises(TypeError):
        read_suite(**data)


def test_results_are_those_of_the_manifest(members: list[Vector]) -> None:
    rows = {
        pictures: {
            r["name"]: r for r in fluster.test_suite("x", members, "file:///", pictures)["test_vectors"]
        }
        for pictures in (False, True)
    }
    expectation = members[0].expectation
    assert rows[False]["everything"]["result"] == expectation.document_sha256
    lines = "".join(f"{n} {md5}\n" for n, md5 in enumerate(expectation.frames))
    assert rows[True]["everything"]["result"] == hashlib.md5(lines.encode()).hexdigest()
    assert rows[True]["magic"]["result"] == "bad-magic"


@pytest.fixture
def adapter(written: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The decoder class, loaded with what it needs of fluster in place."""

    class Codec(Enum):
        DUMMY = "Dummy"

    class NotSupportedError(Exception):
        pass

    codec, decoder = ModuleType("fluster.codec"), ModuleType("fluster.decoder")
    codec.__dict__.update(Codec=Codec, OutputFormat=Enum)
    decoder.__dict__.update(
        Decoder=object, NotSupportedError=NotSupportedError, register_decoder=lambda cls: cls
    )
    for name, module in (
        ("fluster", ModuleType("fluster")),
        ("fluster.codec", codec),
        ("fluster.decoder", decoder),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    scope: dict[str, Any] = {}
    exec((written / "decoders" / "tgv.py").read_text(), scope)
    found = scope["TGVDecoder"]
    assert found.name == "TGV-test"
    assert found.binary == sys.executable
    assert list(inspect.signature(found.decode).parameters)[1:7] == [
        "input_filepath",
        "output_filepath",
        "output_format",
        "timeout",
        "verbose",
        "keep_files",
    ]
    return found(), NotSupportedError


def test_the_adapter(adapter: Any, members: list[Vector], tmp_path: Path) -> None:
    decoder, not_supported = adapter

    def decode(vector: Vector, output: str) -> str:
        asked = {"output": output, "errors": list(vector.errors)}
        path = str(vector.stream_path)
        result: str = decoder.decode(path, str(tmp_path / "out.bin"), None, 30, False, False, asked)
        return result

    names = {vector.name: vector for vector in members}
    assert decode(names["still"], "params") == hashlib.sha256(b"params").hexdigest()
    assert decode(names["still"], "md5") == hashlib.md5(b"md5").hexdigest()
    assert not (tmp_path / "out.bin.params").exists()
    assert decode(names["magic"], "params") == "bad-magic"
    # One of several errors that are right; fluster knows the first.
    assert decode(names["cut"], "md5") == "crc-mismatch"
    with pytest.raises(not_supported):
        decode(names["everything"], "params")


def test_a_crash_is_no_result(adapter: Any, members: list[Vector], tmp_path: Path) -> None:
    decoder, _ = adapter
    missing = str(tmp_path / "no" / "folder")
    asked = {"output": "params", "errors": []}
    with pytest.raises(RuntimeError, match="exit status 1"):
        decoder.decode(str(members[1].stream_path), missing, None, 30, False, False, asked)


def test_the_template_travels_with_the_package() -> None:
    assert (ROOT / "fluster_decoder.py.template").is_file()
