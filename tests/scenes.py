"""Synthetic scenes with exact ground truth: a camera moving past textured planar layers.

Each layer is a plane patch, so a homography per frame and layer says where its points are: flow,
trajectories, occlusion and labels follow in closed form instead of being estimated (Hartley and Zisserman,
*Multiple View Geometry*, 2nd ed., chapter 13). Axes are x right, y down, z forwards; a luma sample has its
centre at integer coordinates. A length of 1 at depth 1 is as long as the larger side of the picture.

Pictures are meant to be the same bytes on every machine: noise comes from integer hashes, everything else
from correctly rounded float64 operations, one by one (no BLAS, no fused sums), and the only functions whose
last bit may differ between libraries, sine and cosine, are rounded to multiples of 2^-20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tgv_format.picture import Picture

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.uint8]
T = TypeVar("T")
Vector = float | tuple[float, ...]
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]

# --- parameters in time -----------------------------------------------------------------------------------


def _grid(values: Floats) -> Floats:
    """``values`` rounded to multiples of 2^-20."""
    rounded: Floats = np.rint(values * 2.0**20) * 2.0**-20
    return rounded


@dataclass(frozen=True)
class Curve:
    """A parameter in time: ``start + rate f + swing sin(2π (f / period + phase)) + shake n`` in frame f.

    n is smooth noise in -1…1. All terms but ``start`` may be one number for all components.
    """

    start: tuple[float, ...]
    rate: Vector = 0.0
    swing: Vector = 0.0
    period: float = 1.0
    phase: Vector = 0.0
    shake: Vector = 0.0
    seed: int = 0

    def sample(self, frames: int) -> Floats:
        """float64 [frames, components], multiples of 2^-20."""
        f = np.arange(float(frames))[:, None]
        # Three frames between independent values: a hand shakes at about 8 Hz.
        noise = 2.0 * value_noise(f / 3.0, np.arange(float(len(self.start)))[None], self.seed)[0] - 1.0
        wave = _grid(np.sin(2.0 * np.pi * (f / self.period + np.array(self.phase))))
        line = np.array(self.start) + np.array(self.rate) * f
        return _grid(line + np.array(self.swing) * wave + np.array(self.shake) * noise)


ORIGIN = Curve((0.0, 0.0, 0.0))


def _rotations(vectors: Floats) -> Floats:
    """Rotation matrices [F, 3, 3] of rotation vectors [F, 3] in radians, through quaternions on the grid."""
    angle = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2 + vectors[:, 2] ** 2)
    w = _grid(np.cos(angle / 2.0))
    x, y, z = _grid(np.sinc(angle / (2.0 * np.pi))[:, None] * vectors / 2.0).T
    # Not normalised yet, hence the division: the grid leaves quaternions a little longer or shorter than 1.
    matrix = [
        [w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    rotations: Floats = np.moveaxis(np.array(matrix) / (w * w + x * x + y * y + z * z), 2, 0)
    return rotations


def _product(a: Floats, b: Floats) -> Floats:
    """Matrix product of [..., n, 3] and [..., 3, m], summed in index order on every machine."""
    terms = [a[..., :, k, None] * b[..., k, None, :] for k in range(3)]
    return np.asarray(terms[0] + terms[1] + terms[2])


def _inverse(m: Floats) -> tuple[Floats, Floats]:
    """Inverses of 3×3 matrices [..., 3, 3] by cofactors, and their determinants [...]."""
    r0, r1, r2 = m[..., 0, :], m[..., 1, :], m[..., 2, :]
    cofactors = np.stack([np.cross(r1, r2), np.cross(r2, r0), np.cross(r0, r1)], axis=-1)
    determinant = _product(r0[..., None, :], cofactors[..., :1])
    return cofactors / determinant, 1.0 / determinant[..., 0, 0]


def _apply(h: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """The image of (x, y) under the homography ``h``, and its homogeneous weight."""
    weight = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    return (
        (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / weight,
        (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / weight,
        weight,
    )


# --- textures ---------------------------------------------------------------------------------------------


def value_noise(x: Floats, y: Floats, seed: int) -> Floats:
    """Two independent fields [2, ...] in 0…1 with one random value per unit square, joined by smoothsteps."""

    def lattice(ix: NDArray[np.uint32], iy: NDArray[np.uint32]) -> Floats:
        h = (ix * np.uint32(0x9E3779B1)) ^ (iy * np.uint32(0x85EBCA77)) ^ np.uint32(seed * 0xC2B2AE3D % 2**32)
        for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        h ^= h >> np.uint32(15)
        return np.asarray(np.stack([h & np.uint32(0xFFFF), h >> np.uint32(16)]) / 65535.0)

    left, top = np.floor(x), np.floor(y)
    ix, iy = (t.astype(np.int64).astype(np.uint32) for t in (left, top))
    sx, sy = (t * t * (3.0 - 2.0 * t) for t in (x - left, y - top))
    one = np.uint32(1)
    above, below = lattice(ix, iy), lattice(ix, iy + one)
    above += sx * (lattice(ix + one, iy) - above)
    below += sx * (lattice(ix + one, iy + one) - below)
    above += sy * (below - above)
    return above


@dataclass(frozen=True)
class Texture:
    """A band-limited pattern over the local coordinates of a layer.

    ``colours`` are two R'G'B' triples in 0…1. ``noise`` mixes them in patches of about ``wavelength``,
    ``stripes`` and ``checker`` alternate them with the period ``wavelength``; on top of these lies brightness
    noise of relative strength ``contrast`` with detail down to the sample. ``flat`` is the first colour.
    """

    kind: Literal["noise", "stripes", "checker", "flat"]
    colours: Colours
    seed: int = 0
    wavelength: float = 0.5
    contrast: float = 1.3

    def __call__(self, a: Floats, b: Floats, pitch: Floats) -> Floats:
        """R'G'B' [3, ...] in 0…1 at local (a, b), for samples ``pitch`` local units apart."""
        first, second = (np.array(c).reshape(3, *[1] * a.ndim) for c in self.colours)
        if self.kind == "flat":
            return np.asarray(first + np.zeros_like(a))
        tone, tint = self._fractal(a, b, pitch)
        if self.kind == "stripes":
            tint = self._square(a, pitch)
        elif self.kind == "checker":
            p, q = self._square(a, pitch), self._square(b, pitch)
            tint = p + q - 2.0 * p * q
        else:
            # Patches with edges, as natural pictures have: about four samples wide.
            tint = np.clip(0.5 + np.minimum(self.wavelength / (4.0 * pitch), 8.0) * tint, 0.0, 1.0)
        shade = np.clip(1.0 + self.contrast * tone, 0.1, 2.0)
        return np.asarray(np.clip((first + tint * (second - first)) * shade, 0.0, 1.0))

    def _square(self, t: Floats, pitch: Floats) -> Floats:
        """A square wave in 0…1 with edges two samples wide, fainter when a period is less than four."""
        t = t / self.wavelength
        edge = 0.25 - np.abs(t - np.floor(t) - 0.5)
        return np.asarray(np.clip(0.5 + edge * self.wavelength / (2.0 * pitch), 0.0, 1.0))

    def _fractal(self, a: Floats, b: Floats, pitch: Floats) -> Floats:
        """Two noise fields [2, ...] around 0, the first as rich in detail as nature, the second smoother."""
        total = np.zeros((2, *a.shape))
        amplitude = np.array([0.6, 1.0]).reshape(2, *[1] * a.ndim)
        persistence = np.array([0.85, 0.6]).reshape(amplitude.shape)
        wavelength, x, y, octave = self.wavelength, a / self.wavelength, b / self.wavelength, self.seed * 32
        while wavelength > 2.0 * float(pitch.min()):
            # Turned by a 3-4-5 angle, the lattices of the octaves do not show as squares.
            x, y = 0.8 * x - 0.6 * y + 0.37, 0.6 * x + 0.8 * y + 0.61
            # An octave fades in as its wavelength grows from 2 to 4 samples: no aliasing, no popping up.
            weight = np.clip(wavelength / (2.0 * pitch) - 1.0, 0.0, 1.0)
            total += amplitude * weight * (value_noise(x, y, octave) - 0.5)
            amplitude = amplitude * persistence
            wavelength, x, y, octave = wavelength / 2.0, 2.0 * x, 2.0 * y, octave + 1
        return total


