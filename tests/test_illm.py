"""Learned keyframes: latents that are the same on every machine (specification clause 7.6)."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import settings, small_header

from tgv_format import hyper_synthesis as networks
from tgv_format import illm, illm_model
from tgv_format.errors import TgvError
from tgv_format.hyper_synthesis import hyper_synthesis
from tgv_format.illm_derivation import derive, frequencies
from tgv_format.illm_model import ACTIVATION_MAX, Layer, Model, small_model, small_model_file
from tgv_format.symbol_coder import ESCAPE_BITS
from tgv_format.syntax import ParameterError
from tgv_format.tables import load

ROOT = Path(__file__).parents[1]
SMALL = small_model()
MODELS = {SMALL.identity: SMALL}
Planes = NDArray[np.int32]


def random_z(seed: int, rows: int, columns: int, spread: float) -> Planes:
    rng = np.random.default_rng(seed)
    return np.rint(rng.normal(size=(6, rows, columns)) * spread).astype(np.int32)


def random_latents(seed: int, z: Planes, model: Model = SMALL, wide: float = 1.0) -> NDArray[np.float64]:
    """Latents that are distributed as the model says, or ``wide`` times as much."""
    rng = np.random.default_rng(seed)
    mean, scale = hyper_synthesis(z, model)
    return (mean + wide * np.maximum(scale, 450) * rng.normal(size=mean.shape)) / 4096


def tensors(latent: int, hidden: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Parameters of a random network, by the names of published checkpoints."""
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[np.float64]] = {}
    for name in ("mean", "scale"):
        for layer, outputs, size in ((0, hidden, 5), (2, hidden, 5), (4, latent, 3)):
            place = f"hyper_synthesis_{name}.{layer}"
            spread = (2 / (hidden * (9 if layer == 4 else 25 / 4))) ** 0.5
            shape = (outputs, hidden, size, size)
            found[f"{place}.weight"] = rng.normal(size=shape) * spread
            found[f"{place}.bias"] = rng.normal(size=outputs) * 0.1
    widths = (1, 3, 3, 3, 3, 1)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        place = "hyper_bottleneck."
        start = np.log(np.expm1(1 / 10**0.2 / outputs))
        found[f"{place}_matrix{i}"] = start + 0.1 * rng.normal(size=(hidden, outputs, inputs))
        found[f"{place}_bias{i}"] = rng.uniform(-0.5, 0.5, (hidden, outputs, 1))
        if i < 4:
            found[f"{place}_factor{i}"] = 0.1 * rng.normal(size=(hidden, outputs, 1))
    median = rng.normal(size=hidden)
    reach = rng.uniform(3, 12, (2, hidden))
    found["hyper_bottleneck.quantiles"] = np.stack([median - reach[0], median, median + reach[1]], 1)[:, None]
    return found


# --- Means and scales


def plain_hyper_synthesis(z: Planes, model: Model) -> list[Planes]:
    """The pseudo-code of clause 7.6.6, number by number."""

    def limited(v: int) -> int:
        return max(-(1 << 23) + 1, min(v, (1 << 23) - 1))

    def layer(x: list[Any], numbers: Layer, stride: int) -> list[Any]:
        weights, shift, bias = numbers.weights.tolist(), numbers.shift.tolist(), numbers.bias.tolist()
        rows, columns, size = len(x[0]), len(x[0][0]), numbers.weights.shape[2]

        def tap(at: int, k: int, count: int) -> int | None:
            place, rest = divmod(at + 2 - k, 2) if stride == 2 else (at + k - 1, 0)
            return place if rest == 0 and 0 <= place < count else None

        out = []
        for o in range(len(weights)):
            plane = []
            for r, c in itertools.product(range(stride * rows), range(stride * columns)):
                total = 0
                for a, b in itertools.product(range(size), repeat=2):
                    row, column = tap(r, a, rows), tap(c, b, columns)
                    if row is not None and column is not None:
                        total += sum(weights[o][i][a][b] * x[i][row][column] for i in range(len(x)))
                plane.append(limited((total + bias[o] + (1 << (shift[o] - 1))) >> shift[o]))
            width = stride * columns
            out.append([plane[k : k + width] for k in range(0, len(plane), width)])
        return out

    found = []
    for layers in (model.mean, model.scale):
        x: list[Any] = [
            [[limited((v << 12) + median) for v in row] for row in plane]
            for plane, median in zip(z.tolist(), model.medians.tolist(), strict=True)
        ]
        for number, stride in ((0, 2), (1, 2), (2, 1)):
            x = layer(x, layers[number], stride)
            if stride == 2:
                x = [[[max(v, 0) for v in row] for row in plane] for plane in x]
        found.append(np.array(x, np.int32))
    return found


