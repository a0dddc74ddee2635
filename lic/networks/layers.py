"""Building blocks that the transforms of several families share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Downsample",
    "LogKnots",
    "ResidualBlock",
    "Upsample",
    "numbered_blocks",
    "rate_plane",
    "zero_bias",
]

_SLOPE = 0.125


def zero_bias(layer: nn.Conv2d) -> None:
    """Start a convolution without an offset."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """x + conv3(leaky_relu(conv3(x))), both dense.

    On CPUs a dense 3x3 convolution costs about as much time as a depthwise one with the pointwise
    layers that it needs, and it learns faster.

    Args:
        channels: Channels of input and output.
        depth: Number of blocks on the same residual stream; scales the start of the branch.
    """

    def __init__(self, channels: int, depth: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.conv1.weight, a=_SLOPE)
        nn.init.kaiming_normal_(self.conv2.weight, a=1.0)
        with torch.no_grad():
            self.conv2.weight.mul_((2 * depth) ** -0.5)
        zero_bias(self.conv1)
        zero_bias(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(x), _SLOPE))


def numbered_blocks(channels: int, depth: int) -> dict[str, nn.Module]:
    """Return residual blocks by number.

    Families put layers with names before or behind them; the numbers stay those of ``hyperprior``,
    whose trained blocks may stand in for them.
    """
    return {str(i): ResidualBlock(channels, depth) for i in range(depth)}


class Downsample(nn.Sequential):
    """Halve both sides: 2x2 pixels become channels, then a 1x1 convolution mixes them."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, out_channels, 1))


class Upsample(nn.Sequential):
    """Double both sides: a 1x1 convolution, then channels become 2x2 pixels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))


class LogKnots(nn.Module):
    """Positive rows over the rate, linear in their logarithms between knots.

    The exponential interpolation of gain units (Cui et al., arXiv 2003.02012, eq. 7) with the
    knots at equal distances of the quality.

    Args:
        knots: Number of rows.
        channels: Entries a row.
        start: Tensor ``(knots, channels)`` of natural logarithms to start from, zeros otherwise.
    """

    def __init__(self, knots: int, channels: int, start: Tensor | None = None):
        super().__init__()
        start = torch.zeros(knots, channels) if start is None else start
        self.log = nn.Parameter(start.clone())

    def log_rows(self, rate: Tensor) -> Tensor:
        """Return logarithms ``(..., channels)`` for rates ``(...)`` in [0, 1]."""
        position = rate.clamp(0, 1) * (self.log.shape[0] - 1)
        low = position.floor().long().clamp(max=self.log.shape[0] - 2)
        part = (position - low)[..., None].to(self.log.dtype)
        return self.log[low] * (1 - part) + self.log[low + 1] * part

    def forward(self, rate: Tensor, like: Tensor) -> Tensor:
        """Return factors for features ``(N, channels, H, W)``, broadcast where rates are."""
        rows = self.log_rows(rate).exp().to(like.dtype)
        if rate.dim() == 1:
            return rows[:, :, None, None]
        return _enlarged(rows.permute(0, 3, 1, 2), like)


def rate_plane(rate: Tensor, like: Tensor) -> Tensor:
    """Return a plane ``(N, 1, H, W)`` with the rate mapped from [0, 1] to [-1, 1].

    The value is (b - 128) / 128 for the rate byte b = 255 * rate, a multiple of 2^-7.

    Args:
        rate: ``(N,)`` in [0, 1], or ``(N, h, w)`` where it differs from place to place.
        like: ``(N, C, H, W)``, H and W the same multiples of h and w.
    """
    value = ((rate * 255 - 128) / 128).to(like.dtype)
    if rate.dim() == 1:
        return value[:, None, None, None].expand(-1, 1, *like.shape[-2:])
    return _enlarged(value[:, None], like)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    times = like.shape[-1] // x.shape[-1]
    return x.repeat_interleave(times, 2).repeat_interleave(times, 3)
