"""Backends of the encoder's analyses: their loading code on tiny models with random weights."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import SCENES, Rendered

from refenc import poses
from refenc.backends import NAMES, named
from refenc.backends.select import DEFAULT, select
from refenc.cli import main
from refenc.masks import MaskOptions
from refenc.tracking import fuse
from tgv_format.picture import Colour

COLOUR = Colour()
SIZE = (64, 48)
neural = pytest.mark.skipif(
    not all(__import__("importlib.util").util.find_spec(name) for name in ("torch", "transformers")),
    reason="needs torch and transformers",
)


@pytest.fixture(scope="module")
def scene() -> Rendered:
    return SCENES["passing"](1, *SIZE, 4)


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch.hub and of Hugging Face, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("FLOWMAP_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(("text", "expected"), [("clip", ("clip", None)), ("clip=a/b=c", ("clip", "a/b=c"))])
def test_names(text: str, expected: tuple[str, str | None]) -> None:
    assert named("semantics", text) == expected


def test_unknown_names_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, names in NAMES.items():
        with pytest.raises(SystemExit, match="2"):
            main(["in.mp4", f"--{kind}", "oracle"])
        assert f"oracle is none of {', '.join(names)}" in capsys.readouterr().err


def test_the_defaults_need_nothing() -> None:
    assert select({}, COLOUR) == DEFAULT


# --------------------------------------------------------------------------------------- missing weights


@neural
@pytest.mark.parametrize(
    ("options", "what", "get"),
    [
        (["--tracker", "cotracker"], "cotracker", "git clone https://github.com/facebookresearch/co-tracker"),
        (["--semantics", "clip"], "openai/clip-vit-base-patch32", "hf download openai/clip-vit-base-patch32"),
        (["--semantics", "clip=my/clip"], "my/clip", "hf download my/clip"),
        (["--captioner", "blip"], "Salesforce/blip-image-captioning-base", "hf download"),
        (["--masks", "sam2"], "Salesforce/blip-image-captioning-base", "hf download"),
        (["--poses", "flowmap"], "flowmap", "git clone https://github.com/dcharatan/flowmap"),
    ],
    ids=str,
)
def test_missing_weights_are_one_line(
    caches: Path, scene: Rendered, capsys: pytest.CaptureFixture[str], options: list[str], what: str, get: str
) -> None:
    """What is missing, where it was looked for, and how to get it; no output is left."""
    import cv2

    cv2.imwrite(str(caches / "in.png"), scene.pictures[0].y)
    assert main([str(caches / "in.png"), str(caches / "out.tgv"), *options]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"refenc: {what}: no weights in ")
    assert get in line
    assert line.count("\n") == 1
    assert not list(caches.glob("out.tgv*"))


@neural
def test_a_folder_without_weights_is_one_line(caches: Path) -> None:
    (caches / "empty").mkdir()
    with pytest.raises(OSError, match="incomplete or damaged") as caught:
        select({"semantics": f"clip={caches / 'empty'}"}, COLOUR)
    assert caught.value.filename == str(caches / "empty")
    assert "\n" not in str(caught.value)


def test_a_package_that_is_not_installed(
    scene: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "in.png"), scene.pictures[0].y)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert main([str(tmp_path / "in.png"), str(tmp_path / "out.tgv"), "--poses", "pycolmap"]) == 1
    assert capsys.readouterr().err == "refenc: pycolmap is not installed; pip install pycolmap\n"


# ------------------------------------------------------------------------------------------- tiny models


def tokenizer(words: str) -> Any:
    """A fast tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *dict.fromkeys(words.split())])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="[SEP]", bos_token="[CLS]", **names)


@neural
def test_clip(caches: Path, scene: Rendered) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=12,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(caches / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        caches / "clip"
    )
    semantics = select({"semantics": f"clip={caches / 'clip'}"}, COLOUR).semantics
    a, b = (semantics.describe(scene.pictures[t]) for t in (0, 3))
    assert a.shape == (12,)
    assert a.dtype == np.float32
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
    assert semantics.similarity(a, a) == pytest.approx(1, abs=1e-5)
    assert 0 <= semantics.similarity(a, b) <= 1
    assert semantics.similarity(a, -a) == 0
    assert (a != b).any()


