"""An order of grid positions in which every run is spread evenly over the grid.

The R2 sequence (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences"): points at
multiples of 1/g and 1/g^2, g the real root of x^3 = x + 1. In 64-bit integers, so that both ends of
a channel agree.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["r2_order"]

_DOWN = 0x91E10DA5C79E7B1D
_ACROSS = 0xC13FA9A902A6328F
_HALF = 1 << 63
_BLOCK = 1 << 16


@lru_cache(maxsize=8)
def r2_order(height: int, width: int) -> np.ndarray:
    """Return flat positions ``row * width + column`` of a grid, int64 ``(height * width,)``.

    Args:
        height: 1 to 65535.
        width: 1 to 65535.
    """
    total = height * width
    ranked = np.zeros(total, bool)
    found: list[np.ndarray] = []
    left, begin = total, 0
    while left:
        count = max(_BLOCK, 2 * total)
        steps = np.arange(begin, begin + count, dtype=np.uint64)
        # A position is the high half of a 64-bit fraction times a side; its low half never matters
        # for sides of 16 bits, but for the carry.
        rows = _scaled(np.uint64(_HALF) + steps * np.uint64(_DOWN), height)
        columns = _scaled(np.uint64(_HALF) + steps * np.uint64(_ACROSS), width)
        flat = rows * width + columns
        _, first = np.unique(flat, return_index=True)
        fresh = flat[np.sort(first)]
        fresh = fresh[~ranked[fresh]]
        ranked[fresh] = True
        found.append(fresh)
        left -= len(fresh)
        begin += count
    order = np.concatenate(found)
    order.setflags(write=False)
    return order


def _scaled(fraction: np.ndarray, side: int) -> np.ndarray:
    """Return ``fraction * side >> 64`` exactly."""
    high, low = fraction >> np.uint64(32), fraction & np.uint64(0xFFFFFFFF)
    scaled = (high * np.uint64(side) + (low * np.uint64(side) >> np.uint64(32))) >> np.uint64(32)
    return scaled.astype(np.int64)
