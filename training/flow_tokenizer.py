"""Train the networks of learned flow tokens that ship with the reference software (``tgv-flow-s``).

    python training/flow_tokenizer.py --photos DIR --clips DIR --out DIR [--minutes 35] [--threads 1]
    python training/flow_tokenizer.py --out DIR --export refdec/models

The loss is the mean absolute error of the flow that the decoder recovers, relative to the size of the motion:
from the tokens that the encoder's network makes of a few points, and from the amplitudes of the cosines in
the dense flow, both with the noise of quantising.

Flow is what OpenCV's DIS finds from pictures of clips to later ones, what moves of a camera make of a
photograph with parts of others in front of it, and what the procedural scenes of the tests have. The flow of
clips and scenes is kept in --out.

Training goes on from ``checkpoint.pt`` in --out when there is one. ``log.csv`` gets a line for every fifty
steps, with the error on the clips that are not trained on (--hold-out).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from refdec.flow import GRID
from refdec.flow.network import FlowTokenizer
from refenc.flow_sampling import sparse_motion
from tgv_format.picture import Colour, Picture

NAME = "tgv-flow-s"
HEIGHT, WIDTH = GRID
#: Pictures and flow are found at this size, then made smaller.
SIZE = (4 * WIDTH, 4 * HEIGHT)
#: Frames between keyframes, the farthest frame that is looked at from one, and every how many.
EVERY, REACH, STRIDE = 16, 24, 3
#: Shares of the batch: flow found in clips, photographs that move, procedural scenes.
SHARES = {"clips": 4, "photos": 3, "scenes": 1}
#: Largest and smallest quantiser step of a token, relative to the root of the sum of their squares.
STEPS = (0.003, 0.1)
WINDOW = 7
#: Every how many steps the encoder's half is trained, too.
WHOLE = 4
#: Learning rates of the two halves; with more the encoder's diverges.
RATES = (0.1, 1.0)

Images = np.ndarray
Flows = np.ndarray
Pair = tuple[np.ndarray, np.ndarray]
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def small(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def from_clips(folder: Path, hold_out: list[str]) -> dict[str, tuple[Images, Flows]]:
    """Of the clips to train on and of those held out: keyframes uint8 (N, *GRID, 3), flow float16
    (N, *GRID, 2)."""
    from refenc.source import open_source

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: dict[str, list[Pair]] = {"clips": [], "held out": []}
    for path in tqdm(sorted(folder.glob("*.mp4")), desc="flow of clips"):
        with open_source(str(path), SIZE, crop=True) as source:
            pictures, colour = list(islice(source, 100)), source.info.colour
        for first in range(0, len(pictures) - REACH, EVERY):
            flow = None
            image = small(to_rgb(pictures[first], colour))
            for t in range(first + STRIDE, first + REACH + 1, STRIDE):
                flow = search.calc(pictures[first].y, pictures[t].y, flow)
                pair = image, (small(flow) / 4).astype(np.float16)
                found["held out" if path.stem in hold_out else "clips"].append(pair)
    return {name: tuple(map(np.array, zip(*pairs, strict=True))) for name, pairs in found.items() if pairs}


def to_rgb(picture: Picture, colour: Colour) -> np.ndarray:
    from refdec.keyframes import rgb

    return (rgb.to_rgb(picture, colour)[0] * 255).round().byte().permute(1, 2, 0).numpy()


def from_scenes(seeds: range) -> tuple[Images, Flows]:
    """The same of the procedural scenes."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from scenes import SCENES

    images, flows = [], []
    for name in ("dolly", "orbit", "two_objects_crossing", "oscillating", "rotating_object", "uncovering"):
        for seed in tqdm(seeds, desc=name):
            scene = SCENES[name](seed, 2 * WIDTH, 2 * HEIGHT, REACH + 1)
            image = small(to_rgb(scene.pictures[0], Colour()))
            for t in range(STRIDE, REACH + 1, 2 * STRIDE):
                images.append(image)
                flows.append((small(scene.flow(0, t).astype(np.float32)) / 2).astype(np.float16))
    return np.array(images), np.array(flows)


def moving_photos(photos: list[np.ndarray], rng: np.random.Generator) -> Iterator[Pair]:
    """A photograph before which parts of others move, seen by a camera that moves; without end."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    while True:
        image = view(photos, rng)
        flow = camera_move(x, y, rng, float(rng.choice([0, 1, 1]) * rng.gamma(1.5, 3)))
        for _ in range(rng.integers(0, 4)):
            mask = blob(x, y, rng)
            image = np.where(mask[..., None], view(photos, rng), image)
            own = camera_move(x, y, rng, float(rng.gamma(1.5, 3)))
            flow = np.where(mask[..., None], own + rng.choice([0, 1]) * flow, flow)
        yield image, flow


def view(photos: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A random part of a random photograph."""
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    scale = rng.uniform(0.5, 1) * min(height / HEIGHT, width / WIDTH)
    h, w = round(HEIGHT * scale), round(WIDTH * scale)
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return small(photo[top : top + h, left : left + w])


