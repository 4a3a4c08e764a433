"""Faults that can be planted in the decoding path of the reference software, one at a time.

A mutant is a node of a module's syntax tree in another form, or another entry of a normative table. Nothing
is planted where no stream could tell:

- in annotations, and in the places and sentences of errors;
- in functions and branches that encode, conceal errors or select frames, as what follows
  ``if conceal is None: raise`` does;
- in values that are handed to a coder, which decoders ignore;
- in the defaults of dataclasses, whose members decoders all give; but for those that hold where a stream
  is silent.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tgv_format.errors import IDENTIFIERS
from tgv_format.tables import load

#: The modules of the decoding path: what stands in a stream, and how pictures are made of it.
MODULES = [
    "refdec.baseline",
    "refdec.camera",
    "refdec.decoder",
    "refdec.interpolation",
    "refdec.keyframes",
    "refdec.keyframes.av1",
    "refdec.keyframes.ffmpeg",
    "refdec.keyframes.vvc",
    "refdec.motion",
    "refdec.sampling",
    "tgv_format.camera_poses",
    "tgv_format.canonical",
    "tgv_format.clip",
    "tgv_format.container",
    "tgv_format.end",
    "tgv_format.entropy",
    "tgv_format.flow_tokens",
    "tgv_format.generator_hint",
    "tgv_format.group",
    "tgv_format.hyper_synthesis",
    "tgv_format.illm",
    "tgv_format.illm_model",
    "tgv_format.interpolation",
    "tgv_format.keyframe",
    "tgv_format.levels",
    "tgv_format.masks",
    "tgv_format.obu",
    "tgv_format.picture",
    "tgv_format.range_coder",
    "tgv_format.reader",
    "tgv_format.sequence",
    "tgv_format.symbol_coder",
    "tgv_format.syntax",
    "tgv_format.text",
    "tgv_format.text_model",
    "tgv_format.trajectories",
    "tgv_format.vvc",
]
#: The tables that decoding reads, as modules of a package of their own.
TABLES = [
    "tables.contexts",
    "tables.frame_rates",
    "tables.interpolation",
    "tables.latents",
    "tables.levels",
    "tables.reconstruction",
    "tables.text",
    "tables.upsampling",
    "tables.vvc",
]

# Any: the classes of operators that the nodes below take have no common base but ast.AST.
_SWAPPED: dict[type[ast.AST], list[Any]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.FloorDiv],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.FloorDiv],
    ast.LShift: [ast.RShift],
    ast.RShift: [ast.LShift],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.BitXor: [ast.BitOr],
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}
_NAMES = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "int64": "int32",
    "int32": "int16",
    "int16": "int8",
    "uint8": "int8",
}
_ERRORS = {"TgvError", "ParameterError", "SyntaxFaultError", "error", "_error", "_fail"}
#: The methods of an entropy coder whose second argument chooses a context.
_CODED = {"bit", "unsigned", "signed", "golomb"}
#: Where these methods take the value to code, which decoders ignore.
_VALUES = {
    "bit": 2,
    "unsigned": 2,
    "signed": 2,
    "golomb": 2,
    "uniform": 1,
    "bypass": 1,
    "symbol": 1,
    "_code": 2,
    "_adaptive": 1,
    "_unsigned": 1,
    "values": 2,
    "escape": 2,
    "_bit": 1,
    "_difference": 0,
    "step": 2,
}
#: Functions whose arguments may stand in any order.
_SYMMETRIC = {"min", "max", "gcd", "minimum", "maximum"}
#: What decodes of a branch, by the condition; decoders of the suite neither conceal errors nor select frames.
_DECODING = {
    "self.decoder": "body",
    "params is None": "body",
    "not self.decoder": "orelse",
    "not decoding": "orelse",
    "frames is None": "orelse",
    "self.finished": "orelse",
    "self._wanted(self._next, 1)": "body",
    "last is None and (picture is None or frames.stop != count + 1)": "orelse",
}
#: Dataclasses whose defaults are decoded values.
_DEFAULTS = {"Colour"}
#: Names of types, which have other types in brackets.
_TYPES = {"Callable", "NDArray", "dict", "list", "tuple"}
#: Names of what only says where an error is, which frame comes next, or how far a search may go.
_INFORMATIVE = {"path", "detail", "element", "names", "_keyframes", "_counts", "_next", "_budget"}


@dataclass(frozen=True)
class Mutant:
    """One fault: ``before`` and ``after`` are source, ``number`` counts equal faults of a function.

    Of a table, ``function`` is the path of the entry.
    """

    module: str
    function: str
    operator: str
    before: str
    after: str
    number: int
    line: int = field(compare=False)
    index: int = field(compare=False)

    @property
    def key(self) -> str:
        return f"{self.module}:{self.function}:{self.operator}:{self.before}:{self.after}:{self.number}"

    @property
    def table(self) -> str:
        """The table that has the fault; empty where a module has it."""
        return self.module.removeprefix("tables.") if self.module in TABLES else ""

    def __str__(self) -> str:
        place = (
            f"{self.module}:{self.line} ({self.function})"
            if not self.table
            else f"{self.module} {self.function}"
        )
        return f"{place}: {self.operator}: {self.before}  ->  {self.after}"


class _Walker(ast.NodeTransformer):
    """Lists all mutants of a module in :attr:`found`, and plants the one of index ``chosen``."""

    def __init__(self, module: str, skipped: Mapping[str, str], chosen: int = -1) -> None:
        self.module, self.skipped, self.chosen = module, skipped, chosen
        self.found: list[Mutant] = []
        self._path: list[str] = []
        self._equal: Counter[tuple[str, ...]] = Counter()
        self._concealing: set[ast.AST] = set()

    def visit(self, node: ast.AST) -> Any:
        self._concealing.update(_concealing(node))
        if node in self._concealing or _encodes(node) or _place(node):
            return node
        if isinstance(node, ast.If | ast.IfExp) and (branch := _decoding_branch(_source(node.test))):
            return self._branch(node, branch)
        if isinstance(node, ast.Assign | ast.AnnAssign) and not self._path:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if self._skips(_assigned(target)):
                return node
        new = node
        for operator, variant in _variants(node):
            if _source(variant) == _source(node):
                continue
            if len(self.found) == self.chosen:
                new = ast.fix_missing_locations(ast.copy_location(variant, node))
            self._note(operator, node, variant)
        if _opaque(node):
            return new
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self._scope(node)
        elif isinstance(node, ast.Call) and _called(node) in _VALUES:
            node.func = self.visit(node.func)
            value = _VALUES[_called(node)]
            node.args = [arg if i == value else self.visit(arg) for i, arg in enumerate(node.args)]
        elif isinstance(node, ast.AnnAssign):
            if node.value:
                node.value = self.visit(node.value)
        else:
            self.generic_visit(node)
        return new

    def _scope(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self._path.append(node.name)
        if not self._skips(".".join(self._path)):
            plain = _dataclass(node) and node.name not in _DEFAULTS
            node.body = [
                statement if plain and isinstance(statement, ast.AnnAssign) else self.visit(statement)
                for statement in node.body
            ]
        self._path.pop()

    def _skips(self, name: str) -> bool:
        return any(f"{self.module}.{name}".endswith(f".{other}") for other in self.skipped)

    def _branch(self, node: ast.If | ast.IfExp, name: str) -> ast.AST:
        """Plant faults in one branch only."""
        branch = getattr(node, name)
        new = [self.visit(child) for child in branch] if isinstance(branch, list) else self.visit(branch)
        setattr(node, name, new)
        return node

    def _note(self, operator: str, node: ast.AST, variant: ast.AST) -> None:
        before, after = _source(node), _source(variant)
        equal = (".".join(self._path), operator, before, after)
        self._equal[equal] += 1
        line: int = vars(node)["lineno"]
        self.found.append(Mutant(self.module, *equal, self._equal[equal], line, len(self.found)))


def _dataclass(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any("dataclass" in _source(decorator) for decorator in node.decorator_list)


def _concealing(node: ast.AST) -> list[ast.stmt]:
    """The statements of a block that are reached with concealment only."""
    if not isinstance(node, ast.stmt | ast.ExceptHandler):
        return []
    block: list[ast.stmt] = vars(node).get("body", [])
    for place, statement in enumerate(block, 1):
        if isinstance(statement, ast.If) and "conceal is None" in _source(statement.test):
            return block[place:] if isinstance(statement.body[-1], ast.Raise) else []
    return []


def _encodes(node: ast.AST) -> bool:
    """Whether ``node`` is a value that encoders code."""
    match node:
        case ast.IfExp(test):
            return _source(test) == "self.decoder"
        case ast.BoolOp(ast.And(), [first, *_]):
            return _source(first) == "not self.decoder"
        case ast.Assign([ast.Name(name)]):
            return name == "coded"
    return False


def _place(node: ast.AST) -> bool:
    """Whether ``node`` is a place in the file, which errors tell: ``offset`` and something."""
    match node:
        case ast.BinOp(ast.Name("offset"), ast.Add()):
            return True
    return False


def _decoding_branch(test: str) -> str:
    """``body`` or ``orelse`` where only that one decodes."""
    if "conceal" in test:
        return "body" if "conceal is None" in test else "orelse"
    return _DECODING.get(test, "")


def _source(node: ast.AST) -> str:
    return ast.unparse(node).split("\n", 1)[0]


def _opaque(node: ast.AST) -> bool:
    """Whether nothing inside ``node`` takes part in decoding."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Call) and _called(node) in _ERRORS:
        return True
    if isinstance(node, ast.Subscript):
        return getattr(node.value, "id", None) in _TYPES
    if isinstance(node, ast.keyword):
        return node.arg in ("strict", "payload_offset")
    if isinstance(node, ast.Assign | ast.AugAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return _assigned(target) in _INFORMATIVE
    if isinstance(node, ast.AnnAssign):
        return _assigned(node.target) in _INFORMATIVE
    return False


def _assigned(target: ast.AST) -> str:
    """A name, or that of an attribute; of an entry of an attribute, too."""
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Attribute):
        target = target.value
    return getattr(target, "id", getattr(target, "attr", ""))


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def _variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The other forms of a node, each with the name of what was done."""
    match node:
        case ast.BinOp(left, op, right):
            for other in _SWAPPED.get(type(op), []):
                yield "operator", ast.BinOp(left, other(), right)
        case ast.AugAssign(target, op, value):
            for other in _SWAPPED.get(type(op), []) if not _opaque(node) else ():
                yield "operator", ast.AugAssign(target, other(), value)
            if not _opaque(node):
                yield "dropped", ast.Pass()
        case ast.Compare(left, comparisons, others):
            for index, comparison in enumerate(comparisons):
                for other in _SWAPPED[type(comparison)]:
                    yield "comparison", ast.Compare(left, _but(comparisons, index, other()), others)
        case ast.BoolOp(junction, values):
            for other in _SWAPPED[type(junction)]:
                yield "condition", ast.BoolOp(other(), values)
        case ast.UnaryOp(ast.USub(), operand):
            yield "operator", operand
        case ast.If(test, body, orelse):
            yield "condition", ast.If(_negated(test), body, orelse)
        case ast.While(test, body, orelse):
            yield "condition", ast.While(_negated(test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield "condition", ast.IfExp(_negated(test), body, orelse)
        case ast.Constant(bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int(value)):
            yield "constant", ast.Constant(value + 1)
            if value > 0:
                yield "constant", ast.Constant(value - 1)
        case ast.Name(name, context) if name in _NAMES:
            yield "swapped", ast.Name(_NAMES[name], context)
        case ast.Attribute(value, name, context) if name in _NAMES:
            yield "swapped", ast.Attribute(value, _NAMES[name], context)
        case ast.Tuple([first, second], context):
            yield "swapped", ast.Tuple([second, first], context)
        case ast.List([first, second], context):
            yield "swapped", ast.List([second, first], context)
        case ast.Call():
            yield from _calls(node)
        case ast.Raise():
            yield "dropped", ast.Pass()
            if isinstance(node.exc, ast.Call):
                for _, call in _calls(node.exc):
                    yield "error", ast.Raise(call, node.cause)
        case ast.Expr(ast.Call() | ast.YieldFrom() | ast.Yield()) | ast.Continue() | ast.Break():
            yield "dropped", ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]) if not _opaque(node):
            yield "dropped", ast.Pass()


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    name, args = _called(node), node.args
    if name in _ERRORS:
        if args and isinstance(args[0], ast.Constant) and args[0].value in IDENTIFIERS:
            identifiers = sorted(IDENTIFIERS)
            place = identifiers.index(args[0].value)
            other = ast.Constant(identifiers[(place + 1) % len(identifiers)])
            yield "error", ast.Call(node.func, _but(args, 0, other), node.keywords)
        return
    if name == "range":
        for change in (ast.Add(), ast.Sub()):
            stop = min(1, len(args) - 1)
            off = ast.BinOp(args[stop], change, ast.Constant(1))
            yield "range", ast.Call(node.func, _but(args, stop, off), node.keywords)
    if name in _CODED and len(args) > 1:
        off = ast.BinOp(args[1], ast.Add(), ast.Constant(1))
        yield "context", ast.Call(node.func, _but(args, 1, off), node.keywords)
    for index in range(len(args) - 1 if name not in _SYMMETRIC else 0):
        pair = args[index : index + 2]
        if any(_informative(arg) for arg in pair):
            continue
        swapped = [*args[:index], *reversed(pair), *args[index + 2 :]]
        yield "swapped", ast.Call(node.func, swapped, node.keywords)


def _informative(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr | ast.Starred) or getattr(node, "id", None) in {"path", "detail"}


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _but(items: list[Any], index: int, item: Any) -> list[Any]:
    return [*items[:index], item, *items[index + 1 :]]


def _path(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def listed(module: str, skipped: Mapping[str, str]) -> list[Mutant]:
    """All mutants of a module or table; ``skipped`` are the ends of names of functions that do not decode."""
    if module in TABLES:
        return _entries(module)
    walker = _Walker(module, skipped)
    walker.visit(copy.deepcopy(_tree(module)))
    return walker.found


def code(mutant: Mutant, skipped: Mapping[str, str]) -> Any:
    """The code of the mutant's module."""
    walker = _Walker(mutant.module, skipped, mutant.index)
    tree = walker.visit(copy.deepcopy(_tree(mutant.module)))
    return compile(tree, str(_path(mutant.module)), "exec", dont_inherit=True)


