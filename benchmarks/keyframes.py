"""Rate and quality of keyframe codecs on photographs: bytes, PSNR and, with --measure, what else there is.

    python benchmarks/keyframes.py --pictures DIR [--codecs av1,vvc,illm] [--bpp 0.03,0.06,0.09,0.12]

Every picture is fitted to --size and coded with at most as many bytes as each rate allows: the payload
alone, as a keyframe unit holds it. --measure names a command that is run as COMMAND REFERENCE.npy CODED.npy
--json for every codec and rate, on all pictures in the order of their names as 8-bit RGB frames, and prints
one object; its numbers join the table. --out keeps these files and a PNG of the pictures side by side.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import Row, parse_size, progress, table
from numpy.typing import NDArray
from PIL import Image, ImageOps

from refenc.keyframes import CODECS, CodedPicture, KeyframeCodec
from refenc.rate import Keyframes
from tgv_format.picture import Colour, Picture

Frames = NDArray[np.uint8]
#: As the AVIF encoder has it.
COLOUR = Colour(matrix=6, full_range=True)


def photographs(folder: Path, size: tuple[int, int]) -> dict[str, Frames]:
    """RGB by name, uint8 (height, width, 3), cropped in the middle and scaled to ``size``."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".png"))
    images = {
        p.stem: ImageOps.fit(Image.open(p).convert("RGB"), size, Image.Resampling.LANCZOS) for p in paths
    }
    return {name: np.asarray(image) for name, image in images.items()}


def to_picture(rgb: Frames) -> Picture:
    """Full-range BT.601 planes with chroma halved by means of 2x2."""
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"), np.float32)
    height, width = rgb.shape[:2]
    chroma = ycc[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3))
    planes = (ycc[..., 0], chroma[..., 0], chroma[..., 1])
    return Picture(*(np.rint(plane).astype(np.uint8) for plane in planes))


def to_rgb(picture: Picture) -> Frames:
    """The inverse of :func:`to_picture`, with chroma interpolated."""
    size = picture.width, picture.height
    y = Image.fromarray(picture.y)
    chroma = (
        Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR) for plane in (picture.u, picture.v)
    )
    return np.asarray(Image.merge("YCbCr", (y, *chroma)).convert("RGB"))


def within(picture: Picture, codec: KeyframeCodec, budget: float) -> CodedPicture:
    """The best that fits into ``budget`` bytes, or the smallest there is."""
    keyframes = Keyframes([[picture]], codec, lambda *arguments: list(map(*arguments)))
    steps = keyframes.fit(budget)
    while keyframes.size(steps) > budget and steps[0]:
        steps = [steps[0] - 1]
    return keyframes.at(steps)[0]


def psnr(reference: Frames, coded: Frames) -> float:
    """Of RGB samples, in dB; that of the mean over pictures for frames (T, H, W, 3)."""
    error = (reference.astype(np.float32) - coded) ** 2
    return float(np.mean(10 * np.log10(255**2 / error.mean((-3, -2, -1)))))


def measure(command: str, reference: Path, coded: Path, metrics: list[str]) -> Row:
    """Those of the numbers that a command prints as JSON; None for what it does not have."""
    words = [*shlex.split(command), str(reference), str(coded), "--json"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {name: found.get(name) for name in metrics}


def main(argv: list[str] | None = None) -> int:
    import argparse

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pictures", type=Path, required=True, metavar="DIR", help="photographs, JPEG or PNG")
    p.add_argument("--codecs", default="av1,illm", metavar="LIST")
    p.add_argument("--model", default="tgv-illm-s", metavar="NAME", help="of illm (default: %(default)s)")
    p.add_argument("--bpp", default="0.03,0.06,0.09,0.12", metavar="LIST", help="bits per pixel")
    p.add_argument("--size", type=parse_size, default=(512, 320), metavar="WxH", help="even numbers")
    p.add_argument("--measure", metavar="COMMAND", help="more metrics")
    p.add_argument("--metrics", default="lpips,texture", metavar="LIST", help="which of its numbers to take")
    p.add_argument("--out", type=Path, metavar="DIR", help="keep the pictures")
    p.add_argument("--json", type=Path, metavar="FILE")
    args = p.parse_args(argv)
    metrics = args.metrics.split(",")
    originals = photographs(args.pictures, args.size)
    reference = np.stack(list(originals.values()))
    pictures = [to_picture(rgb) for rgb in originals.values()]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "original.npy", reference)
        sheets = [reference]
        for name in args.codecs.split(","):
            codec = choose(name, args.model)
            for bpp in map(float, args.bpp.split(",")):
                budget = bpp * args.size[0] * args.size[1] / 8
                coded = [within(x, codec, budget) for x in progress(pictures, f"{name} {bpp:g}")]
                frames = np.stack([to_rgb(c.picture) for c in coded])
                target = folder / f"{name}-{bpp:g}.npy"
                np.save(target, frames)
                sheets.append(frames)
                sizes = [len(c.payload) for c in coded]
                row: Row = {
                    "codec": name,
                    "bpp": bpp,
                    "bytes": float(np.mean(sizes)),
                    "over": sum(size > budget for size in sizes),
                    "psnr": psnr(reference, frames),
                }
                if args.measure:
                    row |= measure(args.measure, folder / "original.npy", target, metrics)
                rows.append(row)
        if args.out:
            # A row for every picture, a column for the original and for every codec and rate.
            sheet = np.concatenate([np.concatenate(list(s), 0) for s in sheets], 1)
            Image.fromarray(sheet).save(folder / "pictures.png")
    columns = {"codec": "", "bpp": "g", "bytes": ".0f", "over": "d", "psnr": ".2f"}
    columns |= dict.fromkeys(metrics, ".4f") if args.measure else {}
    print(table(rows, columns, medians=False))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def choose(name: str, model: str) -> KeyframeCodec:
    if name == "illm":
        from refenc import illm

        return illm.codec(model, COLOUR)
    return CODECS[name]


if __name__ == "__main__":
    sys.exit(main())
