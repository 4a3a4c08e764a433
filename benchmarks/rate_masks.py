"""What label planes take in a mask section, and what lossless codecs make of the same planes.

    python benchmarks/rate_masks.py --clips FOLDER

Sizes are bytes of one clip: a keyframe and 29 frames after it, planes from the encoder's ``motion`` backend.
Of the others the payload is counted, and the codec's own headers, but no container. The target is half the
size of the best of them, on average over the clips. Contexts are trained on every second clip, from the first
one on; figures are those of the other half. A second table has the exact labels of the synthetic scenes.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, Target, arguments, conclude, find_clips, progress, table
from numpy.typing import NDArray
from PIL import Image

from refenc.masks import SEGMENTERS, MaskOptions, simplify
from refenc.source import open_source
from tgv_format import masks
from tgv_format.levels import LEVELS
from tgv_format.masks import Masks

Labels = NDArray[np.uint8]

FRAMES = 30
SHARE = 0.5

#: Encoder of FFmpeg, pixel format, options. The encoders with inter prediction get their slowest settings.
CODECS = {
    "svtav1": ("libsvtav1", "yuv420p", {"preset": "0", "svtav1-params": "lossless=1"}),
    "x264": ("libx264", "gray", {"preset": "placebo", "qp": "0"}),
    "x265": ("libx265", "gray", {"preset": "placebo", "x265-params": "lossless=1:log-level=none:info=0"}),
    "ffv1": ("ffv1", "gray", {"level": "3", "coder": "1", "context": "1", "g": "999", "slicecrc": "0"}),
}  # fmt: skip


def sizes(params: Masks, width: int, height: int) -> dict[str, int]:
    """Bytes of one clip's labels in a section and in every yardstick."""
    return {
        "tgv": len(masks.encode(params, width, height, LEVELS[3])),
        **{name: video(params.labels, *codec) for name, codec in CODECS.items()},
        "png": sum(map(png, params.labels)),
        "xz": xz(params.labels),
    }


def video(labels: Labels, encoder: str, pixel_format: str, options: dict[str, str]) -> int:
    """Bytes of the packets, and of the codec's header where it is not in them.

    RuntimeError when decoding does not give the labels back.
    """
    import av

    container = av.open(io.BytesIO(), "w", format="matroska")
    stream = container.add_stream(encoder, rate=30, options=options)
    stream.pix_fmt = pixel_format
    stream.height, stream.width = labels.shape[1:]
    packets = []
    for plane in labels:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), "gray")
        packets += stream.encode(frame if pixel_format == "gray" else _with_chroma(plane))
    packets += stream.encode(None)
    header = bytes(stream.codec_context.extradata or b"")
    data = b"".join(bytes(packet) for packet in packets)
    if not np.array_equal(_decoded(encoder, header, packets, labels), labels):
        raise RuntimeError(f"{encoder} is not lossless")
    return len(data) + (0 if header and header[4:20] in data else len(header))


def _with_chroma(plane: Labels) -> Any:
    import av

    height, width = plane.shape
    grey = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    out = av.VideoFrame(width, height, "yuv420p")
    for target, source in zip(out.planes, (plane, grey, grey), strict=True):
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : source.shape[1]] = source
        target.update(rows.tobytes())
    return out


def _decoded(name: str, header: bytes, packets: list[Any], labels: Labels) -> Labels:
    """The luma planes of the packets."""
    import av

    decoder = {"libsvtav1": "libdav1d", "libx264": "h264", "libx265": "hevc"}
    context = av.CodecContext.create(decoder.get(name, name), "r")
    context.thread_count = 1
    if header:
        context.extradata = header
    if name == "ffv1":
        context.height, context.width = labels.shape[1:]
    frames = [f for packet in [*packets, None] for f in context.decode(packet)]
    planes = []
    for frame in frames:
        luma = frame.planes[0]
        rows = np.frombuffer(luma, np.uint8).reshape(luma.height, luma.line_size)
        planes.append(rows[:, : labels.shape[2]])
    return np.stack(planes)


def png(plane: Labels) -> int:
    """Bytes of a PNG of one plane: grey, or a palette with as few bits as will do."""
    bits = next(b for b in (1, 2, 4, 8) if plane.max(initial=0) < 1 << b)
    grey = Image.fromarray(plane)
    indexed = Image.fromarray(plane, "P")
    indexed.putpalette([v for k in range(1 << bits) for v in (k, k, k)])
    found = []
    for image, options in ((grey, {}), (indexed, {"bits": bits})):
        out = io.BytesIO()
        image.save(out, "PNG", optimize=not options, compress_level=9, **options)
        found.append(len(out.getvalue()))
    return min(found)