# --- scenes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A textured patch of a plane, in local coordinates (a right, b down) around its own origin.

    ``size`` is half the width and half the height of a rectangle, ellipse or blob; a ``plane`` has no end.
    The point (a, b) lies at ``position + R (scale (a + sway wave(b)), scale b, 0)``, with R the rotation
    of the vector ``rotation`` (radians) and a wave of length ``2 size[1]``, like a flag seen from the front.
    """

    texture: Texture
    position: Curve
    shape: Literal["plane", "rectangle", "ellipse", "blob"] = "plane"
    size: tuple[float, float] = (1.0, 1.0)
    rotation: Curve = ORIGIN
    scale: Curve = Curve((1.0,))
    sway: Curve = Curve((0.0,))

    def wave(self, b: Floats) -> Floats:
        """A smooth wave in -1…1, elementary because a sine may differ in its last bit."""
        t = b / (2.0 * self.size[1])
        t = 4.0 * np.abs(t - np.floor(t) - 0.5) - 1.0
        return np.asarray(t * (1.5 - 0.5 * t * t))

    def distance(self, a: Floats, b: Floats) -> Floats:
        """Approximate distance to the outline in local units, positive inside."""
        if self.shape == "plane":
            return np.full_like(a, np.inf)
        if self.shape == "rectangle":
            return np.minimum(self.size[0] - np.abs(a), self.size[1] - np.abs(b))
        u, v = a / self.size[0], b / self.size[1]
        level = 1.0 - u * u - v * v
        if self.shape == "blob":
            level -= 0.6 * value_noise(1.7 * u, 1.7 * v, self.texture.seed)[0]
        slope = 2.0 * np.sqrt((u / self.size[0]) ** 2 + (v / self.size[1]) ** 2)
        return np.asarray(level / np.maximum(slope, 1e-6))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: its centre and the rotation vector of its axes in the world, both per frame.

    ``focal`` is the focal length in units of the larger side of the picture.
    """

    position: Curve = ORIGIN
    rotation: Curve = ORIGIN
    focal: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A camera and its layers. Layer 0 is the background and hides nothing; the others hide one another in
    the order of the depth of their origins, frame by frame, and should not intersect."""

    camera: Camera
    layers: tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class Shot:
    """The geometry of a scene in F frames of one size; its methods take points as arrays of any shape.

    ``homographies`` [layers, F, 3, 3] go from local coordinates, swayed, to the picture, and their weight is
    depth; ``inverses`` have the determinants ``areas`` [layers, F]; ``sway`` is [layers, F]; ``order``
    [F, layers - 1] lists all layers but the background from back to front.
    """

    layers: tuple[Layer, ...]
    width: int
    height: int
    homographies: Floats
    inverses: Floats
    areas: Floats
    sway: Floats
    order: NDArray[np.intp]

    @property
    def frames(self) -> int:
        return len(self.order)

    def local(self, layer: int, frame: int, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
        """Local coordinates of picture points, and the local distance between samples there."""
        a, b, weight = _apply(self.inverses[layer, frame], x, y)
        pitch = np.sqrt(np.abs(self.areas[layer, frame] / (weight * weight * weight)))
        return a - self.sway[layer, frame] * self.layers[layer].wave(b), b, pitch

    def project(self, frame: int, labels: Labels, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        """Where the points (a, b) of the layers ``labels`` lie in the picture."""
        x, y = np.empty_like(a), np.empty_like(b)
        for i, layer in enumerate(self.layers):
            mine = labels == i
            swayed = a[mine] + self.sway[i, frame] * layer.wave(b[mine])
            x[mine], y[mine], _ = _apply(self.homographies[i, frame], swayed, b[mine])
        return x, y

    def locate(self, frame: int, x: Floats, y: Floats) -> tuple[Labels, Floats, Floats]:
        """The layer seen at each picture point, and the local coordinates there."""
        labels = np.zeros(x.shape, np.uint8)
        a, b, _ = self.local(0, frame, x, y)
        for i in self.order[frame]:
            ai, bi, _ = self.local(i, frame, x, y)
            mine = self.layers[i].distance(ai, bi) > 0.0
            labels[mine], a[mine], b[mine] = i, ai[mine], bi[mine]
        return labels, a, b

    def visible(self, frame: int, labels: Labels, x: Floats, y: Floats) -> Bools:
        """Whether points of the layers ``labels``, projected to (x, y), are in the picture and unhidden."""
        shown = (x > -0.5) & (x < self.width - 0.5) & (y > -0.5) & (y < self.height - 0.5)
        behind = labels == 0
        for i in self.order[frame]:
            a, b, _ = self.local(i, frame, x, y)
            shown &= ~(behind & (self.layers[i].distance(a, b) > 0.0))
            behind |= labels == i
        return shown

    def samples(self) -> tuple[Floats, Floats]:
        """x and y of all luma samples, float64 [h, w]."""
        y, x = np.mgrid[0.0 : self.height, 0.0 : self.width]
        return x, y


@dataclass(frozen=True, eq=False)
class Rendered:
    """Pictures and their ground truth.

    ``labels`` is uint8 [F, h, w], 0 = background, i = layer i of the shot; ``poses`` float64 [F, 4, 4], world
    to camera; ``planes`` float64 [F, 4], the background n·X = d in the world as (n, d) with |n| = 1;
    ``intrinsics`` float64 [4], (fx, fy, cx, cy) in samples; ``shots`` the geometry from cut to cut.
    """

    pictures: list[Picture]
    labels: Labels
    poses: Floats
    planes: Floats
    intrinsics: Floats
    shots: tuple[Shot, ...]

    @property
    def cuts(self) -> tuple[int, ...]:
        """First frame of every shot but the first."""
        return tuple(np.cumsum([shot.frames for shot in self.shots])[:-1].tolist())

    def flow(self, t: int, s: int) -> Floats:
        """float64 [h, w, 2]: how far the surface point seen at each sample of frame ``t`` has moved in frame
        ``s``, be it hidden or outside there; NaN when a cut lies between."""
        (shot, ft), (other, fs) = self._at(t), self._at(s)
        x, y = shot.samples()
        if shot is not other:
            return np.full((*x.shape, 2), np.nan)
        xs, ys = shot.project(fs, *shot.locate(ft, x, y))
        return np.stack([xs - x, ys - y], axis=-1)

    def visible_in(self, t: int, s: int) -> Bools:
        """bool [h, w]: whether the surface point seen at each sample of frame ``t`` is seen in ``s``."""
        (shot, ft), (other, fs) = self._at(t), self._at(s)
        x, y = shot.samples()
        if shot is not other:
            return np.zeros(x.shape, np.bool_)
        labels, a, b = shot.locate(ft, x, y)
        return shot.visible(fs, labels, *shot.project(fs, labels, a, b))

    def trajectories(self, t: int, points: Floats) -> tuple[Floats, Bools]:
        """Follow the surface points seen at ``points`` [N, 2] (x, y) of frame ``t``.

        Returns positions float64 [N, F, 2], true also while hidden or outside the picture and NaN beyond a
        cut, and visible bool [N, F].
        """
        shot, ft = self._at(t)
        first = t - ft
        positions = np.full((len(points), len(self.pictures), 2), np.nan)
        visible = np.zeros(positions.shape[:2], np.bool_)
        labels, a, b = shot.locate(ft, points[:, 0], points[:, 1])
        for f in range(shot.frames):
            x, y = shot.project(f, labels, a, b)
            positions[:, first + f] = np.stack([x, y], axis=-1)
            visible[:, first + f] = shot.visible(f, labels, x, y)
        return positions, visible

    def _at(self, frame: int) -> tuple[Shot, int]:
        """The shot of a frame and the frame's index in it."""
        if not 0 <= frame < len(self.pictures):
            raise IndexError(f"frame {frame} of {len(self.pictures)}")
        for shot in self.shots:
            if frame < shot.frames:
                break
            frame -= shot.frames
        return shot, frame


