"""Write test suites and a decoder adapter for fluster (github.com/fluendo/fluster)."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from pathlib import Path
from string import Template
from typing import Any

from conformance.manifest import ROOT, Vector, vectors

#: Fluster's codecs are an enumeration in its source, in which TGV is not. "Dummy" is there for strangers.
CODEC = "Dummy"
_ADAPTER = ROOT / "fluster_decoder.py.template"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="where the files go")
    parser.add_argument(
        "--decoder",
        metavar="CMD",
        default="refdec {input} --params {params} [--frames-md5 {md5}]",
        help="the command that the adapter runs, as for 'run' (default: %(default)s)",
    )
    parser.add_argument("--name", default="TGV-refdec", help="the decoder's name (default: %(default)s)")
    parser.add_argument(
        "--source",
        metavar="URL",
        default=ROOT.as_uri(),
        help="where the folder 'vectors' is found (default: this installation)",
    )


def main(args: argparse.Namespace) -> int:
    suite = list(vectors())
    (args.output / "test_suites").mkdir(parents=True, exist_ok=True)
    (args.output / "decoders").mkdir(exist_ok=True)
    for name, picked in (("TGV-parameters", {1, 2}), ("TGV-frames", {3, 4})):
        members = [
            vector
            for vector in suite
            if picked & set(vector.classes) and not (vector.learned and 3 in picked)
        ]
        data = test_suite(name, members, args.source, pictures=3 in picked)
        path = args.output / "test_suites" / f"{name}.json"
        path.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")
        print(f"{path}: {len(members)} vectors")
    path = args.output / "decoders" / "tgv.py"
    path.write_text(adapter(args.name, args.decoder), encoding="utf-8")
    print(path)
    return 0


def test_suite(name: str, members: list[Vector], source: str, pictures: bool) -> dict[str, Any]:
    """A suite as fluster reads it, which compares one string for each vector.

    That is the SHA-256 of the document of clause 11.2, with ``pictures`` the MD5 of the list of clause 11.4,
    and for an invalid vector the error identifier.
    """
    return {
        "name": name,
        "codec": CODEC,
        "description": f"TGV conformance: {'frames' if pictures else 'decoded parameters'} and errors",
        "test_vectors": [_test_vector(vector, source, pictures) for vector in members],
    }


def _test_vector(vector: Vector, source: str, pictures: bool) -> dict[str, Any]:
    data = vector.stream_path.read_bytes()
    place = vector.stream_path.relative_to(ROOT).as_posix()
    if not vector.valid:
        result = vector.errors[0]
    elif pictures:
        lines = "".join(f"{n} {md5}\n" for n, md5 in enumerate(vector.expectation.frames))
        result = hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()
    else:
        result = vector.expectation.document_sha256
    return {
        "name": vector.name,
        "source": f"{source}/{place}",
        "source_checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "input_file": vector.stream_path.name,
        "output_format": "yuv420p" if pictures else "None",
        "result": result,
        "optional_params": {"output": "md5" if pictures else "params", "errors": list(vector.errors)},
    }


def adapter(name: str, command: str) -> str:
    """The source of a decoder class for fluster's folder ``decoders``."""
    values = {"name": repr(name), "command": repr(command), "binary": repr(shlex.split(command)[0])}
    return Template(_ADAPTER.read_text(encoding="utf-8")).substitute(values)
