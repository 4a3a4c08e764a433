"""VVC stills by VVenC's command vvencapp (specification clause 7.7)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tgv_format import vvc
from tgv_format.picture import Picture, Plane, chroma_size

COMMAND = "vvencapp"

# A picture takes about a second.
_TIMEOUT = 600.0
_OPTIONS = {
    "--format": "yuv420",
    "--internal-bitdepth": "10",
    "--frames": "1",
    "--profile": "main_10",
    "--preset": "medium",
    # Costs 0.1 to 0.9 dB; LPIPS gains nothing below 1200 bytes for 512 x 320 samples, and 3 % at 2400.
    "--qpa": "0",
    # A single picture needs no lists of reference pictures, which would take a hundred bytes.
    "--intraperiod": "1",
    "--vuiparameterspresent": "0",
    "--hrdparameterspresent": "0",
    # Said in the parameter sets; with one for all sizes they can be the default ones.
    "--level": "6.2",
    "--threads": "1",
    "--verbosity": "1",
}


def require() -> None:
    """Raise ValueError when there is no vvencapp on PATH."""
    if shutil.which(COMMAND) is None:
        raise ValueError(f"VVC keyframes need VVenC's {COMMAND}, which is not on PATH")


def still(picture: Picture, qp: int) -> bytes:
    """The payload of ``picture`` at quantisation parameter ``qp``, 0 to 63.

    ValueError when vvencapp is missing or fails.
    """
    require()
    width, height = vvc.padded_size(picture.width, picture.height)
    with tempfile.TemporaryDirectory(prefix="refenc-") as folder:
        source, coded = Path(folder, "in.yuv"), Path(folder, "out.266")
        source.write_bytes(_padded(picture, width, height).to_bytes())
        options = {
            "--input": str(source),
            "--size": f"{width}x{height}",
            "--output": str(coded),
            "--qp": str(qp),
        }
        words = [word for option in (options | _OPTIONS).items() for word in option]
        try:
            done = subprocess.run(
                [COMMAND, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT,
                check=False,
            )
            data = coded.read_bytes() if done.returncode == 0 else b""
        except (subprocess.TimeoutExpired, OSError) as error:
            raise ValueError(f"{COMMAND}: {error}") from None
    if not data:
        said = done.stdout.decode(errors="replace").split("\n")
        reason = next((line.strip() for line in reversed(said) if line.strip()), "no output")
        raise ValueError(f"{COMMAND} failed on {width}x{height} samples: {reason}")
    return payload(data, picture.width, picture.height)


def payload(data: bytes, width: int, height: int) -> bytes:
    """The keyframe payload of a byte stream (H.266, Annex B) with one picture.

    Leaves out what a keyframe cannot hold, and parameter sets that are the default ones of a coded picture
    of ``width`` x ``height``.
    """
    units = [
        vvc.Nal(nal[1] >> 3, nal[2:].replace(b"\x00\x00\x03", b"\x00\x00"))
        for nal in re.split(rb"\x00*\x00\x00\x01", data.rstrip(b"\x00"))
        if len(nal) > 2 and nal[1] >> 3 in set(vvc.NalType)
    ]
    default = vvc.default_parameter_sets(width, height)
    return vvc.join(units[len(default) :] if units[: len(default)] == default else units)


def _padded(picture: Picture, width: int, height: int) -> Picture:
    """``width`` x ``height`` samples, those of the right and bottom edges repeated."""
    half, rows = chroma_size(width, height)
    sizes = (width, height), (half, rows), (half, rows)
    return Picture(*(_pad(plane, *size) for plane, size in zip(picture.planes, sizes, strict=True)))


def _pad(plane: Plane, width: int, height: int) -> Plane:
    return np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
