"""Train the initial states of the adaptive contexts (specification clause 8.4) on encoded clips.

    python training/contexts.py --clips DIR [--section trajectories] [--settings 5,8,12] [--half] [--write]

Every clip is encoded, the bits of every context are collected message by message, and for each context
the initial probability is taken that codes them in the fewest bits, adaptation included. Contexts that
nothing was coded in keep their states. Prints the bits before and after; --write puts the new states into
``spec/tables/contexts.json``. --half leaves every second clip of the first folder, from the second on, to
those who measure.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from refenc.cli import header
from refenc.encoder import EncoderOptions, encode
from refenc.source import open_source
from tgv_format import trajectories
from tgv_format.entropy import BIT_COST, adapt, fresh, probability
from tgv_format.levels import LEVELS
from tgv_format.reader import Reader
from tgv_format.writer import Writer

TABLE = Path(__file__).parents[1] / "spec" / "tables" / "contexts.json"
#: Weight of an imaginary even message that keeps rarely used contexts near one half.
PRIOR = 2.0

Messages = dict[str, list[list[int]]]
Trace = list[dict[str, object]]


def collect_trajectories(path: str, bitrates: list[float], size: tuple[int, int]) -> list[Trace]:
    """Symbols of the clips of a video encoded at ``bitrates`` kbit/s, one trace a clip."""
    return [trace for bitrate in bitrates for trace in _encoded(path, bitrate, size)]


def collect_points(path: str, weights: list[float], size: tuple[int, int]) -> list[Trace]:
    """Symbols of the points that T-GVC picks in a video: in whole latent samples, and optimised.

    The former also of clips moved by a part of a unit and of reversed ones, which are as likely. ``weights``
    of a bit in the optimisation.
    """
    from refenc.guidance import analyse
    from refenc.quantise import Quantiser, rounded

    with open_source(path, size, crop=True) as source:
        pictures = [picture for picture, _ in zip(source, range(POINT_FRAMES), strict=False)]
    traces: list[Trace] = []

    def add(params: trajectories.Trajectories) -> None:
        if not params.count:
            return
        data = trajectories.encode(params, *size, LEVELS[3])
        trace: Trace = []
        trajectories.decode(data, 0, "", *size, params.last_frame, LEVELS[3], trace.append)
        traces.append(trace)

    for first in range(0, len(pictures) - POINT_LENGTH, POINT_LENGTH):
        analysis = analyse(pictures[first : first + POINT_LENGTH + 1], seed=0)
        if analysis is None:
            continue
        points = analysis.semantic
        tracks, instance = analysis.positions[points], analysis.instance[points]
        visible = analysis.visible[points]
        for dx, dy, step in ((0.0, 0.0, 1), (2.7, 4.1, 1), (5.3, 1.9, -1), (1.3, 6.2, -1)):
            moved = (tracks + np.array([dx, dy], np.float32))[:, ::step]
            add(rounded(moved, visible[:, ::step], instance, *size)[0])
        for (precision, lattice_log2), weight in product(((0, 0), (0, 1), (1, 1), (1, 2)), weights):
            quantiser = Quantiser(
                analysis.positions,
                analysis.instance,
                *size,
                precision,
                lattice_log2,
                weight,
                analysis.visible,
            )
            add(quantiser(quantiser.cheapest(points, radius=24)))
    return traces


def _encoded(path: str, bitrate: float, size: tuple[int, int]) -> list[Trace]:
    stream = io.BytesIO()
    with open_source(path, size, crop=True) as source:
        writer = Writer(stream, header(source.info, crc=True))
        options = EncoderOptions(bitrate * 1000, workers=2)
        for _ in encode(source, writer, options):
            pass
    stream.seek(0)
    traces: list[Trace] = []
    trace: Trace = []
    for _ in Reader(stream, trace=trace.append):
        traces.append(trace.copy())
        trace.clear()
    return traces


def collect_camera_poses(path: str, budgets: list[float], size: tuple[int, int]) -> list[Trace]:
    """Symbols of the poses of a video's first frames, at root mean square errors of ``budgets`` samples."""
    from refenc.poses import ESTIMATORS, quantise
    from tgv_format import camera_poses
    from tgv_format.levels import level_for

    with open_source(path, size, crop=True) as source:
        motion = ESTIMATORS["opencv"]([p.y for p, _ in zip(source, range(POSE_FRAMES), strict=False)])
    limits = level_for(*size)
    traces: list[Trace] = []
    for budget in budgets:
        error = budget / max(size)
        params = quantise(motion, *size, error, error)
        data = camera_poses.encode(params, *size, limits)
        trace: Trace = []
        camera_poses.decode(data, 0, "", *size, params.last_frame, limits, trace.append)
        traces.append(trace)
    return traces


