"""The coders that a grid of nested codebook indices may use, by the name that users see."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from lic.coding.bit_coder import BitDecoder, BitEncoder
from lic.coding.mixing import TreeStart
from lic.coding.order import r2_order
from lic.coding.scatter import Hints, decode_scattered, encode_scattered, scattered_bits
from lic.coding.tree import decode_tree, encode_tree, tree_bits
from lic.container import INDEX_CODERS

__all__ = [
    "CODERS",
    "DEFAULT_CODER",
    "coder_checksum",
    "decode_indices",
    "encode_indices",
    "index_bits",
]

CODERS = INDEX_CODERS
"""Numbers are part of the format; ``transformer`` needs a network of its own, see
:mod:`lic.codecs.prior`."""

DEFAULT_CODER = "tree"

_TREE: dict[str, dict[str, Any]] = {
    "tree": {},
    "static": {"contexts": 1, "learning": False},
}
_HALF = 1 << 15


def encode_indices(
    indices: np.ndarray, bits: int, coder: str, start: TreeStart, hints: Hints | None = None
) -> bytes:
    """Return the payload of indices ``(h, w)`` in ``[0, 2^bits)``; ``transformer`` has hints."""
    if coder in _TREE:
        return encode_tree(indices, bits, start, **_TREE[coder])
    if hints is not None:
        return encode_scattered(*_whole_grid(indices), bits, start, hints)
    found = indices.reshape(-1, 1) >> np.arange(bits)[::-1] & 1
    encoder = BitEncoder()
    encoder.encode(found.ravel(), np.full(found.size, _HALF))
    return encoder.finish()


def decode_indices(
    data: bytes,
    shape: tuple[int, int],
    bits: int,
    coder: str,
    start: TreeStart,
    hints: Hints | None = None,
) -> np.ndarray:
    """Return indices ``(h, w)`` int64; mirrors :func:`encode_indices`.

    Raises:
        StreamError: The payload is not exactly what an encoder wrote.
    """
    if coder in _TREE:
        return decode_tree(data, shape, bits, start, **_TREE[coder])
    if hints is not None:
        indices = np.empty(shape, np.int64)
        places = r2_order(*shape)
        indices.ravel()[places] = decode_scattered(data, places, shape, bits, start, hints)
        return indices
    decoder = BitDecoder(data)
    found = decoder.decode(np.full(shape[0] * shape[1] * bits, _HALF))
    decoder.finish()
    return (found.reshape(-1, bits).astype(np.int64) << np.arange(bits)[::-1]).sum(1).reshape(shape)


def index_bits(
    indices: np.ndarray, bits: int, coder: str, start: TreeStart, hints: Hints | None = None
) -> float:
    """Return what the indices cost in bits, without the rounding to bytes."""
    if coder in _TREE:
        return tree_bits(indices, bits, start, **_TREE[coder])
    if hints is not None:
        return scattered_bits(*_whole_grid(indices), bits, start, hints)
    return float(bits * indices.size)


def _whole_grid(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return the indices of a grid as one packet: values in R2 order, their places, the shape."""
    places = r2_order(*indices.shape)
    return indices.ravel()[places], places, (indices.shape[0], indices.shape[1])


def coder_checksum(start: TreeStart, bottom: int, top: int) -> str:
    """Return a digest of what the coders of files and packets write for stored grids."""
    digest = hashlib.sha256()
    at = np.arange(19 * 23, dtype=np.int64).reshape(19, 23)
    for bits in range(bottom, top + 1):
        grid = (at * at * 2654435761 >> 9) % 2**bits
        digest.update(encode_tree(grid, bits, start))
        if start.scattered is not None:
            places = r2_order(*grid.shape)[::5]
            digest.update(encode_scattered(grid.ravel()[places], places, grid.shape, bits, start))
    return digest.hexdigest()
