"""Rounding and the bits of symbols, differentiable: for training and encoder search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["gaussian_bits", "round_ste"]

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
