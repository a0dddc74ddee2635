"""The ``hyperprior`` family: mean-scale hyperprior, four parallel context steps; the default."""

from __future__ import annotations

from typing import Any

from lic.codecs.latent import LatentCodec
from lic.networks.gains import SynthesisModel
from lic.networks.hyperprior import Hyperprior, HyperpriorShape, synthesis_alone

__all__ = ["HyperpriorCodec"]


class HyperpriorCodec(LatentCodec):
    """Picture to bytes and back as :class:`lic.codecs.latent.LatentCodec` tells."""

    name = "hyperprior"
    number = 1

    @staticmethod
    def networks(shape: dict[str, Any]) -> Hyperprior:
        """Return the networks of a card's shape."""
        return Hyperprior(HyperpriorShape(**shape))

    def synthesis(self, shape: dict[str, Any]) -> SynthesisModel:
        """Return a synthesis of a card's shape; the other networks would take time to make."""
        return synthesis_alone(HyperpriorShape(**shape))
