"""A network that predicts indices from those coded before, in fixed point, for entropy coding.

A small sibling of :mod:`lic.networks.restorer`: codewords and a mask in, vectors out, attention in
windows and convolutions. Whatever it computes decides about probabilities, so all of it is made of
the exact layers of :mod:`lic.coding`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lic.coding.fixed import FixedConv2d, FixedLeakyReLU, to_grid
from lic.coding.fixed_attention import FixedWindowAttention

__all__ = ["IndexPrior", "IndexPriorShape"]

_RUNG_SCALE = 16.0


@dataclass(frozen=True)
class IndexPriorShape:
    """Widths and depths.

    Attributes:
        embed: Channels of a codeword.
        width: Channels inside.
        blocks: Pairs of attention and convolution.
        heads, window: Of attention.
        bottom, top: Bits of an index at the coarsest and finest rung.
    """

    embed: int = 8
    width: int = 96
    blocks: int = 4
    heads: int = 4
    window: int = 8
    bottom: int = 3
    top: int = 12


class _Block(nn.Module):
    """Attention, then a 3x3 convolution and one that mixes channels, both on a residual stream."""

    def __init__(self, shape: IndexPriorShape, shift: int):
        super().__init__()
        width = shape.width
        self.attention = FixedWindowAttention(width, shape.heads, shape.window, shift)
        self.conv = FixedConv2d(width, width, 3)
        self.act = FixedLeakyReLU()
        self.mix = FixedConv2d(width, width)
        for last in (self.attention.out, self.mix):
            with torch.no_grad():
                last.weight.mul_((2 * shape.blocks) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, width, h, w)`` of the same."""
        x = to_grid(x + self.attention(x))
        return to_grid(x + self.mix(self.act(self.conv(x))))


class IndexPrior(nn.Module):
    """Codewords and a mask to vectors whose products with codewords are log probabilities.

    Args:
        shape: Widths and depths.
    """

    def __init__(self, shape: IndexPriorShape):
        super().__init__()
        self.shape = shape
        half = shape.window // 2
        self.stem = FixedConv2d(shape.embed + 2, shape.width, 3)
        self.blocks = nn.ModuleList(_Block(shape, half * (i % 2)) for i in range(shape.blocks))
        self.act = FixedLeakyReLU()
        self.out = FixedConv2d(shape.width, shape.embed)

    def forward(self, codewords: Tensor, known: Tensor, rung: Tensor) -> Tensor:
        """Return ``(N, embed, h, w)``.

        Args:
            codewords: ``(N, embed, h, w)``, on the grid in exact mode.
            known: ``(N, 1, h, w)``, 1 where the index is known and 0 elsewhere.
            rung: ``(N,)`` bits of the indices.
        """
        plane = (rung.to(codewords) / _RUNG_SCALE)[:, None, None, None].expand_as(known)
        x = self.stem(torch.cat([codewords * known, 1 - known, plane], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.out(self.act(x))

    @staticmethod
    def logits(vectors: Tensor, codebook: Tensor) -> Tensor:
        """Return log probabilities up to a constant, ``(n, K)``.

        Args:
            vectors: ``(n, embed)``.
            codebook: ``(K, embed)`` of one rung, on the grid in exact mode.
        """
        return to_grid(vectors @ codebook.T)
