"""Start a larger network from a smaller trained one, without losing what it learned.

Three things can grow. New latents are the next principal components, which every trained layer
ignores at first. New blocks are identities at first (their last convolution is zero). Both begin as
good as the small network. A lapped filter comes with trained linear paths turned towards the
filtered blocks, so that every latent keeps its meaning as nearly as it can; some minutes of
training make up for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lic.errors import UsageProblem
from lic.networks.gains import DOWNSAMPLING
from lic.networks.hyperprior import HyperpriorShape
from lic.networks.steps import PHASES
from lic.training.lapping import block_behind

__all__ = ["grow", "head_rows", "places", "require_equal"]

_MAY_GROW = ("latents", "analysis", "synthesis", "lapped")
_CORRELATION = 0.974
"""Of neighbouring pixels of photographs; measured on training pictures."""


def grow(
    state: dict[str, Tensor], old: HyperpriorShape, fresh: dict[str, Tensor], new: HyperpriorShape
) -> dict[str, Tensor]:
    """Return a state dict for ``new`` that does what ``state`` does for ``old``.

    Args:
        state: Trained, of shape ``old``.
        old: Of the trained network.
        fresh: State dict of a network of shape ``new`` as training would start it.
        new: At least as large as ``old``, and equal in all widths but the number of latents.

    Raises:
        UsageProblem: Something shrinks, or grows that cannot.
    """
    before, after = asdict(old), asdict(new)
    require_equal(before, after, after.keys() - set(_MAY_GROW))
    if (
        new.latents < old.latents
        or new.lapped < old.lapped
        or any(
            a < b
            for n in ("analysis", "synthesis")
            for a, b in zip(after[n], before[n], strict=True)
        )
    ):
        raise UsageProblem("a network can only grow: latents, blocks of analysis and of synthesis")
    if new.lapped and not old.lapped:
        state = _lapped(state, fresh)
    if old.latents == new.latents and len(state) == len(fresh):
        return state
    return {name: _grown(name, state.get(name), value, old, new) for name, value in fresh.items()}


def require_equal(before: dict[str, Any], after: dict[str, Any], names: Iterable[str]) -> None:
    """Compare fields of two shapes; raises ``UsageProblem`` for the first that differs."""
    for name in sorted(names):
        was, value = before[name], after[name]
        same = tuple(value) == tuple(was) if isinstance(value, list | tuple) else value == was
        if not same:
            raise UsageProblem(f"network.{name} is {was} in the weights and cannot become {value}")


def _lapped(state: dict[str, Tensor], fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the filters of ``fresh`` and turn the linear paths to the blocks behind them.

    The turn is the orthogonal matrix that takes filtered blocks nearest to plain ones (Procrustes),
    for lines of the usual autoregressive model of pictures; rows and columns are separable.
    """
    state = dict(state)
    for name in ("g_a.lap.weight", "g_s.lap.weight"):
        state[name] = fresh[name]
    at = torch.arange(3 * DOWNSAMPLING, dtype=torch.float64)
    covariance = _CORRELATION ** (at[:, None] - at).abs()
    filtered = block_behind(fresh["g_a.lap.weight"].double().cpu())
    cross = covariance[DOWNSAMPLING : 2 * DOWNSAMPLING] @ filtered.T
    left, _, right = torch.linalg.svd(cross)
    turn = (left @ right).to(state["g_a.linear.weight"])
    for name, latents in (("g_a.linear.weight", 0), ("g_s.linear.weight", 1)):
        rows = state[name].transpose(0, latents)
        blocks = rows.reshape(-1, 3, DOWNSAMPLING, DOWNSAMPLING)
        blocks = torch.einsum("mcij,ik,jl->mckl", blocks, turn, turn)
        state[name] = blocks.reshape(rows.shape).transpose(0, latents).contiguous()
    return state


def _grown(
    name: str, trained: Tensor | None, fresh: Tensor, old: HyperpriorShape, new: HyperpriorShape
) -> Tensor:
    if trained is None:
        if ".conv2." not in name and ".conv1." not in name:
            raise UsageProblem(f"the weights lack '{name}'")
        return torch.zeros_like(fresh) if ".conv2." in name else fresh
    if trained.shape == fresh.shape:
        return trained.to(fresh)
    result = fresh.clone()
    latents = places(old.latents, new.latents)
    if name.startswith("gains."):
        # New latents are quantised as the weakest old ones of their group are.
        weakest = trained.view(*trained.shape[:-1], PHASES, -1)[..., -1:]
        result = result.view(*result.shape[:-1], PHASES, -1).copy_(weakest).view_as(fresh)
        result[..., latents] = trained
    elif ".heads." in name:
        result.zero_()[head_rows(old.latents, new.latents)] = trained
    elif name.startswith(("g_a.linear", "g_a.out", "deviations")):
        result[latents] = trained
    elif name.startswith("g_s.linear"):
        result[:, latents] = trained
    else:  # layers that read latents, and behind them perhaps the plane of the rate
        result.zero_()
        result[:, latents] = trained[:, : old.latents]
        result[:, new.latents :] = trained[:, old.latents :]
    return result


def places(few: int, many: int) -> Tensor:
    """Return where each of few latents stands among many; each of the four groups grows."""
    return torch.arange(many).view(PHASES, -1)[:, : few // PHASES].reshape(-1)


def head_rows(few: int, many: int) -> Tensor:
    """Return the same for the outputs of a step's heads: phases, mean and scale, latents."""
    rows = torch.arange(2 * many).view(PHASES, 2, many // PHASES)
    return rows[:, :, : few // PHASES].reshape(-1)
