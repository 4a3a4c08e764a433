"""Camera poses in a section, and in CPSGD's scheme, at no larger error.

CPSGD's poses are relative to the first frame (E'_i = E_1^-1 E_i), of every other frame, as differences from
one kept frame to the next, each parameter in 8 bits with a half-precision scale and bias, Huffman coded. This
can be read in several ways:

matrix: the 12 entries of the upper rows are the parameters (made orthonormal again by the decoder)
vector: rotation vector and translation, half as many
open: the differences of the original poses are quantised, and errors add up; closed: differences from the
   decoded pose are

The published one is ``matrix_open``: E are extrinsic matrices, which are multiplied, subtracted and quantised
in this order, and no step of the description turns them into angles before. The others are reported beside
it, for it does not rule them out either; vectors take about half of the bytes.

Huffman codes count with the cheapest description of their table: one symbol and length (12 bits) for each of
the symbols used, or a table made of the other clips, for nothing. Parameters that do not change take no
symbols. Intrinsics, which the paper's encoder sends as well, and all framing are left out. Skipped frames are
interpolated as in clause 9.5.4. xz and brotli code the symbols of the published reading instead of Huffman.

For every reading the section is given its errors (root mean square of rotation, in radians, and of
translation, in median depths of the scene, over all frames, against the poses before quantisation) as the
most that it may make.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from common import Row
from numpy.typing import NDArray

from rates.video import Video
from rates.yardsticks import general, layouts
from refenc.poses import ESTIMATORS, Motion, errors, quantise
from tgv_format import camera_poses
from tgv_format.levels import LEVELS

Floats = NDArray[np.float64]

READINGS = ("matrix_open", "matrix_closed", "vector_open", "vector_closed")
PUBLISHED = "matrix_open"
GENERAL = ("xz", "brotli")
FRAMES = 29


def measure(video: Video) -> list[Row]:
    """A row for the beginning of the video; :func:`add_huffman` completes it."""
    frames = [picture.y for picture in video.pictures[:FRAMES]]
    if len(frames) < 3:
        return []
    return [{"first": 0, "frames": len(frames) - 1, **rate(ESTIMATORS["opencv"](frames), *video.size)}]


def rate(motion: Motion, width: int, height: int) -> Row:
    """Bytes and errors of TGV for every reading; ``symbols`` holds those of the readings."""
    row: Row = {"symbols": {}}
    for reading in READINGS:
        found = published(motion, reading)
        row["symbols"][reading] = found
        budget = errors(motion, found.decoded)
        params = quantise(motion, width, height, *budget)
        made = errors(motion, camera_poses.matrices(params))
        tgv = len(camera_poses.encode(params, width, height, LEVELS[3]))
        if reading == PUBLISHED:
            row |= {"tgv": tgv, **general(layouts(found.symbols), found.side_bytes)}
            row["tgv_rotation_error"], row["tgv_translation_error"] = made
            row["published_rotation_error"], row["published_translation_error"] = budget
        else:
            row[f"{reading}_tgv"] = tgv
            row[f"{reading}_rotation_error"], row[f"{reading}_translation_error"] = budget
    return row


def add_huffman(rows: Sequence[Row]) -> None:
    """Replace the ``symbols`` of all rows by the bytes of the readings."""
    symbols = [row.pop("symbols") for row in rows]
    for reading in READINGS:
        for k, row in enumerate(rows):
            others = trained(s[reading].symbols.ravel().tolist() for s in symbols[:k] + symbols[k + 1 :])
            row[reading] = huffman_bytes(symbols[k][reading], others)


@dataclass(frozen=True, eq=False)
class Published:
    """What CPSGD's scheme makes of a motion: ``symbols`` int64 [K, parameters that change], bytes beside
    them, and the decoded matrices [L+1, 4, 4]."""

    symbols: NDArray[np.int64]
    side_bytes: int
    decoded: Floats


def rotation_matrices(vectors: Floats) -> Floats:
    """[T, 3, 3] of rotation vectors [T, 3]."""
    import cv2

    return np.stack([cv2.Rodrigues(v)[0] for v in vectors])


def published(motion: Motion, reading: str) -> Published:
    """CPSGD's scheme for a motion, as one of :data:`READINGS`."""
    parameters, loop = reading.split("_")
    last = len(motion.rotation) - 1
    kept = sorted({*range(0, last + 1, 2), last})
    if parameters == "matrix":
        rows = np.concatenate([rotation_matrices(motion.rotation), motion.translation[..., None]], axis=2)
        values = rows.reshape(last + 1, 12)[kept]
    else:
        values = np.concatenate([motion.rotation, motion.translation], axis=1)[kept]
    differences = np.diff(values, axis=0)
    low, high = differences.min(axis=0), differences.max(axis=0)
    bias = low.astype(np.float16)
    scale = ((high - low) / 255).astype(np.float16)
    used = (scale > 0).nonzero()[0]
    decoded = [values[0]]
    symbols = []
    for k, difference in enumerate(differences):
        if loop == "closed":
            difference = values[k + 1] - decoded[-1]
        codes = np.zeros(len(bias))
        codes[used] = np.clip(
            np.rint((difference[used] - bias[used]) / scale[used].astype(np.float64)), 0, 255
        )
        symbols.append(codes[used].astype(np.int64))
        decoded.append(decoded[-1] + bias.astype(np.float64) + codes * scale.astype(np.float64))
    return Published(np.array(symbols), 4 * len(bias), interpolate(np.array(decoded), kept))


