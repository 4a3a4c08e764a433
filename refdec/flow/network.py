"""The networks of learned flow tokens (tokenizer 1 of specification clause 9.4).

After Dynamics-Codec: the encoder sees the keyframe and the motion of a few points, a U-Net makes features of
them, and two vectorisers (convolutions and GDN) make the tokens, K for each component of the flow. The
decoder's U-Net recovers dense flow from the tokens and the keyframe.

Both halves add what they have learned to what can be done without learning: tokens are amplitudes of the
cosines of tokenizer 0 to begin with, and the networks correct them and what they give. Both scale with the
motion: twice the motion has twice the tokens, none has zeros.

Pictures are seen at the size of :data:`refdec.flow.GRID`, on which flow is in grid samples, (x, y), from the
keyframe to another frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from compressai.layers import GDN
from torch import Tensor, nn
from torch.nn import functional

from refdec.flow import GRID
from tgv_format.flow_tokens import FREQUENCIES

TOKENS = 20

#: Of the U-Nets, at a half, a quarter, an eighth and a sixteenth of the grid.
_WIDTHS = (16, 32, 64, 96)
_FEATURES = 16
_VECTORISER = (32, 48, 64)
#: Standard deviations, in grid samples, of the Gaussians that spread the motion of points, the finest first.
_SPREAD = (2.0, 5.0, 12.0, 30.0)
#: Weight of what points farther away say, relative to a point that is there.
_FARTHER = 0.1
_LITTLE = 1e-6


class UNet(nn.Module):
    """(B, C, h, w) to (B, N, h, w) with skip connections, ``widths`` channels at every halving.

    Its last layer is zero at first. h and w are multiples of 2 ** (len(widths) - 1).
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        before = inputs
        for level, width in enumerate(widths):
            self.down.append(_block(before, width, 2 if level else 1))
            before = width
        for width in reversed(widths[:-1]):
            self.up.append(_block(before + width, width))
            before = width
        self.last = nn.Conv2d(before, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop()], 1))
        return self.last(x)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.SiLU(),
    )


def cosines(tokens: int = TOKENS) -> Tensor:
    """float32 (K, *GRID): the functions that tokens are amplitudes of, of mean square 1."""
    planes = []
    for u, v in FREQUENCIES[:tokens]:
        sides = []
        for frequency, size in ((v, GRID[0]), (u, GRID[1])):
            wave = torch.cos(torch.pi * frequency * (torch.arange(size, dtype=torch.float64) + 0.5) / size)
            sides.append(wave * (2**0.5 if frequency else 1.0))
        planes.append(torch.outer(*sides))
    return torch.stack(planes).float()


class _Scaled(nn.Module):
    """What both halves share: the cosines, and pictures that are as fine as the finest features."""

    cosines: Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.register_buffer("cosines", cosines(tokens), persistent=False)
        self.fold, self.unfold = nn.PixelUnshuffle(2), nn.PixelShuffle(2)

    def project(self, flow: Tensor) -> Tensor:
        """The amplitudes (B, 2, K) of the cosines in flow (B, 2, *GRID)."""
        return torch.einsum("bchw,khw->bck", flow, self.cosines) / (GRID[0] * GRID[1])


class Analysis(_Scaled):
    """From keyframe (B, 3, *GRID) in 0 .. 1, motion (B, 2, *GRID) and mask (B, 1, *GRID) of points to tokens
    (B, 2, K). The mask is 1 where motion is given; there is some."""

    def __init__(self, tokens: int = TOKENS) -> None:
        super().__init__(tokens)
        self.unet = UNet(4 * (3 + 2 + 2 + 1), 4 * 2 + _FEATURES, _WIDTHS)
        self.horizontal = _vectoriser(tokens)
        self.vertical = _vectoriser(tokens)

    def forward(self, keyframe: Tensor, motion: Tensor, mask: Tensor) -> Tensor:
        count = mask.sum((1, 2, 3), keepdim=True)
        scale = ((motion * mask).square().sum((1, 2, 3), keepdim=True) / count).sqrt()
        motion = motion * mask / (scale + _LITTLE)
        start = spread(motion, mask)
        found = self.unet(torch.cat([self.fold(x) for x in (keyframe - 0.5, start, motion, mask)], 1))
        dense, features = found.split([8, _FEATURES], 1)
        correction = torch.stack([self.horizontal(features), self.vertical(features)], 1)
        return scale[..., 0] * (self.project(start + self.unfold(dense)) + correction)


def _vectoriser(tokens: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = _FEATURES
    for width in _VECTORISER:
        layers += [nn.Conv2d(before, width, 5, stride=2, padding=2), GDN(width)]
        before = width
    last = nn.Linear(before * GRID[0] * GRID[1] // 4 ** (1 + len(_VECTORISER)), tokens)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, nn.Flatten(), last)


def spread(motion: Tensor, mask: Tensor) -> Tensor:
    """Motion everywhere (B, 2, h, w): means of the points around, as near as there are any.

    ``motion`` is zero where the mask (B, 1, h, w) is.
    """
    found = torch.cat([motion, mask], 1)
    result = motion.sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    for deviation in reversed(_SPREAD):
        near = _blur(found, deviation) * (2 * torch.pi * deviation**2)
        result = (near[:, :2] + _FARTHER * result) / (near[:, 2:] + _FARTHER)
    return result


def _blur(x: Tensor, deviation: float) -> Tensor:
    """Convolve (B, C, h, w) with a Gaussian of mass 1; zeros are around."""
    channels = x.shape[1]
    for axis in (2, 3):
        reach = min(round(3 * deviation), x.shape[axis] - 1)
        window = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / deviation) ** 2)
        shape = [channels, 1, 1, 1]
        shape[axis] = len(window)
        kernel = (window / window.sum()).view([1, 1, *shape[2:]]).expand(shape)
        padding = [0, 0]
        padding[axis - 2] = reach
        x = functional.conv2d(x, kernel.to(x.dtype), padding=padding, groups=channels)
    return x


class Synthesis(_Scaled):
    """From tokens (B, 2, K) and keyframe (B, 3, *GRID) in 0 .. 1 to flow (B, 2, *GRID)."""

    def __init__(self, tokens: int = TOKENS) -> None:
        super().__init__(tokens)
        self.unet = UNet(4 * (3 + 2), 4 * 2, _WIDTHS)

    def forward(self, tokens: Tensor, keyframe: Tensor) -> Tensor:
        # The little keeps the slope of the root finite.
        scale = (tokens.square().sum((1, 2)) + _LITTLE**2).sqrt()[:, None, None, None] - _LITTLE
        smooth = torch.einsum("bck,khw->bchw", tokens, self.cosines)
        seen = torch.cat([self.fold(keyframe - 0.5), self.fold(smooth / (scale + _LITTLE))], 1)
        return smooth + scale * self.unfold(self.unet(seen))


class FlowTokenizer(nn.Module):
    """Both halves, whose weights are one file."""

    def __init__(self, tokens: int = TOKENS) -> None:
        super().__init__()
        self.analysis = Analysis(tokens)
        self.synthesis = Synthesis(tokens)