HUB = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.speed = torch.nn.Parameter(torch.zeros(2))

class Predictor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Model()

    def forward(self, video, queries):
        assert video.max() > 1 and not queries[..., 0].any()
        frames = torch.arange(video.shape[1])[None, :, None, None]
        tracks = queries[:, None, :, 1:] + frames * self.model.speed
        seen = (tracks >= 0).all(-1) & (tracks[..., 0] < video.shape[-1])
        return tracks, seen

def cotracker3_offline(*, pretrained=True, **kwargs):
    assert not pretrained, "would download"
    return Predictor()
"""


@neural
def test_cotracker(caches: Path, scene: Rendered) -> None:
    """A repository of torch.hub whose model moves every point as its checkpoint says."""
    import torch

    repository = caches / "torch" / "hub" / "facebookresearch_co-tracker_main"
    repository.mkdir(parents=True)
    (repository / "hubconf.py").write_text(HUB, encoding="utf-8")
    checkpoint = caches / "tiny.pth"
    with pytest.raises(FileNotFoundError, match="curl -L -o"):
        select({"tracker": f"cotracker={checkpoint}"}, COLOUR)
    torch.save({"model": {"speed": torch.tensor([3.0, 0.0])}}, checkpoint)
    tracks = select({"tracker": f"cotracker={checkpoint}"}, COLOUR).tracker(scene.pictures)
    assert tracks.positions.shape == (len(tracks.visible), 4, 2)
    forward = tracks.visible[:, 0] & (tracks.positions[:, 0, 0] % 16 == 8)
    assert forward.sum() == 4 * 3
    steps = np.diff(tracks.positions, axis=1)
    np.testing.assert_allclose(steps[forward], np.broadcast_to([3, 0], (12, 3, 2)))
    assert (steps[~forward, :, 0] == -3).all(), "the film runs backwards"
    assert (tracks.visible[:, 0] | tracks.visible[:, -1]).all()
    assert not tracks.visible[forward & (tracks.positions[:, 0, 0] == 56), -1].any()


def tiny_blip(folder: Path) -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    text = {
        "vocab_size": 16,
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=8)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    words = "a red ball rolls over the green grass near blue water"
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer(words)).save_pretrained(
        folder
    )


@neural
def test_blip(caches: Path, scene: Rendered) -> None:
    tiny_blip(caches / "blip")
    captioner = select({"captioner": f"blip={caches / 'blip'}"}, COLOUR).captioner
    assert captioner is not None
    caption = captioner(scene.pictures[0])
    assert isinstance(caption, str)
    assert caption == captioner(scene.pictures[0])
    assert select({}, COLOUR).captioner is None


def test_nouns_are_those_of_the_caption() -> None:
    pytest.importorskip("torch")
    from refenc.backends.nouns import parse, prompt

    assert parse(" Dog, Ball.\nCaption: x", "a dog and a ball") == ["dog", "ball"]
    assert parse("cat, dog, dog", "a dog") == ["dog"]
    assert parse("none", "a lake") == []
    assert parse("a, b, c, d, e", "a b c d e") == ["a", "b", "c", "d"]
    assert prompt("a lake").endswith("Caption: a lake\nMoving objects:")


@neural
def test_language_model(caches: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from refenc.backends import nouns

    made = tokenizer("caption : moving objects ball , dog none")
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(caches / "language")
    made.save_pretrained(caches / "language")
    names = nouns.load(str(caches / "language"))("a dog and a ball")
    assert set(names) <= {"dog", "ball"}


def tiny_owl(folder: Path) -> None:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 24, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3}
    vision = {**small, "image_size": 32, "patch_size": 8}
    Owlv2ForObjectDetection(
        Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
    ).save_pretrained(folder)
    processor = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(processor, tokenizer("a photo of ball dog")).save_pretrained(folder)


@neural
def test_detector(caches: Path, scene: Rendered) -> None:
    from refenc.backends import detector

    tiny_owl(caches / "owl")
    detect = detector.load(str(caches / "owl"), COLOUR, threshold=0.0)
    boxes = detect(scene.pictures[0], ["ball", "dog"])
    assert len(boxes) == 16
    assert all(len(box) == 4 for box in boxes)
    assert detect(scene.pictures[0], []) == []


def tiny_sam(folder: Path) -> None:
    from transformers import Sam2ImageProcessor, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128,
    }
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64},
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        image_size=64,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
    )
    Sam2VideoModel(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    Sam2VideoProcessor(Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size), 64).save_pretrained(
        folder
    )


@neural
def test_sam2(caches: Path, scene: Rendered) -> None:
    """What is captioned, named and found is followed; nothing else is."""
    from refenc.backends import sam2

    tiny_sam(caches / "sam2")
    asked: list[Any] = []

    def detect(picture: Any, names: Any) -> list[tuple[float, float, float, float]]:
        asked.append(names)
        return [(4, 4, 30, 30), (20, 10, 60, 40)][: len(names)]

    def segmenter(names: list[str]) -> Any:
        return sam2.load(
            str(caches / "sam2"), COLOUR, lambda picture: "a dog and a ball", lambda _: names, detect
        )

    options = MaskOptions(scale_log2=3)
    tracks = fuse(*[DEFAULT.tracker(scene.pictures)] * 2)
    instances = np.zeros(len(tracks.positions), np.int32)
    labels = segmenter(["dog", "ball"])(scene.pictures, tracks, instances, options)
    assert labels.shape == (4, 6, 8)
    assert labels.dtype == np.uint8
    assert labels.max() <= 2
    assert not segmenter([])(scene.pictures, tracks, instances, options).any()
    assert asked == [["dog", "ball"], []]


@neural
def test_logits_to_labels() -> None:
    from refenc.backends.sam2 import label_planes

    logits = np.full((1, 3, 20, 20), -1, np.float32)
    logits[0, 1, :, :8] = 2
    logits[0, 2, :8, :] = 1
    labels = label_planes(logits, (3, 3), MaskOptions(scale_log2=3))
    np.testing.assert_array_equal(labels, [[[1, 2, 2], [1, 0, 0], [1, 0, 0]]])


@neural
def test_masks_by_sam2_load_every_model(caches: Path) -> None:
    tiny_blip(caches / "blip")
    with pytest.raises(FileNotFoundError) as caught:
        select({"masks": "sam2", "captioner": f"blip={caches / 'blip'}"}, COLOUR)
    assert caught.value.filename == "Qwen/Qwen2.5-0.5B-Instruct"


# ----------------------------------------------------------------------------------- structure from motion


def write_colmap(folder: Path, rendered: Rendered, skipped: tuple[int, ...] = ()) -> None:
    """The true model of a scene: its cameras, and the points of a grid in the first frame."""
    import cv2

    folder.mkdir(parents=True)
    height, width = rendered.labels.shape[1:]
    fx, fy, cx, cy = rendered.intrinsics
    camera = struct.pack("<QiiQQ4d", 1, 1, 1, width, height, fx, fy, cx + 0.5, cy + 0.5)
    (folder / "cameras.bin").write_bytes(camera)
    frames = [t for t in range(len(rendered.pictures)) if t not in skipped]
    data = struct.pack("<Q", len(frames))
    for t in reversed(frames):
        turn = cv2.Rodrigues(rendered.poses[t, :3, :3])[0][:, 0]
        angle = float(np.linalg.norm(turn))
        axis = turn / max(angle, 1e-12) * np.sin(angle / 2)
        data += struct.pack("<I7dI", t + 1, np.cos(angle / 2), *axis, *rendered.poses[t, :3, 3], 1)
        data += f"{t:06}.png".encode() + b"\0" + struct.pack("<Q2dq", 1, 0.0, 0.0, -1)
    (folder / "images.bin").write_bytes(data)
    normal, offset = rendered.planes[0, :3], rendered.planes[0, 3]
    rays = [((x - cx) / fx, (y - cy) / fy, 1.0) for x in range(4, width, 8) for y in range(4, height, 8)]
    points = [np.array(ray) * offset / (normal @ ray) for ray in rays]
    data = struct.pack("<Q", len(points))
    for i, point in enumerate(points):
        data += struct.pack("<Q3d3BdQ", i, *point, 0, 0, 0, 0.1, 3) + struct.pack("<2I", 1, i) * 3
    (folder / "points3D.bin").write_bytes(data)


def assert_true(motion: poses.Motion, rendered: Rendered, tolerance: float = 1e-9) -> None:
    true = rendered.poses @ np.linalg.inv(rendered.poses[0])
    scale = rendered.planes[0, 3]
    turns = np.stack([poses.matrix(v) for v in motion.rotation])
    np.testing.assert_allclose(turns, true[:, :3, :3], atol=tolerance)
    np.testing.assert_allclose(motion.translation * scale, true[:, :3, 3], atol=tolerance * 10)
    np.testing.assert_allclose(motion.intrinsics, rendered.intrinsics)
    np.testing.assert_allclose(motion.plane, [0, 0, 1], atol=1e-6)


def test_colmap_models_are_read(tmp_path: Path) -> None:
    from refenc.backends import colmap

    rendered = SCENES["dolly"](1, *SIZE, 6)
    write_colmap(tmp_path / "whole", rendered)
    assert_true(colmap.motion(colmap.read_model(tmp_path / "whole"), 6), rendered)
    write_colmap(tmp_path / "gap", rendered, skipped=(2, 5))
    motion = colmap.motion(colmap.read_model(tmp_path / "gap"), 6)
    whole = colmap.motion(colmap.read_model(tmp_path / "whole"), 6)
    middle = (whole.translation[1] + whole.translation[3]) / 2
    np.testing.assert_allclose(motion.translation[2], middle, atol=1e-9)
    np.testing.assert_allclose(motion.translation[5], whole.translation[4], atol=1e-9)


FLOWMAP = """
import shutil, sys
from pathlib import Path

