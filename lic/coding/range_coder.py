"""Symbols to bytes and back with a range coder and frozen probability tables.

Encoder and decoder take symbols in several calls, one for each context step. In a call the symbols
are grouped by table number, since coding many symbols of one table is what the coder does fast.
The order is part of the format: table numbers ascending, within a table as given; behind them the
escapes of the call in the same order, as Exp-Golomb codes (``lic.coding.golomb``).

The payload is the range coder's 32-bit words, little-endian, cut short: of all numbers in the
encoder's final interval the one with the most zero bytes at its low end is written, and those zero
bytes are dropped. If the last word keeps fewer than four bytes, these are its most significant
ones, again little-endian. That is up to four bytes less than the coder's own ending, and no table
of lengths, terminator or padding is needed: the decoder appends zeros.

A range decoder alone does not notice damage, missing bytes or bytes left over: it decodes
something from anything. So the decoder encodes again what it decodes, and ``finish`` compares the
bytes. Each sequence of symbols hence has exactly one payload, and nothing else is accepted.

constriction does the work where it is installed; ``lic.coding.reference_coder`` writes the same
words without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from lic.coding import golomb, reference_coder
from lic.coding.tables import TOTAL, ProbabilityTables
from lic.errors import StreamError

__all__ = [
    "LARGEST_SYMBOL",
    "Backend",
    "RangeDecoder",
    "RangeEncoder",
    "backend",
    "damage_reported",
    "shortest_payload",
    "words_of_payload",
]

LARGEST_SYMBOL = 2**15
"""Largest magnitude of a symbol; latents in the coding loop are below 2^11 quantiser steps."""

_WORD_BYTES = 4
_WORD_MASK = 2**32 - 1
_WINDOW_BYTES = 8


@dataclass(frozen=True, eq=False)
class Backend:
    """The parts of a range coder: ``encoder()``, ``decoder(words)``, ``model(frequencies)``.

    ``bits`` is the model of binary decisions, each with a probability of its own: both coders take
    rows (zero, one) of probabilities beside it.
    """

    name: str
    encoder: Any
    decoder: Any
    model: Any
    bits: Any
    models: WeakKeyDictionary[ProbabilityTables, list[Any]] = field(
        default_factory=WeakKeyDictionary, repr=False
    )

    def models_of(self, tables: ProbabilityTables) -> list[Any]:
        """Return one model per table, built once in the life of a ``tables`` object."""
        models = self.models.get(tables)
        if models is None:
            models = [self.model(tables.row(number)) for number in range(len(tables))]
            self.models[tables] = models
        return models

    @cached_property
    def escape_models(self) -> tuple[Any, Any]:
        """Models of the classes and of the other bits of Exp-Golomb codes."""
        return self.model(golomb.CLASS_FREQUENCIES), self.model(golomb.BIT_FREQUENCIES)


@cache
def backend(name: str | None = None) -> Backend:
    """Return the coder called ``constriction`` or ``reference``; by default the best there is.

    Raises:
        ImportError: constriction was asked for by name and cannot be imported.
        ValueError: There is no coder of that name.
    """
    if name == "reference":
        return Backend(
            name,
            reference_coder.RangeEncoder,
            reference_coder.RangeDecoder,
            reference_coder.Model,
            reference_coder.Bits(),
        )
    if name == "constriction":
        import constriction

        queue, categorical = constriction.stream.queue, constriction.stream.model.Categorical

        def model(frequencies: np.ndarray) -> Any:
            # Both options are spelled out: they change the words, and their defaults have changed.
            return categorical(frequencies / float(TOTAL), perfect=False, lazy=False)

        bits = categorical(perfect=False, lazy=False)
        return Backend(name, queue.RangeEncoder, queue.RangeDecoder, model, bits)
    if name is not None:
        raise ValueError(f"no range coder is called {name!r}")
    try:
        return backend("constriction")
    except ImportError:
        return backend("reference")


class _Groups:
    """The order in which one call's symbols are coded.

    Attributes:
        order: Positions of the symbols sorted by table, stable.
        half_widths: int32, half width of each symbol's table, in coding order.
        slices: ``(table, start, stop)`` of each table present, in coding order.
    """

    def __init__(self, indexes: np.ndarray, tables: ProbabilityTables):
        indexes = np.asarray(indexes)
        if indexes.ndim != 1 or indexes.dtype.kind not in "iu":
            raise ValueError("indexes of probability tables must be integers in one dimension")
        if indexes.size and (indexes.min() < 0 or indexes.max() >= len(tables)):
            raise ValueError(f"index of a probability table outside 0..{len(tables) - 1}")
        # Stable sorting is by radix for 8 and 16 bits: many times faster than for 32.
        keys = indexes.astype(np.uint8 if len(tables) <= 256 else np.uint16)
        self.order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=len(tables))
        self.half_widths = np.repeat(tables.half_widths.astype(np.int32), counts)
        present, ends = np.flatnonzero(counts), np.cumsum(counts)
        self.slices = [(int(t), int(ends[t] - counts[t]), int(ends[t])) for t in present]


class _Writer:
    """Codes what both sides agree on, table entries and escape codes, and cuts the words short."""

    def __init__(self, tables: ProbabilityTables, coder: Backend):
        self._coder = coder.encoder()
        self._models = coder.models_of(tables)
        self._escape_models = coder.escape_models

    def write(
        self, entries: np.ndarray, groups: _Groups, classes: np.ndarray, tails: np.ndarray
    ) -> None:
        """Append one call: int32 entries in coding order, then its escapes."""
        for table, start, stop in groups.slices:
            self._coder.encode(entries[start:stop], self._models[table])
        if classes.size:
            class_model, bit_model = self._escape_models
            self._coder.encode(classes, class_model)
            self._coder.encode(tails, bit_model)

    def payload(self) -> bytes:
        return shortest_payload(self._coder)


def shortest_payload(coder: Any) -> bytes:
    """Return the shortest bytes that, followed by zeros, decode to what ``coder`` has encoded."""
    words = coder.get_compressed()
    position, (lower, width) = coder.pos()
    for zero_bytes in range(_WINDOW_BYTES, -1, -1):
        unit = 1 << 8 * zero_bytes
        number = -(-lower // unit) * unit
        if number < lower + width:
            break
    window = np.array([number >> 32 & _WORD_MASK, number & _WORD_MASK], np.uint32)
    digits = np.append(words[:position], window)
    # The coder's own ending, the number just above ``lower`` with 32 zero bits, may have made
    # it carry into the words before the window already.
    if number >> 64 and not (lower + _WORD_MASK) >> 64:
        _add_carry(digits, position - 1)
    return _pack(digits)


class RangeEncoder:
    """Collects symbols and turns them into a payload.

    Args:
        tables: What the indexes count.
        coder: See :func:`backend`; the payload does not depend on it.
    """

    def __init__(self, tables: ProbabilityTables, coder: Backend | None = None):
        self._tables = tables
        self._writer = _Writer(tables, coder or backend())

    def encode(self, symbols: np.ndarray, indexes: np.ndarray) -> None:
        """Append symbols; the decoder must ask for them in calls of the same sizes.

        Args:
            symbols: Integers of shape ``(n,)``, magnitude up to 2^15.
            indexes: Their table numbers, integers of shape ``(n,)`` in ``[0, n_tables)``.

        Raises:
            ValueError: Shapes or ranges are not as above.
        """
        groups = _Groups(indexes, self._tables)
        symbols = np.asarray(symbols)
        if symbols.shape != groups.order.shape or symbols.dtype.kind not in "iu":
            raise ValueError("symbols must be integers, as many as indexes")
        if symbols.size and max(-int(symbols.min()), int(symbols.max())) > LARGEST_SYMBOL:
            raise ValueError(f"symbol with a magnitude above {LARGEST_SYMBOL}")
        ordered = symbols[groups.order].astype(np.int32, copy=False)
        entries = ordered + groups.half_widths
        # As unsigned numbers the negative ones are large, too: one comparison for both ends.
        escaped = np.flatnonzero(entries.view(np.uint32) > 2 * groups.half_widths.view(np.uint32))
        entries[escaped] = 2 * groups.half_widths[escaped] + 1
        beyond = ordered[escaped]
        excess = np.abs(beyond) - groups.half_widths[escaped] - 1
        classes, tails = golomb.golomb_classes(excess), golomb.golomb_tails(excess, beyond < 0)
        self._writer.write(entries, groups, classes, tails)

    def finish(self) -> bytes:
        """Return the payload of all symbols so far; empty if there are none."""
        return self._writer.payload()


class RangeDecoder:
    """Reads back the symbols of a payload.

    Symbols are provisional until :meth:`finish` has returned: damage shows in wrong symbols first.
    The work is bounded by the number of symbols asked for, whatever the bytes are.

    Args:
        data: What :meth:`RangeEncoder.finish` returned.
        tables: The same as when encoding.
        coder: See :func:`backend`; the symbols do not depend on it.
    """

    def __init__(self, data: bytes, tables: ProbabilityTables, coder: Backend | None = None):
        coder = coder or backend()
        self._data = bytes(data)
        self._tables = tables
        self._models = coder.models_of(tables)
        self._escape_models = coder.escape_models
        self._coder = coder.decoder(words_of_payload(self._data))
        self._writer = _Writer(tables, coder)

    def decode(self, indexes: np.ndarray) -> np.ndarray:
        """Return the next symbols, int32 of shape ``(n,)``.

        Args:
            indexes: Their table numbers, integers of shape ``(n,)`` in ``[0, n_tables)``.

        Raises:
            StreamError: The bytes are not those of an encoder.
            ValueError: Indexes are not as above.
        """
        groups = _Groups(indexes, self._tables)
        entries = np.empty(groups.order.shape, np.int32)
        with damage_reported():
            for table, start, stop in groups.slices:
                entries[start:stop] = self._coder.decode(self._models[table], stop - start)
        ordered = entries - groups.half_widths
        escaped = np.flatnonzero(ordered > groups.half_widths)
        classes, tails = self._decode_escapes(escaped.size)
        self._writer.write(entries, groups, classes, tails)
        excess, negative = golomb.golomb_values(classes, tails)
        beyond = excess + groups.half_widths[escaped] + 1
        if beyond.size and beyond.max() > LARGEST_SYMBOL:
            raise StreamError(f"coded symbol with a magnitude above {LARGEST_SYMBOL}")
        ordered[escaped] = np.where(negative, -beyond, beyond)
        symbols = np.empty_like(ordered)
        symbols[groups.order] = ordered
        return symbols

    def finish(self) -> None:
        """Check that the payload is exactly that of the symbols decoded from it.

        Raises:
            StreamError: Bytes are missing, left over, or such as no encoder writes.
        """
        expected = self._writer.payload()
        if expected != self._data:
            raise StreamError(
                f"{len(self._data)} coded bytes are not what their symbols encode to"
                f" ({len(expected)} bytes)"
            )

    def _decode_escapes(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        if not count:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        class_model, bit_model = self._escape_models
        with damage_reported():
            classes = self._coder.decode(class_model, count)
            return classes, self._coder.decode(bit_model, int(classes.sum()) + count)


@contextmanager
def damage_reported() -> Iterator[None]:
    """Turn what a coder raises on impossible words into ``StreamError``.

    constriction 0.5 raises AssertionError; its other ways out are caught in case a later release
    takes them. A Rust panic derives from BaseException alone, like KeyboardInterrupt, which must
    pass.
    """
    try:
        yield
    except (AssertionError, KeyError, ValueError) as error:
        raise StreamError("coded bytes are damaged") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise StreamError("coded bytes are damaged") from error


def _add_carry(digits: np.ndarray, place: int) -> None:
    """Add one to the word at ``place`` of a number of base 2^32, in place."""
    while digits[place] == _WORD_MASK:
        digits[place] = 0
        place -= 1
    digits[place] += 1


def _pack(digits: np.ndarray) -> bytes:
    """Write words little-endian without the zero bytes at the low end of the whole number."""
    used = np.flatnonzero(digits)
    if not used.size:
        return b""
    data = digits[: used[-1] + 1].astype("<u4").tobytes()
    # Little-endian: the low end of a word comes first.
    return data[:-_WORD_BYTES] + data[-_WORD_BYTES:].lstrip(b"\0")


def words_of_payload(data: bytes) -> np.ndarray:
    """Return what :func:`shortest_payload` wrote as uint32 words for a decoder."""
    whole = len(data) - len(data) % _WORD_BYTES
    filled = data[whole:].rjust(_WORD_BYTES, b"\0") if whole < len(data) else b""
    return np.frombuffer(data[:whole] + filled, "<u4").astype(np.uint32)
