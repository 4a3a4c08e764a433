"""Label planes in a section, and in lossless codecs.

A clip is a keyframe and 29 frames after it; planes are those of the encoder's ``motion`` backend, and all
codecs get the same. SVT-AV1 stands for a published scheme. Of the others the payload is counted, and the
codec's own headers, but no container.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from common import Row
from numpy.typing import NDArray
from PIL import Image

from rates.video import Video
from rates.yardsticks import general
from refenc.masks import MaskOptions, extract
from tgv_format import masks
from tgv_format.levels import LEVELS
from tgv_format.masks import Masks

Labels = NDArray[np.uint8]

FRAMES = 30
SVTAV1 = {"preset": "0", "svtav1-params": "lossless=1"}

PUBLISHED = "svtav1"
GENERAL = ("svtav1", "png", "xz", "brotli")


def measure(video: Video) -> list[Row]:
    """A row for the beginning of the video; none where all is background and no section is sent."""
    params = extract(video.pictures[:FRAMES], MaskOptions())
    if params is None or len(params.labels) < 2:
        return []
    row: Row = {"first": 0, "frames": params.last_frame, "labels": params.label_count}
    return [row | sizes(params, *video.size)]


def sizes(params: Masks, width: int, height: int) -> dict[str, int]:
    """Bytes of one clip's labels in a section and in every yardstick."""
    return {
        "tgv": len(masks.encode(params, width, height, LEVELS[3])),
        "svtav1": svtav1(params.labels),
        "png": sum(map(png, params.labels)),
        **general(bit_planes(params.labels)),
    }


def svtav1(labels: Labels) -> int:
    """Bytes of the lossless packets of SVT-AV1 at its slowest setting, labels as luma and constant chroma.

    RuntimeError when decoding does not give the labels back.
    """
    import av

    container = av.open(io.BytesIO(), "w", format="matroska")
    stream = container.add_stream("libsvtav1", rate=30, options=SVTAV1)
    stream.pix_fmt = "yuv420p"
    stream.height, stream.width = labels.shape[1:]
    packets = [packet for plane in labels for packet in stream.encode(_with_chroma(plane))]
    packets += stream.encode(None)
    header = bytes(stream.codec_context.extradata or b"")
    data = b"".join(bytes(packet) for packet in packets)
    if not np.array_equal(_decoded(header, packets, labels), labels):
        raise RuntimeError("SVT-AV1 is not lossless")
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


def _decoded(header: bytes, packets: list[Any], labels: Labels) -> Labels:
    """The luma planes of the packets."""
    import av

    context: Any = av.CodecContext.create("libdav1d", "r")
    context.thread_count = 1
    if header:
        context.extradata = header
    planes = []
    for frame in (f for packet in [*packets, None] for f in context.decode(packet)):
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


def bit_planes(labels: Labels) -> list[bytes]:
    """All bit planes, each XORed with that of the frame before: packed to bits, or one byte a sample; and the
    labels themselves XORed."""
    difference = labels.copy()
    difference[1:] ^= labels[:-1]
    bits = max(1, int(labels.max(initial=0)).bit_length())
    planes = np.stack([difference >> b & 1 for b in range(bits)])
    packed = np.packbits(planes, axis=-1), np.packbits(planes.swapaxes(0, 1), axis=-1)
    return [data.tobytes() for data in (*packed, planes, difference)]
