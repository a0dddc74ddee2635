"""Start a larger network from a smaller trained one, without losing what it learned.

New latents are the next principal components, new channels are whatever fresh layers make of
their input, and every trained layer ignores both at first (Net2Net, Chen et al. 2016, arXiv
1511.05641, with zeros in place of copies). New blocks are identities (their last convolution is
zero). All begin as good as the small network. A lapped filter comes with trained linear paths
turned towards the filtered blocks, so that every latent keeps its meaning as nearly as it can; some
minutes of training make up for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic.errors import UsageProblem
from lic.networks.gains import DOWNSAMPLING
from lic.networks.hyperprior import HyperpriorShape
from lic.networks.steps import PHASES
from lic.networks.transforms import FINE_INPUT
from lic.training.lapping import block_behind

__all__ = ["grow", "head_rows", "places", "require_equal"]

_KEPT = ("hyper_latents", "knots")
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
        new: At least as large as ``old`` in everything.

    Raises:
        UsageProblem: Something shrinks, or grows that cannot.
    """
    before, after = asdict(old), asdict(new)
    require_equal(before, after, _KEPT)
    for name in sorted(before.keys() - set(_KEPT)):
        few, many = (np.atleast_1d(shape[name]) for shape in (before, after))
        if (many < few).any():
            grows = "" if isinstance(before[name], bool) else "can only grow and "
            raise UsageProblem(
                f"network.{name} is {before[name]} in the weights; it {grows}cannot become "
                f"{after[name]}"
            )
    if new.lapped and not old.lapped:
        state = _lapped(state, fresh)
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
        return _of_new_layer(name, fresh)
    if trained.shape == fresh.shape:
        return trained.to(fresh)
    if name.startswith("gains."):
        # New latents are quantised as the weakest old ones of their group are.
        weakest = trained.view(*trained.shape[:-1], PHASES, -1)[..., -1:]
        result = fresh.view(*fresh.shape[:-1], PHASES, -1).clone().copy_(weakest).view_as(fresh)
        result[..., places(old.latents, new.latents)] = trained
        return result
    written, read = _axes(name, old, new)
    result = fresh.clone()
    if ".heads." in name:
        result.zero_()  # new latents start at their deviations
    if read is None:
        result[..., written] = trained
        return result
    if name == "g_s.linear.weight":  # new latents are components already
        result[:, read] = trained
        return result
    result[:, _others(read, fresh.shape[1])] = 0  # what is new is read by nobody at first
    rows = torch.zeros_like(fresh[written])
    rows[:, read] = trained
    result[written] = rows
    return result


def _of_new_layer(name: str, fresh: Tensor) -> Tensor:
    """Return the start of what the small network lacks: identities."""
    if ".conv2." in name:
        return torch.zeros_like(fresh)
    if ".conv1." not in name and ".gain." not in name:
        raise UsageProblem(f"the weights lack '{name}'")
    return fresh


def _others(some: Tensor, count: int) -> Tensor:
    there = torch.ones(count, dtype=torch.bool)
    there[some] = False
    return there.nonzero()[:, 0]


def _axes(name: str, old: HyperpriorShape, new: HyperpriorShape) -> tuple[Tensor, Tensor | None]:
    """Return where the trained outputs and inputs of a layer stand in the larger one.

    Inputs are ``None`` for what has none: offsets, and rows over the rate.
    """
    latents = places(old.latents, new.latents)
    fine, coarse = torch.arange(old.fine), torch.arange(old.coarse)
    hyper, width, hidden = (torch.arange(getattr(old, n)) for n in ("hyper", "width", "hidden"))
    between, hyper_latents = torch.arange(3 * old.hyper // 4), torch.arange(old.hyper_latents)
    picture = torch.arange(3 * DOWNSAMPLING**2)
    fine_picture = torch.arange(FINE_INPUT)

    def with_plane(indices: Tensor, many: int) -> Tensor:
        return torch.cat([indices, torch.tensor([many])])

    def shuffled(indices: Tensor) -> Tensor:
        return (indices[:, None] * PHASES + torch.arange(PHASES)).flatten()

    near = torch.cat([hyper, new.hyper + width])
    layers: dict[str, tuple[Tensor, Tensor]] = {
        r"g_a\.linear": (latents, picture),
        r"g_s\.linear": (picture, latents),
        r"g_a\.stem": (fine, with_plane(fine_picture, FINE_INPUT)),
        r"g_s\.stem": (coarse, with_plane(latents, new.latents)),
        r"g_.\.fine\..*": (fine, fine),
        r"g_.\.coarse\..*": (coarse, coarse),
        r"g_.\.fine_gain": (fine, fine),
        r"g_a\.down\.1": (coarse, shuffled(fine)),
        r"g_s\.up\.0": (shuffled(fine), coarse),
        r"g_a\.out": (latents, coarse),
        r"g_s\.out": (fine_picture, fine),
        r"deviations": (latents, latents),
        r"h_a\.layers\.0": (hyper, with_plane(latents, new.latents)),
        r"h_a\.layers\.2\.1": (hyper, shuffled(hyper)),
        r"h_a\.layers\.4": (hyper, hyper),
        r"h_a\.layers\.6\.1": (hyper_latents, shuffled(hyper)),
        r"context\.h_s1": (shuffled(between), with_plane(hyper_latents, new.hyper_latents)),
        r"context\.h_s2": (between, between),
        r"context\.h_s3": (shuffled(hyper), between),
        r"context\.h_s4": (hyper, with_plane(hyper, new.hyper)),
        r"context\.steps\.\d\.reduce": (width, latents),
        r"context\.steps\.\d\.gather": (width, width),
        r"context\.steps\.0\.mix": (hidden, hyper),
        r"context\.steps\.[1-3]\.mix": (hidden, near),
        r"context\.steps\.\d\.heads\.conv": (head_rows(old.latents, new.latents), hidden),
    }
    layer, _, kind = name.rpartition(".")
    for pattern, (written, read) in layers.items():
        if re.fullmatch(pattern, layer or kind):
            return written, read if kind == "weight" else None
    raise UsageProblem(f"'{name}' cannot grow")


def places(few: int, many: int) -> Tensor:
    """Return where each of few latents stands among many; each of the four groups grows."""
    return torch.arange(many).view(PHASES, -1)[:, : few // PHASES].reshape(-1)


def head_rows(few: int, many: int) -> Tensor:
    """Return the same for the outputs of a step's heads: phases, mean and scale, latents."""
    rows = torch.arange(2 * many).view(PHASES, 2, many // PHASES)
    return rows[:, :, : few // PHASES].reshape(-1)
