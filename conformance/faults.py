"""Decoding on past a fault: with the one check disabled that found it.

A stream of the suite that is not valid is meant to have one fault. That can be tested: when the check that
finds it is taken out of the reference decoder, and nothing else is, the stream has to be accepted.

:func:`tolerate` takes a check out of the running program. The statement that raised the error, found by the
traceback, is compiled again inside a ``try`` that lets this very error pass, and the function gets the new
code until the run is over. Other elements that use the same function (every range goes through
``Range._check``) stay checked, because their errors have other paths.

A decoder that does not check mostly goes on. Where it could not, :data:`INSTEAD` says what it does: it takes
the nearest legal value, skips the unit, or takes a picture that does not decode to be black.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, TypeVar

from tgv_format.errors import TgvError
from tgv_format.syntax import ParameterError, SyntaxFaultError

T = TypeVar("T")

_BLACK = """
return Picture.from_bytes(bytes(width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)), width, height)
"""
_ZEROS = "self._decode_symbol, bit = lambda model: 0, 0"

#: What to do instead of raising, by function, or by function and identifier: Python source.
INSTEAD: dict[str, str] = {
    "tgv_format.syntax:Range._parse": "return min(max(value, self.low), self.high)",
    "tgv_format.syntax:_Uleb128._parse": "return value",
    "tgv_format.reader:Reader._decode": "return None",
    "tgv_format.reader:Reader._end trailing-data": "return",
    "tgv_format.sequence:decode unsupported-version": "data = bytes([VERSION]) + data[1:]",
    "tgv_format.sequence:decode trailing-data": "data = data[:used]",
    "tgv_format.sequence:validate reserved-value": "object.__setattr__(header, 'level', max(LEVELS))",
    "tgv_format.keyframe:decode reserved-value": "fields.head.codec = Codec.RAW",
    "tgv_format.keyframe:validate reserved-value": "object.__setattr__(keyframe, 'dependent', False)",
    "tgv_format.reader:Track.check": "object.__setattr__(keyframe, 'dependent', False)",
    "tgv_format.generator_hint:decode text-invalid": (
        "return GeneratorHint('?', bytes(32), Sampler.UNSPECIFIED, 0, 0, 0)"
    ),
    "tgv_format.text:decode text-invalid": "return Text(text.decode('utf-8', 'replace'))",
    "tgv_format.entropy:Decoder._code": _ZEROS,
    "tgv_format.entropy:Decoder._adaptive": _ZEROS,
    "tgv_format.trajectories:_Code._instance": "self.instance[n] = 255",
    "tgv_format.flow_tokens:_Code.tokens": "path[last] = min(max(path[last], _LOW), _HIGH)",
    "tgv_format.flow_tokens:_Code._interval out-of-range": (
        "path[middle] = min(max(path[middle], _LOW), _HIGH)"
    ),
    "tgv_format.masks:_Code._plane out-of-range": "run = height - y",
    "tgv_format.masks:_Code._shift": "at = min(max(at, x), self.width - 1)",
    "tgv_format.interpolation:_vectors": "value = min(max(value, LOWEST), HIGHEST)",
    "tgv_format.illm:decode unknown-model": "fields.model = next(iter(models))",
    "tgv_format.symbol_coder:SymbolDecoder._code": (
        "self._code = lambda element, distribution, indices: indices * 0\nfound = indices * 0"
    ),
    "tgv_format.masks:_Code._new": "at, label = min(max(at, x), last), self.count - len(barred)",
    "refdec.keyframes:KeyframeDecoder._coded": _BLACK,
    "refdec.keyframes.av1:Sequence.decode": "width, height = self._size\n" + _BLACK,
    "refdec.keyframes.vvc:decode": _BLACK,
}

#: Functions that check on behalf of the function that calls them.
_HELPERS = {
    "tgv_format.syntax:Range._check",
    "tgv_format.flow_tokens:_Code._check",
    "tgv_format.masks:_Code._check",
}

#: The end of the data cannot be passed over, except where a section announces more bytes than there are.
_FINAL = "truncated"
_SKIPPABLE = "tgv_format.clip:split"


@dataclass(frozen=True)
class Site:
    """A statement: ``function`` as module:qualified name, and the line on which it raised."""

    function: str
    line: int


def tolerate(run: Callable[[], T], most: int = 8) -> tuple[T | None, list[TgvError]]:
    """What ``run`` returns when up to ``most`` checks are disabled, each as it fails, and their errors.

    None, when the data ends where ``run`` still needs some: the last error says so. Raises the TgvError that
    remains when there are more than ``most``.
    """
    faults: list[TgvError] = []
    with ExitStack() as stack:
        while True:
            try:
                return run(), faults
            except TgvError as error:
                if len(faults) == most:
                    raise
                origin = _origin(error)
                site, frames = _site(origin.__traceback__)
                # A header that was read in spite of a fault is not the one that would be written.
                echo = site.function == "tgv_format.sequence:decode" and error.identifier == "non-canonical"
                if not (echo and any(fault.path.startswith("sequence") for fault in faults)):
                    faults.append(error)
                if error.identifier == _FINAL and site.function != _SKIPPABLE:
                    return None, faults
                stack.enter_context(_disabled(site, frames, origin, error.identifier))


def _origin(error: BaseException) -> BaseException:
    """The first of ours in a chain of errors that were translated."""
    while isinstance(error.__context__, (SyntaxFaultError, ParameterError)):
        error = error.__context__
    return error


def _site(trace: TracebackType | None) -> tuple[Site, list[FrameType]]:
    """The statement that raised, and the frames from its own to the outermost."""
    inner: list[TracebackType] = []
    while trace is not None:
        inner.insert(0, trace)
        trace = trace.tb_next
    while _name(inner[0].tb_frame) in _HELPERS:
        inner.pop(0)
    return Site(_name(inner[0].tb_frame), inner[0].tb_lineno), [step.tb_frame for step in inner]


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname}"


def _identity(error: BaseException, frames: Iterable[FrameType]) -> tuple[Any, ...]:
    """What tells an error from others like it; ``frames`` are those it comes from, the innermost first.

    Errors of headers do not know where the header stands. The functions that decode it do.
    """
    offsets = (frame.f_locals["offset"] for frame in frames if "offset" in frame.f_locals)
    return type(error).__name__, str(error), getattr(error, "element", ""), next(offsets, None)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


#: What is passed over at present: the errors, and by function the lines and what is done there instead.
_errors: set[tuple[Any, ...]] = set()
_lines: dict[str, list[tuple[int, str]]] = {}


def _passes(error: BaseException) -> bool:
    return _identity(error, _callers(sys._getframe(1))) in _errors


@contextmanager
def _disabled(site: Site, frames: list[FrameType], error: BaseException, identifier: str) -> Iterator[None]:
    """Compile the function of ``site`` with ``error`` passed over, for as long as the context lasts."""
    function = _function(site.function)
    instead = INSTEAD.get(f"{site.function} {identifier}", INSTEAD.get(site.function, "pass"))
    before, identity = function.__code__, _identity(error, frames)
    lines = _lines.setdefault(site.function, [])
    function.__globals__["__passes__"] = _passes
    lines.append((site.line, instead))
    _errors.add(identity)
    function.__code__ = _compiled(before.co_filename, site.function.partition(":")[2], tuple(lines))
    try:
        yield
    finally:
        function.__code__ = before
        lines.pop()
        _errors.discard(identity)


def _function(name: str) -> FunctionType:
    module, _, path = name.partition(":")
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part)
    found = getattr(found, "__func__", found)
    assert isinstance(found, FunctionType)
    return found


@cache
def _compiled(path: str, function: str, lines: tuple[tuple[int, str], ...]) -> CodeType:
    """The code of ``function`` of the module at ``path`` with the statements at ``lines`` guarded."""
    module = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    for line, instead in dict(lines).items():
        _Guard(line, instead).visit(module)
    code = compile(ast.fix_missing_locations(module), path, "exec", dont_inherit=True)
    return next(found for found in _codes(code) if found.co_qualname == function)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


class _Guard(ast.NodeTransformer):
    """Puts the innermost statement that holds ``line`` into a ``try``."""

    def __init__(self, line: int, instead: str) -> None:
        self.line = line
        self.guard = ast.parse(
            "try:\n pass\nexcept Exception as error:\n if not __passes__(error):\n  raise\n"
            + textwrap.indent(textwrap.dedent(instead).strip(), " ")
        ).body[0]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.stmt):
            return super().generic_visit(node)
        if not node.lineno <= self.line <= (node.end_lineno or node.lineno):
            return node
        inside = any(
            isinstance(child, ast.stmt) and child.lineno <= self.line <= (child.end_lineno or child.lineno)
            for child in ast.walk(node)
            if child is not node
        )
        if inside:
            return super().generic_visit(node)
        assert isinstance(self.guard, ast.Try)
        self.guard.body = [node]
        # The source of what is done instead has lines of its own, which nobody looks at.
        return self.guard
