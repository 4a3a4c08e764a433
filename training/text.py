"""Train the model of texts (specification clause 9.3.2) on ``captions.txt``.

    python training/text.py [--passes 2] [--write]

The captions were written for this project, one a line. Every sixteenth is held out, and its rate printed;
the others are what a decoder learns before a section. The weights of the orders follow the gradient of the
bits that these captions take, one after the other. --write puts captions and weights into
``spec/tables/text.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from tgv_format import text_model
from tgv_format.entropy import BIT_COST, Cost
from tgv_format.text import SECTION
from tgv_format.text_model import FRESH, ORDERS, STRETCH, TextModel, coded

CAPTIONS = Path(__file__).parent / "captions.txt"
TABLE = Path(__file__).parents[1] / "spec" / "tables" / "text.json"
HELD_OUT = slice(7, None, 16)
#: Steps of the gradient, relative to logits in 1/256, probabilities in 1/4096 and weights in 1/256.
RATE = 1 / 2**22
START = 120.0

Weights = list[list[float]]


def train(data: bytes, weights: Weights) -> float:
    """Change ``weights`` as ``data`` goes by, from a model that has learned nothing; returns the bits."""
    model, bits = TextModel(), 0.0
    for byte in tqdm(data, leave=False):
        states, node = model.states(), 1
        for shift in range(7, -1, -1):
            met = [state for s in states if (state := s.get(node, FRESH)) != FRESH]
            row = weights[len(met)]
            logits = [STRETCH[state >> 12] for state in met]
            total = sum(weight * logit for weight, logit in zip(row, logits, strict=True))
            p = text_model.squash(int(total / 256))
            bit = byte >> shift & 1
            bits += BIT_COST[p if bit else 4096 - p]
            row[:] = [w + RATE * logit * ((bit << 12) - p) for w, logit in zip(row, logits, strict=True)]
            node = node << 1 | bit
        model.learn(byte)
    return bits


def cost(data: bytes, captions: Iterable[str]) -> tuple[float, int]:
    """Bits of ``captions``, each coded after ``data`` has been learned, and their bytes in UTF-8."""
    learned, coder, size = TextModel(), Cost(SECTION), 0
    for byte in data:
        learned.learn(byte)
    for caption in captions:
        model = TextModel(learned)
        for byte in coded(caption):
            model.code(coder, byte)
        size += len(caption.encode("utf-8"))
    return coder.bits, size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    captions = CAPTIONS.read_text(encoding="utf-8").splitlines()
    held_out = captions[HELD_OUT]
    del captions[HELD_OUT]
    data = b"".join(map(coded, captions))
    weights: Weights = [[START] * count for count in range(len(ORDERS) + 1)]
    for _ in range(args.passes):
        print(f"captions learned: {train(data, weights) / 8:.0f} of {len(data)} bytes")
    text_model.WEIGHTS[:] = [[round(weight) for weight in row] for row in weights]
    bits, size = cost(data, held_out)
    print(f"{len(held_out)} captions held out: {bits / 8:.0f} of {size} bytes, {bits / 8 / size:.3f}")
    if args.write:
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        table |= {"weights": text_model.WEIGHTS, "captions": captions}
        TABLE.write_text(layout(table), encoding="utf-8")


def layout(table: dict[str, object]) -> str:
    """JSON with a caption or a row of weights a line."""

    def lines(value: object, depth: int) -> str:
        if isinstance(value, list) and any(isinstance(item, list | str) for item in value):
            indent = "\n" + "  " * depth
            items = ("," + indent).join(lines(item, depth + 1) for item in value)
            return f"[{indent}{items}\n{'  ' * (depth - 1)}]"
        return json.dumps(value, ensure_ascii=False)

    members = ",\n".join(f"  {json.dumps(key)}: {lines(value, 2)}" for key, value in table.items())
    return f"{{\n{members}\n}}\n"


if __name__ == "__main__":
    main()
