"""Train the initial states of the contexts of mask sections (specification clause 8.4).

    python training/masks.py --clips DIR [--write]

The material is the masks that ``benchmarks/rate.py`` measures, of every second clip from the first one on;
``benchmarks/rate.py --half`` reports on the others.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import islice
from pathlib import Path

import cv2
from contexts import Messages, add_message, train
from tqdm import tqdm

from refenc.masks import MaskOptions, extract
from refenc.source import open_source
from tgv_format import masks
from tgv_format.levels import LEVELS

FRAMES = 30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="folder of videos")
    parser.add_argument("--size", default="512x320")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    cv2.setNumThreads(1)
    messages: Messages = defaultdict(list)
    for path in tqdm(sorted(args.clips.glob("*.mp4"))[::2]):
        with open_source(str(path), (width, height), crop=True) as source:
            params = extract(list(islice(source, FRAMES)), MaskOptions())
        if params is None:
            continue
        data = masks.encode(params, width, height, LEVELS[3])
        trace: list[dict[str, object]] = []
        masks.decode(data, 0, "masks", width, height, params.last_frame, LEVELS[3], trace.append)
        add_message(messages, trace)
    train(masks.SECTION, messages, args.write)


if __name__ == "__main__":
    main()
