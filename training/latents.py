"""The tables of latents of learned keyframes, ``spec/tables/latents.json`` (specification clause 7.6.5).

They follow the usual construction of learned codecs (compressai's ``get_scale_table`` and
``GaussianConditional.update``): 64 scales from 0.11 to 256 at equal ratios, for each of them a normal
distribution with this standard deviation, integrated over intervals of length 1 and cut where the tails hold
1e-9, and an escape. Here it has frequencies that sum to 2^24, and is symmetric exactly.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

TABLE = Path(__file__).parents[1] / "spec" / "tables" / "latents.json"
LEVELS, LEAST, GREATEST = 64, 0.11, 256.0
TAIL_MASS = 1e-9
STEPS = 32
FRACTION = 1 << 12
TOTAL = 1 << 24


def scales() -> list[float]:
    """Standard deviations, one a table."""
    return [LEAST * (GREATEST / LEAST) ** (i / (LEVELS - 1)) for i in range(LEVELS)]


def half(scale: float) -> list[int]:
    """Frequencies of the symbols 0, 1, 2 and so on; those of -1, -2, ... are the same, the escape has 1."""

    def cumulative(x: float) -> float:
        return 0.5 * math.erfc(-x / scale / math.sqrt(2))

    last = math.ceil(-NormalDist().inv_cdf(TAIL_MASS / 2) * scale)
    rest = [max(1, round(TOTAL * (cumulative(0.5 - k) - cumulative(-0.5 - k)))) for k in range(1, last + 1)]
    return [TOTAL - 1 - 2 * sum(rest), *rest]


def table() -> dict[str, Any]:
    """All of the file."""
    ratio = (GREATEST / LEAST) ** (1 / (LEVELS - 1))
    return {
        "clause": "7.6.5",
        "escape_bits": 15,
        "steps": [round(FRACTION * ratio**i) for i in range(STEPS)],
        "scales": [round(FRACTION * scale) for scale in scales()[:-1]],
        "frequencies": [half(scale) for scale in scales()],
    }


def dumps() -> str:
    """The text of the file: one distribution a line."""
    found = table()
    rows = ",\n".join("    " + json.dumps(row, separators=(",", ":")) for row in found.pop("frequencies"))
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in found.items())
    return f'{{\n{head}  "frequencies": [\n{rows}\n  ]\n}}\n'


def main() -> int:
    parser = argparse.ArgumentParser(description="The tables of latents of learned keyframes.")
    parser.add_argument("--write", action="store_true", help="write the table; otherwise compare it")
    if parser.parse_args().write:
        TABLE.write_text(dumps(), encoding="utf-8")
        return 0
    return int(TABLE.read_text(encoding="utf-8") != dumps())


if __name__ == "__main__":
    sys.exit(main())
