"""The models of learned keyframes that are installed (specification clause 7.6.2).

They are the small one of the specification, those that come with this package, those in the user's cache, and
those in the folder that the environment variable TGV_MODEL_DIR names.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from tgv_format import illm_model
from tgv_format.errors import TgvError
from tgv_format.illm_model import IDENTITY_BYTES, SUFFIX, Model

VARIABLE = "TGV_MODEL_DIR"
_PACKAGE = Path(__file__).parents[1] / "models"
_SHA256_BYTES = 32


class ModelFiles(Mapping[bytes, Model]):
    """The models of some files by their identity; a file is read when its model is asked for.

    OSError for a file that cannot be read, or is no model file.
    """

    def __init__(self, paths: list[Path]) -> None:
        small = illm_model.small_model()
        self._models = {small.identity: small}
        self._paths = {self.identity(path): path for path in paths}

    @staticmethod
    def identity(path: Path) -> bytes:
        """What the file says it is."""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _SHA256_BYTES))
            return file.read(IDENTITY_BYTES)

    def path(self, identity: bytes) -> Path | None:
        """The file of a model; None for the one that has none."""
        return self._paths.get(identity)

    def __getitem__(self, identity: bytes) -> Model:
        if identity not in self._models:
            path = self._paths[identity]
            try:
                self._models[identity] = illm_model.read(path.read_bytes())
            except TgvError as error:
                raise OSError(errno.EINVAL, f"no model to use ({error})", str(path)) from None
        return self._models[identity]

    def __contains__(self, identity: object) -> bool:
        return identity in self._models or identity in self._paths

    def __iter__(self) -> Iterator[bytes]:
        return iter({**self._models, **self._paths})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def cache_folder() -> Path:
    """Where downloads are kept: ``tgv`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tgv"


def folders() -> list[Path]:
    """Where models are looked for, the first one first."""
    named = os.environ.get(VARIABLE)
    return [*([Path(named)] if named else []), cache_folder(), _PACKAGE]


@cache
def installed() -> ModelFiles:
    """All models that are installed."""
    return ModelFiles([path for folder in folders()[::-1] for path in sorted(folder.glob(f"*{SUFFIX}"))])
