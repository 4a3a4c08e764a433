"""Analyses of the encoder that are chosen by name: the first of each kind needs no weights.

Importing this is cheap; what a backend needs is imported when it is loaded.
"""

from __future__ import annotations

#: Of every kind of analysis the backends, the default first; ``None`` sends no caption.
NAMES = {
    "tracker": ("opencv", "cotracker"),
    "semantics": ("handcrafted", "clip"),
    "masks": ("motion", "sam2"),
    "poses": ("opencv", "pycolmap", "flowmap"),
    "flow-backend": ("dis", "raft", "unimatch"),
    "flow-tokenizer": ("cosine", "learned"),
    "captioner": ("none", "blip"),
}


def named(kind: str, text: str) -> tuple[str, str | None]:
    """The backend, and the model that it is to use if any, of ``NAME`` or ``NAME=MODEL``.

    ValueError when there is no such backend.
    """
    name, _, model = text.partition("=")
    if name not in NAMES[kind]:
        raise ValueError(f"{name} is none of {', '.join(NAMES[kind])}")
    return name, model or None
