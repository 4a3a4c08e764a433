"""From the parameters of a recipe to a stream.

A recipe describes a sequence by the members of the canonical JSON objects (clause 11.2): a table ``sequence``
and a list of ``unit``. What can be worked out may be left out: frame numbers, the level, what points see. A
keyframe has a ``picture`` instead of a payload, or the name of a file in ``vectors/assets``. A section may be
the name of a seeded ``generator`` and its arguments.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.manifest import VECTORS
from tgv_format import illm, trajectories
from tgv_format.camera_poses import CameraPoses, default_intrinsics
from tgv_format.clip import Clip
from tgv_format.flow_tokens import FlowTokens, Tokenizer
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.group import Pair
from tgv_format.hyper_synthesis import hyper_synthesis
from tgv_format.illm_model import small_model
from tgv_format.interpolation import Interpolation, Mode, no_vectors
from tgv_format.keyframe import Codec, Keyframe, Role, coded_size
from tgv_format.levels import level_for
from tgv_format.masks import Masks, moved, plane_size
from tgv_format.picture import Colour, Picture, chroma_size
from tgv_format.sequence import SequenceHeader
from tgv_format.text import Text
from tgv_format.trajectories import Grid, Trajectories
from tgv_format.writer import Writer

Row = dict[str, Any]


def build(recipe: Row, folder: Path) -> bytes:
    """The stream of a recipe without base; ``folder`` is the recipe's own."""
    if "encode" in recipe:
        found = json.loads((folder / f"{recipe['name']}.units.json").read_text(encoding="utf-8"))
        recipe = {"sequence": found[0], "unit": found[1:]}
    header = _sequence(recipe["sequence"])
    out = io.BytesIO()
    writer = Writer(out, header)
    units = recipe["unit"]
    for index, row in enumerate(units):
        if row["unit"] == "keyframe":
            clips = (unit["frame_count"] for unit in units[index:] if unit["unit"] == "clip")
            ahead = next(clips) - 1 if row.get("role") else 0
            writer.keyframe(_keyframe(row, header, writer.frames + ahead))
        elif row["unit"] == "clip":
            writer.clip(_clip(row, header))
        elif row["unit"] == "group":
            writer.group(_pairs(row, header, writer.frames))
        else:
            writer.generator_hint(_hint(row))
    writer.finish()
    return out.getvalue()


def _sequence(row: Row) -> SequenceHeader:
    primaries, transfer, matrix, full_range = row.get("colour", (1, 1, 1, 0))
    width, height = row["width"], row["height"]
    aspect = row.get("sample_aspect", (1, 1))
    return SequenceHeader(
        width=width,
        height=height,
        frame_rate=Fraction(*row.get("frame_rate", (25, 1))),
        level=row.get("level") or level_for(width, height).level,
        colour=Colour(primaries, transfer, matrix, bool(full_range)),
        sample_aspect=(aspect[0], aspect[1]),
        crc=bool(row.get("crc", 1)),
    )


def _keyframe(row: Row, header: SequenceHeader, frame: int) -> Keyframe:
    downscale = row.get("downscale_log2", 0)
    size = coded_size(header.width, header.height, downscale)
    if "payload" in row:
        payload = bytes.fromhex(row["payload"])
    elif "asset" in row:
        payload = (VECTORS / "assets" / row["asset"]).read_bytes()
    elif "latents" in row:
        payload = latents(*size, **row["latents"])
    else:
        payload = picture(*size, **row["picture"]).to_bytes()
    role, codec = Role(row.get("role", 0)), Codec(row.get("codec", 0))
    return Keyframe(codec, role, frame % 256, downscale, payload, dependent=bool(row.get("dependent")))


def _clip(row: Row, header: SequenceHeader) -> Clip:
    size = header.width, header.height, row["frame_count"]
    return Clip(
        row["frame_count"],
        trajectories=_trajectories(row["trajectories"], *size) if "trajectories" in row else None,
        flow_tokens=_flow_tokens(row["flow_tokens"], *size) if "flow_tokens" in row else None,
        camera_poses=_camera_poses(row["camera_poses"], *size) if "camera_poses" in row else None,
        masks=_masks(row["masks"], *size) if "masks" in row else None,
        text=_text(row["text"]) if "text" in row else None,
        interpolation=_interpolation(row["interpolation"]) if "interpolation" in row else None,
    )


