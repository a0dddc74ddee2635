"""A lapped prefilter: blocks that overlap, at the cost of a 16-tap filter across block borders.

Block transforms cannot see that the last pixel of a block resembles the first one of the next. The
filter takes the 16 samples around each border (8 a side), once along columns and once along rows,
before the picture is cut into blocks; its inverse follows the block transform of the decoder. Both
together are a lapped transform with bases of 32x32 pixels, in the time domain form of Tran, Liang
and Tu 2003 (IEEE Trans. Signal Processing 51(6)).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["BORDER", "LappedFilter"]

BORDER = 8
"""Pixels that the filter reaches into the blocks at each side of a border."""

_TAPS = 2 * BORDER


class LappedFilter(nn.Module):
    """Multiply the samples around every border of 16x16 blocks by one matrix, in float32.

    The picture's own edges count as borders to its mirror image. With a matrix that commutes with
    reversal (``J P J = P``) the filter and that of the inverse matrix undo each other there too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(_TAPS))

    def forward(self, x: Tensor) -> Tensor:
        """Filter ``(N, C, H, W)``, sides multiples of 16."""
        with torch.autocast(x.device.type, enabled=False):
            x = self._rows(x.float())
            return self._rows(x.transpose(2, 3)).transpose(2, 3)

    def _rows(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        x = torch.cat([x[..., :BORDER].flip(3), x, x[..., -BORDER:].flip(3)], dim=3)
        # One product: batches of small ones take many times as long.
        x = x.reshape(-1, _TAPS) @ self.weight.T
        return x.view(n, channels, height, width + _TAPS)[..., BORDER:-BORDER]
