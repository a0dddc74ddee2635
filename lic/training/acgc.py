"""What the training loop needs to know about the ``acgc`` family."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lic.networks.acgc import Acgc, AcgcShape
from lic.networks.hyperprior import HyperpriorShape
from lic.training.adoption import adopt
from lic.training.latent import LatentTask

__all__ = ["AcgcTask"]


class AcgcTask(LatentTask):
    """Family ``acgc``: the largest principal components go to the first slices."""

    def shape(self, named: dict[str, Any]) -> AcgcShape:
        """Return a shape."""
        return AcgcShape(**named)

    def networks(self, shape: AcgcShape) -> Acgc:
        """Return fresh networks of a shape."""
        return Acgc(shape, self.recipe.lambdas)

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Fit trained networks to the recipe's shape; those of ``hyperprior`` may be the start."""
        new = self.shape(self.recipe.network)
        if not isinstance(old, HyperpriorShape):
            return super().grow(state, old, fresh)
        by_size = state["deviations"].argsort(descending=True, stable=True)
        return adopt(state, old, fresh, new, by_size[: new.latents])
