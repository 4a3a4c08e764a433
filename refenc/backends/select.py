"""The analyses that an encoder uses, by the names of their backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from refenc import flow, masks, poses, tracking
from refenc.backends import NAMES, named
from refenc.flow import FlowEstimator
from refenc.masks import Segmenter
from refenc.poses import Estimator
from refenc.semantics import SEMANTICS, Semantics
from refenc.tracking import Tracker
from tgv_format.picture import Colour, Picture

if TYPE_CHECKING:
    from refenc.learned_tokens import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Backends:
    """One analysis of every kind; the defaults need no weights. Without a ``captioner`` there is no caption
    but a given one, without a ``tokenizer`` tokens are of cosines."""

    tracker: Tracker = tracking.track
    semantics: Semantics = SEMANTICS["handcrafted"]
    masks: Segmenter = masks.dense_labels
    poses: Estimator = poses.estimate_tracks
    flow: FlowEstimator = flow.dis
    tokenizer: Tokenizer | None = None
    captioner: Callable[[Picture], str] | None = None


DEFAULT = Backends()


def select(chosen: Mapping[str, str], colour: Colour) -> Backends:
    """The backends of ``chosen``, for pictures of this ``colour``.

    For any kind of :data:`refenc.backends.NAMES` it has a name, or ``NAME=MODEL``; for ``language`` and
    ``detector``, which the masks of SAM 2 use, a model.

    ValueError for a name that is not known, OSError for weights that are not there, ModuleNotFoundError for
    packages that are not.
    """
    found = Backends()
    names = {kind: named(kind, chosen.get(kind, NAMES[kind][0])) for kind in NAMES}
    loaded: dict[str, object] = {}
    name, model = names["tracker"]
    if name == "cotracker":
        from refenc.backends import cotracker

        loaded["tracker"] = _one_at_a_time(cotracker.load(model, colour))
    name, model = names["semantics"]
    if name == "clip":
        from refenc.backends import clip

        semantics = clip.load(model, colour)
        loaded["semantics"] = Semantics(_one_at_a_time(semantics.describe), semantics.similarity)
    caption_name, caption_model = names["captioner"]
    name, model = names["masks"]
    if caption_name == "blip" or name == "sam2":
        from refenc.backends import blip

        captioner = _one_at_a_time(blip.load(caption_model, colour))
        if caption_name == "blip":
            loaded["captioner"] = captioner
    if name == "sam2":
        from refenc.backends import detector, nouns, sam2

        moving = nouns.load(chosen.get("language"))
        detect = detector.load(chosen.get("detector"), colour)
        loaded["masks"] = _one_at_a_time(sam2.load(model, colour, captioner, moving, detect))
    name, model = names["poses"]
    if name != "opencv":
        from refenc.backends import colmap

        loaders = {"pycolmap": colmap.load_pycolmap, "flowmap": colmap.load_flowmap}
        loaded["poses"] = _one_at_a_time(loaders[name](model))
    name, model = names["flow-backend"]
    if name == "raft":
        from refenc.backends import raft

        loaded["flow"] = _one_at_a_time(raft.load(model, colour))
    if name == "unimatch":
        from refenc.backends import unimatch

        loaded["flow"] = _one_at_a_time(unimatch.load(model, colour))
    backends = Backends(**{**vars(found), **loaded})
    name, model = names["flow-tokenizer"]
    if name == "learned":
        from refdec.flow import learned
        from refenc.learned_tokens import Tokenizer

        networks = learned.load(model or learned.DEFAULT)
        backends = replace(backends, tokenizer=Tokenizer(networks, colour, backends.flow))
    return backends


def _one_at_a_time(call: T) -> T:
    """``call``, by one thread at a time: clips are analysed in several, and models have one state."""
    lock = threading.Lock()

    def locked(*arguments: object) -> object:
        with lock:
            return call(*arguments)  # type: ignore[operator]

    return locked  # type: ignore[return-value]
