"""A range coder in plain Python integers that writes the same words as constriction's.

It is the reference for what the words mean, and the fallback where constriction has no wheel. Two
classes and a model offer the part of constriction's interface that ``lic.coding.range_coder``
uses. It codes about half a million symbols a second.

The interval that is left is ``lower`` to ``lower + range`` in a window of 64 bits; a 32-bit word
leaves at the window's top whenever ``range`` drops below 2^32. Words that a carry may still reach
(the interval then contains a multiple of 2^64) are held back: the first as it is, the following
ones as a count, since each is all ones without the carry and all zeros with it.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

__all__ = ["Bits", "Model", "RangeDecoder", "RangeEncoder"]

_PRECISION = 24
_WORD = 32
_WORD_MASK = (1 << _WORD) - 1
_STATE_MASK = (1 << 64) - 1


class Model:
    """A quantised categorical distribution.

    The 2^24 quanta are shared out as constriction does with ``perfect=False``: one to each of the
    ``n`` entries, and of the others the floor of the cumulative probability times ``2^24 - n``.
    With frequencies of sum 2^16 that product is exact in float64, so integers give the same.

    Args:
        frequencies: Integers of shape ``(n,)`` with ``n >= 2`` and sum 65536.
    """

    def __init__(self, frequencies: np.ndarray):
        n = len(frequencies)
        before = np.cumsum(frequencies, dtype=np.int64) - frequencies
        quanta = (before * ((1 << _PRECISION) - n) >> 16) + np.arange(n)
        self.cumulative: list[int] = [*quanta.tolist(), 1 << _PRECISION]


class Bits:
    """Stands for "binary, with probabilities given beside the entries"."""

    @staticmethod
    def models(probabilities: np.ndarray) -> list[Model]:
        """Return a model for each row (zero, one), multiples of 2^-16."""
        return [Model(row) for row in np.rint(probabilities * 65536).astype(np.int64)]


class RangeEncoder:
    """Counterpart of ``constriction.stream.queue.RangeEncoder``."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower = 0
        self._range = _STATE_MASK
        self._held_word = 0
        self._held_count = 0

    def encode(
        self, entries: np.ndarray, model: Model | Bits, probabilities: np.ndarray | None = None
    ) -> None:
        """Append entries (integers of shape ``(n,)``) that share one model, or bits."""
        if isinstance(model, Bits):
            assert probabilities is not None
            for i, own in enumerate(model.models(probabilities)):
                self.encode(entries[i : i + 1], own)
            return
        cumulative = model.cumulative
        for entry in entries.tolist():
            left = cumulative[entry]
            scale = self._range >> _PRECISION
            self._range = scale * (cumulative[entry + 1] - left)
            lower = self._lower + scale * left
            carry, self._lower = lower >> 64, lower & _STATE_MASK
            if self._held_count and self._lower + self._range <= _STATE_MASK:
                self._words += self._held(carry)
                self._held_count = 0
            if self._range <= _WORD_MASK:
                self._shift()

    def pos(self) -> tuple[int, tuple[int, int]]:
        """Return the number of words before the window, and ``(lower, range)``."""
        return len(self._words) + self._held_count, (self._lower, self._range)

    def get_compressed(self) -> np.ndarray:
        """Return uint32 words that decode to the entries whatever follows them."""
        if self._range == _STATE_MASK:
            return np.zeros(0, np.uint32)
        point = self._lower + _WORD_MASK
        carry = point >> 64
        first = (point & _STATE_MASK) >> _WORD
        words = [*self._words, *self._held(carry), first]
        if ((self._lower + self._range) & _STATE_MASK) >> _WORD == first:
            words.append(0)
        return np.array(words, np.uint32)

    def _shift(self) -> None:
        """Move the window down by one word."""
        word = self._lower >> _WORD
        self._range <<= _WORD
        self._lower = (self._lower & _WORD_MASK) << _WORD
        if self._held_count:
            self._held_count += 1
        elif self._lower + self._range <= _STATE_MASK:
            self._words.append(word)
        else:
            self._held_word, self._held_count = word, 1

    def _held(self, carry: int) -> list[int]:
        """Spell out the words held back, now that the carry (0 or 1) is known."""
        if not self._held_count:
            return []
        following = 0 if carry else _WORD_MASK
        return [self._held_word + carry, *[following] * (self._held_count - 1)]


class RangeDecoder:
    """Counterpart of ``constriction.stream.queue.RangeDecoder``; zeros follow the last word.

    Args:
        words: uint32 of shape ``(n,)``.
    """

    def __init__(self, words: np.ndarray):
        self._words = iter(words.tolist())
        # The decoder needs the distance of the coded number from ``lower``, not either of them.
        self._distance = next(self._words, 0) << _WORD | next(self._words, 0)
        self._range = _STATE_MASK

    def decode(self, model: Model | Bits, what: int | np.ndarray) -> np.ndarray:
        """Return the next ``what`` entries, int32, coded with one model; or bits, with their rows.

        Raises:
            ValueError: The words are such as no encoder writes, and point behind the last quantum.
        """
        if isinstance(model, Bits):
            assert isinstance(what, np.ndarray)
            return np.concatenate(
                [np.zeros(0, np.int32), *(self.decode(own, 1) for own in model.models(what))]
            )
        count = int(what)
        cumulative = model.cumulative
        entries = np.empty(count, np.int32)
        for i in range(count):
            scale = self._range >> _PRECISION
            quantile = self._distance // scale
            if quantile >> _PRECISION:
                raise ValueError("coded words are not those of an encoder")
            entry = bisect_right(cumulative, quantile) - 1
            left = cumulative[entry]
            self._distance -= scale * left
            self._range = scale * (cumulative[entry + 1] - left)
            if self._range <= _WORD_MASK:
                self._distance = self._distance << _WORD | next(self._words, 0)
                self._range <<= _WORD
            entries[i] = entry
        return entries
