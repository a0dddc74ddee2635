"""What families with one set of weights for all rates have in common: gains and what they mean.

A channel's gain is the reciprocal of its quantiser step (gain units, Cui et al., arXiv 2003.02012).
It is known outside of the coding loop as a float, and inside as tables over the rate byte.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.networks.context import LOG_STEPS_PER_NAT, LoopRates
from lic.networks.layers import LogKnots, between_knots, rate_plane

__all__ = [
    "DOWNSAMPLING",
    "LEVELS",
    "SMALLEST_SCALE",
    "GainModel",
    "MonotoneGains",
    "SynthesisModel",
]

DOWNSAMPLING = 16
"""Pixels a side of one latent position."""

LEVELS = 255.0
"""Latents are in 8-bit levels: x is in [0, 1], the transforms work on 255 * (x - 1/2)."""

SMALLEST_SCALE = 0.11
"""Scale of the narrowest probability table, in quantiser steps."""


class MonotoneGains(nn.Module):
    """Reciprocal quantiser steps per channel, rising with the rate by construction."""

    def __init__(self, knots: int, channels: int, low: float, high: float):
        super().__init__()
        rise = torch.tensor((high - low) / (knots - 1)).expm1().log().item()
        self.base = nn.Parameter(torch.full((channels,), low))
        self.rises = nn.Parameter(torch.full((knots - 1, channels), rise))

    def log_rows(self, rate: Tensor) -> Tensor:
        """Return natural logarithms of the gains, ``(N, channels)``, for rates in [0, 1]."""
        rows = torch.cat([self.base[None], self.base + F.softplus(self.rises).cumsum(0)])
        return between_knots(rows, rate)


class GainModel(nn.Module):
    """Transforms, hyper-analysis, context and gains of a family.

    Args:
        shape: Widths and depths; has ``latents``, ``hyper_latents`` and ``knots``.
        lambdas: Trade-offs at rate 0 and 1; the gains start at the steps that suit them.
        g_a: ``(levels, rate, deviations) -> y`` with parts ``lap`` and ``linear``.
        g_s: ``(y_hat, normalised y_hat, rate) -> levels``, likewise.
        h_a: ``(normalised y, rate) -> z``.
        context: The coding loop, see :class:`lic.networks.context.LatinContext`.

    Attributes:
        only_training: Beginnings of names in the state dict that only training needs.
    """

    only_training: tuple[str, ...] = ("gains.", "z_scales.")
    g_a: Any
    g_s: Any
    h_a: Any
    context: Any

    def __init__(
        self,
        shape: Any,
        lambdas: tuple[float, float],
        *,
        g_a: nn.Module,
        g_s: nn.Module,
        h_a: nn.Module,
        context: nn.Module,
    ):
        super().__init__()
        self.shape = shape
        self.g_a, self.g_s, self.h_a, self.context = g_a, g_s, h_a, context
        # High-rate theory: at distortion weight lambda the best uniform step is sqrt(26 / lambda)
        # levels (D = step^2 / 12 over three colour samples a pixel, dR/dD = -1 / (2 ln 2 D)).
        low, high = (0.5 * torch.tensor(lmbda / 26.0).log().item() for lmbda in lambdas)
        self.gains = MonotoneGains(shape.knots, shape.latents, low, high)
        self.z_scales = LogKnots(shape.knots, shape.hyper_latents)
        self.deviations: Tensor
        self.register_buffer("deviations", torch.ones(shape.latents))

    def start_from_components(
        self, components: Tensor, deviations: Tensor, lapped: Tensor | None
    ) -> None:
        """Start the linear paths at principal components of 16x16 blocks.

        Args:
            components: ``(M, 768)`` orthonormal rows in the order of ``pixel_unshuffle``.
            deviations: ``(M,)`` standard deviations of the components, in levels.
            lapped: Orthogonal matrix of the filter before them, where the shape has one.
        """
        with torch.no_grad():
            if lapped is not None:
                self.g_a.lap.weight.copy_(lapped)
                self.g_s.lap.weight.copy_(lapped.T)
            self.g_a.linear.weight.copy_(components[:, :, None, None])
            self.g_s.linear.weight.copy_(components.T[:, :, None, None])
            self.deviations.copy_(deviations)

    def analyse(self, levels: Tensor, rate: Tensor) -> Tensor:
        """Return y, float32 ``(N, M, h, w)`` in levels.

        Args:
            levels: float32 ``(N, 3, 16 h, 16 w)`` around mid-grey.
            rate: ``(N,)`` in [0, 1], or ``(N, h, w)`` where it differs from place to place.
        """
        y: Tensor = self.g_a(levels, rate, self.deviations[None, :, None, None])
        return y

    def synthesise(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return levels ``(N, 3, 16 h, 16 w)`` around mid-grey.

        Args:
            y_hat: ``(N, M, h, w)`` in levels.
            normalised: The same in deviations.
            rate: As of :meth:`analyse`.
        """
        levels: Tensor = self.g_s(y_hat, normalised, rate)
        return levels

    def log_gains(self, rate: Tensor) -> Tensor:
        """Return natural logarithms of the gains, ``(N, M, 1, 1)``."""
        return self.gains.log_rows(rate)[:, :, None, None]

    def loop_rates(self, rate: Tensor, height: int, width: int) -> LoopRates:
        """Derive the loop's rate tables in floating point, for training and for export.

        Args:
            rate: ``(N,)`` in [0, 1].
            height, width: Rows and columns of the latent grid.
        """
        spread = self.log_gains(rate) + self.deviations.log()[None, :, None, None]
        factor = spread.exp()
        return LoopRates(
            plane=rate_plane(rate, factor).expand(-1, -1, height, width),
            scale_offset=LOG_STEPS_PER_NAT * (spread - math.log(SMALLEST_SCALE)),
            mean_factor=factor,
            # Channels far below one step are hardly ever non-zero; where they are, one step would
            # be dozens of deviations, so the reciprocal levels off there.
            reciprocal=(factor * factor + 0.25).rsqrt(),
        )

    def z_positions(self, rate: Tensor) -> Tensor:
        """Return table positions of z, ``(N, hyper_latents, 1, 1)``, in tables."""
        start = -math.log(SMALLEST_SCALE)
        return LOG_STEPS_PER_NAT * (self.z_scales.log_rows(rate) + start)[:, :, None, None]

    def rate_tables(self, rate: Tensor) -> dict[str, Tensor]:
        """Return what else of a family is part of the stream and is looked up by the rate byte.

        Args:
            rate: ``(256,)``, of each rate byte.

        Returns:
            Positions of probability tables ``(256, n)`` by name.
        """
        return {}

    def use_bfloat16(self) -> None:
        """Keep the residual layers in bfloat16; linear paths and last layers stay float32."""
        for part in (self.g_a, self.g_s):
            _residual_in_bfloat16(part)


class SynthesisModel(nn.Module):
    """A synthesis alone, for the latents of networks that have one of their own.

    Args:
        shape: Widths and depths, of the family's class; what belongs to other parts says nothing.
        g_s: As of :class:`GainModel`.
    """

    g_s: Any

    def __init__(self, shape: Any, g_s: nn.Module):
        super().__init__()
        self.shape, self.g_s = shape, g_s

    def synthesise(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return levels, as :meth:`GainModel.synthesise`."""
        levels: Tensor = self.g_s(y_hat, normalised, rate)
        return levels

    def use_bfloat16(self) -> None:
        """Keep the residual layers in bfloat16, as :meth:`GainModel.use_bfloat16`."""
        _residual_in_bfloat16(self.g_s)


def _residual_in_bfloat16(part: nn.Module) -> None:
    kept = {m: m.log.data for m in part.modules() if isinstance(m, LogKnots)}
    for name, layer in part.named_children():
        if name not in ("lap", "linear", "out", "fine_gain"):
            layer.to(torch.bfloat16)
    for rows, log in kept.items():
        rows.log.data = log
