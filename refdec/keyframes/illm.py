"""The network of learned keyframes: a HiFiC autoencoder with a mean-scale hyperprior (clause 7.6).

Modules and parameters are named as in the published checkpoints of MS-ILLM (NeuralCompression,
``HiFiCAutoencoder``), so that these load by name. Only the pictures depend on this module: symbols and
latents are decoded in integers by :mod:`tgv_format.illm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn
from torch.nn import functional

#: Pictures are padded to multiples of this: four halvings to the latents, two more to the hyper latents.
FACTOR = 64

ENCODER_WIDTHS = (60, 120, 240, 480, 960)
GENERATOR_WIDTHS = (960, 480, 240, 120, 60)


class Output(NamedTuple):
    """What :meth:`HiFiCAutoencoder.forward` computes, all float32.

    ``image`` is the reconstruction (B, 3, H, W). ``y``, ``means``, ``scales``, ``y_hat`` and
    ``y_likelihoods`` are (B, N, h, w), with h = ⌈H/64⌉ · 4 and w = ⌈W/64⌉ · 4; ``z``, ``z_hat`` and
    ``z_likelihoods`` are (B, M, h/4, w/4).
    """

    image: Tensor
    y: Tensor
    z: Tensor
    means: Tensor
    scales: Tensor
    y_hat: Tensor
    z_hat: Tensor
    y_likelihoods: Tensor
    z_likelihoods: Tensor


class ChannelNorm(nn.Module):
    """Normalisation over the channels at each sample, with the unbiased variance (HiFiC)."""

    def __init__(self, channels: int, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        return self.gamma * ((x - mean) * torch.rsqrt(variance + self.epsilon)) + self.beta


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sequence = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            ChannelNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            ChannelNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sequence(x)


class Encoder(nn.Module):
    """Pictures (B, in_channels, H, W) to latents (B, latent_features, H/16, W/16)."""

    def __init__(self, in_channels: int, latent_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Conv2d(in_channels, first, 7, padding=3), ChannelNorm(first), nn.ReLU()),
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), ChannelNorm(b), nn.ReLU())
                for a, b in pairwise(widths)
            ),
            nn.Conv2d(last, latent_features, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.blocks(image)


class Generator(nn.Module):
    """Latents (B, latent_features, h, w) to pictures (B, in_channels, 16 h, 16 w), not clamped."""

    def __init__(self, in_channels: int, latent_features: int, blocks: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.block_0 = nn.Sequential(
            ChannelNorm(latent_features),
            nn.Conv2d(latent_features, first, 3, padding=1),
            ChannelNorm(first),
        )
        self.resid_blocks = nn.Sequential(*(ResidualBlock(first) for _ in range(blocks)))
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1),
                    ChannelNorm(b),
                    nn.ReLU(),
                )
                for a, b in pairwise(widths)
            ),
            nn.Conv2d(last, in_channels, 7, padding=3),
        )

    def forward(self, y_hat: Tensor) -> Tensor:
        head = self.block_0(y_hat)
        return self.blocks(head + self.resid_blocks(head))


def hyper_analysis(latent_features: int, hyper_features: int) -> nn.Sequential:
    """Latents (B, latent_features, h, w) to hyper latents (B, hyper_features, h/4, w/4)."""
    return nn.Sequential(
        nn.Conv2d(latent_features, hyper_features, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hyper_features, hyper_features, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(hyper_features, hyper_features, 5, stride=2, padding=2),
    )


def hyper_synthesis(latent_features: int, hyper_features: int) -> nn.Sequential:
    """Hyper latents (B, hyper_features, h/4, w/4) to parameters of latents (B, latent_features, h, w)."""
    return nn.Sequential(
        nn.ConvTranspose2d(hyper_features, hyper_features, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(hyper_features, hyper_features, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.Conv2d(hyper_features, latent_features, 3, padding=1),
    )


class HyperBottleneck(EntropyBottleneck):
    """compressai's bottleneck with its parameters named as the checkpoints have them (``_matrix0``)."""

    _NAMES = (("matrices.", "_matrix"), ("biases.", "_bias"), ("factors.", "_factor"))

    def __init__(self, channels: int) -> None:
        super().__init__(channels, filters=(3, 3, 3, 3))
        self._register_state_dict_hook(self._to_published)
        self.register_load_state_dict_pre_hook(self._from_published)

    @staticmethod
    def _to_published(module: HyperBottleneck, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
        for key in [key for key in state if key.startswith(prefix)]:
            for ours, published in module._NAMES:
                if key.startswith(prefix + ours):
                    state[prefix + published + key.removeprefix(prefix + ours)] = state.pop(key)

    @staticmethod
    def _from_published(module: HyperBottleneck, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
        _keep_tables(module, state, prefix)
        for key in [key for key in state if key.startswith(prefix)]:
            for ours, published in module._NAMES:
                if key.startswith(prefix + published):
                    state[prefix + ours + key.removeprefix(prefix + published)] = state.pop(key)


class LatentBottleneck(GaussianConditional):
    """compressai's Gaussian model, without the tables of the checkpoint."""

    def __init__(self) -> None:
        super().__init__(None)
        self.register_load_state_dict_pre_hook(_keep_tables)


def _keep_tables(module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    """Tables may be in a checkpoint, of any size, or not: they follow from its parameters."""
    for name in ("_offset", "_quantized_cdf", "_cdf_length", "scale_table"):
        if hasattr(module, name):
            state[prefix + name] = getattr(module, name)


class HiFiCAutoencoder(nn.Module):
    """Autoencoder and hyperprior of HiFiC and MS-ILLM.

    ``latent_features`` are the channels N of the latents y, ``hyper_features`` the channels M of the hyper
    latents z. ``encoder_widths`` and ``generator_widths`` are the five widths of encoder and generator.
    Pictures are RGB in 0 .. 1, float32 (B, 3, H, W). The defaults are those of the published checkpoints.
    """

    def __init__(
        self,
        in_channels: int = 3,
        latent_features: int = 220,
        hyper_features: int = 320,
        num_residual_blocks: int = 9,
        encoder_widths: Sequence[int] = ENCODER_WIDTHS,
        generator_widths: Sequence[int] = GENERATOR_WIDTHS,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, latent_features, encoder_widths)
        self.decoder = Generator(in_channels, latent_features, num_residual_blocks, generator_widths)
        self.hyper_analysis = hyper_analysis(latent_features, hyper_features)
        self.hyper_synthesis_mean = hyper_synthesis(latent_features, hyper_features)
        self.hyper_synthesis_scale = hyper_synthesis(latent_features, hyper_features)
        self.hyper_bottleneck = HyperBottleneck(hyper_features)
        self.latent_bottleneck = LatentBottleneck()

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> HiFiCAutoencoder:
        """The network of a checkpoint, which tells its shape.

        KeyError or RuntimeError when the checkpoint is that of another kind of network.
        """

        def width(name: str, axis: int = 0) -> int:
            return int(state[f"{name}.weight"].shape[axis])

        blocks = {name.split(".")[2] for name in state if name.startswith("decoder.resid_blocks.")}
        encoder = [width(f"encoder.blocks.{i}.0") for i in range(5)]
        generator = [width("decoder.block_0.1"), *(width(f"decoder.blocks.{i}.0", 1) for i in range(4))]
        network = cls(
            width("encoder.blocks.0.0", 1),
            width("encoder.blocks.5"),
            width("hyper_analysis.0"),
            len(blocks),
            encoder,
            generator,
        )
        network.load_state_dict(state)
        return network

    def analyse(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Latents y and hyper latents z of pictures of any size, neither quantised."""
        y = self.encoder(pad(image))
        return y, self.hyper_analysis(y)

    def reconstruct(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        """Pictures of ``height`` x ``width``, 0 .. 1, from latents."""
        return self.decoder(y_hat)[..., :height, :width].clamp(0, 1)

    def forward(self, image: Tensor, step: Tensor | float = 1.0) -> Output:
        """Code pictures as far as their likelihoods.

        ``step``, (B, 1, 1, 1) or a number, is that of the quantiser of y. In training mode the likelihoods
        are those of latents with uniform noise, and gradients pass through the rounding of what the
        synthesis transforms get.
        """
        y, z = self.analyse(image)
        _, z_likelihoods = self.hyper_bottleneck(z)
        medians = self.hyper_bottleneck.quantiles[:, 0, 1].detach().view(1, -1, 1, 1)
        z_hat = _rounded(z - medians) + medians
        means = self.hyper_synthesis_mean(z_hat)
        scales = self.hyper_synthesis_scale(z_hat)
        residual = (y - means) / step
        _, y_likelihoods = self.latent_bottleneck(residual, scales / step)
        y_hat = _rounded(residual) * step + means
        height, width = image.shape[-2:]
        picture = self.decoder(y_hat)[..., :height, :width]
        if not self.training:
            picture = picture.clamp(0, 1)
        return Output(picture, y, z, means, scales, y_hat, z_hat, y_likelihoods, z_likelihoods)


def pad(image: Tensor) -> Tensor:
    """Pictures continued at the right and at the bottom to multiples of :data:`FACTOR`.

    They are mirrored, as upstream has it; where they are too small for that, their last column or row is
    repeated.
    """
    for axis, padding in ((-1, (0, 1, 0, 0)), (-2, (0, 0, 0, 1))):
        size = image.shape[axis]
        missing = -size % FACTOR
        mode = "reflect" if missing < size else "replicate"
        image = functional.pad(image, [missing * side for side in padding], mode=mode)
    return image


def _rounded(x: Tensor) -> Tensor:
    """``x`` rounded to integers, with the gradient of ``x``."""
    return x + (torch.round(x) - x).detach()
