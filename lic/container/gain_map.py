"""Gain maps: one signed step of the rate byte per 64x64 pixels, run-length coded.

A run is LEB128 of its length minus one, then LEB128 of the zigzag number of its step (0, -1, 1, -2
are 0, 1, 2, 3); runs cover the grid in raster order.
"""

from __future__ import annotations

import numpy as np

from lic.container.fields import Reader, leb128
from lic.errors import StreamError

__all__ = ["BLOCK", "gain_map_shape", "parse_gain_map", "write_gain_map"]

BLOCK = 64
"""Pixels a side of one entry."""

_LARGEST_ZIGZAG = 255


def gain_map_shape(width: int, height: int) -> tuple[int, int]:
    """Return rows and columns of the map of a picture."""
    return -(-height // BLOCK), -(-width // BLOCK)


def write_gain_map(steps: np.ndarray, shape: tuple[int, int]) -> bytes:
    """Return the runs of an int8 map; ``ValueError`` unless it is one of ``shape``."""
    if steps.dtype != np.int8 or steps.shape != shape or not steps.size:
        raise ValueError(f"gain map: int8 {shape} wanted, {steps.dtype} {steps.shape} given")
    flat = steps.astype(np.int64).ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] + 1))
    lengths = np.diff(starts, append=flat.size)
    out = bytearray()
    for step, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        out += leb128(length - 1) + leb128(2 * step if step >= 0 else -2 * step - 1)
    return bytes(out)


def parse_gain_map(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return the int8 map of ``shape``; nothing of its size is allocated before the runs fit it.

    Raises:
        StreamError: Runs that do not fill the grid exactly, or a step outside -128..127.
    """
    reader, size = Reader(data), shape[0] * shape[1]
    steps, lengths, left = [], [], size
    while reader.left:
        length = reader.leb128("gain map") + 1
        if length > left:
            raise StreamError(f"gain map: runs exceed the {size} blocks of the picture")
        zigzag = reader.leb128("gain map")
        if zigzag > _LARGEST_ZIGZAG:
            raise StreamError(f"gain map: step number {zigzag} exceeds {_LARGEST_ZIGZAG}")
        steps.append(-(zigzag + 1) // 2 if zigzag & 1 else zigzag // 2)
        lengths.append(length)
        left -= length
    if left:
        raise StreamError(f"gain map: runs cover {size - left} of {size} blocks")
    return np.repeat(np.array(steps, np.int8), lengths).reshape(shape)
