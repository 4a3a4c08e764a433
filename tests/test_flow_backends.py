"""Backends of optical flow: real loading code, on models with random weights that are saved first."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import SCENES, Rendered

from refenc.backends.select import select
from refenc.cli import main
from tgv_format.picture import Colour

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

COLOUR = Colour()
SIZE = (72, 56)

#: A stand-in for the repository of UniMatch: flow is the mean difference of the pictures times a weight.
REPOSITORY = """
import torch
from torch import nn

class UniMatch(nn.Module):
    def __init__(self, num_scales=1, upsample_factor=8, reg_refine=False, task="flow"):
        super().__init__()
        assert upsample_factor == 8 // num_scales and task == "flow"
        self.scales, self.refines = num_scales, reg_refine
        self.backbone = nn.Module()
        self.backbone.conv1 = nn.Conv2d(3, 2, 1, bias=False)
        if num_scales == 2:
            self.backbone.trident_conv = nn.Conv2d(2, 2, 1, bias=False)
        if reg_refine:
            self.refine = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, img0, img1, attn_type, attn_splits_list, corr_radius_list, prop_radius_list,
                num_reg_refine, task):
        assert attn_type == "swin" and task == "flow"
        assert len(attn_splits_list) == len(corr_radius_list) == len(prop_radius_list) == self.scales
        assert num_reg_refine == (6 if self.refines else 1)
        assert img0.shape[2] % 32 == img0.shape[3] % 32 == 0 and img0.max() > 2
        flow = self.backbone.conv1(img1 - img0)
        return {"flow_preds": [torch.zeros_like(flow), flow]}
"""


@pytest.fixture(scope="module")
def scene() -> Rendered:
    return SCENES["pan"](1, *SIZE, 2)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("UNIMATCH_DIR", raising=False)
    return tmp_path / "hub"


@pytest.mark.parametrize("size", ["small", "large"])
def test_raft(hub: Path, scene: Rendered, size: str) -> None:
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    network = getattr(optical_flow, f"raft_{size}")()
    checkpoint = hub.parent / "raft.pth"
    torch.save(network.state_dict(), checkpoint)
    estimate = select({"flow-backend": f"raft={checkpoint}"}, COLOUR).flow
    found = estimate(*scene.pictures[:2], None)
    assert found.shape == (SIZE[1], SIZE[0], 2)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("scales", "refines"), [(1, False), (2, False), (2, True)])
def test_unimatch(
    hub: Path, scene: Rendered, monkeypatch: pytest.MonkeyPatch, scales: int, refines: bool
) -> None:
    folder = hub / "autonomousvision_unimatch_master" / "unimatch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "unimatch.py").write_text(REPOSITORY, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "unimatch", None)
    for name in ("unimatch", "unimatch.unimatch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    weight = torch.tensor([[1.0, 0, 0], [0, 0, 2]])[..., None, None]
    state = {"backbone.conv1.weight": weight}
    if scales == 2:
        state["backbone.trident_conv.weight"] = torch.zeros(2, 2, 1, 1)
    if refines:
        state["refine.weight"] = torch.zeros(2, 2, 1, 1)
    checkpoint = hub.parent / "tiny.pth"
    torch.save({"model": state}, checkpoint)
    estimate = select({"flow-backend": f"unimatch={checkpoint}"}, COLOUR).flow
    assert str(folder.parent) not in sys.path

    from refenc.backends import images

    a, b = (images.image(picture, COLOUR).astype(np.float32) for picture in scene.pictures)
    found = estimate(*scene.pictures, None)
    assert found.shape == (SIZE[1], SIZE[0], 2)
    np.testing.assert_allclose(found, (b - a)[..., ::2] * (1, 2), atol=2.1)


@pytest.mark.parametrize(
    ("backend", "get"),
    [
        ("raft", "curl -L -o .*raft_large.* https://download.pytorch.org/"),
        ("raft=mine.pth", "no weights in mine.pth; `curl"),
        ("unimatch", "git clone https://github.com/autonomousvision/unimatch"),
    ],
)
def test_missing_weights_are_one_line(
    hub: Path, scene: Rendered, capsys: pytest.CaptureFixture[str], backend: str, get: str
) -> None:
    import re

    import cv2

    source, out = hub.parent / "in.png", hub.parent / "out.tgv"
    cv2.imwrite(str(source), scene.pictures[0].y)
    assert main([str(source), str(out), "--flow-backend", backend]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"refenc: {backend.partition('=')[0]}: no weights in ")
    assert re.search(get, line)
    assert line.count("\n") == 1
    assert not out.exists()


def test_missing_weights_of_tokens_are_one_line(
    hub: Path, scene: Rendered, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    source = hub.parent / "in.png"
    cv2.imwrite(str(source), scene.pictures[0].y)
    options = ["--flow-tokenizer", "learned=mine"]
    assert main([str(source), str(hub.parent / "out.tgv"), *options]) == 1
    assert capsys.readouterr().err == (
        "refenc: mine: no checkpoint of this name in TGV_MODEL_DIR or the cache\n"
    )


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no", "no checkpoint to use"), (None, "weights of another network")]
)
def test_files_that_are_no_weights(hub: Path, content: bytes | None, reason: str) -> None:
    checkpoint = hub.parent / "raft.pth"
    if content is None:
        torch.save({"a": torch.zeros(1)}, checkpoint)
    else:
        checkpoint.write_bytes(content)
    with pytest.raises(OSError, match=reason) as caught:
        select({"flow-backend": f"raft={checkpoint}"}, COLOUR)
    assert caught.value.filename == str(checkpoint)
    assert "\n" not in str(caught.value)
