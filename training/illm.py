"""Train the model of learned keyframes that ships with the reference software (``tgv-illm-s``).

    python training/illm.py --photos DIR --clips DIR --out DIR [--minutes 90] [--threads 2]
    python training/illm.py --out DIR --export refdec/models

The loss is the rate plus squared error and a perceptual distance (:mod:`perceptual`), from --adversarial
minutes on also that of a discriminator which sees the latents beside the picture, as in HiFiC. One set of
weights serves all rates: the quantiser step of every picture is drawn anew, and the weight of the distortion
follows it. The weight of the rate is controlled so that the mean rate approaches --rate.

Training goes on from ``checkpoint.pt`` in --out when there is one. ``log.csv`` gets a line for every hundred
steps.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from perceptual import Features, learn
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from refdec.keyframes import checkpoints
from refdec.keyframes.illm import HiFiCAutoencoder
from tgv_format.illm_derivation import derive
from tgv_format.illm_model import SUFFIX

NAME = "tgv-illm-s"
SHAPE = {
    "latent_features": 64,
    "hyper_features": 64,
    "num_residual_blocks": 5,
    "encoder_widths": (16, 32, 64, 128, 160),
    "generator_widths": (192, 128, 64, 32, 16),
}
CROP, BATCH = 128, 8
#: Ratio of neighbouring quantiser steps, and the greatest index of one that is trained.
RATIO, MAX_STEP = (256 / 0.11) ** (1 / 63), 16
SCALES = (1.0, 0.7, 0.5)
FRAMES_PER_CLIP = 4


class Discriminator(nn.Module):
    """Which 16 x 16 areas of pictures (B, 3, H, W) look coded, given their latents (B, N, H/16, W/16)."""

    def __init__(self, latent_features: int) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.context = norm(nn.Conv2d(latent_features, 12, 3, padding=1))
        widths = (3, 32, 64, 96, 128)
        self.down = nn.Sequential(
            *(
                nn.Sequential(norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))
                for a, b in pairwise(widths)
            )
        )
        self.head = nn.Sequential(
            norm(nn.Conv2d(128 + 12, 128, 3, padding=1)), nn.LeakyReLU(0.2), norm(nn.Conv2d(128, 1, 1))
        )

    def forward(self, image: Tensor, latents: Tensor) -> Tensor:
        return self.head(torch.cat([self.down(2 * image - 1), self.context(latents)], 1))


def pictures(photos: Path, clips: Path) -> list[np.ndarray]:
    """uint8 (H, W, 3): every photograph, and frames of every clip, at the sizes of :data:`SCALES`."""
    import av

    images = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.jpg"))]
    for path in sorted(clips.glob("*.mp4")):
        with av.open(str(path)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
        images += frames[:: max(1, len(frames) // FRAMES_PER_CLIP)][:FRAMES_PER_CLIP]
    return [
        np.asarray(image.resize((round(image.width * s), round(image.height * s)), Image.Resampling.LANCZOS))
        for image in images
        for s in SCALES
        if min(image.size) * s >= CROP
    ]


def crops(images: list[np.ndarray], seed: int) -> Iterator[Tensor]:
    """Batches (BATCH, 3, CROP, CROP) in 0 .. 1 of random areas, all equally likely."""
    rng = random.Random(seed)
    areas = [image.shape[0] * image.shape[1] for image in images]
    while True:
        batch = []
        for image in rng.choices(images, areas, k=BATCH):
            y, x = (rng.randrange(size - CROP + 1) for size in image.shape[:2])
            crop = image[y : y + CROP, x : x + CROP]
            batch.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        yield torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float().div_(255)


class Training:
    """The state of a training, as it is written to a checkpoint."""

    def __init__(self, features: Features, args: argparse.Namespace) -> None:
        self.args = args
        self.features = features.to(memory_format=torch.channels_last)
        self.model = HiFiCAutoencoder(**SHAPE).to(memory_format=torch.channels_last)
        # Twice as fast on processors, where most layers are bound by memory.
        self.forward = torch.compile(self.model)
        self.judge = Discriminator(SHAPE["latent_features"]).to(memory_format=torch.channels_last)
        main = [p for name, p in self.model.named_parameters() if not name.endswith("quantiles")]
        self.optimiser = torch.optim.Adam(main, lr=args.learning_rate)
        self.judge_optimiser = torch.optim.Adam(
            self.judge.parameters(), lr=args.learning_rate, betas=(0.5, 0.9)
        )
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.beta, self.step, self.seconds = 1.0, 0, 0.0

    def state(self) -> dict[str, object]:
        parts = ("model", "judge", "optimiser", "judge_optimiser")
        return {name: getattr(self, name).state_dict() for name in parts} | {
            "features": self.features.state_dict(),
            "average": self.average,
            "beta": self.beta,
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, object]) -> None:
        for name in ("model", "judge", "optimiser", "judge_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.average = state["average"]
        self.beta, self.step, self.seconds = state["beta"], state["step"], state["seconds"]

    def update(self, x: Tensor) -> dict[str, float]:
        """One step of all networks on a batch."""
        args, minutes = self.args, self.seconds / 60
        adversarial = minutes >= args.adversarial
        rate = self._learning_rate(minutes)
        for optimiser in (self.optimiser, self.judge_optimiser):
            optimiser.param_groups[0]["lr"] = rate
        index = torch.randint(0, MAX_STEP + 1, (len(x), 1, 1, 1))
        out = self.forward(x, RATIO**index)
        area = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = -(out.y_likelihoods.log2().sum() + out.z_likelihoods.log2().sum()) / area
        weight = RATIO ** (-args.slope * (index.flatten() - MAX_STEP / 2))
        error = (weight * (out.image - x).square().mean((1, 2, 3))).mean()
        distance = (weight * self.features(out.image, x)).mean()
        loss = self.beta * bpp + args.error * error + args.distance * distance
        row = {"bpp": bpp.item(), "error": error.item(), "distance": distance.item()}
        if adversarial:
            latents = out.y_hat.detach()
            self.judge.requires_grad_(False)
            loss = loss - args.weight * (self.judge(out.image, latents)).mean()
            self.judge.requires_grad_(True)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        if adversarial:
            self.judge_optimiser.zero_grad()
            real, coded = self.judge(x, latents), self.judge(out.image.detach(), latents)
            hinge = functional.relu(1 - real).mean() + functional.relu(1 + coded).mean()
            hinge.backward()
            self.judge_optimiser.step()
            row["judge"] = hinge.item()
        self._control(row["bpp"])
        decay = min(0.999, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return row

    def _learning_rate(self, minutes: float) -> float:
        left = max(0.0, 1 - minutes / self.args.minutes)
        return self.args.learning_rate * min(1.0, self.step / 200, 4 * left + 0.02)

    def _control(self, bpp: float) -> None:
        """More weight for the rate when it is above the target, which falls at the beginning."""
        target = self.args.rate * (1 + 4 * max(0.0, 1 - self.step / self.args.warm_up))
        self.beta *= math.exp(0.02 * max(-1.0, min(1.0, math.log(max(bpp, 1e-4) / target))))
        self.beta = min(max(self.beta, 1e-3), 1e3)


def export(state: dict[str, Tensor], folder: Path) -> None:
    """Write the checkpoint, in half precision, its SHA-256 and the model file."""
    model = HiFiCAutoencoder(**SHAPE)
    model.load_state_dict(state)
    bottleneck = model.hyper_bottleneck
    with torch.no_grad():
        # The tails of the density; hyper latents were rounded about 0 in training, and stay so.
        bottleneck._update_quantiles()
        bottleneck.quantiles[:, :, 1] = 0
    halves = {
        name: value if name.startswith(("hyper_bottleneck.", "latent_bottleneck.")) else value.half()
        for name, value in model.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    save_file({name: value.contiguous() for name, value in halves.items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n", encoding="ascii")
    path.with_suffix(SUFFIX).write_bytes(derive(checkpoints.arrays(path)))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", type=Path)
    p.add_argument("--clips", type=Path)
    p.add_argument("--export", type=Path, metavar="DIR", help="write the model and end")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=90, help="all in all (default: %(default)s)")
    p.add_argument("--adversarial", type=float, default=60, help="minutes without discriminator")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rate", type=float, default=0.06, help="bits per pixel (default: %(default)s)")
    p.add_argument("--warm-up", type=int, default=1500, help="steps (default: %(default)s)")
    p.add_argument("--learning-rate", type=float, default=4e-4)
    p.add_argument("--error", type=float, default=100.0, help="weight of the squared error")
    p.add_argument("--distance", type=float, default=1.0, help="weight of the perceptual distance")
    p.add_argument("--weight", type=float, default=0.1, help="weight of the discriminator")
    p.add_argument("--slope", type=float, default=1.0, help="exponent of the distortion's weight in the step")
    args = p.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    if args.export:
        return export(torch.load(checkpoint, weights_only=True)["average"], args.export)
    if not (args.photos and args.clips):
        p.error("--photos and --clips are needed")
    images = pictures(args.photos, args.clips)
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    batches = crops(images, state["step"] if state else 0)
    if state:
        features = Features()
        features.load_state_dict(state["features"])
    else:
        features = learn(torch.cat([next(batches) for _ in range(12)]))
    training = Training(features, args)
    if state:
        training.restore(state)
    with (args.out / "log.csv").open("a", newline="") as file:
        log, sums, last = csv.writer(file), {}, time.monotonic()
        while training.seconds < 60 * args.minutes:
            for name, value in training.update(
                next(batches).contiguous(memory_format=torch.channels_last)
            ).items():
                sums.setdefault(name, []).append(value)
            now = time.monotonic()
            training.seconds, last = training.seconds + now - last, now
            if training.step % 100 == 0:
                means = {name: round(sum(values) / len(values), 6) for name, values in sums.items()}
                log.writerow(
                    [training.step, round(training.seconds), round(training.beta, 4), *means.items()]
                )
                file.flush()
                sums.clear()
            if training.step % 500 == 0:
                torch.save(training.state(), checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
    torch.save(training.state(), checkpoint)


if __name__ == "__main__":
    main()
