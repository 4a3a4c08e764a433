"""Dense flow from flow tokens, cosine and learned, and the encoder's half of learned tokens."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import SCENES, Rendered
from strategies import settings

from refdec import flow as recovery
from refdec.flow import GRID, enlarged, recover
from refenc.flow import dis, from_first, to_first
from refenc.flow_sampling import sparse_motion, watershed_points
from tgv_format.flow_tokens import FlowTokens, Tokenizer, flow
from tgv_format.generator_hint import TOKENIZER, GeneratorHint, Sampler
from tgv_format.picture import Colour

COLOUR = Colour()
SIZE = (192, 128)
neural = pytest.mark.skipif(
    not all(__import__("importlib.util").util.find_spec(name) for name in ("torch", "compressai")),
    reason="needs torch and compressai",
)


@pytest.fixture(scope="module")
def scene() -> Rendered:
    return SCENES["two_objects_crossing"](1, *SIZE, 4)


# ------------------------------------------------------------------------------------------ cosine tokens


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 2))
def test_cosine_flow_is_followed_back(seed: int, count: int, last: int) -> None:
    """What frame 0 shows at p is in frame t where the normative flow leads back to p."""
    tokens = np.random.default_rng(seed).integers(-12, 13, (last, 2, count)).astype(np.int16)
    params = FlowTokens(tokens, 4)
    picture = SCENES["pan"](1, *SIZE, 1).pictures[0]
    found = recover(params, picture, COLOUR)
    assert found.shape == (last, 2, SIZE[1], SIZE[0])
    assert found.dtype == np.float32
    y, x = np.mgrid[8 : SIZE[1] - 8 : 7, 8 : SIZE[0] - 8 : 7]
    for t in range(last):
        forward = found[t][:, y, x].transpose(1, 2, 0)
        there = np.rint(16 * (np.stack([x, y], -1) + forward)).astype(np.int64)
        back = flow(params, t + 1, there, SIZE[1], SIZE[0]) / 16
        assert np.abs(forward + back).max() < 0.25


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=20)
def test_planes_are_enlarged_linearly(height: int, width: int) -> None:
    y, x = (np.arange(g, dtype=np.float32) for g in GRID)
    ramp = enlarged(x + 10 * y[:, None], height, width)
    rows, columns = (
        np.clip((np.arange(side) + 0.5) * g / side - 0.5, 0, g - 1)
        for side, g in zip((height, width), GRID, strict=True)
    )
    np.testing.assert_allclose(ramp, columns + 10 * rows[:, None], atol=1e-2)


# ------------------------------------------------------------------------------------- watershed sampling


def test_points_are_in_the_middle_of_what_moves_alike() -> None:
    moving = np.zeros((60, 90, 2), np.float32)
    moving[20:41, 30:51] = (5, -2)
    points = watershed_points(moving, 9)
    inside = [tuple(p) for p in points.tolist() if 30 <= p[0] < 51 and 20 <= p[1] < 41]
    assert (40, 30) in inside
    assert len(inside) < len(points)
    steps = np.abs(points[:, None] - points[None]).max(2) + 99 * np.eye(len(points), dtype=np.int64)
    assert steps.min() > 4


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=20)
def test_there_is_a_point_in_every_flow(height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(height, width, 2)).astype(np.float32)
    for field in (noise, 0 * noise):
        motion, mask = sparse_motion(field)
        assert mask.sum() >= 1
        np.testing.assert_array_equal(motion, field * mask[..., None])


# ---------------------------------------------------------------------------------------------- dense flow


def test_flow_from_and_to_the_first_picture(scene: Rendered) -> None:
    inside = np.s_[8:-8, 8:-8]
    for estimate, flows in (((0, 3), from_first), ((3, 0), to_first)):
        truth = scene.flow(*estimate)
        found = list(flows(scene.pictures))[-1]
        assert np.median(np.abs(found - truth)[inside]) < 0.3


def test_an_estimate_leaves_its_start_alone(scene: Rendered) -> None:
    start = np.full((SIZE[1], SIZE[0], 2), 1, np.float32)
    dis(scene.pictures[0], scene.pictures[1], start)
    assert (start == 1).all()


# ------------------------------------------------------------------------------------------ learned tokens


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of weights with a little of everything in them."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from refdec.flow.network import FlowTokenizer

    torch.manual_seed(0)
    networks = FlowTokenizer(6)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(0.003 * torch.randn_like(parameter))
    save_file(networks.state_dict(), tmp_path / "tiny.safetensors")
    monkeypatch.setenv("TGV_MODEL_DIR", str(tmp_path))
    from refdec.flow import learned

    learned.load.cache_clear()
    return "tiny"


def write(path: Path, scene: Rendered) -> None:
    """A Y4M file of the pictures."""
    frames = b"".join(b"FRAME\n" + p.to_bytes() for p in scene.pictures)
    path.write_bytes(b"YUV4MPEG2 W%d H%d F25:1 C420\n" % SIZE + frames)


def learned_tokens(last: int = 3, count: int = 6) -> FlowTokens:
    tokens = np.random.default_rng(0).integers(-60, 61, (last, 2, count)).astype(np.int16)
    tokens[0] = 0
    return FlowTokens(tokens, 8, Tokenizer.LEARNED)


@neural
def test_learned_flow_scales_with_the_tokens(weights: str, scene: Rendered) -> None:
    from refdec.flow import learned

    params, hint = learned_tokens(), learned.load(weights).hint
    found = recover(params, scene.pictures[0], COLOUR, hint)
    assert found.shape == (3, 2, SIZE[1], SIZE[0])
    assert not found[0].any()
    twice = recover(replace(params, step=16), scene.pictures[0], COLOUR, hint)
    np.testing.assert_allclose(twice, 2 * found, rtol=1e-3, atol=1e-3)
    cosines = recovery.enlarged(
        np.einsum(
            "lck,khw->lchw",
            params.tokens * params.step / 16,
            learned.load(weights).networks.synthesis.cosines.numpy(),
        ).astype(np.float32),
        *SIZE[::-1],
    )
    difference = np.abs(found[1:] - cosines[1:]).mean()
    assert 1e-4 < difference < 0.5 * np.abs(cosines).mean()


@neural
@pytest.mark.requirement("TGV-FLW-8")
def test_other_weights_than_the_hint_names_are_refused(weights: str, scene: Rendered) -> None:
    from refdec.flow import learned

    params, hint = learned_tokens(), learned.load(weights).hint
    assert hint.is_tokenizer
    assert recover(params, scene.pictures[0], COLOUR, hint) is not None
    with pytest.raises(OSError, match="the tokens are of weights 0707") as caught:
        recover(params, scene.pictures[0], COLOUR, replace(hint, weights_sha256=b"\x07" * 32))
    assert caught.value.filename == "tiny"


@neural
@pytest.mark.parametrize("name", ["elsewhere", "../{folder}/tiny", "tiny.safetensors"])
def test_weights_that_are_not_there(weights: str, scene: Rendered, tmp_path: Path, name: str) -> None:
    """A hint says what they are called; it is no path."""
    params, name = learned_tokens(), name.format(folder=tmp_path.name)
    hint = GeneratorHint(f"{TOKENIZER}{name}", bytes(32), Sampler.UNSPECIFIED, 0, 0, 0)
    with pytest.raises(FileNotFoundError, match="TGV_MODEL_DIR or the cache") as caught:
        recover(params, scene.pictures[0], COLOUR, hint)
    assert caught.value.filename == name


@neural
def test_weights_of_another_kind(weights: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from refdec.flow import learned

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(OSError, match="no checkpoint of flow tokens"):
        learned.load("other")


@neural
def test_another_number_of_tokens(weights: str, scene: Rendered) -> None:
    from refdec.flow import learned

    with pytest.raises(ValueError, match="5 tokens, where the weights have 6"):
        recover(learned_tokens(count=5), scene.pictures[0], COLOUR, learned.load(weights).hint)


@neural
def test_the_loop_is_closed(weights: str, scene: Rendered) -> None:
    """Two rounds bring nearly all that more of them would, and quantising hardly hurts."""
    from refdec.flow import learned
    from refenc.flow_tokens import FlowOptions
    from refenc.learned_tokens import Tokenizer as Encoder
    from refenc.learned_tokens import analyse, grid_flow

    networks, picture = learned.load(weights), scene.pictures[0]
    dense = grid_flow(scene.pictures, dis)
    missed = [analyse(dense, picture, COLOUR, networks, rounds).missed for rounds in (0, 2, 8)]
    assert missed[1] - missed[2] < 0.2 * (missed[0] - missed[2])
    params = Encoder(networks, COLOUR, dis, FlowOptions(6, 0.05, 0.01)).tokens(scene.pictures, picture)
    assert params.tokenizer_id is Tokenizer.LEARNED
    found = recover(params, picture, COLOUR, networks.hint)
    wanted = enlarged(dense, *SIZE[::-1])
    assert np.square(found - wanted).sum(1).mean() < 1.2 * missed[1] + 0.1


@neural
def test_nothing_moves(weights: str, scene: Rendered) -> None:
    from refdec.flow import learned
    from refenc.learned_tokens import Tokenizer as Encoder

    still = [scene.pictures[0]] * 3
    params = Encoder(learned.load(weights), COLOUR, lambda a, b, start: np.zeros((128, 192, 2), np.float32))
    assert not params.tokens(still, still[0]).tokens.any()


@neural
def test_learned_tokens_in_a_stream(weights: str, scene: Rendered, tmp_path: Path) -> None:
    from refdec.decoder import Decoder
    from refenc.cli import main
    from tgv_format.clip import Clip
    from tgv_format.reader import Reader

    source = tmp_path / "in.y4m"
    write(source, scene)
    streams = {}
    for tokenizer in ("cosine", f"learned={weights}"):
        streams[tokenizer] = tmp_path / f"{tokenizer}.tgv"
        options = ["--guidance", "flow", "--flow-tokenizer", tokenizer, "--workers", "1"]
        assert main([str(source), str(streams[tokenizer]), *options]) == 0
    with streams[f"learned={weights}"].open("rb") as file:
        reader = Reader(file)
        elements = list(reader)
        pictures = list(Decoder(reader.header).pictures(elements))
    assert len(pictures) == len(scene.pictures)
    (hint,) = (e for e in elements if isinstance(e, GeneratorHint))
    assert hint.name == f"{TOKENIZER}{weights}"
    for clip in (e for e in elements if isinstance(e, Clip)):
        assert clip.flow_tokens is not None
        assert clip.flow_tokens.tokenizer_id is Tokenizer.LEARNED
        assert recover(clip.flow_tokens, pictures[0], COLOUR, hint).shape[0] == clip.frame_count


@neural
def test_one_step_of_training(tmp_path: Path) -> None:
    """It goes on from where it was, and what it exports loads."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    import flow_tokenizer as training
    import torch

    from refdec.flow import learned

    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (90, 140, 3), dtype=np.uint8)]
    pair = rng.integers(0, 256, (1, *GRID, 3), dtype=np.uint8), np.ones((1, *GRID, 2), np.float16)
    sources = [training.moving_photos(photos, rng), training.stored(pair, rng)]
    batch = training.tensors([next(source) for source in sources])
    args = training.parser().parse_args(["--out", str(tmp_path)])
    run = training.Training(args)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    losses = run.update(batch)
    assert all(np.isfinite(value) for value in losses.values())
    assert losses["dense"] < losses["network"]
    changed = [name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("analysis.") for name in changed)
    assert any(name.startswith("synthesis.") for name in changed)
    torch.save(run.state(), tmp_path / "checkpoint.pt")
    again = training.Training(args)
    again.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert again.step == 1
    path = training.export(run.average, tmp_path / "models")
    assert learned.load(str(path)).hint.weights_sha256.hex() in path.with_suffix(".sha256").read_text()


