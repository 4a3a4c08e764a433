"""Text sections (specification clause 9.3): a caption in UTF-8, plain or as a Brotli stream."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import brotli
from construct import BitStruct, Flag, Struct

from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import ParameterError, Reserved, build, parse

HEADER = Struct("head" / BitStruct("compressed" / Flag, "reserved" / Reserved(7)))


@dataclass(frozen=True)
class Text:
    """A caption; encoders write it in Unicode Normalization Form C."""

    text: str

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {"text": self.text}


def encode(params: Text, limits: Level) -> bytes:
    """The section's bytes: a Brotli stream where that is shorter than the UTF-8."""
    validate(params, limits)
    plain = params.text.encode("utf-8")
    packed = brotli.compress(plain, mode=brotli.MODE_TEXT, quality=11, lgwin=16)
    compressed = len(packed) < len(plain)
    return build(HEADER, head={"compressed": compressed}) + (packed if compressed else plain)


def decode(data: bytes, offset: int, path: str, limits: Level) -> Text:
    """Decode a text section; never holds more than the level's text bytes."""
    fields, used = parse(HEADER, data, offset, path)
    body = data[used:]
    if fields.head.compressed:
        body = _decompress(body, limits.text_bytes, offset + used, path)
        if len(data) - used >= len(body):
            raise TgvError(
                "non-canonical", offset, path, "the plain text is not longer than the Brotli stream"
            )
    elif len(body) > limits.text_bytes:
        raise TgvError("limit-exceeded", offset + used, path, f"more than {limits.text_bytes} bytes of text")
    try:
        return Text(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TgvError("text-invalid", offset + used, path, f"not UTF-8: {error.reason}") from None


def validate(params: Text, limits: Level) -> None:
    """Raise ParameterError unless the text is in NFC, encodable and within the level.

    Decoders do not check the normalization, which would tie them to a version of Unicode.
    """
    try:
        size = len(params.text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ParameterError("text-invalid", "text", error.reason) from None
    if size > limits.text_bytes:
        raise ParameterError("limit-exceeded", "text", f"more than {limits.text_bytes} bytes of text")
    if not unicodedata.is_normalized("NFC", params.text):
        raise ParameterError("text-invalid", "text", "not in Normalization Form C")


def _decompress(data: bytes, limit: int, offset: int, path: str) -> bytes:
    decompressor = brotli.Decompressor()
    out = bytearray()
    try:
        out += decompressor.process(data, output_buffer_limit=limit + 1)
        while len(out) <= limit and not decompressor.can_accept_more_data():
            out += decompressor.process(b"", output_buffer_limit=limit + 1 - len(out))
    except brotli.error:
        raise TgvError("text-invalid", offset, path, "not a Brotli stream") from None
    if len(out) > limit:
        raise TgvError("limit-exceeded", offset, path, f"more than {limit} bytes of text")
    if not decompressor.is_finished():
        raise TgvError("text-invalid", offset, path, "the Brotli stream is incomplete")
    return bytes(out)
