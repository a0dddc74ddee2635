"""What a family of latents codes before the first of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["Side"]


@dataclass(frozen=True)
class Side:
    """What a family codes before the first latent.

    Attributes:
        calls: Symbols and their table numbers, int32 and uint8, as given to the coder.
        steps: The symbols as numbers for the transforms, float32.
        regions: ``(1, 2 h, 2 w)``, which of them each position at 1/8 resolution means.
        rate: ``(1,)`` in [0, 1], that of the picture.
    """

    calls: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    steps: Tensor | None = None
    regions: Tensor | None = None
    rate: Tensor | None = None

    @property
    def checked(self) -> list[np.ndarray]:
        """Arrays for the symbol check."""
        return [symbols for symbols, _ in self.calls]
