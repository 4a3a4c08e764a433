"""What is fuzzed: functions of bytes that must end, or raise TgvError, and inputs to begin with.

Where an input is accepted, encoding what was decoded has to give the input again: every clause on canonical
forms is tested at once.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from conformance import manifest, reference, sources
from refdec.decoder import Decoder
from tgv_format import (
    camera_poses,
    clip,
    container,
    end,
    entropy,
    flow_tokens,
    generator_hint,
    group,
    illm,
    interpolation,
    keyframe,
    masks,
    sequence,
    text,
    trajectories,
)
from tgv_format.errors import TgvError
from tgv_format.illm_model import small_model
from tgv_format.levels import LEVELS
from tgv_format.range_coder import QuantileError, RangeDecoder
from tgv_format.reader import Reader
from tgv_format.sequence import SequenceHeader
from tgv_format.syntax import ParameterError

#: Longer inputs are not tried: the vectors have those.
MAX_BYTES = 4096
_LIMITS = LEVELS[1]
# Sizes of pictures and clips, so that a run takes milliseconds, and two seconds are a defect.
_SIDE, _FRAMES = 64, 24
# More label samples in a clip are not encoded again, which takes as long as decoding: a second where there is
# an edge at each.
_LABELS = 1 << 17
# Groups that stand for more units are not decoded further: they repeat what takes long.
_UNITS = 16


class Finding(Exception):  # noqa: N818
    """An input that shows a defect which is not an exception by itself."""


@dataclass(frozen=True)
class Target:
    """``run`` takes an input and raises for a defect; ``seeds`` are inputs made of the vectors."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]


def _same(made: bytes, data: bytes) -> None:
    if made != data:
        raise Finding(f"decoded, but encoded as {made.hex()}")


# --- Units


def _container(data: bytes) -> None:
    """Framing, without a CRC and with, as it stands and searching for intact units."""
    for crc in (False, True):
        reader = container.UnitReader(io.BytesIO(data))
        try:
            reader.signature()
            reader.crc, reader.max_bytes = crc, MAX_BYTES
            while (unit := reader.read()) is not None:
                if not crc and unit.unit_type in set(container.UnitType):
                    start = unit.offset - unit.framing_bytes
                    made = container.write_unit(container.UnitType(unit.unit_type), unit.payload, False)
                    _same(made, data[start : start + len(made)])
        except TgvError:
            while reader.resynchronise() and reader.read() is not None:
                pass


def _whole_files() -> Iterator[bytes]:
    for vector in manifest.vectors():
        data = vector.stream_path.read_bytes()
        if len(data) <= MAX_BYTES:
            yield data


def _units() -> Iterator[tuple[SequenceHeader, container.Unit]]:
    for vector in manifest.vectors():
        if vector.valid and vector.stream_path.stat().st_size <= MAX_BYTES:
            first, *units = reference.framing(vector.stream_path.read_bytes())
            header = sequence.decode(first.payload, 0)
            yield from ((header, unit) for unit in (first, *units))


def _expanded() -> Iterator[tuple[SequenceHeader, container.Unit]]:
    return ((header, part) for header, unit in _units() for part in group.expanded([unit]))


def _payloads(kind: container.UnitType) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        return (unit.payload for _, unit in _expanded() if unit.unit_type == kind)

    return seeds


