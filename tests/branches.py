"""Branch coverage of modules of ours, without a dependency: which outcomes of conditions have occurred.

``measure`` imports the modules anew with every ``if``, ``while``, conditional expression and filter made to
report its outcome, every loop whether it was entered, and every handler and function that it was reached.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from conformance.imports import anew

DECIDED, REACHED = "__decided__", "__reached__"


@dataclass(frozen=True)
class Branch:
    """One outcome, ``True`` or ``False`` of a ``condition``, or ``entered``, ``handled``, ``called``."""

    module: str
    function: str
    line: int
    column: int
    what: str
    condition: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.module}:{self.line} ({self.function or 'module'}) {self.condition} never {self.what}"


class _Instrument(ast.NodeTransformer):
    def __init__(self, module: str, branches: set[Branch]) -> None:
        self.module, self.branches, self.path = module, branches, [""]

    def _report(self, name: str, node: Any, value: ast.expr) -> ast.Call:
        place = [self.module, self.path[-1], node.lineno, node.col_offset]
        return ast.Call(ast.Name(name, ast.Load()), [*map(ast.Constant, place), value], [])

    def _branch(self, node: Any, what: str, condition: str = "") -> None:
        self.branches.add(Branch(self.module, self.path[-1], node.lineno, node.col_offset, what, condition))

    def _condition(self, test: ast.expr) -> ast.expr:
        if isinstance(test, ast.Constant):
            return test
        text = ast.unparse(test)
        self._branch(test, "True", text)
        self._branch(test, "False", text)
        return self._report(DECIDED, test, test)

    def _reached(self, node: Any, what: str) -> ast.Expr:
        self._branch(node, what)
        return ast.Expr(self._report(REACHED, node, ast.Constant(what)))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.path.append(f"{self.path[-1]}.{node.name}".lstrip("."))
        self.generic_visit(node)
        first = int(ast.get_docstring(node) is not None)
        node.body.insert(first, self._reached(node, "called"))
        self.path.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.path.append(f"{self.path[-1]}.{node.name}".lstrip("."))
        self.generic_visit(node)
        self.path.pop()
        return node

    def visit_If(self, node: Any) -> ast.AST:
        node.test = self._condition(node.test)
        return self.generic_visit(node)

    visit_While = visit_IfExp = visit_If  # noqa: N815

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.ifs = [self._condition(test) for test in node.ifs]
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, self._reached(node, "entered"))
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, self._reached(node, "handled"))
        return node


def measure(
    modules: Sequence[str], packages: Sequence[str], run: Callable[[], object]
) -> tuple[set[Branch], set[Branch]]:
    """All branches of ``modules``, and those that ``run`` takes, which imports ``packages`` by itself."""
    branches: set[Branch] = set()
    taken: set[Branch] = set()

    def decided(module: str, function: str, line: int, column: int, value: Any) -> Any:
        taken.add(Branch(module, function, line, column, str(bool(value))))
        return value

    def reached(module: str, function: str, line: int, column: int, what: str) -> None:
        taken.add(Branch(module, function, line, column, what))

    def instrumented(name: str, path: str) -> CodeType:
        tree = _Instrument(name, branches).visit(ast.parse(Path(path).read_bytes()))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, DECIDED, decided, raising=False)
        patch.setattr(builtins, REACHED, reached, raising=False)
        with anew(packages, modules, instrumented):
            run()
    return branches, taken & branches
