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
_NEVER = -1e4
_SHORTEST = 1e-6


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
        n, h, w, c = x.shape
        windows = Windows(h, w, self.window, self.shift)
        # All that is done position by position comes before the windows and their padding.
        q, k, v = self.qkv(x).view(n, h, w, 3, self.heads, -1).unbind(3)
        warmth = self.log_warmth.view(self.heads, 1).clamp(max=_WARMEST).exp()
        parts = torch.stack([_unit(q) * warmth.to(q.dtype), _unit(k), v], dim=3)
        tokens = windows.cut(parts.view(n, h, w, 3 * c).permute(0, 3, 1, 2))
        q, k, v = tokens.view(*tokens.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2)
        scores = scores.view(n, -1, *scores.shape[1:])
        scores = (scores + self._bias(windows).to(scores.dtype)).flatten(0, 1)
        mixed = (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)
        found: Tensor = self.out(windows.join(mixed).permute(0, 2, 3, 1))
        return found

    def _bias(self, windows: Windows) -> Tensor:
        """Return what to add to scores, ``(1 or windows, heads, window^2, window^2)``."""
        table = _BIAS_REACH * torch.sigmoid(self.bias(self.offsets.to(self.qkv.weight.dtype)))
        bias = table.T[:, self.apart][None]
        hidden = windows.hidden(bias.device)
        return bias if hidden is None else bias + _NEVER * hidden[:, None, None]


def _unit(x: Tensor) -> Tensor:
    """Return vectors of length 1 along the last dimension."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x * length.clamp(min=_SHORTEST).reciprocal().to(x.dtype)


def _log_offsets(window: int) -> Tensor:
    """Return offsets of window positions on the paper's log scale (eq. 4), ``(n, 2)``."""
    line = torch.arange(1 - window, window) * (_TABLE_SIDE / max(1, window - 1))
    line = line.sign() * (1 + line.abs()).log2() / math.log2(_TABLE_SIDE)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).flatten(0, 1)


class _SwinBlock(nn.Module):
    """x + norm(attention(x)), then x + norm(perceptron(x))."""

    def __init__(self, channels: int, heads: int, window: int, shift: int, hidden: int):
        super().__init__()
        self.attention = _CosineAttention(channels, heads, window, shift)
        self.after_attention = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, hidden)
        self.outer = nn.Linear(hidden, channels)
        self.after_perceptron = nn.LayerNorm(channels)

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
        ratio: Hidden channels of the perceptrons, for each channel.
    """

    def __init__(self, channels: int, depth: int, heads: int, window: int = 8, ratio: int = 4):
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                _SwinBlock(channels, heads, window, window // 2 * (i % 2), ratio * channels)
                for i in range(depth)
            )
        )
        self.scale_branches((2 * depth) ** -0.5)

    def scale_branches(self, scale: float) -> None:
        """Set what every branch adds to its block; with 0 the group only doubles its input."""
        for part in self.blocks.modules():
            if isinstance(part, nn.LayerNorm):
                nn.init.constant_(part.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
