"""Where the weights of models are: nothing is ever fetched."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

T = TypeVar("T")


def missing(what: str, where: str | Path, get: str) -> FileNotFoundError:
    """The error for ``what`` is not there: where it is looked for, and how to ``get`` it."""
    return FileNotFoundError(errno.ENOENT, f"no weights in {where}; {get}", what)


def folder(model: str) -> Path:
    """The folder of a transformers model: ``model`` itself, or the snapshot of that name in the cache of
    Hugging Face. FileNotFoundError when there is neither."""
    from huggingface_hub import constants, snapshot_download

    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (OSError, ValueError) as error:
        where = f"a folder of this name or {constants.HF_HUB_CACHE}"
        raise missing(model, where, f"`hf download {model}` gets them") from error


def read(model: str, load: Callable[[Path], T]) -> T:
    """What ``load`` makes of the folder of ``model``; OSError of one line when a file is missing in it."""
    path = folder(model)
    try:
        return load(path)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise OSError(errno.EINVAL, f"incomplete or damaged: {reason}", str(path)) from error


def file(model: str, path: Path, get: str) -> Path:
    """``path``; FileNotFoundError when the file or folder is not there."""
    if not path.exists():
        raise missing(model, path, get)
    return path


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, or of its entry ``model``; OSError for a file that is none."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises exceptions of pickle that it does not document.
        raise OSError(errno.EINVAL, f"no checkpoint to use: {type(error).__name__}", str(path)) from error
    return dict(state.get("model", state))


def fill(network: Module, state: dict[str, Tensor], path: Path) -> None:
    """Give the network the tensors read from ``path``; OSError of one line when they are not its own."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:100]
        raise OSError(errno.EINVAL, f"weights of another network: {reason}", str(path)) from error
