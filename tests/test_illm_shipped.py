"""The small model of learned keyframes that comes with the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import SCENES

torch = pytest.importorskip("torch")
pytest.importorskip("compressai")

from refdec.keyframes import models, pictures, rgb  # noqa: E402
from refenc import illm  # noqa: E402
from tgv_format.picture import Colour  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

FOLDER = Path(models.__file__).parents[1] / "models"
PICTURE = SCENES["pan"](1, 192, 128, 1).pictures[0]


def test_its_files_take_little_space() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("tgv-illm-s.*")) <= 12e6
    assert FOLDER / "tgv-illm-s.sha256" in FOLDER.iterdir()


def test_it_codes_pictures_it_has_not_seen() -> None:
    codec = illm.codec("tgv-illm-s", Colour())
    coded = [codec.encode([PICTURE], codec.ladder.index((0, quality)))[0] for quality in (15, 23, 31)]
    sizes = [len(c.payload) for c in coded]
    errors = [np.mean((PICTURE.y.astype(float) - c.picture.y) ** 2) for c in coded]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * PICTURE.y.var()


def test_the_rate_is_that_of_the_float_network() -> None:
    codec = illm.codec("tgv-illm-s", Colour())
    path = FOLDER / "tgv-illm-s.tgvm"
    model = models.installed()[models.installed().identity(path)]
    with torch.inference_mode():
        out = pictures.network(path, model)(rgb.to_rgb(PICTURE, Colour()))
    bits = -float(out.y_likelihoods.log2().sum() + out.z_likelihoods.log2().sum())
    payload = codec.encode([PICTURE], codec.ladder.index((0, 31)))[0].payload
    # The header, and the last bytes of the message.
    assert len(payload) - 5 == pytest.approx(bits / 8, rel=0.005, abs=4)


def test_the_benchmark_of_keyframes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    import keyframes
    from PIL import Image

    for name in ("a", "b"):
        Image.fromarray(keyframes.to_rgb(PICTURE)).save(tmp_path / f"{name}.png")
    script = tmp_path / "metric.py"
    script.write_text(
        "import json, sys, numpy\n"
        "a, b = map(numpy.load, sys.argv[1:3])\n"
        "print(json.dumps({'shape': list(a.shape), 'difference': float(abs(a.astype(int) - b).mean())}))\n",
        encoding="utf-8",
    )
    options = ["--pictures", str(tmp_path), "--size", "128x96", "--bpp", "0.3", "--codecs", "av1,illm"]
    options += ["--measure", f"{sys.executable} {script}", "--metrics", "difference"]
    options += ["--json", str(tmp_path / "rows.json"), "--out", str(tmp_path / "out")]
    assert keyframes.main(options) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["codec", "av1", "illm"]
    assert (tmp_path / "out" / "pictures.png").exists()
    assert np.load(tmp_path / "out" / "illm-0.3.npy").shape == (2, 96, 128, 3)