def _pairs(row: Row, header: SequenceHeader, frames: int) -> list[Pair]:
    """The intervals of a group that begins with frame number ``frames``: keyframes, and the rest of clips."""
    pairs = []
    for interval in row["interval"]:
        frames += row["frame_count"]
        coded = {**row, **interval["keyframe"], "role": 1, "dependent": 1}
        described = {"frame_count": row["frame_count"], **interval.get("clip", {})}
        pairs.append((_keyframe(coded, header, frames - 1), _clip(described, header)))
    return pairs


def _hint(row: Row) -> GeneratorHint:
    weights = bytes.fromhex(row.get("weights_sha256", "00" * 32))
    steps, scale, seed = row.get("steps", 0), row.get("guidance_scale_q4", 0), int(row.get("seed", "0"), 16)
    return GeneratorHint(row["name"], weights, Sampler(row.get("sampler", 0)), steps, scale, seed)


# Pictures


def picture(width: int, height: int, pattern: str, shift: int = 0, seed: int = 0) -> Picture:
    """``gradient``, ``stripes``, ``texture`` moved right by ``shift``, ``noise``, ``flat`` of ``seed``."""
    if pattern == "noise":
        draw = random.Random(seed)
        half, rows = chroma_size(width, height)
        return Picture.from_bytes(draw.randbytes(width * height + 2 * half * rows), width, height)
    planes = []
    for plane, (w, h) in enumerate([(width, height), *[chroma_size(width, height)] * 2]):
        y, x = np.mgrid[:h, :w]
        x = x - (shift >> (plane > 0))
        if pattern == "flat":
            values = np.full((h, w), seed)
        elif pattern == "stripes":
            values = np.where(x >> 2 & 1, 235, 16) + 0 * y
        elif pattern == "texture":
            # Triangular waves of two directions; chroma has the scale of luma.
            scale = 1 + (plane > 0)
            values = sum(
                abs((scale * (a * x + b * y)) % n - n // 2) for a, b, n in ((5, 3, 190), (2, -7, 270))
            )
        else:
            across, down, least = ((12, 2, 16), (8, 0, 96), (-4, -4, 160))[plane]
            values = least + across * x + down * y
        planes.append(np.ascontiguousarray((values % 256).astype(np.uint8)))
    return Picture(*planes)


def latents(
    width: int,
    height: int,
    *,
    seed: int = 0,
    z: int = 2,
    y: float = 1.0,
    step: int = 0,
    escapes: int = 0,
    z_at: Sequence[Sequence[int]] = (),
    y_at: Sequence[Sequence[int]] = (),
) -> bytes:
    """A payload of the small model with random symbols.

    Those of hyper latents are of ``-z .. z``; those of latents of a share ``y`` of what their distribution
    covers, except one of each distribution, which is so much greater or less if ``escapes`` is not 0.
    ``z_at`` and ``y_at`` set symbols: rows of channel, row, column and value.
    """
    model = small_model()
    draw = Draw(seed)
    rows, columns = illm.latent_size(width, height)
    count = model.hyper_channels * rows * columns
    drawn = np.array([draw.integer(-z, z) for _ in range(count)], np.int32)
    hyper = drawn.reshape(model.hyper_channels, rows, columns)
    for channel, row, column, value in z_at:
        hyper[channel, row, column] = value
    index = illm.scale_index(hyper_synthesis(hyper, model)[1], step)
    high = np.array([distribution.high for distribution in illm.distributions()])
    reach = (y * high[index]).astype(int)
    drawn = np.array([draw.integer(-r, r) for r in reach.ravel().tolist()], np.int32)
    symbols = drawn.reshape(index.shape)
    if escapes:
        for number in np.unique(index).tolist():
            places = np.flatnonzero(index == number)
            symbols.flat[places[len(places) // 2]] = (high[number] + escapes) * (-1 if number % 2 else 1)
    for channel, row, column, value in y_at:
        symbols[channel, row, column] = value
    return illm.encode_symbols(symbols, index, hyper, model, step)


# Sections


class Draw:
    """Random numbers for generators of sections."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """``low .. high``."""
        return low + int(self._random.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability


def _trajectories(row: Row, width: int, height: int, frames: int) -> Trajectories:
    if "generator" in row:
        return walks(width, height, frames, **{k: v for k, v in row.items() if k != "generator"})
    positions = np.array(row["positions"], np.int32)
    count = len(positions)
    span = np.array(row.get("span", [[0, frames]] * count), np.int32)
    grid = Grid.of(width, height, row["precision"], row["lattice_log2"])
    params = Trajectories(
        positions=positions,
        span=span,
        visible=np.array(row.get("visible", _seen(grid, positions, span)), np.bool_),
        instance=np.array(row.get("instance", [0] * count), np.uint8),
        follows=np.array(row.get("follows", [0] * count), np.bool_),
        precision=row["precision"],
        lattice_log2=row["lattice_log2"],
        stepwise=bool(row.get("stepwise", 0)),
    )
    return trajectories.canonical(params, width, height)[0]


def _seen(grid: Grid, positions: NDArray[np.int32], span: NDArray[np.int32]) -> NDArray[np.bool_]:
    t = np.arange(positions.shape[1])
    inside = ((positions >= 0) & (positions < (grid.width, grid.height))).all(2)
    seen: NDArray[np.bool_] = inside & (t >= span[:, :1]) & (t <= span[:, 1:])
    return seen


def walks(
    width: int,
    height: int,
    frames: int,
    *,
    seed: int,
    points: int,
    instances: int = 1,
    precision: int = 0,
    lattice_log2: int = 0,
    pace: int = 1,
    spans: float = 0.0,
    hidden: float = 0.0,
    follow: float = 0.0,
    stepwise: int = 0,
    rest: float = 0.0,
    together: float = 0.0,
    idle: float = 0.0,
) -> Trajectories:
    """Random walks of up to ``pace`` units a frame in either direction, from a lattice point on.

    The first ``instances`` points belong to an instance each, the others to any of them.
    ``spans``, ``hidden`` and ``follow`` are the shares of points with a span of their own, which may begin at
    its last frame, of frames whose visibility is not the default, and of points that follow another; ``rest``
    and ``together`` those of frames in which a point stays where it is, or moves as the first one; ``idle``
    that of points that never move.
    """
    draw = Draw(seed)
    grid = Grid.of(width, height, precision, lattice_log2)
    positions = np.zeros((points, frames + 1, 2), np.int32)
    span = np.tile(np.array([0, frames], np.int32), (points, 1))
    instance = np.zeros(points, np.uint8)
    follows = np.zeros(points, np.bool_)
    for n in range(points):
        instance[n] = n if n < instances else draw.integer(0, instances - 1)
        if draw.chance(spans):
            first = draw.integer(0, frames)
            span[n] = first, draw.integer(first, frames)
        first, last = span[n].tolist()
        begin, step = (last, -1) if draw.chance(spans) else (first, 1)
        x, y = grid.anchor(draw.integer(0, grid.cells - 1))
        still = bool(idle) and n > 0 and draw.chance(idle)
        for t in range(begin, last + 1 if step > 0 else first - 1, step):
            positions[n, t] = x, y
            dx, dy = draw.integer(-pace, pace), draw.integer(-pace, pace)
            if still or (rest and draw.chance(rest)):
                dx, dy = 0, 0
            if together and n and not still and 0 <= t + step <= frames and draw.chance(together):
                dx, dy = (positions[0, t + step] - positions[0, t]).tolist()
            x = min(max(x + dx, -grid.width), 2 * grid.width + 127)
            y = min(max(y + dy, -grid.height), 2 * grid.height + 127)
        positions[n, :first], positions[n, last + 1 :] = positions[n, first], positions[n, last]
        follows[n] = draw.chance(follow) and last - first > 1
    visible = _seen(grid, positions, span)
    for n, (first, last) in enumerate(span.tolist()):
        for t in range(first, last + 1):
            visible[n, t] ^= draw.chance(hidden)
    params = Trajectories(
        positions, span, visible, instance, follows, precision, lattice_log2, bool(stepwise)
    )
    ordered, _ = trajectories.canonical(params, width, height)
    ordered.follows[0] = False
    return ordered


def _flow_tokens(row: Row, width: int, height: int, frames: int) -> FlowTokens:
    tokenizer, step = Tokenizer(row.get("tokenizer_id", 0)), row.get("step", 16)
    if "generator" not in row:
        return FlowTokens(np.array(row["tokens"], np.int16), step, tokenizer)
    draw, pace, count, rest = Draw(row["seed"]), row["pace"], row["count"], row.get("rest", 0)
    tokens = np.zeros((frames, 2, count), np.int16)
    for k in range(count):
        for c in (0, 1):
            value = 0
            for t in range(frames):
                if not rest or not draw.chance(rest):
                    value = min(max(value + draw.integer(-pace, pace), -32768), 32767)
                tokens[t, c, k] = value
    return FlowTokens(tokens, step, tokenizer)


def _camera_poses(row: Row, width: int, height: int, frames: int) -> CameraPoses:
    keys = row.get("frames", [frames])
    if "generator" in row:
        draw, pace = Draw(row["seed"]), row["pace"]
        poses = [[draw.integer(-pace, pace) for _ in range(6)] for _ in keys]
    else:
        poses = row["poses"]
    plane = row.get("plane", [])
    return CameraPoses(
        frames=np.array(keys, np.int32),
        poses=np.array(poses, np.int32),
        curved=bool(row.get("curved", 0)),
        rotation_step=row.get("rotation_step", 20),
        translation_step=row.get("translation_step", 20),
        intrinsics=np.array(row.get("intrinsics", default_intrinsics(width, height)), np.int32),
        plane=np.array(plane, np.int32) if plane else None,
    )


def _masks(row: Row, width: int, height: int, frames: int) -> Masks:
    scale, count = row["scale_log2"], row["label_count"]
    h, w = plane_size(width, height, scale)
    motion = np.array(row.get("motion", np.zeros((frames, count, 2))), np.int16).reshape(frames, count, 2)
    if "runs" in row:
        labels = np.concatenate([np.full(length, label, np.uint8) for label, length in row["runs"]])
        return Masks(labels.reshape(frames + 1, h, w), motion, scale)
    draw = Draw(row["seed"])
    if row["generator"] == "noise":
        noise = [draw.integer(0, count) for _ in range((frames + 1) * h * w)]
        return Masks(np.array(noise, np.uint8).reshape(frames + 1, h, w), motion, scale)
    planes = [_boxes(draw, count, h, w)]
    for t in range(frames):
        plane = moved(planes[-1], motion[t].tolist())
        for _ in range(row.get("changes", 0)):
            y, x = draw.integer(0, h - 1), draw.integer(0, w - 1)
            plane[y, x : x + draw.integer(1, 4)] = draw.integer(0, count)
        planes.append(plane)
    return Masks(np.stack(planes), motion, scale)


def _boxes(draw: Draw, count: int, h: int, w: int) -> NDArray[np.uint8]:
    plane = np.zeros((h, w), np.uint8)
    for label in range(1, count + 1):
        y, x = draw.integer(0, h - 1), draw.integer(0, w - 1)
        plane[y : y + draw.integer(1, h), x : x + draw.integer(1, w)] = label
    return plane


def _interpolation(row: Row) -> Interpolation:
    vectors = np.array(row.get("vectors", no_vectors()), np.int8)
    return Interpolation(Mode(row["mode"]), row.get("sharp", 0), vectors.reshape(-1, 2))


def _text(row: Row) -> Text:
    return Text(row["text"] * row.get("times", 1))
