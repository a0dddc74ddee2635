"""Code a grid of nested codebook indices bit by bit from the top, with mixed contexts.

The index of a nested codebook is a path through a binary tree: its first r bits are the index at
rung r. So a neighbour's first bits say much about the next bit here, and are few enough to count
what followed them. Each bit is predicted by several counters, one a context, whose logits a small
mixer adds with weights that it learns on the way (the scheme of PAQ, Mahoney 2005; contexts of
prefixes after the project's own simulations).

Positions are coded along wavefronts: everything on one front has all its neighbours (W, N, NW, NE)
behind it, and is predicted, coded and learned from at once. All arithmetic is in integers, so every
machine predicts the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import numpy as np

from lic.coding.bit_coder import BitDecoder, BitEncoder
from lic.errors import WeightsError

__all__ = ["MOST_BITS", "TreeStart", "decode_tree", "encode_tree", "learn_start", "tree_bits"]

MOST_BITS = 14
"""Bits of an index at most."""

CONTEXTS = 8
SLOT_BITS = 16
_SLOTS = 1 << SLOT_BITS

_BUCKETS = 8
_FRACTION = 12
_COUNT_LIMIT = 255
_WEIGHT_ONE = 1 << 16
_RATE_SHIFT = 20
_CLIP = 8 << _FRACTION
_SQUASH_SHIFT = 4
_PRIOR = Decimal("0.4")
_LEAST = 32
_HASH = tuple(map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)))


@cache
def _logs() -> np.ndarray:
    """Return ln(n + 0.4) for counts n in units of 2^-12; decimals round alike everywhere."""
    scale = 1 << _FRACTION
    return np.array(
        [int(((n + _PRIOR).ln() * scale).to_integral_value()) for n in range(_COUNT_LIMIT + 2)],
        np.int64,
    )


@cache
def _squash() -> np.ndarray:
    """Return 2^16 / (1 + exp(-x)) for logits x from -8 to 8 in steps of 2^-8."""
    steps = 1 << (_FRACTION - _SQUASH_SHIFT)
    values = [
        int((65536 / (1 + (-Decimal(i) / steps).exp())).to_integral_value())
        for i in range(-8 * steps, 8 * steps + 1)
    ]
    return np.clip(np.array(values, np.int64), _LEAST, 65536 - _LEAST)


_BUCKET_ENDS = (0, 1, 2, 4, 8, 16, 64)
_BUCKET_OF = np.searchsorted(_BUCKET_ENDS, np.arange(_COUNT_LIMIT + 2))
"""0..7 for how much a counter has seen: 0, 1, 2, 3-4, 5-8, 9-16, 17-64, more."""


@dataclass(frozen=True, eq=False)
class TreeStart:
    """What the coder knows before the first bit; part of the weights.

    Attributes:
        counts: uint8 ``(CONTEXTS, 2^16, 2)``, zeros and ones seen in each context's slot.
        weights: int32 ``(MOST_BITS, CONTEXTS, 8)`` of the mixer, one is 2^16.
    """

    counts: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        for name, array, kind, shape in (
            ("counts", self.counts, np.uint8, (CONTEXTS, _SLOTS, 2)),
            ("weights", self.weights, np.int32, (MOST_BITS, CONTEXTS, _BUCKETS)),
        ):
            if array.dtype != kind or array.shape != shape:
                raise WeightsError(f"{name} of the tree coder are {array.dtype}{array.shape}")

    @classmethod
    def empty(cls) -> TreeStart:
        """Return the start that knows nothing."""
        counts = np.zeros((CONTEXTS, _SLOTS, 2), np.uint8)
        weights = np.full((MOST_BITS, CONTEXTS, _BUCKETS), int(0.3 * _WEIGHT_ONE), np.int32)
        return cls(counts, weights)


class _Mixer:
    """Counters and mixing weights while a grid is coded.

    Args:
        start: What is known before.
        learning: Counters and weights follow what is coded.
        contexts: Number of contexts in use; the first alone makes the static coder.
        together: Grids that are learned from at once; their mean moves the weights.
    """

    def __init__(
        self,
        start: TreeStart,
        learning: bool = True,
        contexts: int = CONTEXTS,
        together: int = 1,
    ):
        # Zeros and ones of slot i stand at 2 i and 2 i + 1.
        self.counts = start.counts.ravel().astype(np.int32)
        self.weights = start.weights.reshape(MOST_BITS, -1).astype(np.int64)
        self.learning, self.contexts = learning, contexts
        self._logs, self._squash = _logs(), _squash()
        self._rows = np.arange(contexts) * _BUCKETS
        self._shift = _RATE_SHIFT + together.bit_length() - 1
        self.totals: np.ndarray | None = None
        """Where :meth:`learn` also counts without forgetting, when it is an array."""

    def predict(self, depth: int, slots: np.ndarray) -> np.ndarray:
        """Return the probability of a one in units of 2^-16 for ``(n, contexts)`` slots."""
        self._depth, self._twice = depth, 2 * slots
        zeros, ones = self.counts[self._twice], self.counts[self._twice + 1]
        self._total = zeros + ones
        self._inputs = self._logs[ones] - self._logs[zeros]
        self._where = self._rows + _BUCKET_OF[self._total]
        if self.contexts == 1:
            logit = self._inputs[:, 0]
        else:
            weights = self.weights[depth][self._where]
            logit = (weights * self._inputs).sum(1) >> 16
        at = (logit.clip(-_CLIP, _CLIP) + _CLIP) >> _SQUASH_SHIFT
        self._ones = self._squash[at]
        return self._ones

    def learn(self, bits: np.ndarray) -> None:
        """Take in the bits that :meth:`predict` was about."""
        if not self.learning:
            return
        bits = bits.astype(np.int64)
        gradient = self._inputs * ((bits << 16) - self._ones)[:, None]
        # Sums of products below 2^31 are exact in float64.
        change = np.bincount(self._where.ravel(), gradient.ravel(), self.weights.shape[1])
        self.weights[self._depth] += (
            change.astype(np.int64) + (1 << (self._shift - 1))
        ) >> self._shift
        seen = (self._twice + bits[:, None]).ravel()
        np.add.at(self.counts, seen, 1)
        if self.totals is not None:
            np.add.at(self.totals, seen, 1)
        if self._total.max() + len(bits) > _COUNT_LIMIT:
            self._halve(np.unique(self._twice))

    def _halve(self, twice: np.ndarray) -> None:
        while (twice := twice[self.counts[twice] + self.counts[twice + 1] > _COUNT_LIMIT]).size:
            self.counts[twice] = (self.counts[twice] + 1) >> 1
            self.counts[twice + 1] = (self.counts[twice + 1] + 1) >> 1


class _Contexts:
    """Counters of one front, for each depth.

    Args:
        near: Neighbours W, N, NW, NE ``(4, n)``: index behind a leading one, 0 where there is none.
        bits: Of an index.
        contexts: How many are in use.
    """

    def __init__(self, near: np.ndarray, bits: int, contexts: int):
        self.bits, self.contexts = bits, contexts
        # heads[k, w]: the first k bits of neighbour w behind a leading one.
        heads = near[None] >> (bits - np.minimum(np.arange(bits + 1), bits))[:, None, None]
        west, north, north_west, north_east = (heads[:, w] for w in range(4))
        four, three, two = (min(k, bits) for k in (4, 3, 2))
        ahead_west, ahead_north = west[1:], north[1:]
        none = np.zeros_like(ahead_west)
        pairs = [
            (none, none),
            (ahead_west, none),
            (ahead_north, none),
            (none + west[four], none + north[four]),
            (
                none + 16 * west[three] + north[three],
                none + 8 * north_east[three] + north_west[two],
            ),
            (ahead_west, ahead_north),
            (none + north_east[four], none + north_west[four]),
        ]
        a, b = (np.stack(side, axis=2)[:, :, :contexts] for side in zip(*pairs, strict=True))
        self._keys = a.astype(np.uint64) * _HASH[1] + b.astype(np.uint64) * _HASH[2]
        self._heads = heads[:, :2]
        self._base = np.arange(contexts) * _SLOTS

    def slots(self, depth: int, node: np.ndarray) -> np.ndarray:
        """Return ``(n, contexts)`` for ``node``, the path so far behind a leading one."""
        own = node.astype(np.uint64) * _HASH[0]
        keys = self._keys[depth] + own[:, None]
        if self.contexts == CONTEXTS:
            # Whether W and N went the same way so far, and where they went then.
            same = self._heads[depth] == node
            ahead = self._heads[depth + 1] & same
            told = (same[0] + 2 * same[1] + 4 * (ahead[0] & 1) + 8 * (ahead[1] & 1)).astype(
                np.uint64
            )
            told = (told + np.uint64(16 * depth)) * _HASH[1]
            keys = np.concatenate([keys, told[:, None]], axis=1)
        keys ^= keys >> np.uint64(29)
        keys *= _HASH[1]
        return (keys >> np.uint64(64 - SLOT_BITS)).astype(np.int64) + self._base


Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(probabilities, where) -> bits; ``where`` numbers the positions in the flat grids."""


