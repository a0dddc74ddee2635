"""Networks that guess lost codewords from those that arrived, for any grid and any rung.

They see vectors, not indices: zero where nothing is known, and a plane says so. So one network
serves every rung and grid, and convolutions or windows need no table of positions. They return
vectors; what they are nearest to is the guess (design after the project's own notes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.fixed_attention import FixedWindowAttention
from lic.networks.layers import ResidualBlock

__all__ = ["KINDS", "Restorer", "RestorerShape"]

KINDS = ("transformer", "conv")
_RUNG_SCALE = 16.0


@dataclass(frozen=True)
class RestorerShape:
    """Widths and depths.

    Attributes:
        kind: ``conv`` or ``transformer``.
        embed: Channels of a codeword.
        width: Channels inside.
        blocks: Residual blocks, or pairs of attention and perceptron.
        heads: Of attention.
        window: Side of the windows of attention, positions.
        bottom, top: Bits of an index at the coarsest and finest rung.
    """

    kind: str = "transformer"
    embed: int = 8
    width: int = 256
    blocks: int = 6
    heads: int = 4
    window: int = 8
    bottom: int = 3
    top: int = 12


class _TransformerBlock(nn.Module):
    """Attention, a depthwise convolution that sees across windows, a perceptron.

    The attention could be exact, but nothing here decides about symbols: it runs as floats do.
    """

    def __init__(self, shape: RestorerShape, shift: int):
        super().__init__()
        width = shape.width
        self.before = nn.LayerNorm(width)
        self.attention = FixedWindowAttention(width, shape.heads, shape.window, shift)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.between = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, h, w, width)`` of the same."""
        y = self.before(x).permute(0, 3, 1, 2)
        x = x + (self.attention(y) + self.local(y)).permute(0, 2, 3, 1)
        return x + self.outer(F.gelu(self.inner(self.between(x))))


class Restorer(nn.Module):
    """Vectors and a mask to vectors.

    Args:
        shape: Widths and depths.
    """

    def __init__(self, shape: RestorerShape):
        super().__init__()
        self.shape = shape
        width = shape.width
        self.stem = nn.Conv2d(shape.embed + 2, width, 3, padding=1)
        half = shape.window // 2
        self.blocks = nn.ModuleList(
            ResidualBlock(width, shape.blocks)
            if shape.kind == "conv"
            else _TransformerBlock(shape, half * (i % 2))
            for i in range(shape.blocks)
        )
        self.out = nn.Conv2d(width, shape.embed, 3, padding=1)
        # How sharply nearness to a codeword becomes a probability, for each rung.
        self.log_scale = nn.Parameter(torch.full((shape.top + 1,), 1.5))

    def forward(self, vectors: Tensor, trust: Tensor, rung: Tensor) -> Tensor:
        """Return guessed vectors ``(N, embed, h, w)`` float32, for known positions as well.

        Args:
            vectors: ``(N, embed, h, w)``, codewords.
            trust: ``(N, 1, h, w)``, 1 where the index was received, 0 where nothing is known.
            rung: ``(N,)`` bits of the indices.
        """
        plane = (rung.to(vectors) / _RUNG_SCALE)[:, None, None, None].expand_as(trust)
        x = torch.cat([vectors * trust, 1 - trust, plane], dim=1)
        x = self.stem(x.to(self.stem.weight.dtype))
        if self.shape.kind == "conv":
            for block in self.blocks:
                x = block(x)
        else:
            x = x.permute(0, 2, 3, 1)
            for block in self.blocks:
                x = block(x)
            x = x.permute(0, 3, 1, 2)
        return self.out(x.to(self.out.weight.dtype)).float()

    def logits(self, vectors: Tensor, codebook: Tensor, rung: int) -> Tensor:
        """Return log probabilities up to a constant, ``(n, K)``, of codewords.

        Args:
            vectors: ``(n, embed)`` that the network returned.
            codebook: ``(K, embed)`` of one rung.
            rung: Bits of its indices.
        """
        distance = codebook.square().sum(1) / 2 - vectors @ codebook.T
        return -distance * self.log_scale[rung].exp()

    def expected(self, codewords: Tensor, lost: Tensor, codebook: Tensor, rung: int) -> Tensor:
        """Return the mean codeword, by its probability, at each lost position, ``(n, embed)``.

        Args:
            codewords: ``(N, embed, h, w)``; those of lost positions are not looked at.
            lost: bool ``(N, h, w)``.
            codebook: ``(K, embed)`` of one rung.
            rung: Bits of its indices.
        """
        trust = (~lost).to(codewords)[:, None]
        rungs = torch.full((len(codewords),), float(rung), device=codewords.device)
        found = self(codewords * trust, trust, rungs).permute(0, 2, 3, 1)[lost]
        return self.logits(found, codebook, rung).softmax(1) @ codebook

    def use_bfloat16(self) -> None:
        """Keep all layers but the last in bfloat16."""
        self.stem.to(torch.bfloat16)
        self.blocks.to(torch.bfloat16)
