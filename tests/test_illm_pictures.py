"""Learned keyframes from the encoder's command line to pictures, with a network of random weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("compressai")

from refdec import cli, models_cli  # noqa: E402
from refdec.keyframes import models, pictures, rgb  # noqa: E402
from refdec.keyframes.illm import HiFiCAutoencoder  # noqa: E402
from refenc import cli as encoder_cli  # noqa: E402
from tgv_format.picture import Colour  # noqa: E402
from tgv_format.reader import Reader  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

WIDTH, HEIGHT = 80, 48


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of models with the model ``tiny``, as refdec-models installs it."""
    place = tmp_path / "models"
    place.mkdir()
    monkeypatch.setenv("TGV_MODEL_DIR", str(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(2)
    network = HiFiCAutoencoder(
        latent_features=12,
        hyper_features=8,
        num_residual_blocks=1,
        encoder_widths=(8, 8, 8, 8, 8),
        generator_widths=(8, 8, 8, 8, 8),
    )
    # Latents of some size, so that there is something to quantise.
    network.encoder.blocks[5].weight.data *= 40
    torch.save(network.state_dict(), place / "tiny.pt")
    assert models_cli.main(["tiny"]) == 0
    models.installed.cache_clear()
    yield place
    models.installed.cache_clear()
    pictures.network.cache_clear()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eight frames of a gradient that moves, as Y4M."""
    path = tmp_path / "in.y4m"
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    chroma = bytes([110]) * (WIDTH * HEIGHT // 4) + bytes([150]) * (WIDTH * HEIGHT // 4)
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F8:1 C420mpeg2\n".encode())
        for t in range(8):
            file.write(b"FRAME\n" + (40 + x + y + 4 * t).astype(np.uint8).tobytes() + chroma)
    return path


def encoded(video: Path, *options: str) -> Path:
    stream = video.with_suffix(".tgv")
    options = ("--keyframe-codec", "illm", "--model", "tiny", *options)
    assert encoder_cli.main([str(video), str(stream), *options]) == 0
    return stream


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_a_video_with_learned_keyframes(folder: Path, video: Path, tmp_path: Path) -> None:
    stream = encoded(video)
    out, latents = tmp_path / "out.y4m", tmp_path / "latents"
    assert cli.main([str(stream), str(out), "--latents", str(latents)]) == 0
    assert out.read_bytes().count(b"FRAME\n") == 8
    assert len(latents.read_text().splitlines()) == 2


def test_the_picture_is_that_of_the_network(folder: Path, video: Path, tmp_path: Path) -> None:
    """The latents that were sent, and what the generator makes of them, are those of the float network."""
    from refdec import keyframes
    from tgv_format.keyframe import Keyframe

    stream = encoded(video, "--quality", "100")
    with stream.open("rb") as file:
        first = next(unit for unit in Reader(file) if isinstance(unit, Keyframe))
    found = keyframes.latents(first, WIDTH, HEIGHT)
    model = models.installed()[found.model.identity]
    network = pictures.network(folder / "tiny.tgvm", model)
    data = video.read_bytes().partition(b"FRAME\n")[2][: WIDTH * HEIGHT * 3 // 2]
    from tgv_format.picture import Picture

    colour = Colour()
    with torch.inference_mode():
        image = rgb.to_rgb(Picture.from_bytes(data, WIDTH, HEIGHT), colour)
        out = network(image)
    np.testing.assert_allclose(found.y / 4096, out.y_hat[0].numpy(), atol=2e-3)
    expected = rgb.from_rgb(out.image, colour)
    shown = keyframes.decode(first, WIDTH, HEIGHT)
    for a, b in zip(shown.planes, expected.planes, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_the_rate_follows_the_quality(folder: Path, video: Path) -> None:
    sizes = [encoded(video, "--quality", str(quality)).stat().st_size for quality in (52, 76, 100)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_decoder_without_the_model(
    folder: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = encoded(video)
    wanted = models.installed().identity(folder / "tiny.tgvm").hex()
    (folder / "tiny.tgvm").unlink()
    models.installed.cache_clear()
    capsys.readouterr()
    assert cli.main([str(stream), str(tmp_path / "out.y4m")]) == 1
    message = complaint(capsys)
    assert "unknown-model" in message
    assert wanted in message
    assert models.installed()[next(iter(models.installed()))].identity.hex() in message
    # Parameters need no model.
    assert cli.main([str(stream), "--params", str(tmp_path / "params")]) == 0


def test_a_decoder_without_the_network(
    folder: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = encoded(video)
    (folder / "tiny.pt").unlink()
    pictures.network.cache_clear()
    capsys.readouterr()
    assert cli.main([str(stream), str(tmp_path / "out.y4m")]) == 1
    assert "unsupported-codec" in complaint(capsys)
    assert cli.main([str(stream), "--latents", str(tmp_path / "latents")]) == 0


def test_a_decoder_without_torch(
    folder: Path,
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = encoded(video)
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cli.main([str(stream), str(tmp_path / "out.y4m")]) == 1
    message = complaint(capsys)
    assert "unsupported-codec" in message
    assert "pip install 'tgv[neural]'" in message


@pytest.mark.parametrize("change", ["weights", "model"])
def test_files_of_different_networks(
    folder: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    stream = encoded(video)
    pictures.network.cache_clear()
    models.installed.cache_clear()
    if change == "weights":
        state = torch.load(folder / "tiny.pt", weights_only=True)
        state["hyper_synthesis_mean.0.weight"] += 0.01
        torch.save(state, folder / "tiny.pt")
    else:
        data = bytearray((folder / "tiny.tgvm").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "tiny.tgvm").write_bytes(data)
    capsys.readouterr()
    assert cli.main([str(stream), str(tmp_path / "out.y4m")]) == 1
    assert "tiny" in complaint(capsys)


def test_models_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert models_cli.main([]) == 0
    out = capsys.readouterr().out
    assert models.installed().identity(folder / "tiny.tgvm").hex() in out
    assert "msillm_quality_1 " in out


def test_what_cannot_be_installed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"hyper_synthesis_mean.4.bias": torch.ones(3)}, folder / "half.pt")
    for name in ("half", "nothing", str(folder / "none.pt")):
        capsys.readouterr()
        assert models_cli.main([name]) == 1
        assert complaint(capsys).startswith("refdec-models: ")


def test_an_encoder_without_the_model(folder: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("nothing", "msillm_quality_1"):
        capsys.readouterr()
        stream = video.with_suffix(".tgv")
        assert encoder_cli.main([str(video), str(stream), "--keyframe-codec", "illm", "--model", name]) == 1
        assert name in complaint(capsys)
        assert not stream.exists()
