"""The network of learned keyframes, its checkpoints, and the way between planes and RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("compressai")

from refdec.keyframes import checkpoints, rgb  # noqa: E402
from refdec.keyframes.illm import ChannelNorm, HiFiCAutoencoder, pad  # noqa: E402
from tgv_format.picture import Colour, Picture  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

TINY = {
    "latent_features": 8,
    "hyper_features": 6,
    "num_residual_blocks": 2,
    "encoder_widths": (4, 6, 8, 10, 12),
    "generator_widths": (12, 10, 8, 6, 4),
}


@pytest.fixture
def tiny() -> HiFiCAutoencoder:
    torch.manual_seed(1)
    return HiFiCAutoencoder(**TINY).eval().requires_grad_(False)


def test_tensors_of_the_published_checkpoints() -> None:
    with torch.device("meta"):
        state = HiFiCAutoencoder().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert len(shapes) == 163
    counts: dict[str, int] = {}
    for name, value in state.items():
        part = name.split(".")[0]
        is_parameter = not any(word in name for word in ("bound", "target", "cdf", "_offset", "scale_table"))
        counts[part] = counts.get(part, 0) + is_parameter * value.numel()
    assert counts == {
        "encoder": 7423420,
        "decoder": 156774683,
        "hyper_analysis": 5754560,
        "hyper_synthesis_mean": 5754460,
        "hyper_synthesis_scale": 5754460,
        "hyper_bottleneck": 19520,
        "latent_bottleneck": 0,
    }
    for name, shape in {
        "encoder.blocks.0.0.weight": (60, 3, 7, 7),
        "encoder.blocks.4.1.gamma": (1, 960, 1, 1),
        "encoder.blocks.5.bias": (220,),
        "decoder.block_0.0.beta": (1, 220, 1, 1),
        "decoder.block_0.1.weight": (960, 220, 3, 3),
        "decoder.resid_blocks.8.sequence.4.gamma": (1, 960, 1, 1),
        "decoder.blocks.0.0.weight": (960, 480, 3, 3),
        "decoder.blocks.4.weight": (3, 60, 7, 7),
        "hyper_synthesis_scale.4.weight": (220, 320, 3, 3),
        "hyper_bottleneck._matrix0": (320, 3, 1),
        "hyper_bottleneck._bias4": (320, 1, 1),
        "hyper_bottleneck._factor3": (320, 3, 1),
        "hyper_bottleneck.quantiles": (320, 1, 3),
        "hyper_bottleneck._quantized_cdf": (0,),
        "latent_bottleneck.scale_table": (0,),
        "latent_bottleneck.lower_bound_scale.bound": (1,),
    }.items():
        assert shapes[name] == shape


def test_normalisation_divides_by_one_channel_less() -> None:
    norm = ChannelNorm(5)
    x = torch.randn(2, 5, 3, 4)
    expected = (x - x.mean(1, keepdim=True)) / np.sqrt(x.numpy().var(1, ddof=1, keepdims=True) + 1e-3)
    assert torch.allclose(norm(x), expected, atol=1e-6)


@pytest.mark.parametrize(("size", "padded"), [(1, 64), (32, 64), (33, 64), (64, 64), (100, 128)])
def test_padding(size: int, padded: int) -> None:
    line = torch.arange(float(size)).expand(1, 1, 2, size)
    got = pad(line)
    assert got.shape == (1, 1, 64, padded)
    mirrored = padded - size < size
    expected = [*range(size), *(2 * size - 2 - i if mirrored else size - 1 for i in range(size, padded))]
    assert got[0, 0, 63].tolist() == expected
    # Rows: two of them cannot be mirrored 62 times.
    assert torch.equal(got[0, 0, 0], got[0, 0, 63])


def test_symbols_are_those_of_compressai(tiny: HiFiCAutoencoder) -> None:
    out = tiny(torch.rand(2, 3, 70, 130))
    assert out.image.shape == (2, 3, 70, 130)
    assert out.y.shape == (2, 8, 8, 12)
    assert out.z.shape == (2, 6, 2, 3)
    z_hat, z_likelihoods = tiny.hyper_bottleneck(out.z)
    assert torch.equal(out.z_hat, z_hat)
    assert torch.equal(out.z_likelihoods, z_likelihoods)
    symbols = tiny.latent_bottleneck.quantize(out.y, "symbols", out.means)
    assert torch.allclose(out.y_hat, symbols + out.means)
    _, y_likelihoods = tiny.latent_bottleneck(out.y, out.scales, out.means)
    assert torch.allclose(out.y_likelihoods, y_likelihoods, atol=1e-6)
    assert torch.equal(tiny.reconstruct(out.y_hat, 70, 130), out.image)


def test_a_greater_step_is_a_coarser_quantiser(tiny: HiFiCAutoencoder) -> None:
    image = torch.rand(1, 3, 64, 64)
    fine, coarse = tiny(image, 1.0), tiny(image, 4.0)
    symbols = (coarse.y_hat - coarse.means) / 4
    assert torch.allclose(symbols, symbols.round(), atol=1e-5)
    assert (coarse.y_hat - coarse.y).abs().max() <= 2 + 1e-5
    assert (fine.y_hat - fine.y).abs().max() <= 0.5 + 1e-5


def test_gradients_pass_the_rounding(tiny: HiFiCAutoencoder) -> None:
    network = HiFiCAutoencoder(**TINY).train()
    out = network(torch.rand(1, 3, 64, 64), torch.full((1, 1, 1, 1), 2.0))
    (out.image.sum() - out.y_likelihoods.log().sum() - out.z_likelihoods.log().sum()).backward()
    for name, parameter in network.named_parameters():
        if not name.endswith("quantiles"):
            assert parameter.grad is not None, name
    assert network.encoder.blocks[0][0].weight.grad.abs().sum() > 0


def test_the_shape_follows_from_the_tensors(tiny: HiFiCAutoencoder) -> None:
    state = tiny.state_dict()
    assert "hyper_bottleneck._matrix0" in state
    # Tables of any size may be there, or none.
    state["hyper_bottleneck._quantized_cdf"] = torch.zeros(6, 23, dtype=torch.int32)
    state["latent_bottleneck.scale_table"] = torch.ones(64)
    del state["latent_bottleneck._offset"]
    other = HiFiCAutoencoder.from_state_dict(state).eval()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(image).image, tiny(image).image)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_checkpoint_is_found_by_its_name_or_path(
    tiny: HiFiCAutoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setenv("TGV_MODEL_DIR", str(tmp_path))
    path = tmp_path / f"mine{suffix}"
    state = {name: value.contiguous() for name, value in tiny.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    image = torch.rand(1, 3, 64, 64)
    for name in ("mine", str(path)):
        assert torch.equal(checkpoints.network(checkpoints.find(name))(image).image, tiny(image).image)
    assert checkpoints.arrays(path)["encoder.blocks.5.bias"].dtype == np.float32


def test_a_published_checkpoint_comes_with_its_licence(
    tiny: HiFiCAutoencoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fetch(url: str, target: str) -> None:
        assert url.endswith("/msillm_target_0.035bpp.ckpt")
        torch.save(tiny.state_dict(), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    path = checkpoints.download("msillm_quality_1")
    assert path == checkpoints.find("msillm_quality_1")
    checkpoints.network(path)
    assert "CC BY-NC 4.0" in capsys.readouterr().err
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(OSError, match="SHA-256"):
        checkpoints.network(path)


def test_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGV_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no checkpoint of this name"):
        checkpoints.find("nothing")
    with pytest.raises(FileNotFoundError, match="refdec-models msillm_quality_vlo1"):
        checkpoints.find("msillm_quality_vlo1")

    def refuse(url: str, target: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(OSError, match=r"not to be had from https://.*no route"):
        checkpoints.download("msillm_quality_6")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("noise.safetensors", b"\x10" * 100),
        ("noise.ckpt", b"\x10" * 100),
        ("empty.pt", b""),
        ("cut.pt", b"PK\x03\x04"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(OSError, match="no checkpoint to use"):
        checkpoints.network(path)


def test_checkpoints_of_something_else(tiny: HiFiCAutoencoder, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    state = tiny.state_dict()
    del state["decoder.blocks.4.weight"]
    for content in ({"a": torch.ones(2)}, state, {"epoch": 3}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(OSError, match="no checkpoint to use"):
            checkpoints.network(path)


class _Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("executed",)


def test_checkpoints_execute_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.pt"
    torch.save({"a": _Exploit()}, path)
    with pytest.raises(OSError, match="no checkpoint to use"):
        checkpoints.read(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("matrix", [1, 5, 9, 2])
@pytest.mark.parametrize("full_range", [False, True])
def test_planes_and_rgb(matrix: int, full_range: bool) -> None:
    colour = Colour(matrix=matrix, full_range=full_range)
    rng = np.random.default_rng(3)
    low, high = (0, 255) if full_range else (16, 235)
    grey = rng.integers(low, high + 1, (9, 15), np.uint8)
    neutral = np.full((5, 8), 128, np.uint8)
    picture = Picture(grey, neutral, neutral)
    image = rgb.to_rgb(picture, colour)
    assert image.shape == (1, 3, 9, 15)
    assert torch.allclose(image[:, 0], image[:, 2], atol=1e-6)
    assert image.min() >= 0
    assert rgb.from_rgb(image, colour).md5() == picture.md5()


def test_red_is_red() -> None:
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    picture = rgb.from_rgb(red, Colour())
    assert (picture.y == 63).all()
    assert (picture.u == 102).all()
    assert (picture.v == 240).all()
    assert torch.allclose(rgb.to_rgb(picture, Colour()), red, atol=0.01)
