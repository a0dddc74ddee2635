"""Optimisers: AdamW for everything, or Muon for convolutions beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.training.config import OptimiserConfig
from lic.training.precision import has_fast_bfloat16

__all__ = ["Muon", "Optimisers"]

_NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS_AT_ONCE = {torch.float32: (5,), torch.bfloat16: (2, 2, 1)}
"""Newton-Schulz steps between two computations of the Gram matrix."""


def _orthogonalised(
    sets: list[Tensor], factors: list[float | Tensor], kind: torch.dtype
) -> list[Tensor]:
    """Move all singular values of matrices towards a number by a quintic Newton-Schulz iteration.

    A step multiplies X by a polynomial of X X^T. The polynomials of several steps and the scaling
    before and after are collected on the small Gram matrix, so that the long side is touched
    seldom, and Gram matrices of one size are worked on together, whatever their long sides.

    Args:
        sets: ``(number, rows, columns)`` each.
        factors: What singular values move towards, for each set.
        kind: Type to compute in, float32 or bfloat16. Rounding leaves the Gram matrix with
            eigenvalues a little below zero, which grow twelvefold in a step, so in bfloat16 it is
            computed anew after two.

    Returns:
        Matrices of this type, those of bfloat16 within 2 % of those of float32, and within 20 %
        where a matrix has singular values thousands of times apart.
    """
    wide = [(m if m.shape[1] <= m.shape[2] else m.mT).to(kind) for m in sets]
    by_size: dict[int, list[int]] = {}
    for number, x in enumerate(wide):
        by_size.setdefault(x.shape[1], []).append(number)
    runs = _STEPS_AT_ONCE[kind]
    with torch.autocast(sets[0].device.type, enabled=False):
        for numbers in by_size.values():
            for run, steps in enumerate(runs):
                gram = torch.cat([wide[i] @ wide[i].mT for i in numbers])
                if run == 0:
                    # The trace is the squared norm: X / norm has no singular value above 1.
                    norm = gram.diagonal(dim1=1, dim2=2).float().sum(1).sqrt()[:, None, None]
                    norm = norm + 1e-7
                    product = _polynomials((gram / norm**2).to(kind), steps) / norm
                else:
                    product = _polynomials(gram, steps)
                parts = torch.split(product, [len(wide[i]) for i in numbers])
                for i, part in zip(numbers, parts, strict=True):
                    last = part * factors[i] if run + 1 == len(runs) else part
                    wide[i] = last.to(kind) @ wide[i]
    pairs = zip(wide, sets, strict=True)
    return [found if found.shape == m.shape else found.mT for found, m in pairs]


def _polynomials(gram: Tensor, steps: int) -> Tensor:
    """Return what Newton-Schulz steps multiply X by, for ``(number, n, n)`` matrices X X^T."""
    a, b, c = _NS_COEFFICIENTS
    product = gram
    for step in range(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product = polynomial @ product if step else polynomial
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    return product


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each weight matrix is orthogonalised (Jordan et al. 2024).

    Convolutions count as matrices ``(out, k * k * in)``. The update is scaled by sqrt(fan_out /
    fan_in) where that is above 1, so one learning rate serves all shapes. Matrices of one shape are
    handled together: one by one they would take longer to launch than to compute.

    Args:
        params: Parameters of two or four dimensions.
        lr: Learning rate; a 0-dimensional tensor on their device where it changes in a graph.
        momentum: Decay of the running mean of the gradient, 0..1.

    Attributes:
        found_inf: 0-dimensional tensor, 1 where a step must change nothing; as PyTorch's own
            optimisers have it.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Any, lr: float | Tensor, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            sets: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    sets.setdefault(p.shape, []).append(p)
            if sets:
                self._move(list(sets.values()), group["lr"], group["momentum"])

    def _move(self, sets: list[list[Tensor]], rate: float | Tensor, momentum: float) -> None:
        """Update sets of parameters of one shape each."""
        updates = [self._update(alike, momentum) for alike in sets]
        if self.found_inf is not None:
            rate = torch.where(self.found_inf > 0, 0.0, rate)
        scales = [max(1.0, u.shape[1] / u.shape[2]) ** 0.5 for u in updates]
        fast = has_fast_bfloat16(updates[0].device)
        kind = torch.bfloat16 if fast else torch.float32
        found = _orthogonalised(updates, [-rate * scale for scale in scales], kind)
        for alike, moves in zip(sets, found, strict=True):
            split = [_like(m, p) for m, p in zip(moves.unbind(), alike, strict=True)]
            torch._foreach_add_(alike, split)

    def _update(self, alike: list[Tensor], momentum: float) -> Tensor:
        """Return the momentum of parameters, with Nesterov's look ahead."""
        grads = torch.stack([_matrix(p.grad) for p in alike if p.grad is not None])
        state = self.state[alike[0]]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(grads)
        buffer: Tensor = state["momentum"]
        if self.found_inf is not None:
            grads = torch.where(self.found_inf > 0, buffer, grads)
        buffer.lerp_(grads, 1 - momentum)
        return torch.lerp(grads, buffer, momentum)


