"""Text sections (specification clause 9.3): a caption in UTF-8, byte by byte by an adaptive model."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from tgv_format import text_model
from tgv_format.entropy import BinaryCoder, Encoder, TraceSink, open_decoder
from tgv_format.errors import TgvError
from tgv_format.levels import Level
from tgv_format.syntax import ParameterError
from tgv_format.text_model import END, TextModel

SECTION = "text"


@dataclass(frozen=True)
class Text:
    """A caption; encoders write it in Unicode Normalization Form C."""

    text: str

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes."""
        return {"text": self.text}


def encode(params: Text, limits: Level) -> bytes:
    """The section's bytes."""
    validate(params, limits)
    coder = Encoder(SECTION)
    model = TextModel(text_model.primed())
    for byte in text_model.coded(params.text):
        model.code(coder, byte)
    return coder.finish()


def decode(data: bytes, offset: int, path: str, limits: Level, trace: TraceSink | None = None) -> Text:
    """Decode a text section; never holds more than the level's text bytes."""
    coder = open_decoder(SECTION, data, offset, path, trace)
    model = TextModel(text_model.primed())
    text = bytearray()
    while (byte := _byte(coder, model, len(text))) != END:
        if len(text) == limits.text_bytes:
            raise coder.error("limit-exceeded", f"more than {limits.text_bytes} bytes of text")
        text.append(0xFF - byte)
    coder.finish()
    try:
        return Text(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TgvError("text-invalid", offset, path, f"not UTF-8: {error.reason}") from None


def _byte(coder: BinaryCoder, model: TextModel, index: int) -> int:
    coder.element = f"bytes[{index}]"
    return model.code(coder)


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
