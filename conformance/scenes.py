"""Run encoders for the parts of the suite that depend on their versions; only in a checkout.

``vectors/assets/assets.toml`` describes AV1 and VVC payloads of synthetic pictures, a recipe with a table
``encode`` a scene of ``tests/scenes.py`` and the options of the reference encoder. What comes out is stored
beside them.
"""

from __future__ import annotations

import fnmatch
import io
import json
import tomllib
from collections.abc import Sequence
from fractions import Fraction
from importlib import import_module
from typing import Any

from conformance import manifest
from conformance.sources import picture
from tgv_format import obu, vvc
from tgv_format.keyframe import Keyframe
from tgv_format.picture import Picture
from tgv_format.reader import Reader
from tgv_format.sequence import SequenceHeader
from tgv_format.writer import Writer

ASSETS = manifest.VECTORS / "assets"
_KEPT = ("unit", "codec", "role", "downscale_log2", "dependent")


def encode(names: Sequence[str]) -> None:
    """Make assets and encoded scenes anew, those whose names match one of ``names``, or all."""

    def wanted(name: str) -> bool:
        return not names or any(fnmatch.fnmatch(name, pattern) for pattern in names)

    for name, row in tomllib.loads((ASSETS / "assets.toml").read_text(encoding="utf-8")).items():
        if wanted(name):
            (ASSETS / f"{name}{suffix(row['encoder'])}").write_bytes(payload(**row))
    for vector in manifest.vectors():
        if "encode" in vector.recipe and wanted(vector.name):
            units = scene(**vector.recipe["encode"])
            text = "[\n" + ",\n".join(json.dumps(unit, sort_keys=True) for unit in units) + "\n]\n"
            vector.recipe_path.with_suffix(".units.json").write_text(text, encoding="utf-8")


def suffix(encoder: str) -> str:
    """How the names of an encoder's payloads end."""
    return ".nal" if encoder.startswith("vvenc") else ".obu"


def payload(
    encoder: str,
    width: int,
    height: int,
    picture: dict[str, Any],
    quality: int = 50,
    frames: int = 1,
    moves: int = 0,
    **options: Any,
) -> bytes:
    """An AV1 payload of libaom (``aom``) through Pillow or of SVT-AV1 (``svt``, ``svt-layered``), or VVC's.

    VVenC's command makes ``vvenc``; ``vvenc-explicit`` has parameter sets. SVT-AV1 codes ``frames`` pictures,
    each moved ``moves`` samples further.
    """
    from refenc import vvenc
    from refenc.keyframes import av1_still

    pattern = _picture(width, height, picture)
    if encoder == "aom":
        return av1_still(pattern, quality)
    if encoder == "vvenc":
        return vvenc.still(pattern, quality)
    if encoder == "vvenc-explicit":
        return vvc.join(vvc.default_parameter_sets(width, height)) + vvenc.still(pattern, quality)
    if encoder == "svt-layered":
        return _layered(_svt([pattern]))
    shown = [_picture(width, height, picture | {"shift": moves * index}) for index in range(frames)]
    return _svt(shown, **options)


def _picture(width: int, height: int, row: dict[str, Any]) -> Picture:
    return picture(width, height, **row)


def _svt(
    shown: Sequence[Picture],
    unit: int | None = None,
    pixel_format: str = "yuv420p",
    parameters: str = "lp=1",
) -> bytes:
    """Temporal unit number ``unit`` of the AV1 sequence of these pictures, or all of them."""
    import av
    import numpy as np

    context: Any = av.CodecContext.create("libsvtav1", "w")
    context.width, context.height, context.pix_fmt = shown[0].width, shown[0].height, pixel_format
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"preset": "8", "crf": "30", "svtav1-params": parameters}
    packets = []
    for index, one in enumerate(shown):
        planes = [plane.reshape(-1, one.width) for plane in one.planes]
        frame = av.VideoFrame.from_ndarray(np.concatenate(planes), "yuv420p").reformat(format=pixel_format)
        frame.pts = index
        packets += context.encode(frame)
    packets += context.encode(None)
    # A temporal unit begins with its delimiter.
    units = [bytes(packet).removeprefix(b"\x12\0") for packet in packets]
    return b"".join(units if unit is None else units[unit : unit + 1])


def _layered(data: bytes) -> bytes:
    """The picture as spatial layer 1 of operating point 0, besides an operating point 1 of layer 0 alone.

    ``data`` has a sequence header with one operating point at bit 12 (AV1 specification, 5.5.1), and sizes of
    one byte up to the first frame.
    """
    header, *frames = obu.split(data)
    bits = "".join(f"{byte:08b}" for byte in header.data[2:]).rstrip("0")[:-1]
    points = "".join(f"{layers:04b}{1:08b}{0:05b}" for layers in (0b11, 0b01))
    bits = f"{bits[:7]}{1:05b}{points}{bits[29:]}1"
    body = bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))
    # The extension flag of an OBU header, then temporal layer 0 and spatial layer 1.
    rest = b"".join(bytes([unit.data[0] | 4, 1 << 3]) + unit.data[1:] for unit in frames)
    return bytes([header.data[0], len(body)]) + body + rest


def scene(
    name: str,
    seed: int,
    width: int,
    height: int,
    frames: int,
    sequence: dict[str, Any] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """The units that the reference encoder makes of a scene: their canonical objects, with payloads."""
    from refenc import encoder
    from tgv_format.levels import level_for

    rendered = import_module("tests.scenes").SCENES[name](seed, width, height, frames)
    header = SequenceHeader(width, height, Fraction(25), level_for(width, height).level, **(sequence or {}))
    out = io.BytesIO()
    for _ in encoder.encode(rendered.pictures, Writer(out, header), encoder.EncoderOptions(**options)):
        pass
    reader = Reader(io.BytesIO(out.getvalue()))
    units = [header.to_json()]
    for unit in list(reader)[:-1]:
        value = unit.to_json()
        if isinstance(unit, Keyframe):
            value = {key: value[key] for key in _KEPT if key in value}
            value["payload"] = unit.payload.hex()
        units.append(value)
    return units
