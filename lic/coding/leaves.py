"""Probabilities of the bits of nested indices from log probabilities of the indices."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import numpy as np

__all__ = ["LeafBits"]

_BITS = 24
_REACH = 16
_FRACTION = 8
_LOGIT_FRACTION = 12
_COARSE = 4


@cache
def _exponentials() -> np.ndarray:
    """Return 1 + round(2^24 exp(-i / 2^8)) for i from 0 to 16 * 2^8, the last one 1, int64."""
    scale = Decimal(1 << _BITS)
    values = [scale * (-Decimal(i) / (1 << _FRACTION)).exp() for i in range(_REACH << _FRACTION)]
    return np.array([*(1 + int(v.to_integral_value()) for v in values), 1], np.int64)


@cache
def _logits() -> np.ndarray:
    """Return ln(p / (1 - p)) in units of 2^-12 for p = (i + 1/2) / 2^12, int64."""
    count = 1 << (16 - _COARSE)
    scale = Decimal(1 << _LOGIT_FRACTION)
    odds = ((Decimal(2 * i + 1) / (2 * (count - i) - 1)).ln() for i in range(count))
    return np.array([int((scale * o).to_integral_value()) for o in odds], np.int64)


class LeafBits:
    """Bits of the indices at some positions, from the top.

    Args:
        logits: Log probabilities up to a constant, in units of 2^-8, int64 ``(n, 2^bits)``.
        bits: Of an index.
    """

    def __init__(self, logits: np.ndarray, bits: int):
        below = logits.max(1, keepdims=True) - logits
        table = _exponentials()
        weights = table[np.minimum(below, len(table) - 1)]
        self._sums = np.zeros((len(logits), (1 << bits) + 1), np.int64)
        np.cumsum(weights, axis=1, out=self._sums[:, 1:])
        self._bits, self._rows = bits, np.arange(len(logits))

    def __call__(self, depth: int, node: np.ndarray) -> np.ndarray:
        """Return the logit of a one in units of 2^-12 for each position.

        Args:
            depth: Bits that are known.
            node: These bits behind a leading one, ``(n,)``.
        """
        width = 1 << (self._bits - depth)
        first = node * width - (1 << self._bits)
        low, middle, high = (
            self._sums[self._rows, first + part] for part in (0, width // 2, width)
        )
        ones = ((high - middle) << 16) // (high - low)
        return _logits()[ones >> _COARSE]
