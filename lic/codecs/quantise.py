"""How the encoder chooses symbols. The decoder knows nothing of it, so it may improve freely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lic.coding.tables import ProbabilityTables

__all__ = ["choose_symbols"]

Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]


def choose_symbols(tables: ProbabilityTables) -> Choose:
    """Return the rule that turns offsets from the mean, in quantiser steps, into symbols.

    Args:
        tables: Whose costs the rule may weigh.
    """
    del tables

    def nearest(offsets: np.ndarray, _indexes: np.ndarray) -> np.ndarray:
        return np.floor(offsets + 0.5).astype(np.int32)

    return nearest
