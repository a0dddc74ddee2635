"""The ``acgc`` family, after S2LIC: SwinV2 transforms, channel-wise and global-inter context."""

from __future__ import annotations

import math
from typing import Any

from lic.codecs.latent import LatentCodec
from lic.networks.acgc import Acgc, AcgcShape
from lic.weights import Card

__all__ = ["AcgcCodec"]


class AcgcCodec(LatentCodec):
    """Picture to bytes and back as :class:`lic.codecs.latent.LatentCodec` tells."""

    name = "acgc"
    number = 2

    def __init__(self, card: Card | None = None, threads: int = 1):
        super().__init__(card, threads)
        shape = AcgcShape(**self.card.shape())
        # Each block of attention sees a window further, at 1/8 half as many latent rows.
        (fine, coarse), (deep, shallow) = shape.analysis, shape.synthesis
        seen = max(coarse + fine / 2, deep + shallow / 2)
        self.align = shape.window
        self.halo = shape.window * (math.ceil(seen) + 1)

    @staticmethod
    def networks(shape: dict[str, Any]) -> Acgc:
        """Return the networks of a card's shape."""
        return Acgc(AcgcShape(**shape))
