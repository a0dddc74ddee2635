"""What the training loop needs to know about the ``hyperprior`` family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lic.networks.hyperprior import Hyperprior, HyperpriorShape
from lic.networks.steps import PHASES
from lic.training.growth import grow
from lic.training.latent import LatentTask

__all__ = ["HyperpriorTask"]


class HyperpriorTask(LatentTask):
    """Family ``hyperprior``; its networks may grow."""

    def shape(self, named: dict[str, Any]) -> HyperpriorShape:
        """Return a shape."""
        return HyperpriorShape(**named)

    def networks(self, shape: HyperpriorShape) -> Hyperprior:
        """Return fresh networks of a shape."""
        return Hyperprior(shape, self.recipe.lambdas)

    def component_order(self, latents: int) -> Tensor:
        """Return an order in which each of the four groups holds components of every size."""
        return torch.arange(latents).view(-1, PHASES).T.reshape(-1)

    def grow(
        self, state: dict[str, Tensor], old: HyperpriorShape, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Fit trained networks to the recipe's shape; see :func:`lic.training.growth.grow`."""
        return grow(state, old, fresh, self.shape(self.recipe.network))
