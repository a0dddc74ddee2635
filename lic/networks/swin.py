"""Residual groups of SwinV2 blocks (Liu et al. 2022, arXiv 2111.09883), for any grid.

Cosine attention with a learned temperature, a bias from a small network over log-spaced offsets,
layers normalised after attention and perceptron, every other window shifted by half its side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.windows import Windows, offsets_apart

__all__ = ["SwinGroup"]

_WARMEST = math.log(100.0)
_BIAS_WIDTH = 128
_BIAS_REACH = 16.0
_TABLE_SIDE = 8.0


class _CosineAttention(nn.Module):
    """Equation 2 of the paper, with the continuous position bias of its section 3.3."""

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.log_warmth = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.bias = nn.Sequential(
            nn.Linear(2, _BIAS_WIDTH), nn.ReLU(), nn.Linear(_BIAS_WIDTH, heads, bias=False)
        )
        self.register_buffer("apart", offsets_apart(window), persistent=False)
        self.apart: Tensor
        self.register_buffer("offsets", _log_offsets(window), persistent=False)
        self.offsets: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, h, w, C)`` of the same."""
        windows = Windows(x.shape[1], x.shape[2], self.window, self.shift)
        tokens = windows.cut(x.permute(0, 3, 1, 2))
        parts = self.qkv(tokens).chunk(3, dim=2)
        q, k, v = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in parts)
        warmth = self.log_warmth.clamp(max=_WARMEST).exp()
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
        scores = cosines * warmth.to(cosines.dtype) + self._bias().to(cosines.dtype)
        hidden = windows.hidden(x.device)
        if hidden is not None:
            scores = scores.view(len(x), -1, *scores.shape[1:])
            scores = scores.masked_fill(hidden[None, :, None, None], -1e4).flatten(0, 1)
        mixed = (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)
        return windows.join(self.out(mixed)).permute(0, 2, 3, 1)

    def _bias(self) -> Tensor:
        table = _BIAS_REACH * torch.sigmoid(self.bias(self.offsets.to(self.qkv.weight.dtype)))
        bias: Tensor = table.T[:, self.apart]
        return bias


def _log_offsets(window: int) -> Tensor:
    """Return offsets of window positions on the paper's log scale (eq. 4), ``(n, 2)``."""
    line = torch.arange(1 - window, window) * (_TABLE_SIDE / max(1, window - 1))
    line = line.sign() * (1 + line.abs()).log2() / math.log2(_TABLE_SIDE)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).flatten(0, 1)


class _SwinBlock(nn.Module):
    """x + norm(attention(x)), then x + norm(perceptron(x))."""

    def __init__(self, channels: int, heads: int, window: int, shift: int, depth: int):
        super().__init__()
        self.attention = _CosineAttention(channels, heads, window, shift)
        self.after_attention = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, 4 * channels)
        self.outer = nn.Linear(4 * channels, channels)
        self.after_perceptron = nn.LayerNorm(channels)
        for norm in (self.after_attention, self.after_perceptron):
            nn.init.constant_(norm.weight, (2 * depth) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, h, w, C)`` of the same."""
        x = x + self.after_attention(self.attention(x)).to(x.dtype)
        return x + self.after_perceptron(self.outer(F.gelu(self.inner(x)))).to(x.dtype)


class SwinGroup(nn.Module):
    """x + blocks(x) on ``(N, C, h, w)``, the residual group of TIC and S2LIC.

    Args:
        channels: C, a multiple of ``heads``.
        depth: Blocks.
        heads: Of attention.
        window: Side of the windows, positions.
    """

    def __init__(self, channels: int, depth: int, heads: int, window: int = 8):
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                _SwinBlock(channels, heads, window, window // 2 * (i % 2), depth)
                for i in range(depth)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
