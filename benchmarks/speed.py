"""Speed of the encoder, the decoder and the entropy decoder, and how time grows with length and size.

Medians of several repetitions. As machines differ and are shared, wall-clock figures ("fps") are accompanied
by frames per processor-second ("fps/core"), and every repetition also times two yardsticks on the same
frames: x264 (preset veryfast, through PyAV, encoding and decoding) and a loop of NumPy operations. Ratios to
them are of processor time. Entropy decoding, which has one thread, is measured in processor time alone.
"""

from __future__ import annotations

import io
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Thread

import numpy as np
from common import (
    Figures,
    Process,
    Row,
    Size,
    Target,
    arguments,
    conclude,
    find_clips,
    median,
    parse_size,
    progress,
    read_units,
    run,
    scaling,
    table,
)
from y4m import Y4m

from refdec.decoder import Decoder
from tgv_format import clip, group
from tgv_format.container import Unit, UnitType
from tgv_format.picture import Picture, Plane
from tgv_format.reader import Reader
from tgv_format.sequence import SequenceHeader

THREADS = 2
DECODING, ENCODING, REAL_TIME, HELP = 100, 15, 200, 0.3
SIZES = ("256x160", "512x320", "768x480", "1280x720", "1920x1080")
LENGTHS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Time:
    """Wall-clock and processor seconds."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Time:
    """Of ``work`` in this process, all threads included."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Time(time.perf_counter() - wall, time.process_time() - cpu)


