"""Packages imported anew with some of their modules in another form."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: Callable[[str, str], CodeType]) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code(fullname, self.get_filename(fullname))


class _Finder(MetaPathFinder):
    def __init__(self, modules: Collection[str], code: Callable[[str, str], CodeType]) -> None:
        self._modules, self._code = modules, code

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._code)
        return spec


@contextmanager
def anew(
    packages: Sequence[str], modules: Collection[str], code: Callable[[str, str], CodeType]
) -> Iterator[None]:
    """Inside, ``packages`` are imported once more, ``modules`` of them from ``code(name, path)``."""

    def ours() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] in packages}

    before = ours()
    for name in before:
        del sys.modules[name]
    finder = _Finder(modules, code)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)
