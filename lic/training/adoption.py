"""Start ``acgc`` and ``segpic`` from trained ``hyperprior`` weights.

The families share convolutions, linear paths, gains and hyper-analysis, so what hours of training
taught those goes on, and the layers that a paper adds start at doing nothing. The strongest latents
are kept; a context of another kind starts afresh.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lic.errors import UsageProblem
from lic.networks.hyperprior import HyperpriorShape
from lic.training.growth import head_rows, require_equal

__all__ = ["adopt"]

_MUST_AGREE = (
    "hyper_latents",
    "fine",
    "coarse",
    "analysis",
    "synthesis",
    "hyper",
    "knots",
    "lapped",
)
_HALVED = {
    "g_a.fine.swin.": "g_a.down.1.weight",
    "g_a.coarse.swin.": "g_a.out.weight",
    "g_s.coarse.swin.": "g_s.up.0.weight",
    "g_s.fine.swin.": "g_s.out.weight",
}
"""What reads a residual group, which doubles its input when its branches are nothing."""


def adopt(
    state: dict[str, Tensor],
    old: HyperpriorShape,
    fresh: dict[str, Tensor],
    new: Any,
    source: Tensor,
) -> dict[str, Tensor]:
    """Return a state dict for ``new`` whose transforms do what those of ``old`` did.

    Args:
        state: Trained networks of ``hyperprior``.
        old: Their shape.
        fresh: State dict of a network of shape ``new`` as training would start it.
        new: Shape of ``acgc`` or ``segpic``.
        source: Which old latent each new one goes on with. Where ``new`` has the context of
            ``hyperprior``, :func:`lic.training.growth.places` of them.

    Raises:
        UsageProblem: The shapes do not go together.
    """
    require_equal(asdict(old), asdict(new), _MUST_AGREE)
    if new.latents > old.latents:
        raise UsageProblem(f"the weights have {old.latents} latents, fewer than {new.latents}")
    result = dict(fresh)
    for name in fresh.keys() & state.keys():
        taken = _taken(name, state[name], source, old.latents)
        if taken.shape == fresh[name].shape:
            result[name] = taken.to(fresh[name])
    for group, reader in _HALVED.items():
        norms = [n for n in fresh if n.startswith(group) and ".after_" in n and "weight" in n]
        for name in norms:
            result[name] = torch.zeros_like(fresh[name])
        if norms:
            result[reader] = result[reader] / 2
    return result


def _taken(name: str, trained: Tensor, source: Tensor, old: int) -> Tensor:
    """Return a trained tensor with the latents of ``source`` alone."""
    if name.startswith(("g_a.linear", "g_a.out", "deviations")):
        return trained[source]
    if name.startswith(("gains.base", "gains.rises")):
        return trained[..., source]
    if ".heads." in name:
        return trained[head_rows(len(source), old)]
    if name.startswith(("g_s.linear", "g_s.stem.weight", "h_a.layers.0.weight")) or (
        ".reduce." in name and trained.ndim == 4 and trained.shape[1] == old
    ):
        rest = torch.arange(old, trained.shape[1])  # perhaps the plane of the rate
        return trained[:, torch.cat([source, rest])]
    return trained