options = dict(argument.split("=", 1) for argument in sys.argv[1:])
assert options["dataset"] == "images"
assert len(list(Path(options["dataset.images.root"]).glob("*.png"))) == 6
if Path("fail").exists():
    sys.exit("no GPU")
if Path("model").exists():
    shutil.copytree("model", Path(options["hydra.run.dir"]) / "colmap" / "sparse" / "0")
"""


def test_flowmap(tmp_path: Path) -> None:
    """A repository whose command leaves the true model where FlowMap leaves its own."""
    rendered = SCENES["dolly"](1, *SIZE, 6)
    repository = tmp_path / "repository"
    (repository / "flowmap").mkdir(parents=True)
    (repository / "flowmap" / "overfit.py").write_text(FLOWMAP, encoding="utf-8")
    estimator = select({"poses": f"flowmap={repository}"}, COLOUR).poses
    tracks = DEFAULT.tracker(rendered.pictures)
    own = poses.estimate_tracks(rendered.pictures, tracks)
    found = estimator(rendered.pictures, tracks)
    np.testing.assert_array_equal(found.translation, own.translation)
    write_colmap(repository / "model", rendered)
    assert_true(estimator(rendered.pictures, tracks), rendered)
    (repository / "fail").touch()
    with pytest.raises(OSError, match="flowmap failed: no GPU"):
        estimator(rendered.pictures, tracks)


def test_pycolmap(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    rendered = SCENES["dolly"](0, 256, 160, 12)
    estimator = select({"poses": "pycolmap"}, COLOUR).poses
    motion = estimator(rendered.pictures, DEFAULT.tracker(rendered.pictures))
    assert motion.translation.shape == (12, 3)
    assert np.isfinite(motion.translation).all()
