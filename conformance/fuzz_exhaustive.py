"""Every single-bit flip and every truncation of valid streams: each is refused, or changes nothing.

Twice: the file as it is, whose CRCs find nearly all of it; and with the CRC of the damaged unit put right,
where only syntax, canonical forms and at last the digest of the decoded parameters stand in the way.
Damage is *harmless* when all decoded parameters are what they were, as in an ancillary section, which is not
decoded. What the digest does not cover are generator hints, which decoders do not need (clause 5.3); damage
that changes or loses one without any CRC is counted apart, as ``hint``.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import random
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context

from conformance import manifest, reference
from tgv_format import canonical
from tgv_format.container import SIGNATURE, UnitType
from tgv_format.errors import TgvError
from tgv_format.reader import Element, Reader

#: Of longer vectors a sample is taken: most of their bytes are the payload of a keyframe, or alike.
MOST_BYTES, SAMPLE = 20_000, 500


@dataclass(frozen=True)
class Place:
    """A unit in a file: its first byte, the one behind it, its payload's, and whether it has a CRC."""

    unit_type: int
    start: int
    stop: int
    payload: range
    crc: bool


@dataclass(frozen=True)
class Damage:
    """``flip`` of a bit, ``repaired``: the same with another CRC; or ``cut`` at a byte."""

    kind: str
    byte: int
    bit: int = 0


def main(args: argparse.Namespace) -> int:
    chosen = [
        vector
        for vector in manifest.vectors()
        if vector.valid and (not args.inputs or any(fnmatch.fnmatch(vector.name, n) for n in args.inputs))
    ]
    chosen.sort(key=lambda vector: vector.stream_path.stat().st_size)
    start = time.monotonic()
    total: Counter[str] = Counter()
    work = [(vector.name, vector.stream_path.read_bytes(), args.sample, args.seed) for vector in chosen]
    with get_context("spawn").Pool(args.jobs) as pool:
        for name, counts, different in pool.imap_unordered(_vector, work):
            total.update(counts)
            print(
                f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts.items())), flush=True
            )
            for damage in different:
                print(f"SILENTLY DIFFERENT {name}: {damage}", flush=True)
    for key, count in sorted(total.items()):
        print(f"{key:<24}{count:>12}")
    print(f"{total.total()} streams of {len(chosen)} vectors in {time.monotonic() - start:.0f} s")
    return int(any(key.endswith("different") for key in total))


def _vector(work: tuple[str, bytes, int | None, int]) -> tuple[str, Counter[str], list[Damage]]:
    name, data, sample, seed = work
    counts: Counter[str] = Counter()
    different = []
    stream = Stream(data)
    for damage in damages(stream, sample, seed):
        outcome = stream.outcome(damage)
        counts[f"{damage.kind} {outcome}"] += 1
        if outcome == "different":
            different.append(damage)
    return name, counts, different


class Stream:
    """A valid stream, and what becomes of it when it is damaged."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.places = list(_places(data))
        self._values = _decoded(data)

    def place(self, byte: int) -> Place | None:
        """The unit that ``byte`` belongs to; None for the signature."""
        return next((place for place in self.places if place.start <= byte < place.stop), None)

    def damaged(self, damage: Damage) -> bytes:
        if damage.kind == "cut":
            return self.data[: damage.byte]
        data = bytearray(self.data)
        data[damage.byte] ^= 1 << damage.bit
        place = self.place(damage.byte)
        if damage.kind == "repaired" and place is not None:
            data[place.stop - 4 : place.stop] = zlib.crc32(data[place.start : place.stop - 4]).to_bytes(
                4, "big"
            )
        return bytes(data)

    def outcome(self, damage: Damage) -> str:
        """``rejected``, ``harmless``, ``hint`` or ``different``."""
        data = self.damaged(damage)
        place = self.place(damage.byte)
        if place is not None and self._rejected_alone(data, place, damage):
            return "rejected"
        try:
            values = _decoded(data)
        except TgvError:
            return "rejected"
        if values == self._values:
            return "harmless"
        critical, before = (
            [v for v in found if b'"generator_hint"' not in v] for found in (values, self._values)
        )
        return "hint" if critical == before else "different"

    def _rejected_alone(self, data: bytes, place: Place, damage: Damage) -> bool:
        """Whether a keyframe or clip is refused whatever stands before it, which is not decoded then."""
        if place.unit_type not in (UnitType.KEYFRAME, UnitType.CLIP):
            return False
        if damage.kind != "cut" and damage.byte < place.payload.start:
            return False
        events: list[Element | TgvError] = []
        unit = data[place.start : place.stop]
        reader = Reader(io.BytesIO(data[: self.places[0].stop] + unit), conceal=events.append)
        for element in reader:
            events.append(element)
            break
        # A dependent keyframe has to stand where it stands.
        return isinstance(events[0], TgvError) and events[0].identifier != "unit-order"


def _decoded(data: bytes) -> list[bytes]:
    reader = Reader(io.BytesIO(data))
    return [canonical.dumps(reader.header.to_json()), *(canonical.dumps(unit.to_json()) for unit in reader)]


def _places(data: bytes) -> Iterator[Place]:
    start, crc = len(SIGNATURE), True
    for number, unit in enumerate(reference.framing(data)):
        payload = range(unit.offset, unit.offset + len(unit.payload))
        stop = payload.stop + 4 * crc
        yield Place(unit.unit_type, start, stop, payload, crc)
        if number == 0:
            crc = Reader(io.BytesIO(data)).header.crc
        start = stop


def damages(stream: Stream, sample: int | None, seed: int) -> Iterator[Damage]:
    """All damages of a stream, or about ``sample`` of them; of long ones always a sample."""
    size = len(stream.data)
    if sample is None and size > MOST_BYTES:
        sample = SAMPLE
    every = 17 * size
    rng = random.Random(seed)
    numbers: Sequence[int] = range(every)
    if sample is not None and sample < every:
        numbers = sorted(rng.sample(numbers, sample))
    for number in numbers:
        byte, which = divmod(number, 17)
        place = stream.place(byte)
        if which == 16:
            yield Damage("cut", byte)
        elif which < 8:
            yield Damage("flip", byte, which)
        elif place is not None and place.crc and byte < place.payload.stop:
            yield Damage("repaired", byte, which - 8)
