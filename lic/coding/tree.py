"""Code a grid of nested codebook indices bit by bit from the top, each from its neighbours.

Positions are coded along wavefronts: everything on one front has all its neighbours (W, N, NW, NE)
behind it, and is predicted, coded and learned from at once by :mod:`lic.coding.mixing`.
"""

from __future__ import annotations

import numpy as np

from lic.coding.bit_coder import BitDecoder, BitEncoder
from lic.coding.mixing import (
    BUCKETS,
    CONTEXTS,
    MOST_BITS,
    SLOTS,
    Contexts,
    Follow,
    Mixer,
    Step,
    TreeStart,
)

__all__ = ["decode_tree", "encode_tree", "learn_start", "tree_bits"]


def _walk(shape: tuple[int, int, int], bits: int, mixer: Mixer, step: Step) -> np.ndarray:
    """Go through grids of one size along wavefronts; returns the indices ``(n, h, w)``.

    Args:
        shape: ``(n, h, w)``; grids are independent but for what the mixer learns.
        bits: Of an index.
        mixer: Predicts and learns.
        step: Codes the bits of one front at one depth.
    """
    count, height, width = shape
    # Low grids have fewer fronts: width + 2 * (height - 1).
    flat = np.arange(count * height * width).reshape(shape)
    if height > width:
        flat = flat.transpose(0, 2, 1)
        height, width = width, height
    paths = np.zeros((count, height + 1, width + 2), np.int64)
    for front in range(width + 2 * (height - 1)):
        rows = np.arange(max(0, (front - width) // 2 + 1), min(height, front // 2 + 1))
        rows = rows[(front - 2 * rows >= 0) & (front - 2 * rows < width)]
        columns = front - 2 * rows
        at = (slice(None), rows + 1, columns + 1)
        near = np.stack(
            [
                paths[:, rows + 1, columns].ravel(),
                paths[:, rows, columns + 1].ravel(),
                paths[:, rows, columns].ravel(),
                paths[:, rows, columns + 2].ravel(),
            ]
        )
        where = flat[:, rows, columns].ravel()
        node = np.ones(len(where), np.int64)
        contexts = Contexts(near, bits, mixer.contexts)
        for depth in range(bits):
            found = step(mixer.predict(depth, contexts.slots(depth, node)), where)
            mixer.learn(found)
            node = 2 * node + found
        paths[at] = node.reshape(count, -1)
    indices = np.empty(flat.size, np.int64)
    indices[flat.ravel()] = paths[:, 1:, 1:-1].ravel() - (1 << bits)
    return indices.reshape(shape)


def _followed(
    indices: np.ndarray, bits: int, start: TreeStart, contexts: int, learning: bool
) -> tuple[np.ndarray, np.ndarray]:
    if indices.min() < 0 or indices.max() >= 1 << bits or not 1 <= bits <= MOST_BITS:
        raise ValueError(f"indices outside 0..{(1 << bits) - 1}")
    step = Follow(indices, bits)
    _walk((1, *indices.shape), bits, Mixer(start, learning, contexts), step)
    return np.concatenate(step.found), np.concatenate(step.ones)


def encode_tree(
    indices: np.ndarray,
    bits: int,
    start: TreeStart,
    *,
    contexts: int = CONTEXTS,
    learning: bool = True,
) -> bytes:
    """Return the payload of a grid of indices.

    Args:
        indices: Integers ``(h, w)`` in ``[0, 2^bits)`` of a nested codebook.
        bits: Of an index, 1 to 14.
        start: What the decoder knows, too.
        contexts: How many of the contexts are used; 1 makes an order-0 coder.
        learning: Adapt to the grid while coding it.
    """
    found, ones = _followed(indices, bits, start, contexts, learning)
    encoder = BitEncoder()
    encoder.encode(found, ones)
    return encoder.finish()


def tree_bits(
    indices: np.ndarray,
    bits: int,
    start: TreeStart,
    *,
    contexts: int = CONTEXTS,
    learning: bool = True,
) -> float:
    """Return what :func:`encode_tree` will need, in bits, without the rounding to bytes."""
    found, ones = _followed(indices, bits, start, contexts, learning)
    return float(16 * len(found) - np.log2(np.where(found == 1, ones, 65536 - ones)).sum())


def decode_tree(
    data: bytes,
    shape: tuple[int, int],
    bits: int,
    start: TreeStart,
    *,
    contexts: int = CONTEXTS,
    learning: bool = True,
) -> np.ndarray:
    """Return the indices ``(h, w)`` int64 of a payload; mirrors :func:`encode_tree`.

    Raises:
        StreamError: The payload is not exactly what an encoder wrote.
    """
    decoder = BitDecoder(data)
    mixer = Mixer(start, learning, contexts)
    grids = _walk((1, *shape), bits, mixer, lambda ones, _where: decoder.decode(ones))
    decoder.finish()
    return grids[0]


def learn_start(grids: list[tuple[np.ndarray, int]], most: int) -> TreeStart:
    """Return what coding many grids leaves in counters and weights.

    Args:
        grids: Stacks of grids ``(n, h, w)`` with the bits of their indices.
        most: Counts are scaled down to this sum, so that a picture can still move them.
    """
    together = max(len(indices) for indices, _ in grids)
    mixer = Mixer(TreeStart.empty(), together=together)
    mixer.totals = np.zeros(mixer.counts.size, np.int64)
    for indices, bits in grids:
        _walk(indices.shape, bits, mixer, Follow(indices, bits))
    counts = mixer.totals.reshape(-1, 2)
    total = counts.sum(1, keepdims=True)
    scaled = np.where(total > most, (counts * most + total // 2) // np.maximum(total, 1), counts)
    weights = np.clip(mixer.weights, -(2**20), 2**20).astype(np.int32)
    weights = weights.reshape(MOST_BITS, CONTEXTS, BUCKETS)
    return TreeStart(scaled.astype(np.uint8).reshape(CONTEXTS, SLOTS, 2), weights)
