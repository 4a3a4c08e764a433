"""The vectors alone take every branch of decoding in ``tgv_format`` and of the baseline reconstruction."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from branches import Branch, measure

pytest.importorskip("av")

ROOT = Path(__file__).parents[1]
MODULES = [
    *(
        f"tgv_format.{path.stem}"
        for path in sorted((ROOT / "tgv_format").glob("[a-z]*.py"))
        # Makes models of trained networks.
        if path.stem != "illm_derivation"
    ),
    "refdec.baseline",
    "refdec.camera",
    "refdec.interpolation",
    "refdec.keyframes.av1",
    "refdec.keyframes.ffmpeg",
    "refdec.keyframes.vvc",
    "refdec.motion",
    "refdec.sampling",
]

#: What in these modules is not decoding, by the end of a function's name: why.
OTHER = {
    "encode": "refuses parameters that cannot be coded",
    "clip.validate": "is for encoders",
    "group.validate": "is for encoders",
    "group._sections": "writes an encoder's groups",
    "Writer.group": "writes an encoder's groups",
    "text.validate": "is for encoders",
    "trajectories.validate": "is for encoders",
    "flow_tokens.validate": "is for encoders",
    "camera_poses.validate": "is for encoders",
    "masks.validate": "is for encoders",
    "interpolation.validate": "is for encoders",
    "trajectories.canonical": "puts an encoder's points in order",
    "level_for": "chooses an encoder's level",
    "syntax.build": "writes headers",
    "vvc.join": "writes an encoder's units",
    "cost": "is the rate of an encoder's decisions",
    "Cost.__init__": "is the rate of an encoder's decisions",
    "Cost._code": "is the rate of an encoder's decisions",
    "_fail": "is an encoder's, or abstract",
    "BinaryCoder._code": "is abstract",
    "resynchronise": "conceals",
    "_stuck": "conceals",
    "step_size": "serves generators, which may use poses as matrices",
    "Interval.inside": "serves generators, which may use poses as matrices",
    "matrices": "serves generators, which may use poses as matrices",
    "is_tokenizer": "serves generators, which may recover flow",
    "trajectories.Grid.inside": "is for encoders",
    "illm_model.read": "reads model files, which are no vectors",
    "illm_model._Reader.model": "reads model files, which are no vectors",
    "illm_model._Reader._layers": "reads model files, which are no vectors",
    "illm_model._Reader._array": "reads model files, which are no vectors",
    "illm._quantised": "is for encoders",
    "illm.encode_symbols": "is for encoders",
    "illm.dequantised": "is for encoders",
    "Model.latent_channels": "is for encoders",
    "SymbolCoder._code": "is abstract",
}

#: Conditions whose other outcome is not decoding, by function and text.
ONE_WAY = {
    ("Reader", "self._conceal is None"): "conceals",
    ("Reader.__iter__", "self._stuck(error) and (not self._units.resynchronise())"): "conceals",
    ("Reader.__iter__", "error.path.startswith('clip')"): "conceals",
    ("_error", "self.decoder"): "refuses parameters that cannot be coded",
    ("TgvError.__init__", "identifier not in IDENTIFIERS"): "would be an error of the program",
    ("Picture.__post_init__", ""): "would be an error of the program",
    ("syntax._join", "element"): "would be an error of an element without a name",
    ("tables.load", "_INSTALLED.is_dir()"): "depends on the installation",
    ("flow_tokens._amplitudes", "with_flow(params) is None"): "would be an error of the program",
    ("Motion.labels_of", "span is not None"): "is for encoders, which place points of their own",
    ("baseline.reconstruct", "frames is None"): "is for encoders, which want all frames",
    ("baseline.reconstruct", "wanted"): "selects frames",
    ("interpolation._vectors", "vectors is None"): "is for encoders",
}


def decode_all() -> None:
    """Every vector, with a trace, and every valid one back to the bytes that it came from."""
    from conformance import expect, manifest
    from refdec import keyframes
    from tgv_format.clip import Clip
    from tgv_format.errors import TgvError
    from tgv_format.generator_hint import GeneratorHint
    from tgv_format.keyframe import Codec, Keyframe
    from tgv_format.reader import Reader
    from tgv_format.writer import Writer

    for vector in manifest.vectors():
        data = vector.stream_path.read_bytes()
        if vector.valid and (len(data) > 60_000 or vector.name == "text-bytes"):
            # Takes long, and no branch that others do not take.
            continue
        if vector.valid:
            small = len(data) <= 4096
            (expect.valid if small else expect.decode)(data, vector.classes)
        else:
            with pytest.raises(TgvError):
                expect.decode(data, vector.classes)
        if len(data) > 4096:
            continue
        try:
            reader = Reader(io.BytesIO(data), trace=lambda record: None)
            units = list(reader)
            for unit in units:
                if vector.learned and isinstance(unit, Keyframe) and unit.codec is Codec.ILLM:
                    size = reader.header.width, reader.header.height
                    keyframes.latents(unit, *size, trace=lambda record: None)
        except TgvError:
            continue
        if not vector.valid or vector.base is not None or "group" in vector.features:
            # Units do not tell in which groups they stood.
            continue
        out = io.BytesIO()
        writer = Writer(out, reader.header)
        write: dict[type, Any] = {
            Keyframe: writer.keyframe,
            Clip: writer.clip,
            GeneratorHint: writer.generator_hint,
        }
        for unit in units[:-1]:
            write[type(unit)](unit)
        writer.finish()
        assert out.getvalue() == data, vector.name


def is_decoding(branch: Branch) -> bool:
    name = f"{branch.module}.{branch.function}"
    if any(name.endswith(f".{other}") for other in OTHER):
        return False
    return not any(
        function in name and text in branch.condition and (text or function == "Picture.__post_init__")
        for function, text in ONE_WAY
    )


def test_vectors_take_every_branch() -> None:
    every, taken = measure(MODULES, ["tgv_format", "refdec", "conformance"], decode_all)
    decoding = {branch for branch in every if is_decoding(branch)}
    assert len(decoding) > 600
    missed = sorted(decoding - taken, key=lambda branch: (branch.module, branch.line))
    assert not missed, "\n".join(map(str, missed))


def test_a_branch_that_is_not_taken_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "def sign(x):\n    if x > 0:\n        return 1\n    for _ in range(x):\n        pass\n    return -1\n"
    )
    (tmp_path / "measured_module.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def run() -> None:
        __import__("measured_module").sign(1)

    every, taken = measure(["measured_module"], ["measured_module"], run)
    assert {(b.line, b.what) for b in every - taken} == {(2, "False"), (4, "entered")}