def interpolate(values: Floats, kept: Sequence[int]) -> Floats:
    """Matrices [L+1, 4, 4] from 12 or 6 parameters of the kept frames [K, 12 or 6]."""
    import cv2

    if values.shape[1] == 12:
        rows = values.reshape(-1, 3, 4)
        u, _, vt = np.linalg.svd(rows[:, :, :3])
        rotations, translations = u @ vt, rows[:, :, 3]
    else:
        rotations, translations = rotation_matrices(values[:, :3]), values[:, 3:]
    out = np.tile(np.eye(4), (kept[-1] + 1, 1, 1))
    for k in range(1, len(kept)):
        a, b = kept[k - 1], kept[k]
        turn = cv2.Rodrigues(rotations[k] @ rotations[k - 1].T)[0]
        for t in range(a + 1, b + 1):
            part = (t - a) / (b - a)
            out[t, :3, :3] = cv2.Rodrigues(part * turn)[0] @ rotations[k - 1]
            out[t, :3, 3] = translations[k - 1] + part * (translations[k] - translations[k - 1])
    return out


def huffman(counts: Mapping[int, int]) -> dict[int, int]:
    """Code length of every symbol; a single one takes a bit."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (n, i, (s,)) for i, (s, n) in enumerate(sorted(counts.items()))
    ]
    lengths = dict.fromkeys(counts, int(len(counts) == 1))
    heapq.heapify(heap)
    order = len(heap)
    while len(heap) > 1:
        (n, _, a), (m, _, b) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in (*a, *b):
            lengths[symbol] += 1
        order += 1
        heapq.heappush(heap, (n + m, order, a + b))
    return lengths


def trained(messages: Iterable[Sequence[int]]) -> dict[int, int]:
    """Lengths of a table that holds every byte."""
    counts = Counter(range(256))
    for message in messages:
        counts.update(message)
    return huffman(counts)


def huffman_bytes(found: Published, shared: Mapping[int, int]) -> int:
    """Bytes with the cheaper of a table of its own and the ``shared`` one."""
    counts = Counter(found.symbols.ravel().tolist())
    lengths = huffman(counts)
    own = sum(lengths[s] * n + 12 for s, n in counts.items())
    return found.side_bytes + math.ceil(min(own, sum(shared[s] * n for s, n in counts.items())) / 8)
