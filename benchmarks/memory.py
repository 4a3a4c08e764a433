"""Peak memory of a long video against a short one, all through pipes.

A clip is looped to the length and piped as Y4M into the encoder, its stream into the decoder, and the
raw frames into a reader that throws them away. The default size is small because ten minutes are
15,000 frames or more; --size 512x320 takes three to four times as long.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO

from common import Process, Row, Size, Target, arguments, conclude, find_clips, progress, table
from y4m import Y4m

RATIO = 1.1
_CHUNK = 1 << 20


def measure(video: Y4m, size: Size, frames: int) -> Row:
    """Encode and decode ``frames`` frames at once; peak memory of both processes in MiB."""
    pipe = subprocess.PIPE
    encoder = Process("refenc", ["-", "-", "--workers", "2"], stdin=pipe, stdout=pipe)
    decoder = Process("refdec", ["-", "-", "--threads", "2"], stdin=encoder.stdout, stdout=pipe)
    assert encoder.stdin is not None
    assert encoder.stdout is not None
    assert decoder.stdout is not None
    # The decoder has it now; a second holder would keep the encoder from noticing the decoder's end.
    encoder.stdout.close()
    feeder = Thread(target=video.feed, args=(encoder.stdin, frames))
    feeder.start()
    received = _discard(decoder.stdout)
    feeder.join()
    encoding, decoding = encoder.wait(), decoder.wait()
    picture = size[0] * size[1] + 2 * (-(-size[0] // 2)) * (-(-size[1] // 2))
    return {
        "minutes": frames / float(video.rate) / 60,
        "frames": frames,
        "seconds": encoding.seconds,
        "frames back": received / picture,
        "encoder MiB": encoding.peak_mib,
        "decoder MiB": decoding.peak_mib,
    }


def _discard(stream: IO[bytes]) -> int:
    """Read to the end; how many bytes there were."""
    total = 0
    while part := stream.read(_CHUNK):
        total += len(part)
    return total


def targets(rows: list[Row]) -> list[Target]:
    """Every longer video against the shortest one."""
    base, *longer = rows
    return [
        Target(
            f"peak memory within {RATIO} of that for {base['minutes']:.2g} min",
            [
                f"{r['minutes']:.2g} min, {name}: {r[name]:.0f} against {base[name]:.0f}"
                for r in longer
                for name in ("encoder MiB", "decoder MiB")
                if r[name] > RATIO * base[name]
            ],
        ),
        Target(
            "as many frames back as went in",
            [f"{r['frames back']} of {r['frames']}" for r in rows if r["frames back"] != r["frames"]],
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__, size="256x160")
    p.add_argument("--minutes", default="1,10", metavar="LIST", help="lengths, shortest first (default 1,10)")
    args = p.parse_args(argv)
    path: Path = find_clips(args)[0]
    video = Y4m.of(path, args.size)
    counts = [round(float(m) * 60 * video.rate) for m in args.minutes.split(",")]
    rows = [measure(video, args.size, count) for count in progress(counts, "memory")]
    print(f"{path.stem} at {args.size[0]}x{args.size[1]}\n")
    print(table(rows, dict.fromkeys(rows[0], ".0f") | {"minutes": ".2f"}, medians=False))
    result = {"benchmark": "memory", "clip": path.stem, "size": args.size, "rows": rows}
    return conclude(args, result, targets(rows))


if __name__ == "__main__":
    sys.exit(main())