def _entries(module: str) -> list[Mutant]:
    """A mutant for every number of a table, and for every text."""
    found: list[Mutant] = []
    for path in _leaves(load(module.removeprefix("tables."))):
        before = _at(load(module.removeprefix("tables.")), path)
        name = ".".join(map(str, path))
        found.append(
            Mutant(module, name, "entry", repr(before), repr(_other(before, path)), 1, 0, len(found))
        )
    return found


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _leaves(item, (*path, key))
    if isinstance(value, int | str) and path != ("clause",):
        yield path


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _other(value: Any, path: tuple[Any, ...]) -> Any:
    if isinstance(value, str):
        return "?" + value[1:]
    # Initial states have 16 bits, of which the coder sees twelve.
    return value + (64 if path[0] == "sections" else 1)


def plant_entry(mutant: Mutant, table: Any) -> None:
    """Change the entry in the ``table`` that was loaded."""
    *path, last = list(_leaves(table))[mutant.index]
    holder = _at(table, tuple(path))
    holder[last] = _other(holder[last], (*path, last))


def sample(mutants: Mapping[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants; a module's share grows with the square root of what it has."""
    ranked: list[tuple[float, str, Mutant]] = []
    for found in mutants.values():
        order = sorted(found, key=lambda m: hashlib.sha256(f"{seed}:{m.key}".encode()).digest())
        ranked += [
            ((2 * rank + 1) ** 2 / len(found), mutant.key, mutant) for rank, mutant in enumerate(order)
        ]
    return [mutant for _, _, mutant in sorted(ranked, key=lambda row: row[:2])[:count]]
