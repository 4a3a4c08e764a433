"""Masks by SAM 2 (N. Ravi et al., 2024) of what a caption says moves (CPSGD).

A captioner describes the first picture, a language model names what moves in the caption, a detector finds
it, and SAM 2 follows what is in the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from refenc.backends import images, weights
from refenc.backends.blip import Captioner
from refenc.backends.detector import Box, Detector
from refenc.backends.nouns import Namer
from refenc.instances import Labels as Instances
from refenc.masks import Labels, MaskOptions, Segmenter, renumber
from refenc.tracking import Tracks
from tgv_format.masks import plane_size
from tgv_format.picture import Colour, Picture

MODEL = "facebook/sam2.1-hiera-tiny"


def load(model: str | None, colour: Colour, caption: Captioner, moving: Namer, detect: Detector) -> Segmenter:
    """The segmenter; ``model`` is a folder or a name in the cache. OSError when it is not there."""
    from transformers import Sam2VideoModel, Sam2VideoProcessor

    name = model or MODEL
    network = weights.read(name, Sam2VideoModel.from_pretrained).eval().to(images.device())
    processor = weights.read(name, Sam2VideoProcessor.from_pretrained)

    def follow(pictures: Sequence[Picture], boxes: Sequence[Box]) -> torch.Tensor:
        """The logits of every object in every picture, float32 [frames, objects, height, width]."""
        video = [images.image(picture, colour) for picture in pictures]
        session = processor.init_video_session(video=video, inference_device=images.device())
        objects = list(range(1, len(boxes) + 1))
        prompts = [[list(box) for box in boxes]]
        processor.add_inputs_to_inference_session(session, 0, objects, input_boxes=prompts)
        sizes = [[session.video_height, session.video_width]]
        found = []
        with torch.inference_mode():
            for output in network.propagate_in_video_iterator(session, start_frame_idx=0):
                (planes,) = processor.post_process_masks([output.pred_masks], sizes, binarize=False)
                found.append(planes[:, 0].float().cpu())
        return torch.stack(found)

    def segment(
        pictures: Sequence[Picture], tracks: Tracks, instances: Instances, options: MaskOptions
    ) -> Labels:
        size = plane_size(pictures[0].width, pictures[0].height, options.scale_log2)
        boxes = detect(pictures[0], moving(caption(pictures[0])))[: options.objects]
        if not boxes:
            return np.zeros((len(pictures), *size), np.uint8)
        return label_planes(follow(pictures, boxes).numpy(), size, options)

    return segment


def label_planes(logits: NDArray[np.float32], size: tuple[int, int], options: MaskOptions) -> Labels:
    """uint8 [frames, h, w]: where one is likelier than not, the likeliest object of float32 [frames, objects,
    height, width]."""
    import cv2

    labels = np.zeros((len(logits), *size), np.uint8)
    side = 1 << options.scale_log2
    for plane, objects in zip(labels, logits, strict=True):
        padding = [(0, -length % side) for length in objects.shape[1:]]
        small = [
            cv2.resize(np.pad(o, padding, "edge"), size[::-1], interpolation=cv2.INTER_AREA) for o in objects
        ]
        best = np.argmax(small, axis=0)
        plane[:] = np.where(np.max(small, axis=0) > 0, best + 1, 0)
    return renumber(labels, options.objects)
