"""How the decoder interpolates a clip: how much it sharpens, and what corrects the motion that it finds.

Corrections are a vector a frame, for unsteady cameras, and the lowest frequencies of the motion that is still
missing, as flow tokens, for what does not move straight on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refdec.baseline import renderer
from refdec.interpolation import sharpened
from refdec.sampling import Anchor
from refenc import flow_tokens
from refenc.flow_tokens import FlowAnalysis, FlowOptions
from refenc.guidance import Guidance
from refenc.smooth import DenseFlow, Ground, texture
from tgv_format.clip import Clip
from tgv_format.flow_tokens import FlowTokens
from tgv_format.interpolation import HIGHEST, LOWEST, MAX_SHARP, Interpolation, Mode, Vectors, no_vectors
from tgv_format.picture import Picture, Plane

# Of the side of pictures: optical flow of smaller ones says nothing.
_LEAST = 48
# Of the blur whose difference from a picture is its detail, in luma samples; and eighths of sharpening by how
# much more detail the original has. The first by LPIPS of clips at 3 to 15 kbit/s; more than the second gains
# little LPIPS at 5 kbit/s and costs up to .01 of MS-SSIM.
_BLUR, _SHARPEN = 2.0, 6.0

_MOTION = Interpolation(Mode.INTERPOLATED, 0, no_vectors())

# Tried numbers of tokens, and the mean error of quantising them in luma samples.
_TOKENS, _FLOOR = (6, 20), 1.0

Floats = NDArray[np.float32]
Planes = Sequence[Plane]
Pictures = Sequence[Picture]


def plain(originals: Pictures, first: Anchor, last: Anchor) -> Iterator[tuple[Guidance, list[Picture]]]:
    """A cross-fade, and motion as the decoder finds it, for a clip's frames 0 to L, and what each makes of
    1 to L."""
    length = len(originals) - 1
    ends = first.picture, last.picture
    sharp = sharpness([originals[0], originals[-1]], ends)
    found = Guidance(interpolation=Interpolation(Mode.GUIDED, sharp, no_vectors()))
    yield found, rendered(found.clip(length), first, last)
    if length > 1:
        frames = rendered(Clip(length, interpolation=_MOTION), first, last)
        section = replace(_MOTION, sharp=sharpness(originals, [ends[0], *frames]))
        yield Guidance(interpolation=section), [sharpened(frame, section.sharp) for frame in frames]


def corrected(
    originals: Pictures, first: Anchor, last: Anchor, sharp: int
) -> Iterator[tuple[Guidance, list[Picture]]]:
    """Corrections of the motion of a clip's frames 0 to L worth trying, and what each makes of 1 to L."""
    length = len(originals) - 1
    if length < 2 or min(first.picture.y.shape) < _LEAST:
        return
    inner = [picture.y for picture in originals[1:-1]]
    section = replace(_MOTION, sharp=sharp)
    missing = _flows(inner, rendered(Clip(length, interpolation=_MOTION), first, last))
    vectors = _vectors(missing)
    if vectors.any():
        section = Interpolation(Mode.CORRECTED, sharp, vectors)
        frames = rendered(Clip(length, interpolation=replace(section, sharp=0)), first, last)
        yield Guidance(interpolation=section), [sharpened(frame, sharp) for frame in frames]
        missing = _flows(inner, frames)
    for tokens in _tokens(inner, missing):
        found = Guidance(Ground(tokens), interpolation=section)
        yield found, rendered(found.clip(length), first, last)


def rendered(clip: Clip, first: Anchor, last: Anchor) -> list[Picture]:
    """A clip's frames 1 to L."""
    frame = renderer(clip, [first, last])
    return [frame(t) for t in range(1, clip.frame_count + 1)]


def sharpness(originals: Pictures, made: Pictures) -> int:
    """By how many eighths to sharpen ``made`` for as much detail as the ``originals`` have."""
    # A grey picture has no detail, and needs none.
    ratio = (_detail(originals) + 1e-3) / (_detail(made) + 1e-3)
    return int(np.clip(round(_SHARPEN * (ratio - 1)), 0, MAX_SHARP))


def _detail(pictures: Pictures) -> float:
    import cv2

    total = 0.0
    for picture in pictures[:: max(1, len(pictures) // 4)]:
        values = picture.y.astype(np.float32)
        total += float(np.abs(values - cv2.GaussianBlur(values, (0, 0), _BLUR)).mean())
    return total


def _flows(originals: Planes, made: Pictures) -> list[Floats]:
    """The motion from each original to what was made of it at half the size, float32 [h, w, 2]."""
    import cv2

    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    pairs = ((a, b.y) for a, b in zip(originals, made, strict=False))
    halves = ([np.ascontiguousarray(plane[::2, ::2]) for plane in pair] for pair in pairs)
    return [flow.calc(a, b, None) for a, b in halves]


def _vectors(flows: Sequence[Floats]) -> Vectors:
    """The median of every flow in quarters of a luma sample."""
    medians = [np.median(flow[4:-4, 4:-4].reshape(-1, 2), 0) for flow in flows]
    # Of pictures at half the size.
    return np.clip(np.rint(8 * np.array(medians)), LOWEST, HIGHEST).astype(np.int8)


def _tokens(originals: Planes, flows: Sequence[Floats]) -> Iterator[FlowTokens]:
    """Tokens of several counts that say the flows of a clip's inner frames, and nothing in the last one."""
    height, width = originals[0].shape
    y, x = np.mgrid[4:height:8, 4:width:8].reshape(2, -1)
    vectors = np.array([2.0 * flow[y // 2, x // 2] for flow in flows])
    weights = np.array([texture(plane)[y, x] for plane in originals], np.float64)
    places = np.stack([x, y], 1).astype(np.float64)
    dense = DenseFlow(places, vectors, weights, (height, width))
    for count in _TOKENS:
        fitted = np.concatenate([dense.fit(vectors, count), np.zeros((1, 2, count))])
        tokens = flow_tokens.choose(FlowAnalysis(fitted, 0.0), FlowOptions(count, _FLOOR, share=0.0))
        if tokens.tokens.any():
            yield tokens
