"""Peers: conventional codecs at very low rates, and what a receiver can do to help them.

A peer codes all frames or every fourth one and the last, at full or at half size. The receiver scales
pictures of half size up (Lanczos) and interpolates the frames that were not sent by optical flow (OpenCV DIS
between the decoded ones, both ways).

Its bits are those of the elementary stream alone: AV1 without temporal delimiters, HEVC in Annex B without
SEI and access unit delimiters. Parameter sets and sequence headers count, a container does not. What does
not count is removed before decoding, so what counts is enough to decode.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tgv_format import obu
from tgv_format.picture import Picture, Plane

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

_TEMPORAL_DELIMITER = 2
_ACCESS_UNIT_DELIMITER, _PREFIX_SEI, _SUFFIX_SEI = 35, 39, 40
_START_CODE = re.compile(rb"(?=\x00\x00\x00\x01|(?<!\x00)\x00\x00\x01)")


@dataclass(frozen=True)
class Coded:
    """A clip after coding: ``bits`` sent, ``pictures`` seen, processor seconds of all threads.

    ``scenes``: of TGV, for every scene the numbers of the frames that are keyframes.
    """

    bits: int
    pictures: list[Picture]
    encode_seconds: float
    decode_seconds: float
    scenes: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Codec:
    """Encoder and decoder by their names in FFmpeg.

    ``options`` are the encoder's, with ``{}`` for the CRF; ``payload`` leaves of a packet what counts.
    """

    encoder: str
    decoder: str
    options: dict[str, str]
    payload: Callable[[bytes], bytes]


def without_delimiters(packet: bytes) -> bytes:
    """A temporal unit of AV1 without temporal delimiters."""
    return b"".join(unit.data for unit in obu.split(packet) if unit.obu_type != _TEMPORAL_DELIMITER)


def without_sei(packet: bytes) -> bytes:
    """HEVC in Annex B without access unit delimiters and SEI."""
    units = (unit for unit in _START_CODE.split(packet) if unit)
    ignored = (_ACCESS_UNIT_DELIMITER, _PREFIX_SEI, _SUFFIX_SEI)
    return b"".join(unit for unit in units if unit[unit.index(1) + 1] >> 1 not in ignored)


SVT_AV1 = Codec(
    "libsvtav1",
    "libdav1d",
    # FFmpeg's own option ends at 63.
    {"preset": "4", "svtav1-params": "crf={}:tune=1:keyint=-1"},
    without_delimiters,
)
X265 = Codec(
    "libx265",
    "hevc",
    {
        "preset": "veryslow",
        "tune": "ssim",
        "crf": "{}",
        "x265-params": "keyint=-1:bframes=16:rc-lookahead=96:log-level=error",
    },
    without_sei,
)


@dataclass(frozen=True)
class Peer:
    """``codec`` at every one of ``crfs``; ``scale`` 2 is half size, ``spacing`` 4 a quarter of the frames."""

    codec: Codec
    crfs: Sequence[int]
    scale: int = 1
    spacing: int = 1


#: By name, as in the file of ``rd.py --peers``. The CRFs are for 2 to 20 kbit/s of 512 x 320 samples.
PEERS = {
    "svt-av1": Peer(SVT_AV1, (57, 63, 70)),
    "svt-av1-half": Peer(SVT_AV1, (53, 63, 70), scale=2),
    "svt-av1-t4": Peer(SVT_AV1, (57, 63, 70), spacing=4),
    "svt-av1-half-t4": Peer(SVT_AV1, (54, 62, 70), scale=2, spacing=4),
    "x265": Peer(X265, (46, 51)),
    "x265-half": Peer(X265, (39, 45, 51), scale=2),
    "x265-t4": Peer(X265, (42, 46, 51), spacing=4),
    "x265-half-t4": Peer(X265, (39, 45, 51), scale=2, spacing=4),
}


def code(peer: Peer, crf: int, pictures: Sequence[Picture], rate: Fraction) -> Coded:
    """Send ``pictures``, whose width and height are multiples of four, at ``rate`` a second."""
    size = pictures[0].width, pictures[0].height
    begin = time.process_time()
    sent = sorted({*range(0, len(pictures), peer.spacing), len(pictures) - 1})
    small = [scaled(pictures[i], size[0] // peer.scale, size[1] // peer.scale) for i in sent]
    packets = encode(peer.codec, crf, small, rate / peer.spacing)
    middle = time.process_time()
    decoded = [scaled(picture, *size) for picture in decode(peer.codec, packets)]
    if len(decoded) != len(sent):
        raise RuntimeError(f"{peer.codec.decoder}: {len(decoded)} pictures of {len(sent)}")
    shown = decoded[:1]
    for (i, a), (j, b) in pairwise(zip(sent, decoded, strict=True)):
        shown += [*interpolate(a, b, j - i), b]
    bits = 8 * sum(map(len, packets))
    return Coded(bits, shown, middle - begin, time.process_time() - middle)


def encode(codec: Codec, crf: int, pictures: Sequence[Picture], rate: Fraction) -> list[bytes]:
    """The packets of ``pictures`` in 10 bits, without what does not count."""
    from av import CodecContext, VideoFrame

    context: VideoCodecContext = CodecContext.create(codec.encoder, "w")  # type: ignore[assignment]
    context.width, context.height = pictures[0].width, pictures[0].height
    context.pix_fmt = "yuv420p10le"
    context.framerate, context.time_base = rate, 1 / rate
    context.options = {name: value.format(crf) for name, value in codec.options.items()}
    packets = []
    for number, picture in enumerate(pictures):
        samples = np.frombuffer(picture.to_bytes(), np.uint8).astype(np.uint16) * np.uint16(4)
        frame = VideoFrame.from_ndarray(samples.reshape(-1, picture.width), format="yuv420p10le")
        frame.pts, frame.time_base = number, 1 / rate
        packets += context.encode(frame)
    packets += context.encode(None)
    return [codec.payload(bytes(packet)) for packet in packets]


def decode(codec: Codec, packets: Sequence[bytes]) -> Iterator[Picture]:
    """The pictures in display order, rounded to 8 bits."""
    from av import CodecContext, Packet

    context: VideoCodecContext = CodecContext.create(codec.decoder, "r")  # type: ignore[assignment]
    for packet in packets:
        yield from map(_to_picture, context.decode(Packet(packet)))
    yield from map(_to_picture, context.decode(None))


def _to_picture(frame: VideoFrame) -> Picture:
    samples = np.minimum((frame.to_ndarray().astype(np.uint16) + 2) // 4, 255).astype(np.uint8)
    return Picture.from_bytes(samples.tobytes(), frame.width, frame.height)


def scaled(picture: Picture, width: int, height: int) -> Picture:
    """``picture`` at another size, by Lanczos."""
    from av import VideoFrame
    from av.video.reformatter import Interpolation

    if (width, height) == (picture.width, picture.height):
        return picture
    samples = np.frombuffer(picture.to_bytes(), np.uint8).reshape(-1, picture.width)
    frame = VideoFrame.from_ndarray(samples, format="yuv420p")
    other = frame.reformat(width, height, interpolation=Interpolation.LANCZOS | Interpolation.ACCURATE_RND)
    return Picture.from_bytes(other.to_ndarray().tobytes(), width, height)


def interpolate(a: Picture, b: Picture, steps: int) -> Iterator[Picture]:
    """The ``steps`` - 1 pictures between ``a`` and ``b``.

    The flow from a picture between to either end is put together from those between the ends (Jiang et al.,
    Super SloMo, 2018, equation 4); both ends are warped by it and blended by time.
    """
    import cv2

    if steps < 2:
        return
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there, back = dis.calc(a.y, b.y, None), dis.calc(b.y, a.y, None)
    for step in range(1, steps):
        t = step / steps
        to_a = -(1 - t) * t * there + t * t * back
        to_b = (1 - t) ** 2 * there - t * (1 - t) * back
        planes = [
            np.rint((1 - t) * _warp(p, to_a) + t * _warp(q, to_b)).astype(np.uint8)
            for p, q in zip(a.planes, b.planes, strict=True)
        ]
        yield Picture(*planes)


def _warp(plane: Plane, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """``plane`` looked up where ``flow``, in luma samples, points to."""
    import cv2

    height, width = plane.shape
    scale = width / flow.shape[1]
    fitted = flow if scale == 1 else scale * cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
    x = fitted[..., 0] + np.arange(width, dtype=np.float32)
    y = fitted[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    found = cv2.remap(plane.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)
