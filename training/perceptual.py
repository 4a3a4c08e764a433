"""Features for a perceptual loss, learned from the training pictures alone by k-means, layer by layer.

The distance has the form of LPIPS: features normalised to unit length at every position, squared differences.
Features that were learned without labels, even by stacked k-means, agree with people nearly as well as those
of classifiers do (Zhang et al., CVPR 2018, table 5), and need no weights that were trained on other pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional

#: Size, stride and number of the filters of each layer; a halving by maxima stands before all but the first.
LAYERS = ((7, 2, 48), (3, 1, 96), (3, 1, 128), (3, 1, 160))
_PATCHES = 40_000
_WHITENING = 0.05


class Features(nn.Module):
    """Convolutions with rectifiers; ``forward`` is the distance (B,) of pictures (B, 3, H, W) in 0 .. 1."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(count for _, _, count in LAYERS)]
        self.layers = nn.ModuleList(
            nn.Conv2d(inside, count, size, stride, padding=size // 2)
            for inside, (size, stride, count) in zip(widths, LAYERS, strict=False)
        )
        self.requires_grad_(False)

    def taps(self, x: Tensor) -> list[Tensor]:
        """The features of each layer at unit length."""
        x, taps = 4 * x - 2, []
        for i, layer in enumerate(self.layers):
            if i:
                x = functional.max_pool2d(x, 2)
            x = functional.relu(layer(x))
            taps.append(x * torch.rsqrt(x.square().sum(1, keepdim=True) + 0.1))
        return taps

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(self.taps(a), self.taps(b), strict=True)
        return sum(((p - q) ** 2).sum(1).mean((1, 2)) for p, q in pairs)


@torch.no_grad()
def learn(pictures: Tensor, seed: int = 0) -> Features:
    """Features for pictures like these, (B, 3, H, W) in 0 .. 1."""
    features, rng = Features(), np.random.default_rng(seed)
    x = 4 * pictures - 2
    for i, layer in enumerate(features.layers):
        if i:
            x = functional.max_pool2d(x, 2)
        columns = functional.unfold(x, layer.kernel_size, stride=layer.stride)
        patches = columns.transpose(1, 2).reshape(-1, columns.shape[1]).numpy()
        patches = patches[rng.permutation(len(patches))[:_PATCHES]].astype(np.float64)
        centred = patches - patches.mean(0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        whitening = vectors / np.sqrt(values + _WHITENING * values.mean()) @ vectors.T
        white = centred @ whitening
        white /= np.linalg.norm(white, axis=1, keepdims=True) + 1e-6
        clusters = MiniBatchKMeans(layer.out_channels, batch_size=4096, n_init=1, random_state=seed).fit(
            white
        )
        filters = clusters.cluster_centers_ @ whitening
        filters /= (centred @ filters.T).std(0)[:, None]
        layer.weight.copy_(torch.from_numpy(filters).reshape(layer.weight.shape))
        layer.bias.copy_(torch.from_numpy(-filters @ patches.mean(0)))
        x = functional.relu(layer(x))
    return features
