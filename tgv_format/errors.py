"""The one exception of the format (specification clause 12): identifier, byte offset, element path."""

from __future__ import annotations

from tgv_format.tables import load

#: Every error identifier of the specification with its meaning.
IDENTIFIERS: dict[str, str] = {row["id"]: row["meaning"] for row in load("errors")["errors"]}


class TgvError(Exception):
    """A bitstream that breaks a requirement of the specification.

    ``identifier`` is one of :data:`IDENTIFIERS`, ``offset`` the byte offset in the file at which the
    fault was noticed, ``path`` the element, such as ``clip[2].trajectories.anchor_gap``.
    """

    def __init__(self, identifier: str, offset: int, path: str, detail: str) -> None:
        if identifier not in IDENTIFIERS:
            raise KeyError(identifier)
        super().__init__(f"{identifier} at byte {offset}, {path}: {detail}")
        self.identifier = identifier
        self.offset = offset
        self.path = path
        self.detail = detail
