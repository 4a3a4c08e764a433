"""Checkpoints of learned keyframe codecs and flow tokens: where they are, whose they are, and what has to be
known before use.

A checkpoint is a file of named tensors: ``.safetensors``, or what ``torch.load`` reads without executing
anything (``.ckpt``, ``.pt``, ``.pth``). Beside that of a keyframe codec lies the model file made of it, of
the same name. A file ``.sha256``, if there is one, says what the checkpoint's hash has to be.
"""

from __future__ import annotations

import errno
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from refdec.keyframes.models import cache_folder, folders

if TYPE_CHECKING:
    from torch import Tensor

    from refdec.keyframes.illm import HiFiCAutoencoder

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")

_URL = "https://dl.fbaipublicfiles.com/NeuralCompression/2023-muckley-msillm/{family}_target_{rate}bpp.ckpt"
_LICENCE = "weights of MS-ILLM, (c) Meta Platforms, CC BY-NC 4.0: not for commercial use"
_QUALITIES = {"1": "0.035", "2": "0.07", "3": "0.14", "4": "0.3", "5": "0.45", "6": "0.9"}
_VERY_LOW = {"vlo1": "0.00218", "vlo2": "0.00438"}

#: Where the published checkpoints come from, by name.
PUBLISHED = {
    f"{family}_quality_{quality}": _URL.format(family=family, rate=rate)
    for family, rates in (("msillm", _QUALITIES | _VERY_LOW), ("noganms", _QUALITIES))
    for quality, rate in rates.items()
}


def find(name: str) -> Path:
    """The file of a checkpoint: a path, or a name in one of the :func:`folders`; FileNotFoundError."""
    if Path(name).suffix in SUFFIXES and Path(name).is_file():
        return Path(name)
    return installed(name)


def installed(name: str) -> Path:
    """The file of the checkpoint called ``name`` in one of the :func:`folders`; FileNotFoundError."""
    if Path(name).name == name:
        for place in (folder / f"{name}{suffix}" for folder in folders() for suffix in SUFFIXES):
            if place.is_file():
                return place
    known = f"; `refdec-models {name}` downloads it" if name in PUBLISHED else ""
    raise FileNotFoundError(
        errno.ENOENT, f"no checkpoint of this name in TGV_MODEL_DIR or the cache{known}", name
    )


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint; OSError for a file that is none. Says whose they are on standard error."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.stem in PUBLISHED:
        print(f"{path.stem}: {_LICENCE}", file=sys.stderr)
    _check_hash(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise _damaged(path, str(error)) from None
    except Exception as error:
        # torch.load raises exceptions of pickle that it does not document.
        raise _damaged(path, f"{type(error).__name__}, try to convert it to safetensors") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise _damaged(path, "it holds more than named tensors")
    return state


def network(path: Path, tensors: Mapping[str, NDArray[Any]] | None = None) -> HiFiCAutoencoder:
    """The autoencoder of a checkpoint, in float32 and ready for use; OSError when it is none.

    ``tensors`` are its :func:`arrays`, where they have been read.
    """
    import torch

    from refdec.keyframes.illm import HiFiCAutoencoder

    state = {name: torch.from_numpy(value) for name, value in (tensors or arrays(path)).items()}
    try:
        return HiFiCAutoencoder.from_state_dict(state).eval().requires_grad_(False)
    except (KeyError, RuntimeError, IndexError) as error:
        raise _damaged(path, f"it is not one of a HiFiC autoencoder: {str(error).splitlines()[0]}") from None


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint as NumPy arrays, floating-point numbers as float32."""
    return {
        name: (value.float() if value.is_floating_point() else value).numpy()
        for name, value in read(path).items()
    }


def download(name: str) -> Path:
    """Bring a published checkpoint into the cache; OSError when that fails.

    Its SHA-256 is noted beside it and compared whenever it is read.
    """
    import torch

    target = cache_folder() / f"{name}.ckpt"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(PUBLISHED[name], str(target))
    except OSError as error:
        raise OSError(errno.EIO, f"not to be had from {PUBLISHED[name]}: {error}", name) from None
    note = sha256(target)
    target.with_suffix(".sha256").write_text(f"{note}  {target.name}\n", encoding="ascii")
    return target


def _check_hash(path: Path) -> None:
    note = path.with_suffix(".sha256")
    if note.is_file() and note.read_text(encoding="ascii").split()[:1] != [sha256(path)]:
        raise _damaged(path, f"its SHA-256 is not the one in {note.name}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, why: str) -> OSError:
    return OSError(errno.EINVAL, f"no checkpoint to use: {why}", str(path))
