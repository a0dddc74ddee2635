"""Dense feature enhancement before the analysis and, reversed, after the synthesis.

One set of weights for both (S2LIC; the module is that of InvCompress, Xie et al. 2021,
arXiv 2108.03690), here on 4x4 blocks instead of pixels, at an eighth of the cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DenseEnhancement"]

_BLOCK = 4
_CHANNELS = 3 * _BLOCK * _BLOCK
_LEVELS = 64.0


class DenseEnhancement(nn.Module):
    """x + f(x) forward and x - f(x) back, where f is a dense block (Huang et al. 2017).

    Args:
        growth: Channels that each layer adds.
        layers: Before the last one.
    """

    def __init__(self, growth: int = 32, layers: int = 3):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(_CHANNELS + i * growth, growth, 3, padding=1) for i in range(layers)
        )
        self.out = nn.Conv2d(_CHANNELS + layers * growth, _CHANNELS, 3, padding=1)
        # Nothing at first: the linear path starts at the statistics of plain pictures.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, levels: Tensor) -> Tensor:
        """Return enhanced levels, float32 ``(N, 3, H, W)``; sides are multiples of 4."""
        return levels + self._features(levels)

    def reverse(self, levels: Tensor) -> Tensor:
        """Return levels without what :meth:`forward` adds, as far as this can be known."""
        return levels - self._features(levels)

    def _features(self, levels: Tensor) -> Tensor:
        blocks = (F.pixel_unshuffle(levels, _BLOCK) / _LEVELS).to(self.out.weight.dtype)
        found = [blocks.contiguous(memory_format=torch.channels_last)]
        for layer in self.layers:
            found.append(F.leaky_relu(layer(torch.cat(found, dim=1)), 0.125))
        return _LEVELS * F.pixel_shuffle(self.out(torch.cat(found, dim=1)).float(), _BLOCK)
