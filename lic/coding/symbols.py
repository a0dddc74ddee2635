"""Facts about symbols that need no coder: their checksum and what they will cost."""

from __future__ import annotations

import binascii

import numpy as np

from lic.coding import golomb
from lic.coding.tables import ProbabilityTables

__all__ = ["estimated_bits", "symbol_check"]

_CRC_START = 0xFFFF


def symbol_check(*arrays: np.ndarray) -> int:
    """Return the CRC-16 that tells a decoder whether it derived the encoder's integers.

    Args:
        arrays: Integer arrays in coding order, by convention z and then 16 * y_hat, the latter in
            one array or one for each context step. Each is read in C order as little-endian int32,
            so how the values are divided into arrays does not matter.

    Returns:
        CRC-16/CCITT with start 0xFFFF, as ``binascii.crc_hqx`` computes it.

    Raises:
        ValueError: An array is not of integers that fit int32.
    """
    check = _CRC_START
    for array in arrays:
        given = np.asarray(array)
        if given.dtype.kind not in "iu":
            raise ValueError(f"symbol check over {given.dtype} instead of integers")
        stored = np.ascontiguousarray(given, "<i4")
        if given.dtype != np.int32 and not np.array_equal(stored, given):
            raise ValueError("symbol check over integers that do not fit int32")
        check = binascii.crc_hqx(stored.tobytes(), check)
    return check


def estimated_bits(symbols: np.ndarray, indexes: np.ndarray, tables: ProbabilityTables) -> float:
    """Return what the symbols cost with these tables, escapes included, in bits.

    The range coder's payload is within 1 % and a few bytes of it.

    Args:
        symbols: Integers of any shape, magnitude up to 2^15.
        indexes: Their table numbers, of the same shape, in ``[0, n_tables)``.
        tables: What the indexes count.
    """
    symbols = np.asarray(symbols, np.int64).ravel()
    indexes = np.asarray(indexes, np.int64).ravel()
    half_widths = tables.half_widths.astype(np.int64)[indexes]
    excess = np.abs(symbols) - half_widths - 1
    escaped = excess >= 0
    entries = np.where(escaped, 2 * half_widths + 1, symbols + half_widths)
    in_tables = (16.0 - np.log2(tables.frequencies[indexes, entries])).sum()
    return float(in_tables + golomb.bit_counts(excess[escaped]).sum())