#: For every section what collects its symbols, and its default settings.
COLLECTORS: dict[str, tuple[Callable[[str, list[float], tuple[int, int]], list[Trace]], str]] = {
    "trajectories": (collect_trajectories, "5,8,12"),
    "points": (collect_points, "8,32"),
    "camera_poses": (collect_camera_poses, "0.1,0.2,0.4,0.8"),
}
#: The section whose contexts a collector is for, where its name is another one.
SECTIONS = {"points": "trajectories"}
POSE_FRAMES = 29
POINT_FRAMES = 200
POINT_LENGTH = 16


def add_message(messages: Messages, trace: Trace) -> None:
    """Add the symbols of one section's ``trace`` to ``messages``."""
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
        context = fresh(initial)
        for bit in message:
            p = probability(context)
            total += BIT_COST[p if bit else 4096 - p]
            adapt(context, bit)
    return total


def best(messages: list[list[int]]) -> int:
    """The initial state of least cost, of 63 evenly spaced ones: among every fourth, then near that."""
    # What a context starts at hardly matters any more after so many symbols.
    messages = [message[:300] for message in messages]

    def prior(state: int) -> float:
        p = state >> 4
        return PRIOR / 2 * (BIT_COST[p] + BIT_COST[4096 - p])

    def price(state: int) -> float:
        return cost(messages, state) + prior(state)

    coarse = min(range(4096, 65536, 4096), key=price)
    return min(range(coarse - 3072, coarse + 4096, 1024), key=price)


def train(section: str, messages: Messages, write: bool) -> None:
    """Find the best initial states of a section's contexts and print what they save; ``write`` keeps them."""
    table = json.loads(TABLE.read_text())
    section = SECTIONS.get(section, section)
    before = after = 0.0
    for name, states in table["sections"][section].items():
        for index, state in enumerate(tqdm(states, desc=name, leave=False)):
            lists = messages.get(f"{name}[{index}]")
            if lists is None:
                continue
            states[index] = best(lists)
            before += cost(lists, state)
            after += cost(lists, states[index])
    print(f"bits in contexts: {before:.0f} before, {after:.0f} after ({after / before - 1:+.1%})")
    if write:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, nargs="+", help="folders of videos")
    parser.add_argument("--section", choices=COLLECTORS, default="trajectories")
    parser.add_argument("--settings", help="kbit/s, or errors in samples (default: those of the section)")
    parser.add_argument("--half", action="store_true", help="every second clip of the first folder")
    parser.add_argument("--size", default="512x320")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    collect, settings = COLLECTORS[args.section]
    values = [float(value) for value in (args.settings or settings).split(",")]
    folders = [sorted(folder.glob("*.mp4")) for folder in args.clips]
    if args.half:
        folders[0] = folders[0][::2]
    paths = [path for folder in folders for path in folder]
    messages: Messages = defaultdict(list)
    for path in tqdm(paths):
        for trace in collect(str(path), values, (width, height)):
            add_message(messages, trace)
    train(args.section, messages, args.write)


if __name__ == "__main__":
    main()