@neural
def test_the_benchmark_of_flow_tokens(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    import flow_recovery as benchmark

    write(tmp_path / "pan.mp4", SCENES["pan"](1, *SIZE, 4))
    options = ["--clips", str(tmp_path), "--size", "192x128", "--weights", weights, "--bytes", "60"]
    assert benchmark.main(options) == 0
    head, row, *_, last = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["clip", "EPE", "still"]
    name, still, start, *_ = row.split()
    assert name == "pan"
    assert float(start) < 0.5 * float(still)
    assert last.startswith("L1 of learned over cosine: ")


@neural
def test_the_weights_that_ship(scene: Rendered) -> None:
    """They are small, and recover no less of a scene than cosines do, but for a hundredth."""
    from refdec.flow import learned
    from refenc.learned_tokens import analyse, grid_flow

    learned.load.cache_clear()
    weights = learned.load()
    folder = Path(learned.__file__).parents[1] / "models"
    assert (folder / "tgv-flow-s.safetensors").stat().st_size <= 8 << 20
    assert weights.hint.weights_sha256.hex() in (folder / "tgv-flow-s.sha256").read_text()
    dense = grid_flow(scene.pictures, dis)
    exact = weights.networks.synthesis.project(__import__("torch").from_numpy(dense)).numpy()
    cosines = np.einsum("lck,khw->lchw", exact, weights.networks.synthesis.cosines.numpy())
    analysis = analyse(dense, scene.pictures[0], COLOUR, weights)
    tokens = analysis.coefficients.astype(np.float32)
    found = learned.synthesise(weights.networks, tokens, scene.pictures[0], COLOUR)
    assert np.abs(found - dense).mean() < 1.01 * np.abs(cosines - dense).mean()
