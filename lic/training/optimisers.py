"""Optimisers: AdamW for everything, or Muon for convolutions beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.training.config import OptimiserConfig

__all__ = ["Muon", "make_optimisers", "set_schedule"]

_NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def _orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Move all singular values of a matrix towards 1 by a quintic Newton-Schulz iteration.

    Each step multiplies X by a polynomial of X X^T, so the product of the polynomials is built on
    the small Gram matrix and the long side is touched twice only: half the time for convolutions.
    """
    a, b, c = _NS_COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = (x / (x.norm() + 1e-7)).float()
    product = identity = torch.eye(len(x), device=x.device)
    with torch.autocast(matrix.device.type, enabled=False):
        # Not in bfloat16: rounding would leave eigenvalues below zero, and those diverge; the
        # product enlarges small directions several hundred times, and with them their rounding.
        gram = x @ x.T
        for step in range(steps):
            polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c) + a * identity
            product = polynomial @ product if step else polynomial
            gram = polynomial @ gram @ polynomial
        x = product @ x
    return (x if wide else x.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each weight matrix is orthogonalised (Jordan et al. 2024).

    Convolutions count as matrices ``(out, in * k * k)``. The update is scaled by sqrt(fan_out /
    fan_in) where that is above 1, so one learning rate serves all shapes.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).flatten(1)
                update = _orthogonalised(update)
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view_as(p), alpha=-group["lr"] * scale)


def _is_linear_path(name: str) -> bool:
    return ".linear." in name or ".lap." in name


def make_optimisers(model: nn.Module, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
    """Return the optimisers of a run; each group remembers its peak in ``peak``."""
    if config.name not in ("adamw", "muon"):
        raise UsageProblem(f"optimiser '{config.name}' is unknown; adamw and muon are known")
    linear, matrices, rest = [], [], []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if _is_linear_path(name):
            linear.append(p)
        elif config.name == "muon" and p.ndim == 4 and not name.endswith(("out.weight",)):
            matrices.append(p)
        else:
            rest.append(p)
    adam = torch.optim.AdamW(
        [{"params": rest, "lr": config.lr}, {"params": linear, "lr": config.lr * config.linear_lr}],
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    optimisers: list[torch.optim.Optimizer] = [adam]
    if matrices:
        optimisers.append(Muon(matrices, lr=config.muon_lr))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def set_schedule(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to its peak times a factor."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
