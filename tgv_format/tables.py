"""The normative tables of the specification (``spec/tables/*.json``)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_INSTALLED = Path(__file__).parent / "tables"
_CHECKOUT = Path(__file__).parents[1] / "spec" / "tables"


@cache
def load(name: str) -> Any:
    """The table ``spec/tables/NAME.json``; an installed package carries its own copy."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
