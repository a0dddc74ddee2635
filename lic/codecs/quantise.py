"""How the encoder chooses symbols. The decoder knows nothing of it, so it may improve freely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lic.coding.tables import ProbabilityTables, bits

__all__ = ["RDO_WEIGHT", "Choose", "choose_symbols"]

RDO_WEIGHT = 20.0
"""Bits that a squared quantiser step of error is worth to the encoder; chosen on valid/."""

Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(offsets from the mean in quantiser steps, table numbers) -> symbols."""


def choose_symbols(tables: ProbabilityTables, weight: float | None) -> Choose:
    """Return a rule that rounds to nearest unless the next symbol towards zero is worth it.

    A symbol costs ``weight * (offset - symbol)^2 + bits(symbol)``. With lambda the distortion
    weight and g the gain, the weight is lambda / (3 g^2) bits (the mean over three colour samples
    of an orthonormal transform); gains follow the square root of lambda, so one number serves all
    rates and channels.

    Args:
        tables: Whose costs count.
        weight: Bits a squared quantiser step; ``None`` rounds to nearest.
    """
    if weight is None:
        return lambda offsets, _indexes: _nearest(offsets)
    cost = bits(tables)
    half = tables.half_widths.astype(np.int64)

    def cheapest(offsets: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        symbols = _nearest(offsets)
        size = np.abs(symbols)
        # Zeros stay; escapes cost about what their neighbours do.
        at = np.flatnonzero((size > 0) & (size <= half[indexes]))
        table, large = indexes[at], size[at]
        centre = half[table]
        saved = cost[table, centre + large] - cost[table, centre + large - 1]
        lost = weight * (2 * (np.abs(offsets[at]) - large) + 1)
        at = at[lost < saved]
        symbols[at] -= np.sign(symbols[at])
        return symbols

    return cheapest


def _nearest(offsets: np.ndarray) -> np.ndarray:
    return np.floor(offsets + 0.5).astype(np.int32)
