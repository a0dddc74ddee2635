"""Predict the bits of nested codebook indices from neighbours, with mixed contexts.

The index of a nested codebook is a path through a binary tree: its first r bits are the index at
rung r. So a neighbour's first bits say much about the next bit here, and are few enough to count
what followed them. Each bit is predicted by several counters, one a context, whose logits a small
mixer adds with weights that it learns on the way (the scheme of PAQ, Mahoney 2005; contexts of
prefixes after the project's own simulations). All arithmetic is in integers, so every machine
predicts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import numpy as np

from lic.errors import WeightsError

__all__ = [
    "BUCKETS",
    "CONTEXTS",
    "DENSITIES",
    "MOST_BITS",
    "SLOTS",
    "Contexts",
    "Follow",
    "Mixer",
    "Step",
    "TreeStart",
]

MOST_BITS = 14
"""Bits of an index at most."""

CONTEXTS = 8
DENSITIES = 8
SLOT_BITS = 16
BUCKETS = 8
SLOTS = 1 << SLOT_BITS

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
        scattered: int32 ``(DENSITIES, MOST_BITS, CONTEXTS, 8)``, weights of the mixer where
            neighbours are further away, see :mod:`lic.coding.scatter`; ``weights`` when ``None``.
    """

    counts: np.ndarray
    weights: np.ndarray
    scattered: np.ndarray | None = None

    def __post_init__(self) -> None:
        scattered = self.scattered_weights()
        for name, array, kind, shape in (
            ("counts", self.counts, np.uint8, (CONTEXTS, SLOTS, 2)),
            ("weights", self.weights, np.int32, (MOST_BITS, CONTEXTS, BUCKETS)),
            ("scattered", scattered, np.int32, (DENSITIES, MOST_BITS, CONTEXTS, BUCKETS)),
        ):
            if array.dtype != kind or array.shape != shape:
                raise WeightsError(f"{name} of the tree coder are {array.dtype}{array.shape}")

    def scattered_weights(self) -> np.ndarray:
        """Return ``scattered``, or what stands in for it."""
        if self.scattered is not None:
            return self.scattered
        return np.broadcast_to(self.weights, (DENSITIES, *self.weights.shape))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what weights files keep, by the names of the attributes."""
        kept = {"counts": self.counts, "weights": self.weights}
        return kept if self.scattered is None else kept | {"scattered": self.scattered}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TreeStart:
        """Undo :meth:`arrays`; counts of no size are the empty start."""
        if not arrays["counts"].size:
            return cls.empty()
        return cls(arrays["counts"], arrays["weights"], arrays.get("scattered"))

    @classmethod
    def empty(cls) -> TreeStart:
        """Return the start that knows nothing."""
        counts = np.zeros((CONTEXTS, SLOTS, 2), np.uint8)
        weights = np.full((MOST_BITS, CONTEXTS, BUCKETS), int(0.3 * _WEIGHT_ONE), np.int32)
        return cls(counts, weights)


class Mixer:
    """Counters and mixing weights while a grid is coded.

    Args:
        start: What is known before.
        weights: Of the mixer, ``(rows, ...)``; those of ``start`` when ``None``.
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
        weights: np.ndarray | None = None,
    ):
        # Zeros and ones of slot i stand at 2 i and 2 i + 1.
        self.counts = start.counts.ravel().astype(np.int32)
        weights = start.weights if weights is None else weights
        self.weights = weights.reshape(len(weights), -1).astype(np.int64)
        self.learning, self.contexts = learning, contexts
        self._logs, self._squash = _logs(), _squash()
        self._rows = np.arange(contexts) * BUCKETS
        self._shift = _RATE_SHIFT + together.bit_length() - 1
        self.totals: np.ndarray | None = None
        """Where :meth:`learn` also counts without forgetting, when it is an array."""

    def predict(self, row: int, slots: np.ndarray, hint: np.ndarray | None = None) -> np.ndarray:
        """Return the probability of a one in units of 2^-16 for ``(n, contexts)`` slots.

        Args:
            row: Of the weights: the depth in the tree.
            slots: From :meth:`Contexts.slots`.
            hint: Logits of a one from elsewhere, in units of 2^-12, ``(n,)``; the last weight of
                the row is theirs.
        """
        self._row, self._twice = row, 2 * slots
        zeros, ones = self.counts[self._twice], self.counts[self._twice + 1]
        self._total = zeros + ones
        self._inputs = self._logs[ones] - self._logs[zeros]
        self._where = self._rows + _BUCKET_OF[self._total]
        if hint is not None:
            last = np.full((len(hint), 1), self.weights.shape[1] - 1)
            self._inputs = np.concatenate([self._inputs, hint[:, None]], axis=1)
            self._where = np.concatenate([self._where, last], axis=1)
        if self.contexts == 1:
            logit = self._inputs[:, 0]
        else:
            weights = self.weights[row][self._where]
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
        self.weights[self._row] += (
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


class Contexts:
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
        self._base = np.arange(contexts) * SLOTS

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


class Follow:
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
