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


def _orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """Move all singular values of matrices towards 1 by a quintic Newton-Schulz iteration.

    Each step multiplies X by a polynomial of X X^T, so the product of the polynomials is built on
    the small Gram matrix and the long side is touched twice only: half the time for convolutions.

    Args:
        matrices: ``(number, rows, columns)``.
        steps: Of the iteration.
    """
    a, b, c = _NS_COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).float()
    product = identity = torch.eye(x.shape[1], device=x.device)
    with torch.autocast(matrices.device.type, enabled=False):
        # Not in bfloat16: rounding would leave eigenvalues below zero, and those diverge; the
        # product enlarges small directions several hundred times, and with them their rounding.
        gram = x @ x.mT
        for step in range(steps):
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
            product = polynomial @ product if step else polynomial
            gram = polynomial @ gram @ polynomial
        x = product @ x
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each weight matrix is orthogonalised (Jordan et al. 2024).

    Convolutions count as matrices ``(out, in * k * k)``. The update is scaled by sqrt(fan_out /
    fan_in) where that is above 1, so one learning rate serves all shapes. On a GPU, matrices of one
    shape are handled together: it would take longer to be told of each than to do it.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            sets: dict[Any, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    sets.setdefault(p.shape if p.is_cuda else p, []).append(p)
            for alike in sets.values():
                rows, columns = alike[0].flatten(1).shape
                scale = max(1.0, rows / columns) ** 0.5
                self._move(alike, group["lr"] * scale, group["momentum"])

    def _move(self, alike: list[Tensor], rate: float, momentum: float) -> None:
        """Update parameters of one shape."""
        for p in alike:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads = [p.grad for p in alike if p.grad is not None]
        buffers = [self.state[p]["momentum"] for p in alike]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum)
        found = _orthogonalised(torch.stack([u.flatten(1) for u in updates]))
        moves = [u.view_as(p) for u, p in zip(found, alike, strict=True)]
        torch._foreach_add_(alike, moves, alpha=-rate)


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
