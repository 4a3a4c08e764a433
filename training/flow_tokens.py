"""Train the initial states of the contexts of flow tokens (specification clause 9.4) on clips.

    python training/flow_tokens.py --clips DIR [--write]

Uses every second clip of each folder, beginning with the first; ``benchmarks/rate.py --half`` measures on the
others. Tokens are chosen at a coarse and at a fine error budget.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import islice
from pathlib import Path

import cv2
from contexts import Messages, add_message, train
from tqdm import tqdm

from refenc.flow_tokens import FlowOptions, analyse, choose
from refenc.source import open_source
from tgv_format import flow_tokens
from tgv_format.levels import LEVELS

#: First frame and length of the clips of a video.
CLIPS = ((0, 29), (60, 16))
SHARES = (0.25, 0.03)


def collect(messages: Messages, path: Path, size: tuple[int, int]) -> None:
    """Add the symbols of a video's flow tokens."""
    with open_source(str(path), size, crop=True) as source:
        frames = list(islice(source, sum(CLIPS[-1]) + 1))
    for first, length in CLIPS:
        part = frames[first : first + length + 1]
        if len(part) < 3:
            continue
        analysis = analyse(part, FlowOptions().tokens)
        for share in SHARES:
            params = choose(analysis, FlowOptions(share=share))
            trace: list[dict[str, object]] = []
            data = flow_tokens.encode(params, LEVELS[1])
            flow_tokens.decode(data, 0, "", params.last_frame, LEVELS[1], trace.append)
            add_message(messages, trace)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, nargs="+", help="folders of videos")
    parser.add_argument("--size", default="512x320")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    cv2.setNumThreads(1)
    messages: Messages = defaultdict(list)
    for path in tqdm([path for folder in args.clips for path in sorted(folder.glob("*.mp4"))[::2]]):
        collect(messages, path, (width, height))
    train("flow_tokens", messages, args.write)


if __name__ == "__main__":
    main()