@pytest.mark.requirement("TGV-ILM-2")
@pytest.mark.parametrize(("rows", "columns", "spread"), [(1, 1, 3), (2, 1, 10), (1, 2, 4000)])
def test_networks_are_those_of_the_text(rows: int, columns: int, spread: int) -> None:
    z = random_z(1, rows, columns, spread)
    expected = plain_hyper_synthesis(z, SMALL)
    for dtype in (np.float64, np.int64):
        found = hyper_synthesis(z, SMALL, dtype)  # type: ignore[arg-type]
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    limits = [int(np.abs(plane).max()) == ACTIVATION_MAX for plane in expected]
    assert any(limits) == (spread == 4000)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.5, 3, 100, 1e6]))
@settings(max_examples=25)
def test_floating_point_products_are_exact(seed: int, rows: int, columns: int, spread: float) -> None:
    z = random_z(seed, rows, columns, spread)
    found, expected = hyper_synthesis(z, SMALL), hyper_synthesis(z, SMALL, np.int64)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_greatest_sums_are_exact() -> None:
    """512 channels, all weights and activations the greatest, and sums that fill their 53 bits."""
    model_weights = np.full((2, 512, 5, 5), -32768, np.int16)
    model_weights[1] = 32767
    layer = Layer(model_weights, np.array([1, 24], np.uint8), np.array([-(1 << 52), 1 << 52]))
    x = np.full((512, 3, 3), ACTIVATION_MAX, np.int32)
    x[::2, 1] -= 1
    for dtype in (np.float64, np.int64):
        found = networks.upsampled(x, layer, dtype)
        assert (found[0] == -ACTIVATION_MAX).all()
    total = 9 * 512 * 32768 * ACTIVATION_MAX + (1 << 52) + (1 << 23)
    assert total < 1 << 53
    # A shift of 24 leaves what can be compared.
    sums = [
        networks.upsampled(x, Layer(layer.weights[1:], layer.shift[1:], np.zeros(1, np.int64)), t)
        for t in (np.float64, np.int64)
    ]
    assert np.array_equal(*sums)


def test_parts_of_pictures_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    z = random_z(3, 5, 3, 4)
    expected = hyper_synthesis(z, SMALL)
    for block in (1, 7, 24, 100):
        monkeypatch.setattr(networks, "_BLOCK", block)
        found = hyper_synthesis(z, SMALL)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_threads_make_no_difference() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    model = illm_model.read(derive(tensors(40, 64)))
    z = np.rint(np.random.default_rng(0).normal(size=(64, 6, 8)) * 3).astype(np.int32)
    found = []
    for threads in (1, 2, 3):
        with threadpoolctl.threadpool_limits(threads):
            found.append(np.concatenate(hyper_synthesis(z, model)).tobytes())
    assert len(set(found)) == 1


