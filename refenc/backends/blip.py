"""Captions by BLIP (J. Li et al., 2022)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from refenc.backends import images, weights
from tgv_format.picture import Colour, Picture

MODEL = "Salesforce/blip-image-captioning-base"
_TOKENS = 40

Captioner = Callable[[Picture], str]


def load(model: str | None, colour: Colour) -> Captioner:
    """The captioner; ``model`` is a folder or a name in the cache. OSError when it is not there."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    name = model or MODEL
    network = weights.read(name, BlipForConditionalGeneration.from_pretrained).eval().to(images.device())
    processor = weights.read(name, BlipProcessor.from_pretrained)

    def caption(picture: Picture) -> str:
        inputs = processor(images=images.image(picture, colour), return_tensors="pt").to(images.device())
        with torch.inference_mode():
            tokens = network.generate(**inputs, max_new_tokens=_TOKENS, do_sample=False)
        return str(processor.decode(tokens[0], skip_special_tokens=True)).strip()

    return caption
