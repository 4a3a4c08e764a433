"""Small conformance suites on disk, and decoders that are wrong on purpose, for tests of the runner."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from strategies import random_picture, raw_keyframe, small_header, write

from conformance import reference
from conformance.manifest import Vector, read_recipe
from tgv_format.camera_poses import CameraPoses, default_intrinsics
from tgv_format.clip import Clip
from tgv_format.flow_tokens import FlowTokens, Tokenizer
from tgv_format.generator_hint import GeneratorHint, Sampler
from tgv_format.interpolation import Interpolation, Mode
from tgv_format.keyframe import Role
from tgv_format.masks import Masks
from tgv_format.text import Text
from tgv_format.trajectories import Trajectories

__all__ = ["Suite", "everything", "fake", "random_picture", "still"]


@dataclass(frozen=True)
class Suite:
    """A folder of vectors in the form of ``conformance.manifest``."""

    folder: Path

    def add(
        self,
        name: str,
        data: bytes,
        errors: tuple[str, ...] = (),
        features: tuple[str, ...] = ("raw",),
        requirements: tuple[str, ...] = ("TGV-CON-5",),
        classes: tuple[int, ...] = (1, 2, 3, 4),
    ) -> Vector:
        """Write a vector; what a valid one decodes to is taken from the reference implementation."""
        outcome = "invalid" if errors else "valid"
        path = self.folder / outcome / "topic" / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        expected = (
            f'{{ outcome = "{outcome}", errors = {json.dumps(errors)} }}'
            if errors
            else '{ outcome = "valid" }'
        )
        path.write_text(
            f'description = "A vector."\ntests = "Something."\nrequirements = {json.dumps(requirements)}\n'
            f"profile = 0\nlevel = 1\nfeatures = {json.dumps(features)}\nclasses = {json.dumps(classes)}\n"
            f"expected = {expected}\n",
            encoding="utf-8",
        )
        path.with_suffix(".tgv").write_bytes(data)
        if errors:
            row: dict[str, object] = {"fault": {"identifier": errors[0], "offset": 0, "path": "file"}}
        else:
            decoded = reference.decode(data)
            pictures = decoded.pictures() if 3 in classes else []
            keyframes = [o for o in reference.decode(data).units if o.path.startswith("keyframe")]
            assert keyframes
            row = {
                "document_sha256": hashlib.sha256(
                    reference.document([unit.value for unit in decoded.units])
                ).hexdigest(),
                "units": [],
                "keyframes": [],
                "frames": [picture.md5() for picture in pictures],
            }
        path.with_suffix(".json").write_text(json.dumps(row), encoding="utf-8")
        return read_recipe(path)


def still() -> bytes:
    """One keyframe."""
    header = small_header(16, 12)
    return write(header, [raw_keyframe(header, 0, Role.LEADING, 1)])


def everything() -> bytes:
    """A hint, a clip between two keyframes with all sections, then one by steps after the second keyframe.

    Interpolation stands in the last one, which it takes no part in.
    """
    header = small_header(24, 16)
    count = 6
    rng = np.random.default_rng(7)
    # Two instances; the second point stays in label 1 of the masks, the third is seen for a while only.
    paths = np.zeros((3, count + 1, 2), np.int32)
    paths[0] = [[2 + t, 3] for t in range(count + 1)]
    paths[1] = [[2 + 4 * min(t, 4), 9 + (t * (6 - t)) // 4] for t in range(count + 1)]
    paths[2] = [[18, 12]] * (count + 1)
    points = Trajectories(
        positions=paths,
        span=np.array([[0, count], [0, count], [1, 4]], np.int32),
        visible=np.array([[1] * 7, [1, 1, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0]], np.bool_),
        instance=np.array([0, 0, 1], np.uint8),
        follows=np.zeros(3, np.bool_),
        precision=3,
        lattice_log2=0,
    )
    # The second point is anchored at its last frame.
    steps = Trajectories(
        positions=np.array([[[2, 2], [3, 2], [4, 3]], [[7, 7], [7, 6], [6, 6]]], np.int32),
        span=np.array([[0, 2], [0, 2]], np.int32),
        visible=np.ones((2, 3), np.bool_),
        instance=np.zeros(2, np.uint8),
        follows=np.zeros(2, np.bool_),
        precision=3,
        lattice_log2=2,
        stepwise=True,
    )
    tokens = FlowTokens(rng.integers(-9, 10, (count, 2, 3)).astype(np.int16), 4, Tokenizer.COSINE)
    poses = CameraPoses(
        frames=np.array([3, count], np.int32),
        poses=np.array([[1, 2, 0, 5, 0, 0], [2, 5, 0, 9, 0, 0]], np.int32),
        curved=False,
        rotation_step=10,
        translation_step=12,
        intrinsics=np.array(default_intrinsics(24, 16), np.int32) + 1,
        plane=np.array([0, 3, 200], np.int32),
    )
    labels = np.zeros((count + 1, 4, 6), np.uint8)
    for t in range(count + 1):
        labels[t, 1:3, min(t, 4) : min(t, 4) + 2] = 1
    labels[2:, 3, 5] = 2
    motion = np.zeros((count, 2, 2), np.int16)
    motion[1, 0] = 1, 0
    masks = Masks(labels, motion, 2)
    between = Interpolation(Mode.CORRECTED, 5, np.array([[1, -2]], np.int8))
    hint = GeneratorHint("any", bytes(32), Sampler.DDIM, 10, 120, 7)
    clip = Clip(count, points, Text("a boat"), tokens, poses, masks)
    return write(
        header,
        [
            raw_keyframe(header, 0, Role.LEADING, 1),
            raw_keyframe(header, count, Role.TRAILING, 2),
            hint,
            clip,
            Clip(2, steps, interpolation=between),
        ],
    )


def fake(folder: Path, body: str) -> str:
    """The command of a decoder made of statements about the paths ``stream``, ``params`` and ``md5``."""
    path = folder / "decoder.py"
    head = """
import os, sys, time
from pathlib import Path
stream, params, md5 = map(Path, [*sys.argv, ""][1:4])
"""
    path.write_text(head + body, encoding="utf-8")
    return f"{sys.executable} -S -E {path} {{input}} {{params}} {{md5}}"
