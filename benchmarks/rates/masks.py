"""Label planes in a section, and in lossless codecs.

A clip is a keyframe and 29 frames after it; planes are those of the encoder's ``motion`` backend, and all
codecs get the same. Of the others the payload is counted, and the codec's own headers, but no container.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from common import Row
from numpy.typing import NDArray
from PIL import Image

from rates.video import Video
from rates.yardsticks import xz
from refenc.masks import MaskOptions, extract
from tgv_format import masks
from tgv_format.levels import LEVELS
from tgv_format.masks import Masks

Labels = NDArray[np.uint8]

FRAMES = 30

#: Encoder of FFmpeg, pixel format, options. The encoders with inter prediction get their slowest settings.
CODECS = {
    "svtav1": ("libsvtav1", "yuv420p", {"preset": "0", "svtav1-params": "lossless=1"}),
    "x264": ("libx264", "gray", {"preset": "placebo", "qp": "0"}),
    "x265": ("libx265", "gray", {"preset": "placebo", "x265-params": "lossless=1:log-level=none:info=0"}),
    "ffv1": ("ffv1", "gray", {"level": "3", "coder": "1", "context": "1", "g": "999", "slicecrc": "0"}),
}  # fmt: skip

PUBLISHED = "svtav1"
GENERAL = (*CODECS, "png", "xz")


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
        **{name: coded(params.labels, *codec) for name, codec in CODECS.items()},
        "png": sum(map(png, params.labels)),
        "xz": xz_bytes(params.labels),
    }


def coded(labels: Labels, encoder: str, pixel_format: str, options: dict[str, str]) -> int:
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


def xz_bytes(labels: Labels) -> int:
    """Bytes of xz on all bit planes, each XORed with that of the frame before.

    Packed to bits or one byte a sample, and the labels themselves XORed; the smallest.
    """
    difference = labels.copy()
    difference[1:] ^= labels[:-1]
    bits = max(1, int(labels.max(initial=0)).bit_length())
    planes = np.stack([difference >> b & 1 for b in range(bits)])
    packed = np.packbits(planes, axis=-1), np.packbits(planes.swapaxes(0, 1), axis=-1)
    return min(xz(data.tobytes()) for data in (*packed, planes, difference))
