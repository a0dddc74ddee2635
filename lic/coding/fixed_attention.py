"""Attention in the coding loop, with the two modes of :mod:`lic.coding.fixed`.

What makes it exact: a product of two values on the grid has at most 38 bits and a sum of 2^12 of
those 50; the exponential is an integer from a table; the division is correctly rounded by IEEE 754.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.fixed import FRACTION_BITS, LIMIT, FixedConv2d, is_exact, to_grid
from lic.coding.windows import Windows, offsets_apart

__all__ = ["FixedWindowAttention", "exponentials", "fixed_softmax"]

_REACH = 16
"""Below the largest by so many nats, a weight is zero."""

_EXPONENTIAL_BITS = 16
_SHARE_BITS = 12
_HIDDEN = -LIMIT


@cache
def exponentials(bits: int = _EXPONENTIAL_BITS) -> Tensor:
    """Return round(2^bits exp(-i / 2^8)) for i from 0 to 16 * 2^8, the last one 0, float64.

    Decimals round alike everywhere.
    """
    steps = _REACH << FRACTION_BITS
    scale = Decimal(1 << bits)
    values = [(scale * (-Decimal(i) / (1 << FRACTION_BITS)).exp()) for i in range(steps)]
    return torch.tensor([*(int(v.to_integral_value()) for v in values), 0], dtype=torch.float64)


def fixed_softmax(x: Tensor) -> Tensor:
    """Return the softmax over the last dimension; in exact mode multiples of 2^-12.

    They sum to 1 but for the rounding of each.
    """
    if not is_exact(x):
        return F.softmax(x, dim=-1)
    table = exponentials().to(x.device)
    below = (x.amax(-1, keepdim=True) - x) * 2.0**FRACTION_BITS
    weights = table[below.clamp_(max=len(table) - 1).long()]
    shares = weights * 2.0**_SHARE_BITS / weights.sum(-1, keepdim=True)
    return (shares + 0.5).floor_().mul_(2.0**-_SHARE_BITS)


class FixedWindowAttention(nn.Module):
    """Attention of ``(N, C, h, w)`` within windows (Swin, Liu et al. 2021), any grid.

    Positions outside of the grid take no part. Each offset between two positions has a bias.

    Args:
        channels: C, a multiple of ``heads``.
        heads: That see a part of the channels each.
        window: Side, positions.
        shift: Of the windows to the upper left, 0 to ``window - 1``.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int = 0):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = FixedConv2d(channels, 3 * channels)
        self.out = FixedConv2d(channels, channels)
        # The biases are what a layer makes of a constant, so that they freeze like all weights.
        self.offsets = FixedConv2d(1, heads * (2 * window - 1) ** 2)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)
        # A power of two next to the usual 1 / sqrt(channels of a head).
        self.scale = 2.0 ** -round(torch.tensor(channels / heads).log2().item() / 2)
        self.register_buffer("apart", offsets_apart(window), persistent=False)
        self.apart: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, h, w)``."""
        windows = Windows(x.shape[2], x.shape[3], self.window, self.shift)
        tokens = windows.cut(x)
        # What the padding becomes is hidden below.
        parts = self.qkv(tokens.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        q, k, v = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in parts.chunk(3, 2))
        scores = to_grid(q @ k.transpose(-1, -2) * self.scale) + self._bias(x)
        hidden = windows.hidden(x.device)
        if hidden is not None:
            scores = scores.view(len(x), -1, *scores.shape[1:])
            scores = scores.masked_fill(hidden[None, :, None, None], _HIDDEN).flatten(0, 1)
        mixed = to_grid(fixed_softmax(scores).to(v.dtype) @ v).transpose(1, 2).flatten(2)
        return self.out(windows.join(mixed))

    def _bias(self, x: Tensor) -> Tensor:
        offsets: Tensor = self.offsets(x.new_ones(1, 1, 1, 1)).view(self.heads, -1)
        return offsets[:, self.apart]
