"""Building blocks that the transforms of several families share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Downsample",
    "LogKnots",
    "RatedBlock",
    "RatedBlocks",
    "ResidualBlock",
    "Upsample",
    "between_knots",
    "by_phase",
    "numbered_blocks",
    "rate_plane",
    "shuffle",
    "unshuffle",
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


class RatedBlock(ResidualBlock):
    """A residual block whose hidden channels are scaled by the rate.

    Args:
        channels, depth: As of :class:`ResidualBlock`.
        knots: Rows of the scales, see :class:`LogKnots`.
    """

    def __init__(self, channels: int, depth: int, knots: int):
        super().__init__(channels, depth)
        self.gain = LogKnots(knots, channels)

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:  # type: ignore[override]
        hidden = F.leaky_relu(self.conv1(x), _SLOPE)
        return x + self.conv2(hidden * self.gain(rate, hidden))


class RatedBlocks(nn.Sequential):
    """Blocks that are told the rate."""

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, rate)
        return x


def numbered_blocks(channels: int, depth: int) -> dict[str, nn.Module]:
    """Return residual blocks by number.

    Families put layers with names before or behind them; the numbers stay those of ``hyperprior``,
    whose trained blocks may stand in for them.
    """
    return {str(i): ResidualBlock(channels, depth) for i in range(depth)}


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Make channels of blocks, ``(N, C, H, W)`` to ``(N, factor^2 C, H/factor, W/factor)``.

    Unlike ``pixel_unshuffle`` channels count fastest: then rows of a block are copied as they lie
    in memory, channels last. :func:`by_phase` brings weights into this order.
    """
    n, c, height, width = x.shape
    h, w = height // factor, width // factor
    x = x.permute(0, 2, 3, 1).reshape(n, h, factor, w, factor * c).transpose(2, 3)
    return x.reshape(n, h, w, factor * factor * c).permute(0, 3, 1, 2)


def shuffle(x: Tensor, factor: int) -> Tensor:
    """Undo :func:`unshuffle`."""
    n, channels, h, w = x.shape
    c = channels // factor**2
    x = x.permute(0, 2, 3, 1).reshape(n, h, w, factor, factor * c).transpose(2, 3)
    return x.reshape(n, h * factor, w * factor, c).permute(0, 3, 1, 2)


def by_phase(weight: Tensor, factor: int, axis: int = 0) -> Tensor:
    """Reorder weights from the order of ``pixel_shuffle`` to that of :func:`shuffle`.

    Args:
        weight: With ``factor^2 C`` entries along ``axis``.
        factor: Side of the blocks.
        axis: 0 for what an output is shuffled from, 1 for what reads an unshuffled input.
    """
    before, after = weight.shape[:axis], weight.shape[axis + 1 :]
    apart = weight.reshape(*before, -1, factor * factor, *after)
    return apart.transpose(axis, axis + 1).flatten(axis, axis + 1)


class Downsample(nn.Sequential):
    """Halve both sides: 2x2 pixels become channels, then a 1x1 convolution mixes them."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mix: nn.Conv2d = self[1]  # type: ignore[assignment]
        return F.conv2d(unshuffle(x, 2), by_phase(mix.weight, 2, 1), mix.bias)


class Upsample(nn.Sequential):
    """Double both sides: a 1x1 convolution, then channels become 2x2 pixels."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        mix: nn.Conv2d = self[0]  # type: ignore[assignment]
        assert mix.bias is not None
        return shuffle(F.conv2d(x, by_phase(mix.weight, 2), by_phase(mix.bias, 2)), 2)


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
        return between_knots(self.log, rate)

    def forward(self, rate: Tensor, like: Tensor) -> Tensor:
        """Return factors for features ``(N, channels, H, W)``, broadcast where rates are."""
        rows = self.log_rows(rate).exp().to(like.dtype)
        if rate.dim() == 1:
            return rows[:, :, None, None]
        return _enlarged(rows.permute(0, 3, 1, 2), like)


def between_knots(rows: Tensor, rate: Tensor) -> Tensor:
    """Interpolate rows at equal distances linearly.

    Args:
        rows: ``(knots, channels)``.
        rate: ``(...)`` in [0, 1].

    Returns:
        ``(..., channels)``.
    """
    position = rate.clamp(0, 1) * (len(rows) - 1)
    if rate.dim() == 1:
        # Hats instead of indices: the gradient of an indexed row is a sorted scatter.
        knots = torch.arange(len(rows), device=rate.device)
        hats = (1 - (position[:, None] - knots).abs()).clamp(min=0).to(rows.dtype)
        return (hats[:, :, None] * rows).sum(1)
    low = position.floor().long().clamp(max=len(rows) - 2)
    part = (position - low)[..., None].to(rows.dtype)
    return rows[low] * (1 - part) + rows[low + 1] * part


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