def _walk(shape: tuple[int, int, int], bits: int, mixer: _Mixer, step: Step) -> np.ndarray:
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
        contexts = _Contexts(near, bits, mixer.contexts)
        for depth in range(bits):
            found = step(mixer.predict(depth, contexts.slots(depth, node)), where)
            mixer.learn(found)
            node = 2 * node + found
        paths[at] = node.reshape(count, -1)
    indices = np.empty(flat.size, np.int64)
    indices[flat.ravel()] = paths[:, 1:, 1:-1].ravel() - (1 << bits)
    return indices.reshape(shape)


class _Follow:
    """A step that knows the indices and collects the probabilities of their bits."""

    def __init__(self, indices: np.ndarray, bits: int):
        self._flat, self._bits = indices.ravel(), bits
        self._depth = 0
        self.ones: list[np.ndarray] = []
        self.found: list[np.ndarray] = []

    def __call__(self, ones: np.ndarray, where: np.ndarray) -> np.ndarray:
        shift = self._bits - 1 - self._depth
        self._depth = (self._depth + 1) % self._bits
        found = self._flat[where] >> shift & 1
        self.ones.append(ones)
        self.found.append(found)
        return found


def _followed(
    indices: np.ndarray, bits: int, start: TreeStart, contexts: int, learning: bool
) -> tuple[np.ndarray, np.ndarray]:
    if indices.min() < 0 or indices.max() >= 1 << bits or not 1 <= bits <= MOST_BITS:
        raise ValueError(f"indices outside 0..{(1 << bits) - 1}")
    step = _Follow(indices, bits)
    _walk((1, *indices.shape), bits, _Mixer(start, learning, contexts), step)
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
    mixer = _Mixer(start, learning, contexts)
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
    mixer = _Mixer(TreeStart.empty(), together=together)
    mixer.totals = np.zeros(mixer.counts.size, np.int64)
    for indices, bits in grids:
        _walk(indices.shape, bits, mixer, _Follow(indices, bits))
    counts = mixer.totals.reshape(-1, 2)
    total = counts.sum(1, keepdims=True)
    scaled = np.where(total > most, (counts * most + total // 2) // np.maximum(total, 1), counts)
    weights = np.clip(mixer.weights, -(2**20), 2**20).astype(np.int32)
    weights = weights.reshape(MOST_BITS, CONTEXTS, _BUCKETS)
    return TreeStart(scaled.astype(np.uint8).reshape(CONTEXTS, _SLOTS, 2), weights)
