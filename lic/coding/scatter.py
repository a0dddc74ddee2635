"""Code nested codebook indices that lie scattered over a grid: those of one packet.

A packet is decoded alone, so its indices can only be predicted from others in it. They come in the
order of :func:`lic.coding.order.r2_order` and are coded in a few groups, each spread over the whole
grid and larger than those before it together; the contexts of an index are the four nearest of the
groups before. Counters are those of the tree coder, learned from direct neighbours; how far they
are to be trusted at a distance is what the mixer's own weights for each density say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lic.coding.bit_coder import BitDecoder, BitEncoder
from lic.coding.leaves import LeafBits
from lic.coding.mixing import (
    DENSITIES,
    MOST_BITS,
    Contexts,
    Follow,
    Mixer,
    Step,
    TreeStart,
)

__all__ = ["Hints", "decode_scattered", "encode_scattered", "learn_scattered", "scattered_bits"]

_GROUP_ENDS: tuple[int, ...] = (1272, 5845, 14263, 26858, 43881, 65536)
"""Of 2^16: (i / 6)^2.2, the power law of masked transformers (Mentzer et al. 2023,
arXiv 2304.07313)."""

_NEAR = 4
_LEAST_DENSITY = 3


Foresee = Callable[[np.ndarray, np.ndarray, np.ndarray, tuple[int, int], int], LeafBits]
"""(indices so far ``(m,)``, their places, places asked for, shape of the grid, bits) -> bits."""


@dataclass(frozen=True, eq=False)
class Hints:
    """What a network adds to the contexts.

    Attributes:
        foresee: Predicts the next group from those before.
        weights: int32 ``(DENSITIES * MOST_BITS, CONTEXTS * BUCKETS + 1)`` of the mixer, instead of
            those for packets; the last column is for the network.
        ends: Of the groups, of 2^16.
    """

    foresee: Foresee
    weights: np.ndarray
    ends: tuple[int, ...]


def _groups(count: int, ends: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each group that is not empty."""
    begin = 0
    for share in ends:
        end = count * share >> 16
        if end > begin:
            yield begin, end
            begin = end


def _nearest(rows: np.ndarray, columns: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Return which four of the first ``begin`` are nearest to each up to ``end``, ``(4, n)``.

    Those that are not there are -1. Of equally near ones, the first counts.
    """
    near = np.full((_NEAR, end - begin), -1)
    found = min(_NEAR, begin)
    if found:
        down = rows[begin:end, None] - rows[None, :begin]
        across = columns[begin:end, None] - columns[None, :begin]
        keys = (down * down + across * across) * begin + np.arange(begin)
        best = np.sort(np.partition(keys, found - 1, axis=1)[:, :found], axis=1)
        near[:found] = (best % begin).T
    return near


def _walk(
    places: np.ndarray,
    shape: tuple[int, int],
    bits: int,
    mixer: Mixer,
    step: Step,
    hints: Hints | None,
) -> np.ndarray:
    """Go through the indices of a packet group by group; returns them, int64 ``(n,)``."""
    rows, columns = np.divmod(places, shape[1])
    paths = np.zeros(len(places) + 1, np.int64)  # the last stands for neighbours that are missing
    ends = hints.ends if hints else _GROUP_ENDS
    for begin, end in _groups(len(places), ends):
        near = paths[_nearest(rows, columns, begin, end)]
        area = shape[0] * shape[1] // max(1, begin)
        density = min(max(area.bit_length() - _LEAST_DENSITY, 0), DENSITIES - 1)
        where = np.arange(begin, end)
        node = np.ones(end - begin, np.int64)
        contexts = Contexts(near, bits, mixer.contexts)
        leaves = None
        if hints is not None:
            known = paths[:begin] - (1 << bits)
            leaves = hints.foresee(known, places[:begin], places[begin:end], shape, bits)
        for depth in range(bits):
            slots = contexts.slots(depth, node)
            hint = None if leaves is None else leaves(depth, node)
            found = step(mixer.predict(density * MOST_BITS + depth, slots, hint), where)
            mixer.learn(found)
            node = 2 * node + found
        paths[begin:end] = node
    return paths[:-1] - (1 << bits)


def _mixer(start: TreeStart, hints: Hints | None) -> Mixer:
    rows = start.scattered_weights().reshape(DENSITIES * MOST_BITS, -1)
    return Mixer(start, weights=hints.weights if hints else rows)


def _followed(
    indices: np.ndarray,
    places: np.ndarray,
    shape: tuple[int, int],
    bits: int,
    start: TreeStart,
    hints: Hints | None,
) -> tuple[np.ndarray, np.ndarray]:
    step = Follow(indices, bits)
    _walk(places, shape, bits, _mixer(start, hints), step, hints)
    return np.concatenate(step.found), np.concatenate(step.ones)


def encode_scattered(
    indices: np.ndarray,
    places: np.ndarray,
    shape: tuple[int, int],
    bits: int,
    start: TreeStart,
    hints: Hints | None = None,
) -> bytes:
    """Return the payload of some indices of a grid.

    Args:
        indices: Integers ``(n,)`` in ``[0, 2^bits)`` of a nested codebook, n at least 1.
        places: Their flat positions ``row * width + column``, int64 ``(n,)``.
        shape: Height and width of the grid.
        bits: Of an index, 1 to 14.
        start: What the decoder knows, too.
        hints: A network beside the contexts.
    """
    found, ones = _followed(indices, places, shape, bits, start, hints)
    encoder = BitEncoder()
    encoder.encode(found, ones)
    return encoder.finish()


def scattered_bits(
    indices: np.ndarray,
    places: np.ndarray,
    shape: tuple[int, int],
    bits: int,
    start: TreeStart,
    hints: Hints | None = None,
) -> float:
    """Return what :func:`encode_scattered` will need, in bits, without the rounding to bytes."""
    found, ones = _followed(indices, places, shape, bits, start, hints)
    return float(16 * len(found) - np.log2(np.where(found == 1, ones, 65536 - ones)).sum())


def decode_scattered(
    data: bytes,
    places: np.ndarray,
    shape: tuple[int, int],
    bits: int,
    start: TreeStart,
    hints: Hints | None = None,
) -> np.ndarray:
    """Return the indices ``(n,)`` int64 of a payload; mirrors :func:`encode_scattered`.

    Raises:
        StreamError: The payload is not exactly what an encoder wrote.
    """
    decoder = BitDecoder(data)

    def step(ones: np.ndarray, _where: np.ndarray) -> np.ndarray:
        return decoder.decode(ones)

    indices = _walk(places, shape, bits, _mixer(start, hints), step, hints)
    decoder.finish()
    return indices


def learn_scattered(
    packets: list[tuple[np.ndarray, np.ndarray, tuple[int, int], int]],
    start: TreeStart,
    hints: Hints | None = None,
) -> np.ndarray:
    """Return mixing weights that coding many packets leaves, int32 in rows.

    Args:
        packets: Indices, places, shape of the grid and bits of each, as in
            :func:`encode_scattered`.
        start: Whose counters are used, each packet anew.
        hints: A network beside the contexts; its weights are where learning starts.
    """
    weights = _mixer(start, hints).weights
    for indices, places, shape, bits in packets:
        mixer = Mixer(start, weights=weights)
        _walk(places, shape, bits, mixer, Follow(indices, bits), hints)
        weights = np.clip(mixer.weights, -(2**20), 2**20)
    return weights.astype(np.int32)
