"""Exp-Golomb codes of order 0 for escapes: symbols that lie outside their probability table.

An escaped symbol is a sign and an excess ``e >= 0``, its distance beyond the table. With
``m = e + 1`` of ``c + 1`` binary digits the code is the class ``c`` in unary, the sign, and the
``c`` digits of ``m`` below its leading one: ``2c + 2`` bits.

The bits travel inside the range coder: classes with the frequencies of a unary code, the rest as
fair coin flips, which the coder stores at one bit each. So escapes need no second stream, no length
and no alignment, and a picture without escapes spends nothing on them. All classes of one call
are coded first, then all other bits, so both sides work on whole arrays.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "BIT_FREQUENCIES",
    "CLASS_FREQUENCIES",
    "bit_counts",
    "golomb_classes",
    "golomb_tails",
    "golomb_values",
]

_MOST_DIGITS = 15

CLASS_FREQUENCIES = np.array([2 ** (15 - c) for c in range(_MOST_DIGITS)] + [2], np.int32)
"""Sum 65536. Class ``c`` costs ``c + 1`` bits; the last needs no terminating digit."""

BIT_FREQUENCIES = np.array([2**15, 2**15], np.int32)
"""A fair coin, sum 65536."""


def golomb_classes(excess: np.ndarray) -> np.ndarray:
    """Return the class of each excess, int32 of the same shape.

    Args:
        excess: Integers 0..65534, of any shape.

    Raises:
        ValueError: An excess has no class.
    """
    excess = np.asarray(excess, np.int64)
    if excess.size and (excess.min() < 0 or excess.max() >= 2 ** (_MOST_DIGITS + 1) - 1):
        raise ValueError("excess of an escape outside 0..65534")
    # frexp is exact, log2 is not obliged to be.
    digits: np.ndarray = np.frexp((excess + 1).astype(np.float64))[1].astype(np.int32)
    return digits - 1


def bit_counts(excess: np.ndarray) -> np.ndarray:
    """Return the length of each code in bits, class, sign and digits together."""
    classes = golomb_classes(excess)
    return np.where(classes == _MOST_DIGITS, 2 * classes + 1, 2 * classes + 2)


def golomb_tails(excess: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return signs and digits behind the classes, as int32 bits of shape ``(sum(classes + 1),)``.

    Args:
        excess: Integers of shape ``(n,)`` as for :func:`golomb_classes`.
        negative: Booleans of shape ``(n,)``.
    """
    classes = golomb_classes(excess)
    leading = np.int32(1) << classes
    # The leading one is known from the class: its place holds the sign instead.
    values = np.asarray(excess).astype(np.int32) + 1 - leading + leading * negative
    owners, shifts = _layout(classes)
    tails: np.ndarray = (values[owners] >> shifts) & 1
    return tails


def golomb_values(classes: np.ndarray, tails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Invert :func:`golomb_classes` and :func:`golomb_tails`.

    Args:
        classes: int32 of shape ``(n,)``, each 0..15.
        tails: Bits of shape ``(sum(classes + 1),)``.

    Returns:
        Excess (int32) and sign (bool, true = negative), each of shape ``(n,)``.
    """
    if not len(classes):
        return np.zeros(0, np.int32), np.zeros(0, bool)
    _, shifts = _layout(classes)
    starts = np.cumsum(classes + 1) - (classes + 1)
    values = np.add.reduceat(np.asarray(tails, np.int32) << shifts, starts)
    leading = np.int32(1) << classes
    return (values & (leading - 1)) + leading - 1, (values & leading) != 0


def _layout(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say for each bit behind the classes whose it is and how far it is shifted left."""
    ends = np.cumsum(classes + 1)
    owners = np.repeat(np.arange(len(classes)), classes + 1)
    shifts = ends[owners] - 1 - np.arange(len(owners))
    return owners, shifts.astype(np.int32)
