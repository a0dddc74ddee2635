"""The coding loop of ``hyperprior``: hyper-synthesis and four parallel context steps.

All arithmetic comes from :mod:`lic.coding.fixed`, so the loop is exact in float64 and trains as an
ordinary network in float32 or bfloat16. One function serves training, encoder and decoder; they
differ only in the ``quantise`` callback that turns predictions of a step into values.

The order of the latents is :func:`lic.networks.steps.latin_square`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.fixed import FixedConv2d, FixedLeakyReLU, is_exact, scaled, to_grid
from lic.networks.steps import PHASES, Steps, latin_square, merge, split

__all__ = [
    "LOG_STEPS_PER_NAT",
    "HyperSynthesis",
    "LatinContext",
    "LoopRates",
    "Quantise",
    "round_mean",
]

LOG_STEPS_PER_NAT = 8
"""Neighbouring probability tables differ in scale by exp(1/8)."""

_MEAN_FRACTION = 16


@dataclass(frozen=True)
class LoopRates:
    """What the rate means to the loop, per channel; constant or per position.

    Attributes:
        plane: ``(N, 1, h, w)``, (b - 128) / 128.
        scale_offset: ``(N, M, h or 1, w or 1)``, table number of the undisturbed deviation.
        mean_factor: Same shape, deviation in quantiser steps.
        reciprocal: Same shape, turns quantiser steps into deviations.
    """

    plane: Tensor
    scale_offset: Tensor
    mean_factor: Tensor
    reciprocal: Tensor


Quantise = Callable[[int, Tensor, Tensor], Tensor]
"""(step, means, table positions) -> values, all as :meth:`lic.networks.steps.Steps.take` gives."""


class _PhaseHeads(nn.Module):
    """Means and log scales from features, with weights of their own for each phase.

    A step needs only the parameters of the group that it codes at each phase, so one grouped
    convolution over the 2x2-unshuffled features gives a quarter of the outputs at a quarter of the
    cost and tells the layer which neighbours are known.
    """

    def __init__(self, features: int, latents: int):
        super().__init__()
        self.latents = latents
        self.conv = FixedConv2d(PHASES * features, 2 * latents, groups=PHASES)
        nn.init.normal_(self.conv.weight, std=1e-3)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n, c, h, w = x.shape
        x = F.pixel_unshuffle(x, 2).reshape(n, c, PHASES, h // 2, w // 2).transpose(1, 2)
        out = self.conv(x.reshape(n, PHASES * c, h // 2, w // 2))
        out = out.view(n, PHASES, 2, self.latents // PHASES, h // 2, w // 2)
        means, log_scales = out.unbind(2)
        return means, log_scales


class _ContextStep(nn.Module):
    """Features of one step from hyper features and from the values known so far."""

    def __init__(self, latents: int, hyper: int, width: int, hidden: int, first: bool):
        super().__init__()
        self.act = FixedLeakyReLU()
        if not first:
            self.reduce = FixedConv2d(latents, width)
            self.gather = FixedConv2d(width, width, 3)
        self.mix = FixedConv2d(hyper + (0 if first else width), hidden)
        self.heads = _PhaseHeads(hidden, latents)

    def forward(self, hyper: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        if known is not None:
            # The reduction sees single positions, so it need not wait for the phases to be merged.
            n, m, phases, h, w = known.shape
            reduced = self.reduce(known.reshape(n, m, phases * h, w))
            near = self.act(self.gather(merge(reduced.view(n, -1, phases, h, w))))
            hyper = torch.cat([hyper, near], dim=1)
        return self.heads(self.act(self.mix(hyper)))


class HyperSynthesis(nn.Module):
    """What the contexts of all families begin with: hyper features of z.

    Args:
        latents: M.
        hyper_latents: Channels of z.
        hyper: Channels of the hyper features.
        order: Of the latents.
    """

    def __init__(self, latents: int, hyper_latents: int, hyper: int, order: Steps):
        super().__init__()
        self.latents, self.order = latents, order
        self.act = FixedLeakyReLU()
        between = 3 * hyper // 4
        self.h_s1 = FixedConv2d(hyper_latents + 1, 4 * between)
        self.h_s2 = FixedConv2d(between, between, 3)
        self.h_s3 = FixedConv2d(between, 4 * hyper)
        self.h_s4 = FixedConv2d(hyper + 1, hyper, 3)

    def hyper_synthesis(self, z_hat: Tensor, plane: Tensor) -> Tensor:
        """Return hyper features ``(N, hyper, 4 h_z, 4 w_z)``, leaky ReLU applied."""
        coarse = plane[:, :, ::4, ::4]
        x = self.act(F.pixel_shuffle(self.h_s1(torch.cat([z_hat, coarse], dim=1)), 2))
        x = self.act(self.h_s2(x))
        x = self.act(F.pixel_shuffle(self.h_s3(x), 2))
        return self.act(self.h_s4(torch.cat([x, plane.to(x.dtype)], dim=1)))

    def split_rates(self, rates: LoopRates, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return offset, factor and reciprocal of all latents, split.

        The last two axes are those of the grid of ``like``, or 1 where the rate is constant.
        """
        n, _, h, w = like.shape

        def taken_apart(t: Tensor) -> Tensor:
            if t.shape[2:] == (1, 1):
                return t[:, :, None].expand(n, self.latents, PHASES, 1, 1)
            return split(t.expand(n, self.latents, h, w))

        offset, factor, reciprocal = (
            taken_apart(t) for t in (rates.scale_offset, rates.mean_factor, rates.reciprocal)
        )
        return offset, factor, reciprocal