def xz(labels: Labels) -> int:
    """Bytes of a raw LZMA stream of all bit planes, each XORed with that of the frame before.

    Packed to bits or one byte a sample, and the labels themselves XORed; the smallest.
    """
    difference = labels.copy()
    difference[1:] ^= labels[:-1]
    bits = max(1, int(labels.max(initial=0)).bit_length())
    planes = np.stack([difference >> b & 1 for b in range(bits)])
    packed = np.packbits(planes, axis=-1), np.packbits(planes.swapaxes(0, 1), axis=-1)
    settings = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": lc, "lp": lp, "pb": pb}
        for lc, lp, pb in ((3, 0, 0), (0, 0, 0), (0, 0, 3), (3, 0, 2))
    ]
    return min(
        len(lzma.compress(data.tobytes(), lzma.FORMAT_RAW, filters=[setting]))
        for data in (*packed, planes, difference)
        for setting in settings
    )


def measure(name: str, params: Masks, rate: float, width: int, height: int) -> Row:
    """Sizes of one clip, and how many times faster than real time its section is decoded."""
    data = masks.encode(params, width, height, LEVELS[3])
    begin = time.process_time()
    masks.decode(data, 0, "masks", width, height, params.last_frame, LEVELS[3])
    speed = len(params.labels) / rate / (time.process_time() - begin)
    return {"clip": name, "labels": params.label_count, **sizes(params, width, height), "speed": speed}


def clip_masks(path: Path, width: int, height: int) -> tuple[Masks, float]:
    """What the encoder makes of the beginning of a clip, and the clip's frame rate."""
    with open_source(str(path), (width, height), crop=True) as source:
        pictures, rate = list(islice(source, FRAMES)), float(source.info.frame_rate)
    options = MaskOptions()
    return simplify(SEGMENTERS[options.segmenter](pictures, options), options), rate


def scene_masks(name: str, width: int, height: int) -> Masks:
    """The exact labels at the centres of label samples of 8x8 luma samples."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from scenes import SCENES

    labels = SCENES[name](1, width, height, FRAMES).labels
    last = height - 1, width - 1
    rows, columns = (
        np.minimum(8 * np.arange(n) + 4, end)
        for n, end in zip(masks.plane_size(width, height, 3), last, strict=True)
    )
    exact = np.ascontiguousarray(labels[:, rows][:, :, columns])
    return simplify(exact, MaskOptions(budget=0))


def report(rows: list[Row]) -> tuple[dict[str, float], str]:
    """Print a table; mean sizes, and the best of the others."""
    names = ["tgv", *CODECS, "png", "xz"]
    print("\n" + table(rows, {"clip": "", "labels": ".0f", **dict.fromkeys(names, ".0f"), "speed": ".0f"}))
    means = {name: float(np.mean([r[name] for r in rows])) for name in names}
    print("\nmean bytes: " + ", ".join(f"{name} {size:.1f}" for name, size in means.items()))
    return means, min(names[1:], key=lambda n: means[n])


SCENE_NAMES = ("pan", "zoom", "orbit", "two_objects_crossing", "oscillating", "rotating_object", "uncovering")


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = arguments(__doc__).parse_args(argv)
    import cv2

    cv2.setNumThreads(1)
    os.environ.setdefault("SVT_LOG", "1")
    rows = [
        measure(path.stem, *clip_masks(path, *args.size), *args.size)
        for path in progress(find_clips(args)[1::2], "clips")
    ]
    scenes = [
        measure(name, scene_masks(name, *args.size), FRAMES, *args.size)
        for name in progress(SCENE_NAMES, "scenes")
    ]
    targets, summary = [], {}
    for kind, chosen in (("clips", rows), ("scenes", scenes)):
        means, best = report(chosen)
        share = means["tgv"] / means[best]
        summary[kind] = means
        targets.append(
            Target(
                f"{kind}: at most {SHARE:.0%} of the best of the others",
                [f"{share:.1%} of {best}"][: share > SHARE],
            )
        )
        print(f"{share:.1%} of {best}")
    result = {
        "benchmark": "rate_masks",
        "size": args.size,
        "rows": rows,
        "scenes": scenes,
        "summary": summary,
    }
    return conclude(args, result, targets)


if __name__ == "__main__":
    sys.exit(main())