def concatenate(*parts: Rendered) -> Rendered:
    """The parts one after the other, with a cut between; ValueError when size or intrinsics differ."""
    head = parts[0]
    for part in parts:
        if part.labels.shape[1:] != head.labels.shape[1:] or (part.intrinsics != head.intrinsics).any():
            raise ValueError("the parts have different sizes or intrinsics")
    return Rendered(
        [picture for p in parts for picture in p.pictures],
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.poses for p in parts]),
        np.concatenate([p.planes for p in parts]),
        head.intrinsics,
        tuple(shot for p in parts for shot in p.shots),
    )


# --- rendering --------------------------------------------------------------------------------------------


def _to_picture(rgb: Floats) -> Picture:
    """R'G'B' [3, h, w] in 0…1 to BT.709 limited range; chroma is the mean of 2×2 samples, edges repeated."""
    fixed = np.rint(rgb * (255.0 * 16.0)).astype(np.int64)
    # 2^14 times 219/255 and 224/255 of the matrix of Rec. ITU-R BT.709-6, item 3; chroma rows sum to 0.
    matrix = np.array([[2991, 10064, 1016], [-1649, -5547, 7196], [7196, -6536, -660]])
    y, u, v = np.tensordot(matrix, fixed, axes=1)
    quads = np.pad(np.stack([u, v]), ((0, 0), (0, y.shape[0] % 2), (0, y.shape[1] % 2)), "edge")
    sums = quads[:, ::2, ::2] + quads[:, 1::2, ::2] + quads[:, ::2, 1::2] + quads[:, 1::2, 1::2]
    chroma = 128 + ((sums + (1 << 19)) >> 20)
    luma = 16 + ((y + (1 << 17)) >> 18)
    return Picture(luma.astype(np.uint8), *chroma.astype(np.uint8))


