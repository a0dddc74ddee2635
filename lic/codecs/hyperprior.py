"""The ``hyperprior`` family: mean-scale hyperprior, four parallel context steps; the default."""

from __future__ import annotations

from typing import Any

from lic.codecs.latent import LatentCodec
from lic.networks.hyperprior import Hyperprior, HyperpriorShape

__all__ = ["HyperpriorCodec"]


class HyperpriorCodec(LatentCodec):
    """Picture to bytes and back as :class:`lic.codecs.latent.LatentCodec` tells."""

    name = "hyperprior"
    number = 1

    @staticmethod
    def networks(shape: dict[str, Any]) -> Hyperprior:
        """Return the networks of a card's shape."""
        return Hyperprior(HyperpriorShape(**shape))
