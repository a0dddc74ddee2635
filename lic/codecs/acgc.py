"""The ``acgc`` family, after S2LIC: SwinV2 transforms, channel-wise and global-inter context."""

from __future__ import annotations

from typing import Any

from lic.codecs.latent import LatentCodec
from lic.networks.acgc import Acgc, AcgcShape

__all__ = ["AcgcCodec"]


class AcgcCodec(LatentCodec):
    """Picture to bytes and back as :class:`lic.codecs.latent.LatentCodec` tells."""

    name = "acgc"
    number = 2

    @staticmethod
    def networks(shape: dict[str, Any]) -> Acgc:
        """Return the networks of a card's shape."""
        return Acgc(AcgcShape(**shape))