def _corners(layer: Layer, sway: Floats) -> tuple[Floats, Floats]:
    """Corners (a, b) of a box in the layer's plane that holds it at any time, swayed by ``sway`` [F]."""
    a, b = layer.size[0] + float(np.abs(sway).max()), layer.size[1]
    return np.array([-a, a, a, -a]), np.array([-b, -b, b, b])


def _window(shot: Shot, layer: int, frame: int) -> tuple[slice, slice]:
    """Rows and columns that the layer may touch."""
    if shot.layers[layer].shape == "plane":
        return slice(0, shot.height), slice(0, shot.width)
    x, y, _ = _apply(shot.homographies[layer, frame], *_corners(shot.layers[layer], shot.sway[layer]))
    ends = ((y, shot.height), (x, shot.width))
    rows, columns = (
        slice(*np.clip([np.floor(t.min()) - 1.0, np.ceil(t.max()) + 2.0], 0, n).astype(int)) for t, n in ends
    )
    return rows, columns


def _shot(layers: tuple[Layer, ...], width: int, height: int, intrinsics: Floats, poses: Floats) -> Shot:
    fx, fy, cx, cy = intrinsics
    calibration = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    frames = len(poses)
    stack = np.empty((len(layers), frames, 3, 3))
    for i, layer in enumerate(layers):
        placed = _rotations(layer.rotation.sample(frames)) * layer.scale.sample(frames)[:, :, None]
        placed[:, :, 2] = layer.position.sample(frames)
        seen = _product(poses[:, :3, :3], placed)
        seen[:, :, 2] += poses[:, :3, 3]
        stack[i] = _product(calibration, seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverses, areas = _inverse(stack)
    sway = np.stack([layer.sway.sample(frames)[:, 0] for layer in layers])
    order = np.argsort(-stack[1:, :, 2, 2], axis=0, kind="stable").T + 1
    return Shot(layers, width, height, stack, inverses, areas, sway, order)


def _check(shot: Shot) -> None:
    """ValueError unless all that is ever seen is before the camera in all frames, and no plane edge-on."""
    right, bottom = shot.width - 0.5, shot.height - 0.5
    x, y = np.array([-0.5, right, right, -0.5]), np.array([-0.5, -0.5, bottom, bottom])
    for i, layer in enumerate(shot.layers):
        a, b = _corners(layer, shot.sway[i])
        if layer.shape == "plane":
            corners = [_apply(h, x, y) for h in shot.inverses[i]]
            a, b, weight = (np.concatenate(c) for c in zip(*corners, strict=True))
            if (weight <= 0.0).any():
                raise ValueError(f"the horizon of layer {i} is in the picture")
        h = shot.homographies[i, :, 2, :, None]
        if (h[:, 0] * a + h[:, 1] * b + h[:, 2] <= 0.0).any():
            raise ValueError(f"layer {i} reaches behind the camera")
        if not np.isfinite(shot.areas[i]).all():
            raise ValueError(f"layer {i} is seen edge-on")


def render(scene: Scene, width: int, height: int, frames: int) -> Rendered:
    """Render ``frames`` pictures of ``width`` × ``height``.

    ValueError when a layer reaches behind the camera or is seen exactly edge-on, or when the horizon of a
    plane is in the picture.
    """
    focal = scene.camera.focal * max(width, height)
    intrinsics = np.array([focal, focal, (width - 1) / 2.0, (height - 1) / 2.0])
    axes = _rotations(scene.camera.rotation.sample(frames)).transpose(0, 2, 1)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = axes
    poses[:, :3, 3] = -_product(axes, scene.camera.position.sample(frames)[:, :, None])[:, :, 0]
    background = scene.layers[0]
    normal = _rotations(background.rotation.sample(frames))[:, :, 2]
    offset = _product(normal[:, None], background.position.sample(frames)[:, :, None])[:, :, 0]

    shot = _shot(scene.layers, width, height, intrinsics, poses)
    _check(shot)
    x, y = shot.samples()
    labels = np.zeros((frames, height, width), np.uint8)
    pictures = []
    for f in range(frames):
        rgb = np.zeros((3, height, width))
        for i in (0, *shot.order[f]):
            box = _window(shot, i, f)
            if x[box].size:
                layer, part = scene.layers[i], rgb[:, box[0], box[1]]
                a, b, pitch = shot.local(i, f, x[box], y[box])
                distance = layer.distance(a, b)
                labels[f][box][distance > 0.0] = i
                part += np.clip(0.5 + distance / pitch, 0.0, 1.0) * (layer.texture(a, b, pitch) - part)
        pictures.append(_to_picture(rgb))
    return Rendered(pictures, labels, poses, np.concatenate([normal, offset], 1), intrinsics, (shot,))


# --- ready-made scenes ------------------------------------------------------------------------------------

PALETTE: tuple[Colours, ...] = (
    ((0.16, 0.28, 0.10), (0.58, 0.62, 0.30)),  # leaves
    ((0.44, 0.34, 0.26), (0.82, 0.74, 0.60)),  # sand
    ((0.14, 0.28, 0.46), (0.66, 0.76, 0.82)),  # water
    ((0.52, 0.18, 0.12), (0.80, 0.58, 0.44)),  # brick
    ((0.26, 0.25, 0.28), (0.70, 0.69, 0.66)),  # stone
    ((0.74, 0.52, 0.10), (0.90, 0.80, 0.44)),  # straw
    ((0.32, 0.14, 0.36), (0.78, 0.56, 0.74)),  # heather
)
FAR = 4.0  # depth of the background; the picture is 4 wide there, and as wide as its depth anywhere


class Draw:
    """Choices that follow from a name. Of Python's generator, only ``random`` is the same in all versions."""

    def __init__(self, name: str) -> None:
        self._random = Random(name).random

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def choice(self, options: Sequence[T]) -> T:
        return options[int(len(options) * self._random())]

    def seed(self) -> int:
        return int(2**24 * self._random())


def _textures(draw: Draw) -> Iterator[Texture]:
    """Textures of different colours: noise first, for the background, then any pattern."""
    colours = list(PALETTE)
    kinds: tuple[Literal["noise", "stripes", "checker"], ...] = ("noise",)
    wavelengths = 0.8, 1.2
    while colours:
        pair = draw.choice(colours)
        colours.remove(pair)
        yield Texture(draw.choice(kinds), pair, draw.seed(), draw.uniform(*wavelengths))
        kinds, wavelengths = ("noise", "noise", "stripes", "checker"), (0.12, 0.3)


def _sprites(draw: Draw, textures: Iterator[Texture], depths: tuple[float, ...]) -> list[Layer]:
    """Objects of random shape at random places, from left to right, one for each depth."""
    layers = []
    for i, (depth, texture) in enumerate(zip(depths, textures, strict=False)):
        x = ((i + 0.5) / len(depths) - 0.5) * 0.9 + draw.uniform(-0.05, 0.05)
        place = Curve((x * depth, draw.uniform(-0.15, 0.15) * depth, depth))
        size = draw.uniform(0.10, 0.16) * depth, draw.uniform(0.10, 0.16) * depth
        layers.append(Layer(texture, place, draw.choice(("rectangle", "ellipse", "blob", "blob")), size))
    return layers


def _background(texture: Texture) -> Layer:
    return Layer(texture, Curve((0.0, 0.0, FAR)))


def _still_life(draw: Draw, camera: Camera, depths: tuple[float, ...]) -> Scene:
    """A camera before objects that do not move."""
    textures = _textures(draw)
    return Scene(camera, (_background(next(textures)), *_sprites(draw, textures, depths)))


def _static(draw: Draw, frames: int) -> Scene:
    return _still_life(draw, Camera(), (3.2, 2.6))


def _pan(draw: Draw, frames: int) -> Scene:
    """Everything at one depth moves by 1/128 of the picture per frame, mostly sideways."""
    speed = FAR / 128.0
    rate = draw.choice((-speed, speed)), draw.uniform(-0.3, 0.3) * speed, 0.0
    return _still_life(draw, Camera(replace(ORIGIN, rate=rate)), (FAR, FAR))


def _zoom(draw: Draw, frames: int) -> Scene:
    """Towards the background; objects as near as that change nothing but their size."""
    rate = min(0.03, 1.8 / frames)
    return _still_life(draw, Camera(replace(ORIGIN, rate=(0.0, 0.0, rate))), (FAR, FAR, FAR))


def _dolly(draw: Draw, frames: int) -> Scene:
    """The camera moves to and fro before objects at four depths."""
    swing = draw.uniform(0.30, 0.45), draw.uniform(-0.06, 0.06), draw.uniform(0.1, 0.3)
    return _still_life(draw, Camera(replace(ORIGIN, swing=swing, period=40.0)), (2.4, 3.4, 2.0, 2.9))


def _orbit(draw: Draw, frames: int) -> Scene:
    """The camera circles by at most 30 degrees around a point among the objects and keeps looking at it."""
    centre, degrees = 2.6, min(1.25, 30.0 / frames)
    step = draw.choice((-1.0, 1.0)) * degrees / 360.0
    start = -step * frames / 2.0
    position = Curve(
        (0.0, 0.0, centre), swing=(centre, 0.0, -centre), period=1.0 / step, phase=(start, 0.0, start + 0.25)
    )
    turn = -2.0 * math.pi
    rotation = Curve((0.0, turn * start, 0.0), (0.0, turn * step, 0.0))
    return _still_life(draw, Camera(position, rotation), (2.2, 3.0, 2.4))


def _shake(draw: Draw, frames: int) -> Scene:
    rotation = replace(ORIGIN, shake=(0.02, 0.025, 0.03), seed=draw.seed())
    return _still_life(draw, Camera(replace(ORIGIN, rate=(0.01, 0.0, 0.0)), rotation), (3.0, 2.5))


def _turn(draw: Draw, frames: int) -> Scene:
    """The camera looks around without moving."""
    swing = draw.uniform(0.04, 0.06), draw.uniform(0.10, 0.15), draw.uniform(0.02, 0.04)
    phase = draw.uniform(-0.1, 0.1), draw.uniform(-0.1, 0.1), draw.uniform(-0.1, 0.1)
    return _still_life(
        draw, Camera(ORIGIN, replace(ORIGIN, swing=swing, period=40.0, phase=phase)), (3.0, 2.5)
    )


def _whip_pan(draw: Draw, frames: int) -> Scene:
    """The camera turns to and fro by up to an eighth of the picture per frame."""
    swing = 0.03, draw.choice((-0.5, 0.5)), 0.0
    return _still_life(draw, Camera(ORIGIN, replace(ORIGIN, swing=swing, period=25.0)), (3.0, 2.5, 2.8))


def _passing(draw: Draw, frames: int) -> Scene:
    """An object passes behind another that stands still, before a camera that is held by hand."""
    textures = _textures(draw)
    background, *sprites = next(textures), *(next(textures) for _ in range(2))
    side, size = draw.choice((-1.0, 1.0)), (0.3, 0.3)
    path = Curve((-0.8 * side, draw.uniform(-0.2, 0.2), 2.8), (side * 0.06, 0.0, 0.0))
    still = Curve((0.2 * side, draw.uniform(-0.1, 0.1), 2.6))
    camera = Camera(replace(ORIGIN, rate=(0.006, 0.0, 0.0)), replace(ORIGIN, shake=0.006, seed=draw.seed()))
    mover = Layer(sprites[0], path, draw.choice(("ellipse", "blob")), size)
    return Scene(camera, (_background(background), mover, Layer(sprites[1], still, "rectangle", (0.2, 0.3))))


def _two_objects_crossing(draw: Draw, frames: int) -> Scene:
    """Two objects circle one another in 24 frames: layer 1 passes before layer 2, then behind it."""
    background, *textures = _textures(draw)
    radius, period, size = draw.uniform(0.60, 0.75), 24.0, draw.uniform(0.32, 0.40)

    def body(texture: Texture, shape: Literal["ellipse", "rectangle"], half: float) -> Layer:
        phase = (half + 0.25, half + 0.1, half + 0.5)
        path = Curve((0.0, 0.0, 2.6), swing=(radius, 0.1, 0.3), period=period, phase=phase)
        return Layer(texture, path, shape, (size, size))

    pair = body(textures[0], "ellipse", 0.0), body(textures[1], "rectangle", 0.5)
    return Scene(Camera(), (_background(background), *pair))


def _oscillating(draw: Draw, frames: int) -> Scene:
    """An object swings sideways, one waves like a flag, one pulsates."""
    scene = _still_life(draw, Camera(), (3.0, 2.6, 2.8))
    background, swinging, waving, pulsating = scene.layers
    path = replace(swinging.position, swing=(0.25, 0.12, 0.0), period=16.0, phase=(0.0, 0.25, 0.0))
    swinging = replace(swinging, position=path)
    waving = replace(waving, shape="rectangle", sway=Curve((0.0,), swing=0.12, period=20.0))
    pulsating = replace(pulsating, scale=Curve((1.0,), swing=0.25, period=18.0))
    return replace(scene, layers=(background, swinging, waving, pulsating))


def _rotating_object(draw: Draw, frames: int) -> Scene:
    """An object turns in the picture plane by 4 degrees per frame and rocks out of it."""
    textures = _textures(draw)
    background, texture = next(textures), replace(next(textures), kind="checker", wavelength=0.35)
    rate = draw.choice((-1.0, 1.0)) * math.radians(4.0)
    spin = replace(ORIGIN, rate=(0.0, 0.0, rate), swing=(0.0, 0.4, 0.0), period=30.0)
    body = Layer(texture, Curve((0.0, 0.0, 2.6)), "rectangle", (0.65, 0.45), spin)
    return Scene(Camera(), (_background(background), body))


def _uncovering(draw: Draw, frames: int) -> Scene:
    """A large object leaves the picture to one side and is gone after three quarters of the frames."""
    textures = _textures(draw)
    background, texture = next(textures), next(textures)
    depth, half = 2.6, 0.6
    side, start = draw.choice((-1.0, 1.0)), 0.1 * depth
    rate = side * (depth / 2.0 + half - start) / max(0.75 * frames - 1.0, 1.0)
    path = Curve((side * start, draw.uniform(-0.1, 0.1), depth), (rate, 0.0, 0.0))
    return Scene(Camera(), (_background(background), Layer(texture, path, "blob", (half, half))))


def _single_colour(draw: Draw, frames: int) -> Scene:
    return Scene(Camera(), (_background(Texture("flat", draw.choice(PALETTE))),))


def _fine_texture(draw: Draw, frames: int) -> Scene:
    """A slow drift over patterns of a few samples at a width of 256."""
    background, *textures = (replace(t, wavelength=0.1) for t in _textures(draw))
    left, right = _sprites(draw, iter(textures), (3.0, 3.0))
    left = replace(left, texture=replace(left.texture, kind="checker"))
    right = replace(right, texture=replace(right.texture, kind="stripes"))
    drift = replace(ORIGIN, rate=(0.016, 0.010, 0.0))
    return Scene(Camera(drift), (_background(background), left, right))


def _make(build: Callable[[Draw, int], Scene], seed: int, width: int, height: int, frames: int) -> Rendered:
    return render(build(Draw(f"{build.__name__} {seed}"), frames), width, height, frames)


def _cut(seed: int, width: int, height: int, frames: int) -> Rendered:
    """Half a pan, then half a dolly; ValueError for fewer than two frames."""
    if frames < 2:
        raise ValueError("a cut needs two frames")
    half = frames // 2
    return concatenate(
        _make(_pan, seed, width, height, half), _make(_dolly, seed, width, height, frames - half)
    )


# Functions of seed, width, height and number of frames; the seed chooses textures, shapes and directions.
SCENES: dict[str, Callable[[int, int, int, int], Rendered]] = {
    "static": partial(_make, _static),
    "pan": partial(_make, _pan),
    "zoom": partial(_make, _zoom),
    "dolly": partial(_make, _dolly),
    "orbit": partial(_make, _orbit),
    "shake": partial(_make, _shake),
    "turn": partial(_make, _turn),
    "whip_pan": partial(_make, _whip_pan),
    "passing": partial(_make, _passing),
    "two_objects_crossing": partial(_make, _two_objects_crossing),
    "oscillating": partial(_make, _oscillating),
    "rotating_object": partial(_make, _rotating_object),
    "uncovering": partial(_make, _uncovering),
    "cut": _cut,
    "single_colour": partial(_make, _single_colour),
    "fine_texture": partial(_make, _fine_texture),
}