class LatinContext(HyperSynthesis):
    """Predict all latents in four steps.

    Args:
        latents: M, a multiple of 4.
        hyper_latents: Channels of z.
        hyper: Channels of the hyper features.
        width: Channels of the context convolution.
        hidden: Channels before the heads.
    """

    def __init__(
        self,
        latents: int,
        hyper_latents: int,
        hyper: int = 128,
        width: int = 128,
        hidden: int = 192,
    ):
        super().__init__(latents, hyper_latents, hyper, latin_square(latents))
        self.steps = nn.ModuleList(
            _ContextStep(latents, hyper, width, hidden, first=k == 0)
            for k in range(len(self.order))
        )

    def forward(self, z_hat: Tensor, rates: LoopRates, quantise: Quantise) -> Tensor:
        """Run the four steps.

        Args:
            z_hat: ``(N, hyper_latents, h / 4, w / 4)``, integers.
            rates: For the grid ``(h, w)``, both multiples of 4.
            quantise: Turns a step's means (multiples of 1/16 quantiser steps in exact mode) and
                table positions into its values, in quantiser steps.

        Returns:
            y_hat ``(N, M, h, w)`` in quantiser steps.
        """
        hyper = self.hyper_synthesis(z_hat, rates.plane)
        apart = self.split_rates(rates, hyper)
        offset, factor, reciprocal = (self.order.take_all(t) for t in apart)
        y_hat: list[Tensor] = []
        known: list[Tensor] = []
        for k, step in enumerate(self.steps):
            mean, log_scale = step(hyper, self.order.assemble(known) if known else None)
            means = round_mean(mean.to(factor[k].dtype) * factor[k])
            positions = offset[k] + LOG_STEPS_PER_NAT * log_scale.to(offset[k].dtype)
            values = quantise(k, means, positions)
            y_hat.append(values)
            if k + 1 < len(self.steps):
                known.append(scaled(values, reciprocal[k]))
        return merge(self.order.assemble(y_hat))


def round_mean(mean: Tensor) -> Tensor:
    """Round means to 1/16 in exact mode: what the symbols are relative to is part of the format."""
    if not is_exact(mean):
        return mean
    return to_grid((mean * _MEAN_FRACTION + 0.5).floor_() / _MEAN_FRACTION)