def test_torch_gives_the_same() -> None:
    """Its own convolutions in double precision, which are products of matrices on processors."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    z = random_z(4, 3, 4, 5)

    def scaled(sums: Any, layer: Layer) -> Any:
        shift = torch.from_numpy(layer.shift.astype(np.int64))[:, None, None]
        total = sums[0].to(torch.int64) + torch.from_numpy(layer.bias)[:, None, None]
        return ((total + (1 << (shift - 1))) >> shift).clamp(-ACTIVATION_MAX, ACTIVATION_MAX)

    start = torch.from_numpy((z.astype(np.int64) << 12) + SMALL.medians[:, None, None])
    for layers, expected in zip((SMALL.mean, SMALL.scale), hyper_synthesis(z, SMALL), strict=True):
        x = start
        for layer in layers[:2]:
            weights = torch.from_numpy(layer.weights.swapaxes(0, 1).astype(np.float64))
            x = functional.conv_transpose2d(x.double()[None], weights, stride=2, padding=2, output_padding=1)
            x = scaled(x, layer).clamp(min=0)
        weights = torch.from_numpy(layers[2].weights.astype(np.float64))
        x = scaled(functional.conv2d(x.double()[None], weights, padding=1), layers[2])
        assert np.array_equal(x.numpy(), expected)


# --- Payloads


@given(
    st.integers(0, 2**32),
    st.integers(1, 140),
    st.integers(1, 140),
    st.integers(0, 31),
    st.sampled_from([0.0, 0.5, 4, 60]),
    st.sampled_from([0.0, 0.3, 1, 20]),
)
@settings(max_examples=60)
def test_round_trip(seed: int, width: int, height: int, step: int, spread: float, wide: float) -> None:
    rows, columns = illm.latent_size(width, height)
    z = random_z(seed, rows, columns, spread)
    y = random_latents(seed, z, wide=wide)
    payload = illm.encode(y, z, SMALL, step)
    found = illm.decode(payload, width, height, MODELS)
    assert found.step == step
    assert np.array_equal(found.z, z)
    assert np.array_equal(found.y, illm.dequantised(y, z, SMALL, step))
    assert np.abs(found.y / 4096 - y).max() <= illm.STEPS[step] / 8192 + 1e-9
    again = illm.decode(payload, width, height, MODELS, trace=lambda record: None)
    assert np.array_equal(found.y, again.y)


@pytest.mark.requirement("TGV-ILM-6")
@pytest.mark.parametrize("channel", [0, 3])
def test_escapes_of_all_lengths(channel: int) -> None:
    low, high = SMALL.hyper[channel].low, SMALL.hyper[channel].high
    for bits in (0, 1, 7, ESCAPE_BITS):
        for value in (low - (1 << bits), low - (2 << bits) + 1, high + (1 << bits), high + (2 << bits) - 1):
            z = np.zeros((6, 1, 1), np.int32)
            z[channel] = value
            payload = illm.encode(random_latents(0, z), z, SMALL)
            assert illm.decode(payload, 1, 1, MODELS).z[channel, 0, 0] == value
    for value in (low - (2 << ESCAPE_BITS), high + (2 << ESCAPE_BITS)):
        z = np.zeros((6, 1, 1), np.int32)
        z[channel] = value
        with pytest.raises(ParameterError, match="escape"):
            illm.encode(np.zeros((8, 4, 4)), z, SMALL)


@pytest.mark.requirement("TGV-ILM-3")
def test_what_cannot_be_coded_is_refused() -> None:
    z, y = np.zeros((6, 1, 1), np.int32), np.zeros((8, 4, 4))
    for value in (5e5, -5e5, 1e30, np.inf):
        y[3, 2, 1] = value
        with pytest.raises(ParameterError, match=r"too far|escape"):
            illm.encode(y, z, SMALL)
    y[:] = 0
    for step in (-1, 32):
        with pytest.raises(ParameterError, match="step"):
            illm.encode(y, z, SMALL, step)
    for shape in ((7, 4, 4), (8, 4, 3)):
        with pytest.raises(ValueError, match="do not fit"):
            illm.encode(np.zeros(shape), z, SMALL)
    with pytest.raises(ValueError, match="do not fit"):
        illm.encode(y, z[:5], SMALL)


def test_a_coarser_step_takes_fewer_bytes() -> None:
    z = random_z(5, 2, 3, 4)
    y = random_latents(5, z)
    sizes = [len(illm.encode(y, z, SMALL, step)) for step in range(0, 32, 3)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 4


def test_the_rate_is_that_of_the_distributions() -> None:
    """Symbols drawn as the model says cost what their distributions say, and little more."""
    z = random_z(6, 3, 4, 4)
    mean, scale = hyper_synthesis(z, SMALL)
    index = illm.scale_index(scale, 0)
    y = random_latents(6, z)
    symbols = np.rint((y * 4096 - mean) / 4096).astype(int)
    bits = 0.0
    for distribution, values in [
        *((illm.distributions()[i], symbols[index == i]) for i in range(64)),
        *zip(SMALL.hyper, z, strict=True),
    ]:
        inside = (values >= distribution.low) & (values <= distribution.high)
        bits -= np.log2(distribution.frequencies[values[inside] - distribution.low] / 2**24).sum()
        outside = values[~inside]
        away = np.maximum(distribution.low - outside, outside - distribution.high)
        bits += (2 + 2 * np.floor(np.log2(away)) - np.log2(distribution.frequencies[-1] / 2**24)).sum()
    assert len(illm.encode(y, z, SMALL)) * 8 == pytest.approx(40 + bits, abs=8)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=150)
def test_any_bytes_as_payload(data: bytes, named: bool) -> None:
    """An error of the format, or latents that are coded like this and not otherwise."""
    payload = SMALL.identity + data if named else data
    results: list[tuple[Any, ...]] = []
    for trace in (None, lambda record: None):
        try:
            found = illm.decode(payload, 70, 50, MODELS, 1000, "payload", trace)
            results.append((found.step, found.z.tobytes(), found.y.tobytes()))
        except TgvError as error:
            results.append((error.identifier, error.path, error.offset >= 1000))
    assert results[0] == results[1]
    assert results[0][2] is not False


def test_a_trace_says_where_every_symbol_is() -> None:
    z = random_z(7, 1, 2, 30)
    payload = illm.encode(random_latents(7, z), z, SMALL)
    records: list[dict[str, object]] = []
    illm.decode(payload, 128, 64, MODELS, 31, "keyframe[0].payload", records.append)
    assert records[0]["path"] == "keyframe[0].payload.z[0]"
    assert records[0]["bit_offset"] == 8 * 36
    first = SMALL.hyper[0]
    value = records[0]["value"]
    assert value == (
        z[0, 0, 0] - first.low if first.low <= z[0, 0, 0] <= first.high else len(first.cumulative) - 2
    )
    assert records[0]["interval"] == first.cumulative[value : value + 2]  # type: ignore[operator]
    assert len([r for r in records if ".y[" in str(r["path"])]) >= 8 * 4 * 8


# --- Tables


def test_the_tables_are_those_of_the_script() -> None:
    script = [sys.executable, str(ROOT / "training" / "latents.py")]
    assert subprocess.run(script).returncode == 0, "run: python training/latents.py --write"


def test_distributions_are_symmetric_and_complete() -> None:
    found = illm.distributions()
    assert len(found) == 64 == len(load("latents")["scales"]) + 1
    for distribution in found:
        values = distribution.frequencies
        assert values.sum() == 1 << 24
        assert values.min() >= 1
        assert values[-1] == 1
        assert np.array_equal(values[:-1], values[-2::-1])
        assert distribution.low == -distribution.high
    assert np.diff([d.high for d in found]).min() >= 0


def test_index_of_a_scale() -> None:
    scales = load("latents")["scales"]
    for number, scale in enumerate(scales):
        values = np.array([scale, scale + 1], np.int32)
        assert illm.scale_index(values, 0).tolist() == [number, number + 1]
        assert illm.scale_index(values, 31).tolist() == [max(number - 31, 0), max(number - 30, 0)]
    extremes = np.array([-ACTIVATION_MAX, 0, ACTIVATION_MAX], np.int32)
    assert illm.scale_index(extremes, 0).tolist() == [0, 0, 63]


def test_tables_are_those_of_compressai() -> None:
    torch = pytest.importorskip("torch")
    entropy_models = pytest.importorskip("compressai.entropy_models")
    scale_table = pytest.importorskip("compressai.models.base").get_scale_table()
    gaussian = entropy_models.GaussianConditional(scale_table.tolist())
    gaussian.update()
    scales = torch.exp(torch.linspace(-3, 6, 200_001))
    expected = gaussian.build_indexes(scales)
    found = illm.scale_index(np.rint(scales.numpy().astype(np.float64) * 4096).astype(np.int32), 0)
    # Where they differ the scale lies within half a unit of a threshold.
    assert (found != expected.numpy()).mean() < 0.005
    for number, distribution in enumerate(illm.distributions()):
        length = int(gaussian._cdf_length[number])
        assert int(gaussian._offset[number]) == distribution.low
        theirs = np.diff(gaussian._quantized_cdf[number, :length].numpy()) / 2**16
        assert len(theirs) == len(distribution.frequencies)
        # Theirs have 16 bits, and at least 1.
        assert np.abs(theirs - distribution.frequencies / 2**24).max() < 0.06


# --- Model files


def test_a_model_file_is_what_was_written() -> None:
    data = small_model_file()
    model = illm_model.read(data)
    assert illm_model.write(model.hyper, model.medians, model.mean, model.scale) == data
    assert model.sha256 == hashlib.sha256(data[:-32]).digest()
    assert (model.latent_channels, model.hyper_channels) == (8, 6)


def sealed(contents: bytes) -> bytes:
    return contents + hashlib.sha256(contents).digest()


def changed(at: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + value + data[at + len(value) :]


_CONTENTS = small_model_file()[:-32]
#: The last layer's shifts and biases end the file.
_SHIFTS = len(_CONTENTS) - 8 * 9


@pytest.mark.requirement("TGV-ILM-5")
@pytest.mark.parametrize(
    ("change", "identifier"),
    [
        (changed(0, b"\x88"), "bad-magic"),
        (changed(8, b"\x01"), "unsupported-version"),
        (changed(9, b"\0"), "out-of-range"),
        (changed(9, b"\x80\x80"), "uleb128-invalid"),
        (changed(9, b"\x81\x04"), "out-of-range"),
        (changed(11, b"\x7f"), "out-of-range"),
        (changed(15, b"\xff\x7f"), "out-of-range"),
        (changed(17, bytes(4)), "out-of-range"),
        (changed(20, b"\xfe"), "out-of-range"),
        (changed(_SHIFTS, b"\0"), "out-of-range"),
        (changed(_SHIFTS, b"\x19"), "out-of-range"),
        (changed(len(_CONTENTS) - 8, b"\0\x10\0\0\0\0\0\x01"), "out-of-range"),
        (changed(len(_CONTENTS) - 8, b"\xff\xef\xff\xff\xff\xff\xff\xff"), "out-of-range"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:5000], "truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:10], "truncated"),
        (lambda data: data + b"\0", "trailing-data"),
    ],
)
def test_model_files_that_are_none(change: Callable[[bytes], bytes], identifier: str) -> None:
    with pytest.raises(TgvError) as caught:
        illm_model.read(sealed(change(_CONTENTS)))
    assert caught.value.identifier == identifier
    assert caught.value.path.startswith("model")


def test_the_greatest_bias_is_legal() -> None:
    data = changed(len(_CONTENTS) - 8, (1 << 52).to_bytes(8, "big"))(_CONTENTS)
    assert illm_model.read(sealed(data)).scale[2].bias[-1] == 1 << 52


@given(st.integers(0, len(_CONTENTS) + 31), st.integers(1, 255), st.integers(0, len(_CONTENTS) + 32))
@settings(max_examples=60)
def test_a_damaged_model_file_is_noticed(position: int, mask: int, length: int) -> None:
    data = small_model_file()
    flipped = data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
    for damaged in (flipped, data[:length]):
        if damaged == data:
            continue
        with pytest.raises(TgvError) as caught:
            illm_model.read(damaged)
        assert caught.value.identifier in ("bad-magic", "digest-mismatch")


@given(st.binary(max_size=300), st.integers(0, len(_CONTENTS)), st.binary(min_size=1, max_size=8))
@settings(max_examples=150)
def test_any_bytes_as_model(data: bytes, position: int, patch: bytes) -> None:
    for contents in (illm_model.MAGIC + data, changed(position, patch)(_CONTENTS)):
        try:
            model = illm_model.read(sealed(contents))
        except TgvError:
            continue
        z = np.zeros((model.hyper_channels, 1, 1), np.int32)
        payload = illm.encode(np.zeros((model.latent_channels, 4, 4)), z, model)
        assert np.array_equal(illm.decode(payload, 9, 9, {model.identity: model}).z, z)


def test_what_no_model_may_have_is_not_written() -> None:
    scale = list(SMALL.scale)
    scale[2] = Layer(scale[2].weights, scale[2].shift, scale[2].bias + (1 << 53))
    with pytest.raises(TgvError):
        illm_model.write(SMALL.hyper, SMALL.medians, SMALL.mean, scale)
    with pytest.raises(ParameterError):
        illm_model.write(SMALL.hyper, SMALL.medians + (1 << 23), SMALL.mean, SMALL.scale)


# --- Derivation


def test_layers_have_the_greatest_scale_that_fits() -> None:
    found = tensors(3, 2)
    place = "hyper_synthesis_mean.4"
    found[f"{place}.weight"][0] = 0.0
    found[f"{place}.weight"][0, 0, 0, 0] = -1.0
    found[f"{place}.weight"][1] = 0.0
    found[f"{place}.bias"][:] = 0.5, 0.0, 1e6
    layer = illm_model.read(derive(found)).mean[2]
    # A weight of 1 takes 2^14: 2^15 does not fit. Without weights the scale is the greatest.
    assert layer.shift[:2].tolist() == [14, 24]
    assert layer.weights[0, 0, 0, 0] == -(1 << 14)
    assert layer.bias[0] == 1 << 25
    assert layer.bias[2] == round(1e6 * 2.0 ** (12 + layer.shift[2]))
    for name in ("mean", "scale"):
        for number, rest in enumerate(getattr(illm_model.read(derive(found)), name)):
            weights = found[f"hyper_synthesis_{name}.{2 * number}.weight"]
            weights = weights.swapaxes(0, 1) if number < 2 else weights
            error = np.abs(rest.weights / 2.0 ** rest.shift[:, None, None, None] - weights)
            assert (error.max((1, 2, 3)) <= 0.5 / 2.0**rest.shift).all()


def test_frequencies_of_shares() -> None:
    assert frequencies(np.array([0.5, 0.25, 0.25])).tolist() == [1 << 23, 1 << 22, 1 << 22]
    assert frequencies(np.array([0.0, 1.0, 0.0])).tolist() == [1, (1 << 24) - 2, 1]
    with pytest.raises(ValueError, match="more than 1"):
        frequencies(np.array([1.0, 1.0, 1.0]))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hyper_synthesis_mean.2.weight", None, "missing"),
        ("hyper_bottleneck._factor2", None, "missing"),
        ("hyper_bottleneck.quantiles", None, "missing"),
        ("hyper_synthesis_scale.0.bias", lambda a: a[:-1], "not"),
        ("hyper_bottleneck._matrix1", lambda a: a[:, :2], "not"),
        ("hyper_bottleneck._bias4", lambda a: np.concatenate([a, a], 1), "one value"),
        ("hyper_synthesis_scale.4.weight", lambda a: a * np.nan, "not finite"),
        ("hyper_synthesis_mean.0.weight", lambda a: a + 20000, "too great"),
        ("hyper_synthesis_mean.0.bias", lambda a: a + 1e15, "too great"),
        ("hyper_bottleneck.quantiles", lambda a: a + 3000, "too great"),
        ("hyper_synthesis_mean.4.bias", lambda a: np.zeros(513), "channels"),
    ],
)
def test_parameters_that_make_no_model(name: str, change: Callable[[Any], Any] | None, message: str) -> None:
    found = tensors(4, 3)
    if change is None:
        del found[name]
    else:
        found[name] = change(found[name])
    with pytest.raises(ValueError, match=message):
        derive(found)


def test_wide_hyper_latents_are_cut() -> None:
    found = tensors(4, 3)
    found["hyper_bottleneck.quantiles"][0, 0] = [-1e5, 0.25, 1e5]
    first = illm_model.read(derive(found)).hyper[0]
    assert (first.low, first.high) == (-2047, 2047)


def test_other_tensors_are_ignored() -> None:
    found: dict[str, Any] = dict(tensors(4, 3))
    expected = derive(found)
    found["encoder.blocks.0.0.weight"] = np.zeros((60, 3, 7, 7))
    found["hyper_bottleneck._offset"] = np.zeros(0, np.int32)
    assert derive(found) == expected


# --- Against floating point


def float_hyper_synthesis(z: Planes, model: Model, factor: float = 1.0) -> tuple[Any, Any]:
    """The networks in single precision, as learned codecs run them; the result is off by ``factor``."""

    def network(layers: tuple[Layer, ...]) -> NDArray[np.float32]:
        x = (z + model.medians[:, None, None] / 4096).astype(np.float32)
        for number, layer in enumerate(layers):
            weights = (layer.weights / 2.0 ** layer.shift[:, None, None, None]).astype(np.float32)
            bias = (layer.bias / 2.0 ** (12.0 + layer.shift)).astype(np.float32)[:, None, None]
            rows, columns = x.shape[1:]
            if number == 2:
                padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
                windows = [padded[:, a : a + rows, b : b + columns] for a in range(3) for b in range(3)]
                taps = [weights[:, :, a, b] for a in range(3) for b in range(3)]
                x = sum(np.tensordot(t, w, 1) for t, w in zip(taps, windows, strict=True)) + bias
            else:
                wide = np.zeros((len(weights), 2 * rows + 3, 2 * columns + 3), np.float32)
                for a, b in itertools.product(range(5), repeat=2):
                    wide[:, a : a + 2 * rows : 2, b : b + 2 * columns : 2] += np.tensordot(
                        weights[:, :, a, b], x, 1
                    )
                x = np.maximum(wide[:, 2 : 2 + 2 * rows, 2 : 2 + 2 * columns] + bias, 0)
        return x * np.float32(factor)

    return network(model.mean), network(model.scale)


def test_integers_follow_the_network_they_were_derived_from() -> None:
    z = random_z(8, 4, 4, 4)
    for exact, near in zip(hyper_synthesis(z, SMALL), float_hyper_synthesis(z, SMALL), strict=True):
        assert np.abs(exact / 4096 - near).max() < 0.01


def test_a_millionth_breaks_a_floating_point_codec_and_not_this_one() -> None:
    """Two machines whose networks differ by 1e-6, as different libraries and processors do."""
    z = random_z(9, 24, 40, 3)
    thresholds = np.array(load("latents")["scales"]) / 4096

    def float_index(factor: float) -> NDArray[np.uint8]:
        found = np.searchsorted(thresholds, float_hyper_synthesis(z, SMALL, factor)[1], "left")
        return found.astype(np.uint8)

    ours, theirs = float_index(1.0), float_index(1.0 + 1e-6)
    assert 0 < (ours != theirs).sum() < 100
    symbols = np.rint(
        np.random.default_rng(9).normal(size=ours.shape) * np.append(thresholds, 256)[ours]
    ).astype(np.int32)
    coder = illm.SymbolEncoder()
    illm._code_latents(coder, ours, symbols)
    message = coder.finish()
    right = illm._code_latents(illm.SymbolDecoder(message, 0, "y"), ours, np.zeros_like(symbols))
    assert np.array_equal(right, symbols)
    try:
        wrong = illm._code_latents(illm.SymbolDecoder(message, 0, "y"), theirs, np.zeros_like(symbols))
        assert (wrong != symbols).mean() > 0.001
    except TgvError:
        pass
    # What decoders here compute with cannot be off by a millionth: it is the file, or another model.
    y = random_latents(9, z)
    payload = illm.encode(y, z, SMALL)
    assert np.array_equal(illm.decode(payload, 40 * 64, 24 * 64, MODELS).y, illm.dequantised(y, z, SMALL))
    scale = [Layer(n.weights, n.shift, n.bias + 1) for n in SMALL.scale]
    other = illm_model.read(illm_model.write(SMALL.hyper, SMALL.medians, SMALL.mean, scale))
    with pytest.raises(TgvError) as caught:
        illm.decode(payload, 40 * 64, 24 * 64, {other.identity: other})
    assert caught.value.identifier == "unknown-model"


def installed_name(name: str, state: Any) -> str:
    """What versions of compressai call a parameter that checkpoints call ``name``."""
    for old, new in (("_matrix", "matrices."), ("_bias", "biases."), ("_factor", "factors.")):
        if f"hyper_bottleneck.{old}" in name and name not in state:
            return name.replace(old, new)
    return name


@pytest.fixture(scope="module")
def compressai_hyperprior() -> Any:
    """The hyper networks and bottlenecks of the published shape at reduced width, with random weights."""
    torch = pytest.importorskip("torch")
    entropy_models = pytest.importorskip("compressai.entropy_models")
    scale_table = pytest.importorskip("compressai.models.base").get_scale_table()
    nn = torch.nn
    latent, hidden = 24, 32

    def synthesis() -> Any:
        up = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1}
        return nn.Sequential(
            nn.ConvTranspose2d(hidden, hidden, **up),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, hidden, **up),
            nn.ReLU(),
            nn.Conv2d(hidden, latent, 3, padding=1),
        )

    network = nn.ModuleDict(
        {
            "hyper_bottleneck": entropy_models.EntropyBottleneck(hidden),
            "latent_bottleneck": entropy_models.GaussianConditional(None),
            "hyper_synthesis_mean": synthesis(),
            "hyper_synthesis_scale": synthesis(),
        }
    )
    random = tensors(latent, hidden, 11)
    state = network.state_dict()
    for name, value in random.items():
        state[installed_name(name, state)] = torch.from_numpy(value.astype(np.float32))
    network.load_state_dict(state)
    network["hyper_bottleneck"]._update_quantiles()
    network["hyper_bottleneck"].update(force=True)
    network["latent_bottleneck"].update_scale_table(scale_table, force=True)
    return network.eval()


def test_the_same_as_compressai_at_the_same_rate(compressai_hyperprior: Any) -> None:
    """Rate within half a percent, and the same symbols wherever no rounding of means could change them."""
    torch = pytest.importorskip("torch")
    network = compressai_hyperprior
    found = network.state_dict()
    names = tensors(24, 32)
    state = {name: found[installed_name(name, found)].numpy() for name in names}
    model = illm_model.read(derive(state))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        z = 3 * torch.randn((1, 32, 12, 16), generator=generator)
        strings = network["hyper_bottleneck"].compress(z)
        z_hat = network["hyper_bottleneck"].decompress(strings, z.shape[2:])
        mean, scale = network["hyper_synthesis_mean"](z_hat), network["hyper_synthesis_scale"](z_hat)
        y = mean + scale.clamp(min=0.11) * torch.randn(mean.shape, generator=generator)
        index = network["latent_bottleneck"].build_indexes(scale)
        y_strings = network["latent_bottleneck"].compress(y, index, mean)
        y_hat = network["latent_bottleneck"].decompress(y_strings, index, means=mean)
        medians = network["hyper_bottleneck"]._get_medians()[:, 0, :, None]
        symbols = torch.round(z[0] - medians).to(torch.int32).numpy()
    payload = illm.encode(y[0].numpy(), symbols, model)
    found = illm.decode(payload, 16 * 64, 12 * 64, {model.identity: model})
    theirs = len(strings[0]) + len(y_strings[0])
    assert abs(len(payload) - theirs) < 0.005 * theirs
    assert np.array_equal(found.z, symbols)
    ours_mean, ours_scale = hyper_synthesis(symbols, model)
    assert np.abs(ours_mean / 4096 - mean[0].numpy()).max() < 2e-3
    assert (illm.scale_index(ours_scale, 0) != index[0].numpy()).mean() < 0.01
    fraction = np.abs((y - mean)[0].numpy() % 1 - 0.5)
    certain = fraction > 2e-3
    difference = np.abs(found.y / 4096 - y_hat[0].numpy())
    assert certain.mean() > 0.98
    assert difference[certain].max() < 2e-3


# --- The reference decoder


def refdec(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refdec.cli", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


@pytest.fixture
def stream(tmp_path: Path) -> tuple[Path, Model, illm.Latents]:
    """A stream of a model that only the folder ``models`` has, its model and its latents."""
    from tgv_format.keyframe import Codec, Keyframe, Role
    from tgv_format.writer import Writer

    data = derive(tensors(5, 4))
    model = illm_model.read(data)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "five.tgvm").write_bytes(data)
    z = np.ones((4, 1, 2), np.int32)
    y = np.random.default_rng(0).normal(size=(5, 4, 8))
    payload = illm.encode(y, z, model)
    path = tmp_path / "stream.tgv"
    with path.open("wb") as file:
        writer = Writer(file, small_header(100, 40))
        writer.keyframe(Keyframe(Codec.ILLM, Role.LEADING, 0, 0, payload))
        writer.finish()
    return path, model, illm.decode(payload, 100, 40, {model.identity: model})


@pytest.mark.requirement("TGV-ILM-1", "TGV-ILM-4")
def test_models_are_found_in_a_folder(stream: tuple[Path, Model, illm.Latents], tmp_path: Path) -> None:
    path, model, latents = stream
    run = refdec(path, "--latents", "-", TGV_MODEL_DIR=str(tmp_path / "models"))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"0 {latents.z_md5()} {latents.y_md5()}\n"
    assert latents.y_md5() == hashlib.md5(latents.y.astype(">i4").tobytes()).hexdigest()
    run = refdec(path, "--latents", "-", TGV_MODEL_DIR="")
    assert run.returncode == 1
    assert run.stderr.startswith("refdec: unknown-model at byte ")
    assert run.stderr.count("\n") == 1
    assert model.identity.hex() in run.stderr
    assert SMALL.identity.hex() in run.stderr


def test_a_damaged_model_is_named(stream: tuple[Path, Model, illm.Latents], tmp_path: Path) -> None:
    from conformance.decoder import reported_error

    path, _, _ = stream
    file = tmp_path / "models" / "five.tgvm"
    file.write_bytes(file.read_bytes().replace(b"TGM", b"TGM", 1)[:-100] + b"\1" + file.read_bytes()[-99:])
    run = refdec(path, "--latents", tmp_path / "out", TGV_MODEL_DIR=str(file.parent))
    assert run.returncode == 1
    assert run.stderr.startswith(f"refdec: {file}: no model to use (digest-mismatch")
    assert run.stderr.count("\n") == 1
    assert reported_error(run.stderr) is None
    assert not (tmp_path / "out").exists()


def test_latents_of_a_damaged_stream(stream: tuple[Path, Model, illm.Latents], tmp_path: Path) -> None:
    run = refdec(stream[0], "--latents", "-", "--conceal", TGV_MODEL_DIR="")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("refdec: concealed: unknown-model")


def test_the_picture_needs_a_network() -> None:
    path = ROOT / "conformance" / "vectors" / "valid" / "latents" / "latents-one-cell.tgv"
    run = refdec(path, "--frames-md5", "-")
    assert run.returncode == 1
    assert run.stderr.startswith("refdec: unsupported-codec at byte ")