def _matrix(weight: Tensor) -> Tensor:
    """Return a convolution's weights as a matrix, a view where they lie channels last."""
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight.flatten(1)


def _like(matrix: Tensor, weight: Tensor) -> Tensor:
    """Undo :func:`_matrix` for a matrix of the shape of ``weight``."""
    if weight.ndim != 4:
        return matrix.view_as(weight)
    out, inside, height, width = weight.shape
    return matrix.view(out, height, width, inside).permute(0, 3, 1, 2)


def _is_linear_path(name: str) -> bool:
    return ".linear." in name or ".lap." in name


class Optimisers:
    """The optimisers of a run, whose learning rates lie in tensors on the device.

    Args:
        model: Whose trainable parameters are divided among them.
        config: Section ``optimiser`` of the recipe.

    Raises:
        UsageProblem: An unknown optimiser.
    """

    def __init__(self, model: nn.Module, config: OptimiserConfig):
        self._all = _make(model, config)
        self._peaks = [[group["lr"] for group in o.param_groups] for o in self._all]
        device = next(model.parameters()).device
        self._skip = torch.zeros((), device=device)
        self._set_up(device)
        self.skip_on_device(device.type == "cuda")

    def skip_on_device(self, wanted: bool) -> None:
        """Leave steps out by arithmetic, or by a look at whether they are usable.

        Arithmetic takes longer; a look waits for the device, and cannot be captured.
        """
        self._on_device = wanted
        for optimiser in self._all:
            optimiser.found_inf = self._skip if wanted else None  # type: ignore[attr-defined]

    def _set_up(self, device: torch.device) -> None:
        for optimiser, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = torch.tensor(peak, device=device)

    def set_rate(self, factor: float) -> None:
        """Set every learning rate to its peak times a factor."""
        for optimiser, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"].fill_(peak * factor)

    def step(self, usable: Tensor) -> None:
        """Update the parameters; nothing changes where ``usable``, 0-dimensional, is 0."""
        if self._on_device:
            self._skip.copy_(1 - usable)
        elif not bool(usable):
            return
        for optimiser in self._all:
            optimiser.step()

    def tensors(self) -> list[Tensor]:
        """Return what steps change besides the parameters."""
        states = [v for o in self._all for state in o.state.values() for v in state.values()]
        return [v for v in states if isinstance(v, Tensor)]

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return what a checkpoint keeps."""
        return [o.state_dict() for o in self._all]

    def load_state_dicts(self, saved: list[dict[str, Any]]) -> None:
        """Undo :meth:`state_dicts`."""
        for optimiser, state in zip(self._all, saved, strict=True):
            optimiser.load_state_dict(state)
        self._set_up(self._skip.device)


def _make(model: nn.Module, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
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
        capturable=any(p.is_cuda for p in (*rest, *linear)),
    )
    optimisers: list[torch.optim.Optimizer] = [adam]
    if matrices:
        optimisers.append(Muon(matrices, lr=config.muon_lr))
    return optimisers
