"""Semantic similarity by the image tower of CLIP (A. Radford et al., 2021), as T-GVC has it."""

from __future__ import annotations

import numpy as np
import torch

from refenc.backends import images, weights
from refenc.semantics import Descriptor, Semantics
from tgv_format.picture import Colour, Picture

MODEL = "openai/clip-vit-base-patch32"


def load(model: str | None, colour: Colour) -> Semantics:
    """The backend; ``model`` is a folder or a name in the cache. OSError when it is not there."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    name = model or MODEL
    tower = weights.read(name, CLIPVisionModelWithProjection.from_pretrained).eval().to(images.device())
    processor = weights.read(name, CLIPImageProcessor.from_pretrained)

    def describe(picture: Picture) -> Descriptor:
        inputs = processor(images=images.image(picture, colour), return_tensors="pt").to(images.device())
        with torch.inference_mode():
            found = tower(**inputs).image_embeds[0].float()
        return (found / found.norm()).cpu().numpy()

    return Semantics(describe, cosine)


def cosine(a: Descriptor, b: Descriptor) -> float:
    """Cosine similarity of descriptors of length 1; opposites are as little alike as strangers."""
    return float(np.clip(np.dot(a.astype(np.float64), b), 0, 1))
