"""Generator hints (specification clause 6.3): which generator the encoder had in mind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import construct
from construct import Bytes, Int64ub, Struct, this

from tgv_format.errors import TgvError
from tgv_format.syntax import ParameterError, build, parse, u8, uleb128

#: How the name of a tokenizer hint begins (clause 9.4.4).
TOKENIZER = "tokenizer:"


class Sampler(IntEnum):
    """Registered samplers of diffusion models."""

    UNSPECIFIED = 0
    DDIM = 1
    EULER = 2
    DPM_SOLVER_PP = 3


HEADER = Struct(
    "name_bytes" / u8(1, 64),
    "name" / Bytes(this.name_bytes),
    "weights_sha256" / Bytes(32),
    "sampler" / u8(0, max(Sampler)),
    "steps" / uleb128(0, 1000),
    "guidance_scale_q4" / uleb128(0, 1600),
    "seed" / Int64ub,
)


@dataclass(frozen=True)
class GeneratorHint:
    """``guidance_scale_q4`` is in units of 1/16; 0 steps or scale leave the choice to the decoder.

    ``weights_sha256`` is the SHA-256 of the weights file, 32 zero bytes when no particular one is meant.
    """

    name: str
    weights_sha256: bytes
    sampler: Sampler
    steps: int
    guidance_scale_q4: int
    seed: int

    @property
    def is_tokenizer(self) -> bool:
        """Whether it names the weights of learned flow tokens instead of a generator (clause 9.4.4)."""
        return self.name.startswith(TOKENIZER)

    def to_json(self) -> dict[str, Any]:
        """The value that clause 11.2 prescribes; the 64-bit seed is a hexadecimal string."""
        return {
            "unit": "generator_hint",
            "name": self.name,
            "weights_sha256": self.weights_sha256.hex(),
            "sampler": int(self.sampler),
            "steps": self.steps,
            "guidance_scale_q4": self.guidance_scale_q4,
            "seed": f"{self.seed:016x}",
        }


def encode(hint: GeneratorHint) -> bytes:
    """The payload of a generator hint unit."""
    validate(hint)
    name = hint.name.encode("ascii")
    try:
        return build(
            HEADER,
            name_bytes=len(name),
            name=name,
            weights_sha256=hint.weights_sha256,
            sampler=int(hint.sampler),
            steps=hint.steps,
            guidance_scale_q4=hint.guidance_scale_q4,
            seed=hint.seed,
        )
    except construct.ConstructError as error:
        raise ParameterError("out-of-range", "generator_hint", str(error)) from None


def decode(data: bytes, offset: int, path: str) -> GeneratorHint:
    """Decode the payload of a generator hint unit that stands at byte ``offset``."""
    fields, used = parse(HEADER, data, offset, path)
    if used != len(data):
        raise TgvError("trailing-data", offset + used, path, f"{len(data) - used} bytes too many")
    try:
        name = fields.name.decode("ascii")
        hint = GeneratorHint(
            name,
            fields.weights_sha256,
            Sampler(fields.sampler),
            fields.steps,
            fields.guidance_scale_q4,
            fields.seed,
        )
        validate(hint)
    except UnicodeDecodeError as error:
        raise TgvError("text-invalid", offset + 1, f"{path}.name", f"not ASCII: {error.reason}") from None
    except ParameterError as error:
        raise TgvError(error.identifier, offset + 1, f"{path}.{error.element}", error.detail) from None
    return hint


def validate(hint: GeneratorHint) -> None:
    """Raise ParameterError unless the name is printable ASCII; sizes are the declaration's to check."""
    if not all(" " <= c <= "~" for c in hint.name):
        raise ParameterError("text-invalid", "name", "the name is not printable ASCII")
