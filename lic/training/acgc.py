"""What the training loop needs to know about the ``acgc`` family."""

from __future__ import annotations

from typing import Any

from lic.networks.acgc import Acgc, AcgcShape
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
