"""Boxes around what is named, by an open-vocabulary detector (OWLv2, M. Minderer et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from refenc.backends import images, weights
from tgv_format.picture import Colour, Picture

MODEL = "google/owlv2-base-patch16-ensemble"
_THRESHOLD = 0.2

Box = tuple[float, float, float, float]
Detector = Callable[[Picture, Sequence[str]], list[Box]]


def load(model: str | None, colour: Colour, threshold: float = _THRESHOLD) -> Detector:
    """From a picture and names to boxes (left, top, right, bottom) in luma samples, the surest first.

    ``model`` is a folder or a name in the cache. OSError when it is not there.
    """
    from transformers import Owlv2ForObjectDetection, Owlv2Processor

    name = model or MODEL
    network = weights.read(name, Owlv2ForObjectDetection.from_pretrained).eval().to(images.device())
    processor = weights.read(name, Owlv2Processor.from_pretrained)

    def detect(picture: Picture, names: Sequence[str]) -> list[Box]:
        if not names:
            return []
        texts = [[f"a photo of a {noun}" for noun in names]]
        shown = images.image(picture, colour)
        inputs = processor(text=texts, images=shown, return_tensors="pt").to(images.device())
        with torch.inference_mode():
            outputs = network(**inputs)
        sizes = torch.tensor([shown.shape[:2]])
        (found,) = processor.post_process_grounded_object_detection(outputs, threshold, sizes)
        order = torch.argsort(found["scores"], descending=True, stable=True)
        return [(a, b, c, d) for a, b, c, d in found["boxes"][order].tolist()]

    return detect
