"""Camera poses by structure from motion: pycolmap, or what FlowMap exports in COLMAP's format.

(J. L. Schönberger and J.-M. Frahm, CVPR 2016; C. Smith et al., 2024.) Neither can do without parallax: where
there is no model of the scene, the estimate from tracks stands.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refenc import poses
from refenc.backends import weights
from refenc.poses import Estimator, Floats, Motion
from refenc.tracking import Tracks
from tgv_format.picture import Picture

_REPOSITORY = "https://github.com/dcharatan/flowmap"
#: Parameters of COLMAP's camera models, by number; those of which the first is a focal length for both axes.
_PARAMETERS = {0: 3, 1: 4, 2: 4, 3: 5, 4: 8, 5: 8}
_ONE_FOCAL = (0, 2, 3)
_SEEN = 3  # times at least that a point has to be seen


#: Makes a model in COLMAP's format, in the second folder, of the pictures in the first.
Fit = Callable[[Path, Path], None]


@dataclass(frozen=True, eq=False)
class Model:
    """A sparse model. ``intrinsics`` float64 [4]: fx, fy, cx, cy with the corner of the picture at 0;
    ``frames`` that it has, in order, and their ``poses`` float64 [n, 3, 4], world to camera; ``points``
    float64 [P, 3]."""

    intrinsics: Floats
    frames: list[int]
    poses: Floats
    points: Floats


def load_pycolmap(model: str | None) -> Estimator:
    """The estimator ``pycolmap``, without weights. ModuleNotFoundError when it is not installed."""
    import pycolmap  # noqa: F401

    return lambda pictures, tracks: _estimate(pictures, tracks, _mapped)


def load_flowmap(model: str | None) -> Estimator:
    """The estimator ``flowmap``; ``model`` is the folder of its repository. FileNotFoundError without one."""
    place = Path(model or os.environ.get("FLOWMAP_DIR", "flowmap"))
    get = f"`git clone {_REPOSITORY}` gets the code, and flowmap=FOLDER or FLOWMAP_DIR says where it is"
    repository = weights.file("flowmap", place / "flowmap" / "overfit.py", get).parents[1]

    def fitted(images: Path, out: Path) -> None:
        root = f"dataset.images.root={images}"
        command = [sys.executable, "-m", "flowmap.overfit", "dataset=images", root, f"hydra.run.dir={out}"]
        run = subprocess.run(command, cwd=repository.resolve(), capture_output=True, text=True)
        if run.returncode:
            reason = (run.stderr.strip() or "no reason given").splitlines()[-1]
            raise OSError(errno.EIO, f"flowmap failed: {reason}", str(repository))

    return lambda pictures, tracks: _estimate(pictures, tracks, fitted)


def _mapped(images: Path, out: Path) -> None:
    import pycolmap

    database = out / "database.db"
    options = {"camera_mode": pycolmap.CameraMode.SINGLE}
    pycolmap.extract_features(database, images, **options)
    pycolmap.match_sequential(database)
    found = pycolmap.incremental_mapping(database, images, out)
    if found:
        best = max(found.values(), key=lambda model: model.num_reg_images())
        (out / "sparse").mkdir()
        best.write_binary(out / "sparse")


def _estimate(pictures: Sequence[Picture], tracks: Tracks, fit: Fit) -> Motion:
    import cv2

    with tempfile.TemporaryDirectory() as name:
        images, out = Path(name, "images"), Path(name, "out")
        images.mkdir()
        out.mkdir()
        for t, picture in enumerate(pictures):
            cv2.imwrite(str(images / f"{t:06}.png"), cv2.cvtColor(picture.y, cv2.COLOR_GRAY2BGR))
        fit(images, out)
        found = sorted(out.rglob("images.bin"))
        model = read_model(found[-1].parent) if found else None
    if model is None or model.frames[:1] != [0] or len(model.frames) < 2 or not len(model.points):
        return poses.estimate_tracks(pictures, tracks)
    return motion(model, len(pictures))


def motion(model: Model, frames: int) -> Motion:
    """The motion of a model; frames that it lacks lie between their neighbours, the last ones stand still."""
    base = np.vstack([model.poses[0], [0, 0, 0, 1]])
    relative = model.poses @ np.linalg.inv(base)
    seen = model.points @ model.poses[0, :, :3].T + model.poses[0, :, 3]
    seen = seen[seen[:, 2] > 0]
    depth = float(np.median(seen[:, 2]))
    known = np.concatenate([poses.vectors(relative[:, :, :3]), relative[:, :, 3] / depth], axis=1)
    path = np.stack([np.interp(range(frames), model.frames, column) for column in known.T], axis=1)
    intrinsics = model.intrinsics - (0, 0, 0.5, 0.5)
    rays = seen[:, :2] / seen[:, 2:]
    inside = np.ones(len(seen), np.bool_)
    return Motion(path[:, :3], path[:, 3:], intrinsics, poses.fit_plane(rays, depth / seen[:, 2], inside))


def read_model(folder: Path) -> Model:
    """COLMAP's ``cameras.bin``, ``images.bin`` and ``points3D.bin``; frames are numbered by their names."""
    cameras = _Bytes(folder / "cameras.bin")
    cameras.take("<Q")
    _, kind, _, _ = cameras.take("<iiQQ")
    values = cameras.take(f"<{_PARAMETERS[kind]}d")
    focal = (values[0], values[0], *values[1:3]) if kind in _ONE_FOCAL else values[:4]

    images = _Bytes(folder / "images.bin")
    found = {}
    for _ in range(images.take("<Q")[0]):
        _, w, x, y, z, *translation, _ = images.take("<I7dI")
        name = images.text()
        images.skip(24 * images.take("<Q")[0])
        turn = 2 * np.arctan2(np.linalg.norm([x, y, z]), w) * np.array([x, y, z])
        turn /= max(float(np.linalg.norm([x, y, z])), 1e-12)
        found[int(Path(name).stem)] = np.column_stack([poses.matrix(turn), translation])

    data, points = _Bytes(folder / "points3D.bin"), []
    for _ in range(data.take("<Q")[0]):
        _, px, py, pz, *_, count = data.take("<Q3d3BdQ")
        data.skip(8 * count)
        if count >= _SEEN or not count:
            points.append((px, py, pz))
    frames = sorted(found)
    return Model(
        np.array(focal), frames, np.array([found[t] for t in frames]), np.array(points).reshape(-1, 3)
    )


class _Bytes:
    """A file that is read from its beginning on."""

    def __init__(self, path: Path) -> None:
        self._data, self._at = path.read_bytes(), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values

    def skip(self, size: int) -> None:
        self._at += size

    def text(self) -> str:
        end = self._data.index(0, self._at)
        begin, self._at = self._at, end + 1
        return self._data[begin:end].decode()
