"""Gain maps: one signed step of the rate byte per 64x64 pixels, run-length coded.

A run is LEB128 of its length minus one, then LEB128 of the zigzag number of its step; runs cover
the grid in raster order.
"""

from __future__ import annotations

import numpy as np

from lic.container.fields import Reader, leb128
from lic.errors import StreamError

__all__ = ["BLOCK", "gain_map_shape", "parse_gain_map", "write_gain_map"]

BLOCK = 64
"""Pixels a side of one entry."""


def gain_map_shape(width: int, height: int) -> tuple[int, int]:
    """Return rows and columns of the map of a picture."""
    return -(-height // BLOCK), -(-width // BLOCK)


def write_gain_map(steps: np.ndarray) -> bytes:
    """Return the runs of an int8 map."""
    flat = steps.astype(np.int64).ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] + 1))
    lengths = np.diff(starts, append=flat.size)
    out = bytearray()
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        out += leb128(length - 1) + leb128(value << 1 if value >= 0 else (-value << 1) - 1)
    return bytes(out)


def parse_gain_map(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return the int8 map of ``shape``; ``StreamError`` unless the runs fill it exactly."""
    reader, runs, left = Reader(data), [], shape[0] * shape[1]
    while reader.left:
        length = reader.leb128("gain map") + 1
        if length > left:
            raise StreamError("gain map: runs exceed the picture")
        code = reader.leb128("gain map")
        value = -((code + 1) >> 1) if code & 1 else code >> 1
        if not -128 <= value <= 127:
            raise StreamError(f"gain map: step {value} is outside -128..127")
        runs.append((value, length))
        left -= length
    if left:
        raise StreamError(f"gain map: {left} of {shape[0] * shape[1]} blocks are missing")
    values, lengths = zip(*runs, strict=True)
    return np.repeat(np.array(values, np.int8), lengths).reshape(shape)
