"""The vectors of the suite as a runner sees them: recipes, expectations and the lock file.

A vector NAME of a topic is three files, whose names never change:

    vectors/valid/TOPIC/NAME.tgv       the stream
    vectors/valid/TOPIC/NAME.toml      its recipe: what it is, what it tests, how it is made
    vectors/valid/TOPIC/NAME.json      what a decoder has to make of it

and likewise under ``vectors/invalid``. ``vectors.lock`` holds the SHA-256 of all of them. This module knows
what a runner needs and imports nothing that is not in the standard library but the table of requirements;
making vectors is the generator's.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tgv_format.tables import load

ROOT = Path(__file__).parent
VECTORS = ROOT / "vectors"
LOCK = ROOT / "vectors.lock"
OUTCOMES = ("valid", "invalid")


class ManifestError(ValueError):
    """A recipe, an expectation or the lock file that is not as this module describes it."""


@dataclass(frozen=True)
class Coder:
    """The range decoder after the last symbol of a section (clause 8.3): three ``u64`` and ``next``."""

    symbols: int
    lower: int
    range: int
    point: int
    next: int


@dataclass(frozen=True)
class Section:
    """A section of a clip: its name as in clause 11.2, the digest of its canonical JSON, where its body is.

    ``coder`` is None for a section that is not entropy-coded.
    """

    name: str
    sha256: str
    offset: int
    bytes: int
    coder: Coder | None


@dataclass(frozen=True)
class Unit:
    """An element of the document of clause 11.2: ``kind`` is its member ``unit``; payload at ``offset``."""

    kind: str
    sha256: str
    offset: int
    bytes: int
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Planes:
    """MD5 of the planes of a keyframe's picture, ``number`` counting keyframe units from 0."""

    number: int
    y: str
    u: str
    v: str


@dataclass(frozen=True)
class Latents:
    """MD5 of a learned keyframe's hyper latents and latents, ``number`` counting keyframe units from 0."""

    number: int
    z: str
    y: str


@dataclass(frozen=True)
class Expectation:
    """What a decoder gives for a valid stream.

    ``document_sha256`` is that of the whole document of clause 11.2, ``document`` the text itself, or None
    where it is large and has to be made by the reference decoder. ``frames`` are the MD5s of clause 11.4.
    A stream with ``latents`` has no ``keyframes`` and ``frames``: pictures of latents are not exact.
    """

    document_sha256: str
    document: str | None
    units: tuple[Unit, ...]
    keyframes: tuple[Planes, ...]
    frames: tuple[str, ...]
    latents: tuple[Latents, ...] = ()

    def latents_text(self) -> str:
        """The list of clause 11.7."""
        return "".join(f"{row.number} {row.z} {row.y}\n" for row in self.latents)


@dataclass(frozen=True)
class Fault:
    """Where the reference decoder finds the fault of an invalid stream; the place is informative."""

    identifier: str
    offset: int
    path: str