def _unit(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        try:
            unit = decode(data)
        except TgvError:
            return
        unit.to_json()
        _same(encode(unit), data)

    return run


# --- Clips and sections, of a picture and a number of frames that the first bytes of the input say


def _shape(data: bytes) -> tuple[SequenceHeader, int, bytes]:
    head = data[:3].ljust(3, b"\0")
    header = SequenceHeader(1 + head[0] % _SIDE, 1 + head[1] % _SIDE, sequence.FRAME_RATES[1], 1)
    return header, 1 + head[2] % _FRAMES, data[3:]


def _shaped(header: SequenceHeader, frames: int, body: bytes) -> bytes:
    return (
        bytes([min(header.width, _SIDE) - 1, min(header.height, _SIDE) - 1, min(frames, _FRAMES) - 1]) + body
    )


def _clip(data: bytes) -> None:
    header, _, body = _shape(data)
    try:
        decoded = clip.decode(body, 0, "clip", header)
    except TgvError:
        return
    decoded.to_json()
    _, sections = clip.split(body, 0, "clip", header.limits)
    if (
        not any(section.ancillary for section in sections)
        and (decoded.text is None or _writable(decoded.text))
        and (decoded.masks is None or decoded.masks.labels.size <= _LABELS)
    ):
        _same(clip.encode(decoded, header), body)


def _group(data: bytes) -> None:
    header, _, body = _shape(data)
    try:
        units = list(group.decode(body, 0, "group"))
        if len(units) > _UNITS:
            return
        keyframes = [keyframe.decode(unit.payload, unit.offset, "keyframe") for unit in units[::2]]
        clips = [clip.decode(unit.payload, unit.offset, "clip", header) for unit in units[1::2]]
    except TgvError:
        return
    if not any(
        section.ancillary
        for unit in units[1::2]
        for section in clip.split(unit.payload, 0, "clip", header.limits)[1]
    ) and all(
        (decoded.text is None or _writable(decoded.text))
        and (decoded.masks is None or decoded.masks.labels.size <= _LABELS)
        for decoded in clips
    ):
        _same(b"".join(group.encode(list(zip(keyframes, clips, strict=True)), header)), body)


def _groups() -> Iterator[bytes]:
    for header, unit in _units():
        if unit.unit_type == container.UnitType.GROUP:
            yield _shaped(header, 1, unit.payload)


def _clips() -> Iterator[bytes]:
    for header, unit in _expanded():
        if unit.unit_type == container.UnitType.CLIP:
            yield _shaped(header, 1, unit.payload)


def _writable(decoded: text.Text) -> bool:
    """Decoders do not check that a text is normalised."""
    try:
        text.validate(decoded, _LIMITS)
    except ParameterError:
        return False
    return True


Section = Callable[[bytes, SequenceHeader, int, Any], Any]


def _points(body: bytes, header: SequenceHeader, frames: int, trace: Any) -> Any:
    return trajectories.decode(body, 0, "s", header.width, header.height, frames, _LIMITS, trace)


def _tokens(body: bytes, header: SequenceHeader, frames: int, trace: Any) -> Any:
    return flow_tokens.decode(body, 0, "s", frames, _LIMITS, trace)


def _poses(body: bytes, header: SequenceHeader, frames: int, trace: Any) -> Any:
    return camera_poses.decode(body, 0, "s", header.width, header.height, frames, _LIMITS, trace)


def _masks(body: bytes, header: SequenceHeader, frames: int, trace: Any) -> Any:
    return masks.decode(body, 0, "s", header.width, header.height, frames, _LIMITS, trace)


def _text(body: bytes, header: SequenceHeader, frames: int, trace: Any) -> Any:
    return text.decode(body, 0, "s", _LIMITS, trace)


def _between(body: bytes, header: SequenceHeader, frames: int, trace: Any) -> Any:
    return interpolation.decode(body, 0, "s", frames, trace)


def _encoded(params: Any, header: SequenceHeader) -> bytes:
    size = header.width, header.height
    if isinstance(params, trajectories.Trajectories):
        return trajectories.encode(params, *size, _LIMITS)
    if isinstance(params, camera_poses.CameraPoses):
        return camera_poses.encode(params, *size, _LIMITS)
    if isinstance(params, masks.Masks):
        return masks.encode(params, *size, _LIMITS)
    if isinstance(params, flow_tokens.FlowTokens):
        return flow_tokens.encode(params, _LIMITS)
    if isinstance(params, interpolation.Interpolation):
        return interpolation.encode(params, len(params.vectors) + 1)
    return text.encode(params, _LIMITS)


_SECTIONS: dict[clip.SectionType, Section] = {
    clip.SectionType.TRAJECTORIES: _points,
    clip.SectionType.FLOW_TOKENS: _tokens,
    clip.SectionType.CAMERA_POSES: _poses,
    clip.SectionType.MASKS: _masks,
    clip.SectionType.TEXT: _text,
    clip.SectionType.INTERPOLATION: _between,
}


def _section(decode: Section) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        header, frames, body = _shape(data)
        try:
            params = decode(body, header, frames, None)
        except TgvError:
            return
        params.to_json()
        if not isinstance(params, text.Text) or _writable(params):
            _same(_encoded(params, header), body)

    return run


def _bodies(kind: clip.SectionType) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        for header, unit in _expanded():
            if unit.unit_type == container.UnitType.CLIP:
                frames, sections = clip.split(unit.payload, 0, "clip", header.limits)
                for section in sections:
                    if section.section_type == kind and not section.ancillary:
                        yield _shaped(header, frames, section.body)

    return seeds


def _latents(data: bytes) -> None:
    """The payload of a learned keyframe of the small model, by both decoders."""
    models = {small_model().identity: small_model()}

    def outcome(trace: Any) -> illm.Latents | None:
        try:
            return illm.decode(data, _SIDE, _SIDE, models, trace=trace)
        except TgvError:
            return None

    fast, plain = outcome(None), outcome(lambda record: None)
    if (fast and fast.y_md5()) != (plain and plain.y_md5()):
        raise Finding("constriction and plain Python give other latents")
    if fast:
        _same(illm.encode(fast.y / 4096, fast.z, fast.model, fast.step), data)


def _latent_payloads() -> Iterator[bytes]:
    for seed in range(12):
        yield sources.latents(_SIDE, _SIDE, seed=seed, z=1 << seed, step=seed, escapes=seed % 3)


# --- One decoder against the other


def _plain(data: bytes) -> None:
    """A section, which the first byte chooses, decoded by constriction and by plain Python."""
    kinds = list(_SECTIONS)
    decode = _SECTIONS[kinds[data[0] % len(kinds)]] if data else _points
    header, frames, body = _shape(data[1:])

    def outcome(trace: Any) -> object:
        try:
            return decode(body, header, frames, trace).to_json()
        except TgvError as error:
            return error.identifier, error.path

    fast, plain = outcome(None), outcome(lambda record: None)
    if fast != plain:
        raise Finding(f"constriction: {fast}, plain: {plain}")


def _plain_bodies() -> Iterator[bytes]:
    for number, kind in enumerate(_SECTIONS):
        yield from (bytes([number]) + seed for seed in _bodies(kind)())


def _range_coder(data: bytes) -> None:
    """Up to 255 symbols of given probabilities, and whether the message is their canonical one."""
    count = data[0] if data else 0
    pairs, message = data[1 : 1 + 2 * count], data[1 + 2 * count :]
    probabilities = [1 + (a << 8 | b) % 4095 for a, b in zip(pairs[::2], pairs[1::2], strict=False)]
    fast, plain = entropy.Decoder("text", message, 0, "s"), RangeDecoder(message)
    for probability in probabilities:
        try:
            bit: int | None = plain.decode_bit(probability)
        except QuantileError:
            bit = None
        try:
            other: int | None = fast.symbol(probability)
        except TgvError:
            other = None
        if bit != other:
            raise Finding(f"constriction: {other}, plain: {bit}")
        if bit is None:
            return
    try:
        fast.finish()
        canonical = True
    except TgvError:
        canonical = False
    if canonical != plain.is_canonical_end():
        raise Finding(f"canonical: constriction {canonical}, plain {not canonical}")


def _messages() -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(100):
        pairs = rng.randbytes(2 * rng.randrange(256))
        coder = entropy.Encoder("text")
        for a, b in zip(pairs[::2], pairs[1::2], strict=True):
            probability = 1 + (a << 8 | b) % 4095
            coder.symbol(probability, int(rng.randrange(4096) < probability))
        yield bytes([len(pairs) // 2]) + pairs + coder.finish()


# --- Whole streams


def _stream(data: bytes) -> None:
    """Parameters, and the pictures of what is small."""
    try:
        reader = Reader(io.BytesIO(data))
        if max(reader.header.width, reader.header.height) > _SIDE:
            for element in reader:
                element.to_json()
        else:
            for _ in islice(Decoder(reader.header).pictures(reader), _FRAMES):
                pass
    except TgvError:
        pass


def _concealing(data: bytes) -> None:
    """The same, going on after errors: only the sequence header raises one."""
    errors: list[TgvError] = []
    try:
        reader = Reader(io.BytesIO(data), conceal=errors.append)
    except TgvError:
        return
    if max(reader.header.width, reader.header.height) <= _SIDE:
        decoder = Decoder(reader.header, frames=_FRAMES, conceal=errors.append)
        for _ in decoder.pictures(reader):
            pass
    if not all(0 <= error.offset <= len(data) for error in errors):
        raise Finding(f"an error outside the file: {errors}")


def _unprotected() -> Iterator[bytes]:
    """The vectors without CRCs, so that changes get behind them; and as they are."""
    for vector in manifest.vectors():
        data = vector.stream_path.read_bytes()
        if len(data) > MAX_BYTES:
            continue
        yield data
        if vector.valid:
            first, *units = reference.framing(data)
            known = set(container.UnitType)
            if first.payload[3] & 0x80 and all(unit.unit_type in known for unit in units):
                head = first.payload[:3] + bytes([first.payload[3] & 0x7F]) + first.payload[4:]
                parts = [container.write_unit(container.UnitType.SEQUENCE, head, True)]
                parts += [
                    container.write_unit(container.UnitType(unit.unit_type), unit.payload, False)
                    for unit in units
                ]
                yield container.SIGNATURE + b"".join(parts)


TARGETS: dict[str, Target] = {
    "container": Target(_container, _whole_files),
    "sequence": Target(
        _unit(lambda data: sequence.decode(data, 0), sequence.encode), _payloads(container.UnitType.SEQUENCE)
    ),
    "keyframe": Target(
        _unit(lambda data: keyframe.decode(data, 0, "k"), keyframe.encode),
        _payloads(container.UnitType.KEYFRAME),
    ),
    "generator-hint": Target(
        _unit(lambda data: generator_hint.decode(data, 0, "h"), generator_hint.encode),
        _payloads(container.UnitType.GENERATOR_HINT),
    ),
    "end": Target(_unit(lambda data: end.decode(data, 0), end.encode), _payloads(container.UnitType.END)),
    "clip": Target(_clip, _clips),
    "group": Target(_group, _groups),
    **{
        kind.name.lower().replace("_", "-"): Target(_section(decode), _bodies(kind))
        for kind, decode in _SECTIONS.items()
    },
    "latents": Target(_latents, _latent_payloads),
    "stream": Target(_stream, _unprotected),
    "conceal": Target(_concealing, _unprotected),
    "plain": Target(_plain, _plain_bodies),
    "range-coder": Target(_range_coder, _messages),
}