def camera_move(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """Flow (h, w, 2) of a plane that is seen from elsewhere, of about ``size`` samples."""
    dx, dy = (x - WIDTH / 2) / (WIDTH / 2), (y - HEIGHT / 2) / (WIDTH / 2)
    zoom, turn, tilt_x, tilt_y, along_x, along_y = rng.normal(size=6) * (0.5, 0.3, 0.2, 0.2, 1, 0.5)
    u = along_x + zoom * dx - turn * dy + dx * (tilt_x * dx + tilt_y * dy)
    v = along_y + zoom * dy + turn * dx + dy * (tilt_x * dx + tilt_y * dy)
    return (size * np.stack([u, v], 2)).astype(np.float32)


def blob(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool (h, w): an area with a smooth border."""
    centre = rng.uniform(0, (WIDTH, HEIGHT))
    angle = np.arctan2(y - centre[1], x - centre[0])
    radius = rng.uniform(6, 32)
    for wave in range(1, 5):
        radius = radius * (1 + rng.uniform(0, 0.4) / wave * np.cos(wave * angle + rng.uniform(0, 2 * np.pi)))
    return np.hypot(x - centre[0], (y - centre[1]) * rng.uniform(0.6, 1.6)) < radius


def stored(pairs: tuple[Images, Flows], rng: np.random.Generator) -> Iterator[Pair]:
    """Random ones of the pairs, mirrored and cropped at random; without end."""
    images, flows = pairs
    while True:
        n = rng.integers(len(images))
        image, flow = images[n], flows[n].astype(np.float32)
        for axis in (0, 1):
            if rng.random() < 0.5:
                image, flow = np.flip(image, axis), np.flip(flow, axis).copy()
                flow[..., 1 - axis] *= -1
        share = rng.uniform(0.6, 1)
        h, w = round(HEIGHT * share), round(WIDTH * share)
        top, left = rng.integers(HEIGHT - h + 1), rng.integers(WIDTH - w + 1)
        image, flow = (
            cv2.resize(np.ascontiguousarray(a[top : top + h, left : left + w]), (WIDTH, HEIGHT))
            for a in (image, flow)
        )
        yield image, flow * np.array([WIDTH / w, HEIGHT / h], np.float32)


def tensors(pairs: list[Pair]) -> Batch:
    """Keyframes (B, 3, *GRID) in 0 .. 1, flow and motion of points (B, 2, *GRID), masks (B, 1, *GRID)."""
    sparse = [sparse_motion(flow, WINDOW) for _, flow in pairs]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).float() / 255
    flows = torch.from_numpy(np.stack([flow for _, flow in pairs])).permute(0, 3, 1, 2)
    motion = torch.from_numpy(np.stack([motion for motion, _ in sparse])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([mask for _, mask in sparse]))[:, None]
    return images.contiguous(), flows.contiguous(), motion.contiguous(), masks


def losses(model: FlowTokenizer, batch: Batch, noise: float, whole: bool = True) -> dict[str, Tensor]:
    """Absolute errors relative to the motion: of cosines alone, and of what is recovered from the amplitudes
    of the dense flow (``dense``) and, of the ``whole``, the encoder's tokens (``network``), with ``noise`` 0
    or 1."""
    images, flows, motion, masks = batch
    unit = flows.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.1
    exact = model.synthesis.project(flows)
    smooth = torch.einsum("bck,khw->bchw", exact, model.synthesis.cosines)
    found = {"cosines": (smooth - flows).abs()}
    sources = {"dense": exact}
    if whole:
        sources["network"] = model.analysis(images, motion, masks)
    for name, tokens in sources.items():
        size = tokens.detach().square().sum((1, 2), keepdim=True).sqrt()
        low, high = np.log(STEPS)
        step = size * torch.exp(low + (high - low) * torch.rand(len(tokens), 1, 1))
        noisy = tokens + noise * step * (torch.rand_like(tokens) - 0.5)
        found[name] = (model.synthesis(noisy, images) - flows).abs()
    return {name: (error / unit).mean() for name, error in found.items()}


class Training:
    """The state of a training, as it is written to a checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model = FlowTokenizer().to(memory_format=torch.channels_last)
        halves = self.model.analysis.parameters(), self.model.synthesis.parameters()
        self.optimiser = torch.optim.Adam([{"params": list(half)} for half in halves])
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.step, self.seconds = 0, 0.0

    def state(self) -> dict[str, object]:
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, object]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]

    def update(self, batch: Batch) -> dict[str, float]:
        """One step on a batch."""
        left = max(0.0, 1 - self.seconds / (60 * self.args.minutes))
        rate = self.args.learning_rate * min(1.0, (self.step + 1) / 30, 3 * left + 0.02)
        for group, share in zip(self.optimiser.param_groups, RATES, strict=True):
            group["lr"] = share * rate
        # The encoder's network matters less: the closed loop makes up for what it misses.
        found = losses(self.model, batch, 1.0, self.step % WHOLE == 0)
        self.optimiser.zero_grad()
        sum(error for name, error in found.items() if name != "cosines").backward()
        for group in self.optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimiser.step()
        decay = min(0.99, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return {name: value.item() for name, value in found.items()}


def export(state: dict[str, Tensor], folder: Path) -> Path:
    """Write the weights, in half precision but for those of GDN, and their SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    gdn = (".beta", ".gamma", ".pedestal", ".bound")
    halves = {name: value if name.endswith(gdn) else value.half() for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in halves.items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n", encoding="ascii")
    return path


def kept(args: argparse.Namespace) -> dict[str, tuple[Images, Flows]]:
    """Flow of clips and scenes, from --out when it is there."""
    path = args.out / "flows.npz"
    if not path.exists():
        sets = from_clips(args.clips, args.hold_out) | {"scenes": from_scenes(range(args.scenes))}
        parts = {f"{name} {i}": part for name, pair in sets.items() for i, part in enumerate(pair)}
        np.savez(path, **parts)
    with np.load(path) as file:
        names = {key.rpartition(" ")[0] for key in file}
        return {name: (file[f"{name} 0"], file[f"{name} 1"]) for name in names}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", type=Path)
    p.add_argument("--clips", type=Path)
    p.add_argument("--hold-out", nargs="*", default=["letter_blocks", "sign_bird"], help="names of clips")
    p.add_argument("--scenes", type=int, default=4, help="of each kind (default: %(default)s)")
    p.add_argument("--export", type=Path, metavar="DIR", help="write the weights and end")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=35, help="all in all (default: %(default)s)")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--learning-rate", type=float, default=2e-3)
    return p


def main(argv: list[str] | None = None) -> None:
    p = parser()
    args = p.parse_args(argv)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    if args.export:
        export(torch.load(checkpoint, weights_only=True)["average"], args.export)
        return
    if not (args.photos and args.clips):
        p.error("--photos and --clips are needed")
    sets = kept(args)
    training = Training(args)
    if checkpoint.exists():
        training.restore(torch.load(checkpoint, weights_only=True))
    rng = np.random.default_rng(training.step)
    photos = [
        np.asarray(Image.open(path).convert("RGB").reduce(2)) for path in sorted(args.photos.glob("*.jpg"))
    ]
    sources = {name: stored(sets[name], rng) for name in ("clips", "scenes")}
    sources["photos"] = moving_photos(photos, rng)
    held = None
    if "held out" in sets:
        images, flows = sets["held out"]
        few = slice(0, None, max(1, len(images) // 24))
        held = tensors(list(zip(images[few], flows[few].astype(np.float32), strict=True)))
    with (args.out / "log.csv").open("a", newline="") as file:
        log, sums, last = csv.writer(file), {}, time.monotonic()
        while training.seconds < 60 * args.minutes:
            batch = [next(sources[name]) for name, share in SHARES.items() for _ in range(share)]
            for name, value in training.update(tensors(batch)).items():
                sums.setdefault(name, []).append(value)
            now = time.monotonic()
            training.seconds, last = training.seconds + now - last, now
            if training.step % 50 == 0:
                row = {name: round(sum(values) / len(values), 4) for name, values in sums.items()}
                if held:
                    with torch.inference_mode():
                        errors = losses(training.model, held, 0.0)
                    row |= {f"held out {name}": round(value.item(), 4) for name, value in errors.items()}
                log.writerow([training.step, round(training.seconds), *row.values()])
                file.flush()
                print(training.step, round(training.seconds), row, flush=True)
                sums.clear()
                _save(training, checkpoint)
    _save(training, checkpoint)


def _save(training: Training, checkpoint: Path) -> None:
    torch.save(training.state(), checkpoint.with_suffix(".new"))
    checkpoint.with_suffix(".new").replace(checkpoint)


if __name__ == "__main__":
    main()
