"""Command that lists and installs models of learned keyframes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PROG = "refdec-models"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=PROG,
        description="List the models of learned keyframes, or install one: download a published checkpoint "
        "of MS-ILLM, or take one that is there, and make the model file of it that streams refer to.",
        epilog="Models are looked for in the folder that TGV_MODEL_DIR names and in the user's cache. "
        "Exit status: 0 done; 1 a file cannot be had, read or written; 2 wrong usage.",
    )
    p.add_argument(
        "checkpoint",
        nargs="?",
        metavar="NAME|FILE",
        help="msillm_quality_1 and the like, or a checkpoint file",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        if args.checkpoint is None:
            show()
        else:
            install(args.checkpoint)
    except OSError as error:
        return _complain(f"{error.filename or args.checkpoint}: {error.strerror or error}")
    except ValueError as error:
        return _complain(f"{args.checkpoint}: {error}")
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} is not installed; pip install 'tgv[neural]'")
    return 0


def _complain(message: str) -> int:
    print(f"{PROG}: {message}", file=sys.stderr)
    return 1


def show() -> None:
    """Every model that is installed, and every checkpoint that can be."""
    from refdec.keyframes import checkpoints, models

    files, names = models.installed(), set()
    for identity in files:
        path = files.path(identity)
        if path is not None:
            names.add(path.stem)
            print(f"{path.stem:20} {identity.hex()}  {path}")
    for name in checkpoints.PUBLISHED:
        if name not in names:
            print(f"{name:20} to be downloaded, CC BY-NC 4.0")


def install(name: str) -> Path:
    """Make the model file of a checkpoint, beside it, and return its path."""
    from refdec.keyframes import checkpoints
    from tgv_format import illm_derivation, illm_model

    try:
        weights = checkpoints.find(name)
    except FileNotFoundError:
        if name not in checkpoints.PUBLISHED:
            raise
        weights = checkpoints.download(name)
    path = weights.with_suffix(illm_model.SUFFIX)
    data = illm_derivation.derive(checkpoints.arrays(weights))
    path.write_bytes(data)
    print(f"{path.stem:20} {illm_model.read(data).identity.hex()}  {path}")
    return path


if __name__ == "__main__":
    sys.exit(main())