@dataclass(frozen=True)
class Vector:
    """One vector.

    ``clauses`` are those of its requirements. ``classes`` are the conformance classes (1 syntax,
    2 parameters, 3 keyframes, 4 baseline) that it tells something about; for an invalid vector those whose
    decoders have to find the fault. ``errors`` are the identifiers that a decoder may report, none for a
    valid vector. ``base`` is the vector it differs from.
    """

    name: str
    topic: str
    outcome: str
    description: str
    tests: str
    requirements: tuple[str, ...]
    clauses: tuple[str, ...]
    profile: int
    level: int
    features: tuple[str, ...]
    classes: tuple[int, ...]
    base: str | None
    errors: tuple[str, ...]
    recipe_path: Path

    @property
    def valid(self) -> bool:
        return self.outcome == "valid"

    @property
    def learned(self) -> bool:
        """Whether its keyframes are compared by their latents instead of pictures."""
        return "latents" in self.features

    @property
    def stream_path(self) -> Path:
        return self.recipe_path.with_suffix(".tgv")

    @property
    def expectation_path(self) -> Path:
        return self.recipe_path.with_suffix(".json")

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The whole recipe, with the parts that only the generator reads."""
        return tomllib.loads(self.recipe_path.read_text(encoding="utf-8"))

    @cached_property
    def expectation(self) -> Expectation:
        """What a valid stream decodes to; ManifestError for an invalid one."""
        found = self._expectation()
        if not self.valid:
            raise ManifestError(f"{self.name} is not valid and decodes to nothing")
        return Expectation(
            found["document_sha256"],
            found.get("document"),
            tuple(_unit(row) for row in found["units"]),
            tuple(Planes(**row) for row in found["keyframes"]),
            tuple(found["frames"]),
            tuple(Latents(**row) for row in found.get("latents", [])),
        )

    @cached_property
    def fault(self) -> Fault:
        """Where an invalid stream goes wrong; ManifestError for a valid one."""
        found = self._expectation()
        if self.valid:
            raise ManifestError(f"{self.name} has no fault")
        return Fault(**found["fault"])

    def _expectation(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.expectation_path.read_text(encoding="utf-8"))
        return found


def _unit(row: dict[str, Any]) -> Unit:
    sections = tuple(_section(name, section) for name, section in row.get("sections", {}).items())
    return Unit(row["kind"], row["sha256"], row["offset"], row["bytes"], sections)


def _section(name: str, row: dict[str, Any]) -> Section:
    coder = row.get("coder")
    if coder is not None:
        words = {key: int(coder[key], 16) for key in ("lower", "range", "point")}
        coder = Coder(symbols=coder["symbols"], next=coder["next"], **words)
    return Section(name, row["sha256"], row["offset"], row["bytes"], coder)


@cache
def _clauses() -> dict[str, str]:
    return {row["id"]: row["clause"] for row in load("requirements")["requirements"]}


def read_recipe(path: Path) -> Vector:
    """The vector whose recipe is ``path``; ManifestError when a member is missing or wrong."""
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
        expected = recipe["expected"]
        vector = Vector(
            name=path.stem,
            topic=path.parent.name,
            outcome=path.parents[1].name,
            description=recipe["description"],
            tests=recipe["tests"],
            requirements=tuple(recipe["requirements"]),
            clauses=tuple(dict.fromkeys(_clauses()[name] for name in recipe["requirements"])),
            profile=recipe["profile"],
            level=recipe["level"],
            features=tuple(recipe["features"]),
            classes=tuple(recipe["classes"]),
            base=recipe.get("base"),
            errors=tuple(expected.get("errors", ())),
            recipe_path=path,
        )
    except (KeyError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{path}: {error!r}") from None
    if vector.outcome not in OUTCOMES or expected["outcome"] != vector.outcome:
        raise ManifestError(f"{path}: an outcome that is not that of its folder")
    if vector.valid == bool(vector.errors):
        raise ManifestError(f"{path}: invalid vectors have expected errors, valid ones have none")
    return vector


def vectors(folder: Path = VECTORS) -> Iterator[Vector]:
    """All vectors of the suite, valid ones first, by topic and name; ManifestError when two share a name."""
    seen: dict[str, Path] = {}
    for outcome in OUTCOMES:
        for path in sorted((folder / outcome).glob("*/*.toml")):
            if path.stem in seen:
                raise ManifestError(f"{path} and {seen[path.stem]} share a name")
            seen[path.stem] = path
            yield read_recipe(path)


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """SHA-256 by file, relative to the folder of the lock file, as ``sha256sum --check`` reads it."""
    rows = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in rows}


def write_lock(path: Path = LOCK, folder: Path = VECTORS) -> None:
    """Lock all files of the suite."""
    files = sorted(file for file in folder.rglob("*.*") if file.is_file())
    rows = [f"{sha256(file)}  {file.relative_to(path.parent).as_posix()}\n" for file in files]
    path.write_text("".join(rows), encoding="utf-8")


def changed_files(path: Path = LOCK) -> list[str]:
    """Locked files that are missing or not what they were."""
    files = read_lock(path)
    return [
        name
        for name, digest in files.items()
        if not (path.parent / name).is_file() or sha256(path.parent / name) != digest
    ]


def dumps(value: dict[str, Any]) -> bytes:
    """The contents of an expectation file: one member a line."""
    members = (f"{json.dumps(key)}: {json.dumps(member)}" for key, member in sorted(value.items()))
    return ("{\n" + ",\n".join(members) + "\n}\n").encode("ascii")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
