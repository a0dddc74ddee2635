"""Rounding and the bits of symbols, differentiable: for training and encoder search."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["code_softly", "gaussian_bits", "round_ste"]

_LEAST_PROBABILITY = 2.0**-16


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still passes where it would lift x above the bound."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def _at_least(x: Tensor, bound: float) -> Tensor:
    bounded: Tensor = _LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded


def round_ste(x: Tensor) -> Tensor:
    """Round half up with the gradient of the identity, as the coder rounds."""
    return x + ((x + 0.5).floor() - x).detach()


def gaussian_bits(values: Tensor, positions: Tensor, smallest: float, per_nat: float) -> Tensor:
    """Return -log2 of the Gaussian mass in a unit interval around each value.

    Args:
        values: Distances to the mean in quantiser steps, any shape.
        positions: Table positions of the same shape: scale = smallest * exp(position / per_nat).
        smallest: Scale of table 0, the narrowest.
        per_nat: Tables a factor e of scale.
    """
    scales = smallest * (_at_least(positions.float(), 0.0) / per_nat).exp()
    values = values.float().abs()
    upper = torch.special.ndtr((0.5 - values) / scales)
    lower = torch.special.ndtr((-0.5 - values) / scales)
    return -_at_least(upper - lower, _LEAST_PROBABILITY).log2()


def code_softly(
    offset: Tensor,
    positions: Tensor,
    noise: Tensor | None,
    *,
    smallest: float,
    per_nat: float,
    rdo_weight: float = 0.0,
    hard_rate: bool = True,
) -> tuple[Tensor, Tensor]:
    """Choose symbols as the encoder does and return them with what they cost.

    One pass with its derivatives written out, since in a small network the likelihoods of
    autograd, evaluated for every use, take as long as the convolutions.

    Args:
        offset: ``(N, ...)``, latents less their means, in quantiser steps.
        positions: Table positions of the same shape, see :func:`gaussian_bits`.
        noise: Uniform in [-1/2, 1/2), of the same shape: offsets and means learn from the bits of
            noisy values, which have a useful gradient. ``None`` for the symbols' own bits.
        smallest, per_nat: See :func:`gaussian_bits`.
        rdo_weight: Bits that a squared quantiser step of error is worth; the next symbol towards
            zero is taken where it saves more. 0 rounds to nearest.
        hard_rate: Bits and the gradient of positions are those of the symbols, otherwise those of
            the noisy values.

    Returns:
        Symbols of the shape of ``offset``, with the gradient of the identity, and bits ``(N,)``.
    """
    symbols, bits = _Coded.apply(  # type: ignore[no-untyped-call]
        offset, positions, noise, smallest, per_nat, rdo_weight, hard_rate or noise is None
    )
    return symbols, bits


_LN2 = math.log(2)


class _Coded(torch.autograd.Function):
    """See :func:`code_softly`; edges of intervals are in deviations, all values folded to >= 0."""

    @staticmethod
    def forward(
        ctx: Any,
        offset: Tensor,
        positions: Tensor,
        noise: Tensor | None,
        smallest: float,
        per_nat: float,
        rdo_weight: float,
        hard_rate: bool,
    ) -> tuple[Tensor, Tensor]:
        positions = positions.float()
        inverse = (positions.clamp(min=0) * (-1 / per_nat)).exp_().mul_(1 / smallest)
        nearest = (offset + 0.5).floor_()
        size = nearest.abs()
        lower, upper = (size - 0.5).mul_(inverse), (size + 0.5).mul_(inverse)
        at_lower, at_upper = torch.special.ndtr(-lower), torch.special.ndtr(-upper)
        mass = (at_lower - at_upper).clamp_(min=_LEAST_PROBABILITY)
        symbols = nearest
        if rdo_weight:
            below = (size - 1.5).mul_(inverse)
            other = (torch.special.ndtr(-below) - at_lower).clamp_(min=_LEAST_PROBABILITY)
            lost = (offset.abs() - size).mul_(2 * rdo_weight).add_(rdo_weight)
            step = (size > 0) & (lost < (other / mass).log2_())
            symbols = nearest - nearest.sign() * step
            mass = torch.where(step, other, mass)
            lower, upper = torch.where(step, below, lower), torch.where(step, lower, upper)
        if hard_rate:
            bits, by_position = -mass.log2(), _by_position(lower, upper, mass, per_nat)
        if noise is not None:
            value = offset + noise
            size = value.abs()
            lower, upper = (size - 0.5).mul_(inverse), (size + 0.5).mul_(inverse)
            mass = torch.special.ndtr(-lower) - torch.special.ndtr(-upper)
            mass.clamp_(min=_LEAST_PROBABILITY)
            slope = _density(lower) - _density(upper)
            by_offset = slope.mul_(inverse).div_(mass).mul_(value.sign()).mul_(1 / _LN2)
            if not hard_rate:
                bits, by_position = -mass.log2(), _by_position(lower, upper, mass, per_nat)
        else:
            by_offset = torch.zeros_like(bits)
        # A position below the first table still learns to rise.
        by_position *= (positions >= 0) | (by_position < 0)
        ctx.save_for_backward(by_offset, by_position)
        return symbols, bits.flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, symbols: Tensor, bits: Tensor) -> tuple[Tensor | None, ...]:
        by_offset, by_position = ctx.saved_tensors
        bits = bits.view(-1, *[1] * (by_offset.ndim - 1))
        return (symbols + by_offset * bits, by_position * bits, *[None] * 5)


def _density(x: Tensor) -> Tensor:
    return (x * x).mul_(-0.5).exp_().mul_((2 * math.pi) ** -0.5)


def _by_position(lower: Tensor, upper: Tensor, mass: Tensor, per_nat: float) -> Tensor:
    """Return the derivative of the bits of an interval with respect to its table position."""
    rise = _density(upper).mul_(upper) - _density(lower).mul_(lower)
    return rise.div_(mass).mul_(1 / (per_nat * _LN2))
