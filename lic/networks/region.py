"""Layers of ``segpic`` that depend on regions (SegPIC; the project's notes, sections 5.2 and 5.7).

A prototype is a vector that stands for a region: the mean of its features, coded and decoded. The
region-adaptive transform filters every position with a kernel made of its own features and of its
region's prototype. Where regions are unknown, the cells of a grid take their place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RegionAdaptive", "ScaleAffine", "cell_numbers", "prototypes_of", "spread"]

_TAPS = 9
_SLOPE = 0.125


class RegionAdaptive(nn.Module):
    """x + filtered(x): a depthwise 3x3 kernel for each position and group of channels, gated.

    The gate follows from the prototype alone, where SegPIC averages over the whole picture: so the
    layer sees one position around and runs in strips.

    Args:
        channels: Number of feature channels, a multiple of ``groups``.
        prototype: Channels of a prototype.
        groups: Number of groups of channels; a group shares a kernel.
        width: Channels of the network that makes the kernels.
    """

    def __init__(self, channels: int, prototype: int, groups: int = 8, width: int = 32):
        super().__init__()
        self.groups = groups
        self.before = nn.Conv2d(channels, channels, 1)
        self.reduce = nn.Conv2d(channels, width, 1)
        self.mix = nn.Conv2d(width + prototype, width, 1)
        self.kernels = nn.Conv2d(width, groups * _TAPS, 1)
        self.gate = nn.Conv2d(prototype, channels, 1)
        self.after = nn.Conv2d(channels, channels, 1)
        nn.init.normal_(self.after.weight, std=1e-2)
        nn.init.zeros_(self.after.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, prototype: Tensor) -> Tensor:
        """Return ``(N, C, h, w)``.

        Args:
            x: ``(N, C, h, w)``.
            prototype: ``(N, P, h, w)``, that of each position's region.
        """
        n, c, h, w = x.shape
        prototype = prototype.to(x.dtype)
        u = F.leaky_relu(self.before(x), _SLOPE)
        made = F.leaky_relu(self.mix(torch.cat([self.reduce(u), prototype], dim=1)), _SLOPE)
        kernels = self.kernels(made).view(n, self.groups, 1, _TAPS, h, w)
        padded = F.pad(u, (1, 1, 1, 1)).view(n, self.groups, c // self.groups, h + 2, w + 2)
        # Nine sums in place of an unfolding that would take nine times the memory.
        filtered = torch.zeros_like(padded[..., 1 : 1 + h, 1 : 1 + w])
        for tap in range(_TAPS):
            row, column = divmod(tap, 3)
            shifted = padded[..., row : row + h, column : column + w]
            filtered = filtered + kernels[:, :, :, tap] * shifted
        gated = filtered.reshape(n, c, h, w) * torch.sigmoid(self.gate(prototype))
        return x + self.after(gated)


class ScaleAffine(nn.Module):
    """x (1 + s) + b, with s and b from a small network on x itself (SegPIC's SAL).

    Args:
        channels: Number of channels of x.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.inner = nn.Conv2d(channels, channels // 4, 1)
        self.outer = nn.Conv2d(channels // 4, 2 * channels, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        scale, offset = self.outer(F.gelu(self.inner(x))).chunk(2, dim=1)
        return x * (1 + scale) + offset


def cell_numbers(height: int, width: int, cells: int, device: torch.device) -> Tensor:
    """Return the cell of each position of a grid of ``cells`` by ``cells``, ``(1, h, w)``."""
    rows = torch.arange(height, device=device) * cells // height
    columns = torch.arange(width, device=device) * cells // width
    return (rows[:, None] * cells + columns)[None]


def prototypes_of(features: Tensor, regions: Tensor, count: int) -> Tensor:
    """Return the mean of the features of each region, zeros for those that are not there.

    Args:
        features: ``(N, C, h, w)``.
        regions: ``(N, h, w)`` numbers in ``[0, count)``.
        count: Number of regions.

    Returns:
        ``(N, C, count)`` float32.
    """
    n, c = features.shape[:2]
    at = regions.flatten(1)[:, None]
    sums = torch.zeros(n, c, count, device=features.device)
    sums = sums.scatter_add(2, at.expand(-1, c, -1), features.float().flatten(2))
    sizes = torch.zeros(n, 1, count, device=features.device)
    sizes = sizes.scatter_add(2, at, torch.ones_like(at, dtype=torch.float32))
    return sums / sizes.clamp(min=1)


def spread(prototypes: Tensor, regions: Tensor) -> Tensor:
    """Return the prototype of each position's region, ``(N, P, h, w)`` of ``(N, P, count)``."""
    n, p = prototypes.shape[:2]
    at = regions.flatten(1)[:, None].expand(n, p, -1)
    return prototypes.gather(2, at).view(n, p, *regions.shape[1:])