def x264(pictures: Sequence[Picture], rate: Fraction) -> None:
    """Encode and decode the pictures with x264 and FFmpeg's decoder."""
    import av
    from av.video.frame import VideoFrame

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
    encoder.framerate, encoder.time_base = rate, 1 / rate
    encoder.thread_count = THREADS
    encoder.options = {"preset": "veryfast"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = THREADS
    frames = (VideoFrame.from_ndarray(_i420(p), format="yuv420p") for p in pictures)
    for frame in chain(frames, [None]):
        for packet in encoder.encode(frame):
            decoder.decode(packet)
    decoder.decode(None)


def _i420(picture: Picture) -> Plane:
    return np.frombuffer(picture.to_bytes(), np.uint8).reshape(-1, picture.width)


def numpy_loop(pictures: Sequence[Picture]) -> None:
    """Arithmetic and gathering over every luma sample, like a warp."""
    for picture in pictures:
        index = np.arange(picture.y.size, dtype=np.int32)
        for _ in range(4):
            samples = picture.y.ravel().take(index).astype(np.uint16)
            samples *= 3
            samples >>= 2
            index = index[::-1].copy()


def decode(stream: bytes) -> int:
    """Decode to pictures in this process, as the command line does; how many there were."""
    with ThreadPoolExecutor(THREADS) as pool:
        reader = Reader(io.BytesIO(stream))
        return sum(1 for _ in Decoder(reader.header, mapper=pool.map).pictures(reader))


def count_bins(header: SequenceHeader, units: Sequence[Unit]) -> int:
    """Binary symbols of all sections."""
    symbols: list[object] = []
    for unit in units:
        clip.decode(unit.payload, unit.offset, "clip", header, symbols.append)
    return len(symbols)


def measure(path: Path, size: Size, repeat: int, folder: Path) -> Row:
    """Frames per second, multiples of real time, bins per second, and ratios to the yardsticks."""
    from refenc.source import open_source

    with open_source(str(path), size, crop=True) as source:
        pictures, rate = list(source), source.info.frame_rate
    stream = folder / "speed.tgv"
    options: list[str | Path] = [path, stream, *scaling(size), "--workers", str(THREADS)]
    encoder, _ = run("refenc", *options)
    data = stream.read_bytes()
    header, units = read_units(data)
    units = [u for u in group.expanded(units) if u.unit_type == UnitType.CLIP]
    bins = count_bins(header, units)
    taken: dict[str, list[Time]] = {}
    for _ in range(repeat):
        figures, _ = run("refenc", *options)
        once = {
            "x264": timed(lambda: x264(pictures, rate)),
            "numpy": timed(lambda: numpy_loop(pictures)),
            "encode": Time(figures.seconds, figures.cpu_seconds),
            "decode": timed(lambda: decode(data)),
            "read": timed(lambda: list(Reader(io.BytesIO(data)))),
            "sections": timed(lambda: [clip.decode(u.payload, u.offset, "clip", header) for u in units]),
        }
        for name, took in once.items():
            taken.setdefault(name, []).append(took)
    whole, _ = run("refdec", stream, "-", "--threads", str(THREADS))
    wall, cpu = (
        {k: median(getattr(t, kind) for t in v) for k, v in taken.items()} for kind in ("wall", "cpu")
    )
    frames = len(pictures)
    video = frames / float(rate)
    return {
        "clip": path.stem,
        "frames": frames,
        "enc fps": frames / wall["encode"],
        "enc fps/core": frames / cpu["encode"],
        "enc/x264": cpu["x264"] / cpu["encode"],
        "dec fps": frames / wall["decode"],
        "dec fps/core": frames / cpu["decode"],
        "dec/x264": cpu["x264"] / cpu["decode"],
        "dec/numpy": cpu["numpy"] / cpu["decode"],
        "refdec fps": frames / whole.seconds,
        "entropy x rt": video / cpu["sections"],
        "reader x rt": video / cpu["read"],
        "kbin": bins / 1000,
        "kbin/s": bins / cpu["sections"] / 1000,
        "x264 fps/core": frames / cpu["x264"],
        "enc MiB": encoder.peak_mib,
        "dec MiB": whole.peak_mib,
    }


def help_seconds(repeat: int) -> float:
    """Of ``refdec --help``, start of the interpreter included."""
    return median(run("refdec", "--help")[0].seconds for _ in range(repeat))


def growth_with_length(path: Path, size: Size, lengths: Sequence[int], folder: Path) -> list[Row]:
    """The clip looped, through a pipe."""
    video = Y4m.of(path, size)
    rows = []
    for factor in progress(lengths, "length"):
        frames = factor * len(video.frames)
        stream = folder / "long.tgv"
        encoder = Process("refenc", ["-", stream, "--workers", str(THREADS)], stdin=subprocess.PIPE)
        assert encoder.stdin is not None
        feeder = Thread(target=video.feed, args=(encoder.stdin, frames))
        feeder.start()
        encoding = encoder.wait()
        feeder.join()
        decoding, _ = run("refdec", stream, "-", "--threads", str(THREADS))
        rows.append(_growth(f"{factor}x", frames, encoding, decoding))
    return rows


def growth_with_size(path: Path, sizes: Sequence[Size], folder: Path) -> list[Row]:
    """The clip scaled by the encoder."""
    rows = []
    for size in progress(sizes, "size"):
        stream, report = folder / "large.tgv", folder / "large.json"
        encoding, _ = run(
            "refenc", path, stream, *scaling(size), "--workers", str(THREADS), "--report", report
        )
        decoding, _ = run("refdec", stream, "-", "--threads", str(THREADS))
        rows.append(_growth(f"{size[0]}x{size[1]}", size[0] * size[1], encoding, decoding))
    return rows


def _growth(name: str, amount: int, encoding: Figures, decoding: Figures) -> Row:
    return {
        "": name,
        "amount": amount,
        "enc s": encoding.seconds,
        "enc cpu s": encoding.cpu_seconds,
        "enc MiB": encoding.peak_mib,
        "dec s": decoding.seconds,
        "dec cpu s": decoding.cpu_seconds,
        "dec MiB": decoding.peak_mib,
    }


def exponent(rows: Sequence[Row], key: str) -> float:
    """p of seconds ~ amount^p between the first and the last row."""
    first, last = rows[0], rows[-1]
    return math.log(last[key] / first[key]) / math.log(last["amount"] / first["amount"])


def targets(rows: Sequence[Row], help_time: float) -> list[Target]:
    """The demands on medians over the clips; the slow clips are named where one is missed."""

    def at_least(key: str, least: float, what: str) -> Target:
        middle = median(r[key] for r in rows)
        slow = [f"{r['clip']}: {r[key]:.1f}" for r in sorted(rows, key=lambda r: r[key]) if r[key] < least]
        return Target(f"{what} (median {middle:.1f})", slow if middle < least else ())

    return [
        at_least("enc fps", ENCODING, f"encoding at {ENCODING} frames/s"),
        at_least("dec fps", DECODING, f"decoding at {DECODING} frames/s, keyframes included"),
        at_least("entropy x rt", REAL_TIME, f"entropy decoding at {REAL_TIME} x real time"),
        Target(
            f"refdec --help within {HELP} s",
            [f"{help_time:.3f} s"] if help_time >= HELP else (),
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    p = arguments(__doc__)
    p.add_argument("--repeat", type=int, default=5, metavar="N", help="repetitions (default 5)")
    p.add_argument("--no-growth", action="store_true", help="leave out the growth with length and size")
    args = p.parse_args(argv)
    paths = find_clips(args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ratios = ("enc/x264", "dec/x264", "dec/numpy")
        rows = [measure(path, args.size, args.repeat, folder) for path in progress(paths, "speed")]
        columns = dict.fromkeys(rows[0], ".1f") | dict.fromkeys(ratios, ".3f") | {"frames": ".0f"}
        print(table(rows, columns))
        result: Row = {"benchmark": "speed", "size": args.size, "rows": rows}
        result["help seconds"] = help_seconds(2 * args.repeat)
        print(f"\nrefdec --help: {result['help seconds']:.3f} s")
        if not args.no_growth:
            result["length"] = growth_with_length(paths[0], args.size, LENGTHS, folder)
            result["pixels"] = growth_with_size(paths[0], [parse_size(s) for s in SIZES], folder)
            for what in ("length", "pixels"):
                grown = result[what]
                print(f"\nGrowth with {what}, {paths[0].stem}")
                print(table(grown, dict.fromkeys(grown[0], ".1f") | {"amount": ".0f"}, medians=False))
                powers = ", ".join(f"{k[:3]}: {exponent(grown, k):.2f}" for k in ("enc cpu s", "dec cpu s"))
                print(f"processor seconds ~ {what} to the power of ({powers})")
    return conclude(args, result, targets(rows, result["help seconds"]))


if __name__ == "__main__":
    sys.exit(main())
