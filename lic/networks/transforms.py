"""The frame of analysis and synthesis: a linear path beside a network at 1/8 and 1/16.

Families fill it with layers of their own. The linear path stays in float32, the network may run in
any precision.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.networks.gains import DOWNSAMPLING
from lic.networks.lapped import LappedFilter
from lic.networks.layers import (
    LogKnots,
    RatedBlocks,
    by_phase,
    rate_plane,
    shuffle,
    unshuffle,
    zero_bias,
)

__all__ = ["FINE_INPUT", "Analysis", "Synthesis"]

FINE_INPUT = 192
"""Channels of a picture as blocks of 8x8."""

_BLOCK = DOWNSAMPLING * DOWNSAMPLING * 3
_RESIDUAL_LEVELS = 16.0


def _through(part: nn.Module, u: Tensor, rate: Tensor) -> Tensor:
    """Return what a part makes of features; some parts are told the rate."""
    told: Tensor = part(u, rate) if isinstance(part, RatedBlocks) else part(u)
    return told


class Analysis(nn.Module):
    """g_a: picture levels to latents.

    Args:
        shape: Has ``latents``, ``fine``, ``coarse``, ``knots`` and ``lapped``.
        stem: From 8x8 blocks and a rate plane to ``fine`` channels.
        fine: At 1/8 resolution.
        down: To ``coarse`` channels at half the size.
        coarse: At 1/16 resolution.
    """

    def __init__(
        self, shape: Any, *, stem: nn.Conv2d, fine: nn.Module, down: nn.Module, coarse: nn.Module
    ):
        super().__init__()
        self.lap = LappedFilter() if shape.lapped else nn.Identity()
        self.linear = nn.Conv2d(_BLOCK, shape.latents, 1, bias=False)
        self.stem, self.fine, self.down, self.coarse = stem, fine, down, coarse
        self.fine_gain = LogKnots(shape.knots, shape.fine)
        self.out = nn.Conv2d(shape.coarse, shape.latents, 1)
        nn.init.normal_(self.out.weight, std=1e-3)
        zero_bias(self.out)

    def forward(self, levels: Tensor, rate: Tensor, deviations: Tensor) -> Tensor:
        return self.finish(self.begin(levels, rate), levels, rate, deviations)

    def begin(self, levels: Tensor, rate: Tensor) -> Tensor:
        """Return features at 1/8 resolution, ``(N, fine, 2 h, 2 w)``."""
        u = unshuffle(levels, 8) * (1 / 64)
        u = torch.cat([u, rate_plane(rate, u)], dim=1).to(self.stem.weight.dtype)
        weight = self.stem.weight
        weight = torch.cat([by_phase(weight[:, :FINE_INPUT], 8, 1), weight[:, FINE_INPUT:]], 1)
        return _through(self.fine, F.conv2d(u, weight, self.stem.bias), rate)

    def finish(self, u: Tensor, levels: Tensor, rate: Tensor, deviations: Tensor) -> Tensor:
        """Return latents ``(N, latents, h, w)`` of these features and of the linear path."""
        u = self.down(u * self.fine_gain(rate, u))
        u = self.out(_through(self.coarse, u, rate).to(self.out.weight.dtype))
        with torch.autocast(levels.device.type, enabled=False):
            blocks = F.pixel_unshuffle(self.lap(levels), 16)
            return self.linear(blocks) + u.float() * deviations


class Synthesis(nn.Module):
    """g_s: latents to picture levels, the mirror of :class:`Analysis`.

    Args:
        shape: As of the analysis.
        stem: From latents and a rate plane to ``coarse`` channels.
        coarse: At 1/16 resolution.
        up: To ``fine`` channels at twice the size.
        fine: At 1/8 resolution.
    """

    def __init__(
        self, shape: Any, *, stem: nn.Conv2d, coarse: nn.Module, up: nn.Module, fine: nn.Module
    ):
        super().__init__()
        self.linear = nn.Conv2d(shape.latents, _BLOCK, 1, bias=False)
        self.stem, self.coarse, self.up, self.fine = stem, coarse, up, fine
        self.fine_gain = LogKnots(shape.knots, shape.fine)
        self.out = nn.Conv2d(shape.fine, FINE_INPUT, 1)
        self.lap = LappedFilter() if shape.lapped else nn.Identity()
        nn.init.normal_(self.out.weight, std=1e-3)
        zero_bias(self.out)

    def forward(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        return self.finish(self.begin(normalised, rate), y_hat, rate)

    def begin(self, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return features at 1/8 resolution, ``(N, fine, 2 h, 2 w)``."""
        u = torch.cat([normalised, rate_plane(rate, normalised)], dim=1)
        u = _through(self.coarse, self.stem(u.to(self.stem.weight.dtype)), rate)
        features: Tensor = self.up(u)
        return features

    def finish(self, u: Tensor, y_hat: Tensor, rate: Tensor) -> Tensor:
        """Return levels ``(N, 3, 16 h, 16 w)`` of these features and of the linear path."""
        u = _through(self.fine, u, rate)
        u = (u * self.fine_gain(rate, u)).to(self.out.weight.dtype)
        assert self.out.bias is not None
        u = F.conv2d(u, by_phase(self.out.weight, 8), by_phase(self.out.bias, 8))
        with torch.autocast(y_hat.device.type, enabled=False):
            linear = self.lap(F.pixel_shuffle(self.linear(y_hat), 16))
            return linear + _RESIDUAL_LEVELS * shuffle(u, 8).float()
