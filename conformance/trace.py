"""Show which vectors and tests every requirement leads to, and the other way round.

A vector names its requirements in its recipe, a test in a marker: ``@pytest.mark.requirement("TGV-FLW-7")``.
The tests are those of a checkout; an installed suite knows the vectors alone.
"""

from __future__ import annotations

import argparse
import ast
import html
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance import manifest

TESTS = Path(__file__).parents[1] / "tests"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE", help="write a page with both directions")


def main(args: argparse.Namespace) -> int:
    rows, vectors = requirements(), list(manifest.vectors())
    if args.html:
        Path(args.html).write_text(page(rows, vectors), encoding="utf-8")
    for row in rows:
        print(f"{row.identifier:12} {len(row.vectors):4} vectors {len(row.tests):3} tests")
    missing = [row.identifier for row in rows if not row.vectors and not row.tests]
    for identifier in missing:
        print(f"{identifier} leads nowhere", file=sys.stderr)
    return int(bool(missing))


@dataclass(frozen=True)
class Requirement:
    """A requirement, and the names of the vectors and tests that are for it."""

    identifier: str
    clause: str
    error: str | None
    text: str
    vectors: tuple[str, ...]
    tests: tuple[str, ...]


def requirements() -> list[Requirement]:
    """All requirements in the order of the specification."""
    from tgv_format.tables import load

    vectors = [(vector.name, vector.requirements) for vector in manifest.vectors()]
    tests = list(marked(TESTS))
    return [
        Requirement(
            row["id"],
            row["clause"],
            row["error"],
            row["text"],
            tuple(name for name, named in vectors if row["id"] in named),
            tuple(name for name, named in tests if row["id"] in named),
        )
        for row in load("requirements")["requirements"]
    ]


def marked(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Tests (``file::function``) with the requirements in their markers."""
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                named = tuple(name for mark in node.decorator_list for name in _named(mark))
                if named:
                    yield f"{path.name}::{node.name}", named


def _named(mark: ast.expr) -> Iterator[str]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
        yield from map(str, map(ast.literal_eval, mark.args))


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .35rem .6rem; text-align: left; vertical-align: top; }
td:first-child { white-space: nowrap; }
th:nth-child(3) { width: 34%; }
td:last-child a, .error { white-space: nowrap; }
code { font-size: .9em; overflow-wrap: anywhere; }
.error { color: #c33; }
.none { background: #c003; }
:target { background: #fd08; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } a { color: #8bf; } }
"""


def page(rows: Iterable[Requirement], vectors: Iterable[manifest.Vector]) -> str:
    """One page without links to anything outside it."""
    forth = "".join(
        f'<tr id="{row.identifier}"{"" if row.vectors or row.tests else " class=none"}><td>{row.identifier}'
        f"<td>{row.clause}<td>{prose(row.text)}"
        f"{f' <code class=error>{row.error}</code>' if row.error else ''}"
        f"<td>{_links(row.vectors)}{'<br>' if row.vectors and row.tests else ''}"
        f"{', '.join(f'<code>{html.escape(test)}</code>' for test in row.tests)}\n"
        for row in rows
    )
    back = "".join(
        f'<tr id="{vector.name}"><td>{vector.name}<td>{vector.topic}<td>{html.escape(vector.description)}'
        f"<td>{_links(vector.requirements)}\n"
        for vector in vectors
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>TGV: requirements and vectors</title><style>{STYLE}</style>\n"
        "<h1>Requirements and vectors of TGV</h1><p><a href='#vectors'>From vectors to requirements</a>\n"
        f"<h2>From requirements to vectors and tests</h2><table><tr><th>requirement<th>clause<th>text"
        f"<th>vectors and tests\n{forth}</table>\n"
        "<h2 id=vectors>From vectors to requirements</h2><table><tr><th>vector<th>topic<th>description"
        f"<th>requirements\n{back}</table></html>\n"
    )


def prose(text: str) -> str:
    """The text of a requirement as HTML, with code where it has backquotes."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _links(names: Iterable[str]) -> str:
    return ", ".join(f'<a href="#{name}">{name}</a>' for name in names)
