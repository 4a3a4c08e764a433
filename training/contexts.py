"""Train the initial states of the adaptive contexts (specification clause 8.4) on encoded clips.

    python training/contexts.py --clips DIR [--bitrates 5,8,12] [--write]

Every clip is encoded, the bits of every context are collected message by message, and for each context
the initial probability is taken that codes them in the fewest bits, adaptation included. Prints the bits
before and after; --write puts the new states into ``spec/tables/contexts.json``.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from refenc.cli import default_interval, header
from refenc.encoder import EncoderOptions, encode
from refenc.source import open_source
from tgv_format.entropy import BIT_COST, Contexts
from tgv_format.reader import Reader
from tgv_format.writer import Writer

TABLE = Path(__file__).parents[1] / "spec" / "tables" / "contexts.json"
SECTION = "trajectories"
#: Weight of an imaginary even message that keeps rarely used contexts near one half.
PRIOR = 2.0

Messages = dict[str, list[list[int]]]


def collect(path: str, bitrate: float, size: tuple[int, int]) -> Messages:
    """The bits of every context, one list a message."""
    stream = io.BytesIO()
    with open_source(path, size, crop=True) as source:
        writer = Writer(stream, header(source.info, crc=True))
        options = EncoderOptions(bitrate * 1000, interval=default_interval(source.info.frame_rate), workers=2)
        for _ in encode(source, writer, options):
            pass
    stream.seek(0)
    messages: Messages = defaultdict(list)
    trace: list[dict[str, object]] = []
    for _ in Reader(stream, trace=trace.append):
        add(messages, trace)
        trace.clear()
    return messages


def add(messages: Messages, trace: Iterable[dict[str, object]]) -> None:
    """Put the bits of one traced message to those of the messages before."""
    bits: dict[str, list[int]] = defaultdict(list)
    for record in trace:
        if record["context"] is not None:
            bits[str(record["context"])].append(int(str(record["value"])))
    for name, values in bits.items():
        messages[name].append(values)


def cost(messages: list[list[int]], initial: int) -> float:
    """Bits that ``messages`` take in a context that starts at ``initial``."""
    total = 0.0
    for message in messages:
        context = Contexts({"": [initial]})
        for bit in message:
            p = context.probability(0)
            total += BIT_COST[p if bit else 4096 - p]
            context.update(0, bit)
    return total


def best(messages: list[list[int]]) -> int:
    """The initial state of least cost, of 63 evenly spaced ones."""

    def prior(state: int) -> float:
        p = state >> 4
        return PRIOR / 2 * (BIT_COST[p] + BIT_COST[4096 - p])

    return min(range(1024, 65536, 1024), key=lambda state: cost(messages, state) + prior(state))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, nargs="+", help="folders of videos")
    parser.add_argument("--bitrates", default="5,8,12", help="kbit/s to encode at (default 5,8,12)")
    parser.add_argument("--size", default="512x320")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    messages: Messages = defaultdict(list)
    jobs = [
        (str(path), float(rate))
        for folder in args.clips
        for path in sorted(folder.glob("*.mp4"))
        for rate in args.bitrates.split(",")
    ]
    for path, rate in tqdm(jobs):
        for name, lists in collect(path, rate, (width, height)).items():
            messages[name] += lists
    train(SECTION, messages, args.write)


def train(section: str, messages: Messages, write: bool) -> None:
    """Print what the best initial states of a section gain, and put them into the table if ``write``."""
    table = json.loads(TABLE.read_text())
    before = after = 0.0
    for name, states in table["sections"][section].items():
        for index, state in enumerate(states):
            lists = messages.get(f"{name}[{index}]", [])
            states[index] = best(lists)
            before += cost(lists, state)
            after += cost(lists, states[index])
    print(f"bits in contexts: {before:.0f} before, {after:.0f} after ({after / before - 1:+.1%})")
    if write:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
