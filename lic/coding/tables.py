"""Probability tables: integer frequencies with sum 65536, made once at export and then frozen.

A table covers the symbols ``-h..h`` of its half width ``h`` and ends with one entry for the escape:
entry ``e < 2h + 1`` stands for the symbol ``e - h``, entry ``2h + 1`` for "larger than that"; the
excess then follows as an Exp-Golomb code (``lic.coding.golomb``). The coder itself is in
``lic.coding.range_coder``.

Tables are part of the stream's meaning. They come out of floating point exactly once, on the
machine that exports the weights; every decoder reads the integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lic.errors import WeightsError

__all__ = [
    "TOTAL",
    "ProbabilityTables",
    "bits",
    "gaussian_tables",
    "tables_from_histograms",
]

TOTAL = 1 << 16
"""Sum of the frequencies of a table: one entry of frequency 1 costs 16 bits."""

MOST_TABLES = 1 << 16
"""Table numbers fit 16 bits, which numpy sorts by radix."""

MOST_HALF_WIDTH = 1023
"""Widest table, 2048 entries. Stopping at 255 instead would cost 1.7 bits a symbol at scale 289,
while a row of 2048 entries is looked up with three more steps of the decoder's binary search."""

_DEVIATIONS = 4.5
"""Half width in standard deviations. For true Gaussians 3.5 to 4.5 differ by less than 0.1 % of
the rate; for tails somewhat heavier than Gaussian, which is what networks leave, 4.5 is better by
0.1 to 0.2 %."""


@dataclass(frozen=True, eq=False)
class ProbabilityTables:
    """Frozen integer tables; compared and hashed by identity, so that coders may cache per object.

    Attributes:
        frequencies: int32 of shape ``(n_tables, width)``. The first ``2h + 2`` entries of a row are
            at least 1 and sum to 65536, the others are 0.
        half_widths: int16 of shape ``(n_tables,)``, the ``h`` of each row, 0..1023.

    Raises:
        WeightsError: The arrays do not describe such tables.
    """

    frequencies: np.ndarray
    half_widths: np.ndarray

    def __post_init__(self) -> None:
        frequencies = _frozen_integers(self.frequencies, np.int32, 2, "frequencies")
        half_widths = _frozen_integers(self.half_widths, np.int16, 1, "half widths")
        n_tables, width = frequencies.shape
        if not 1 <= n_tables <= MOST_TABLES or half_widths.shape != (n_tables,):
            raise WeightsError(f"{n_tables} probability tables with {half_widths.size} half widths")
        if half_widths.min() < 0 or half_widths.max() > MOST_HALF_WIDTH:
            raise WeightsError(f"a probability table has a half width outside 0..{MOST_HALF_WIDTH}")
        lengths = 2 * half_widths.astype(np.int64) + 2
        if lengths.max() > width:
            raise WeightsError(f"probability table of {lengths.max()} entries in a row of {width}")
        used = np.arange(width) < lengths[:, None]
        if (frequencies[used] < 1).any() or frequencies[~used].any():
            raise WeightsError("a probability table has an impossible symbol or one past its end")
        if (frequencies.sum(axis=1, dtype=np.int64) != TOTAL).any():
            raise WeightsError(f"frequencies of a probability table do not sum to {TOTAL}")
        object.__setattr__(self, "frequencies", frequencies)
        object.__setattr__(self, "half_widths", half_widths)

    def __len__(self) -> int:
        return len(self.half_widths)

    def row(self, number: int) -> np.ndarray:
        """Return the used part of one table, int32 of shape ``(2h + 2,)``."""
        return self.frequencies[number, : 2 * int(self.half_widths[number]) + 2]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what :meth:`from_arrays` reads: the used parts of all rows end to end, int32.

        Half of a padded array with one wide table would be zeros.
        """
        rows = [self.row(number) for number in range(len(self))]
        return {"frequencies": np.concatenate(rows), "half_widths": self.half_widths.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ProbabilityTables:
        """Rebuild tables from stored arrays.

        Raises:
            WeightsError: An array is missing, or they do not describe tables.
        """
        missing = {"frequencies", "half_widths"} - set(arrays)
        if missing:
            raise WeightsError(f"probability tables without {' and '.join(sorted(missing))}")
        flat = _frozen_integers(arrays["frequencies"], np.int32, 1, "frequencies")
        half_widths = _frozen_integers(arrays["half_widths"], np.int16, 1, "half widths")
        lengths = 2 * half_widths.astype(np.int64) + 2
        if not lengths.size or lengths.min() < 2 or lengths.sum() != flat.size:
            raise WeightsError(f"{flat.size} frequencies do not fill tables of {lengths.sum()}")
        if lengths.max() > 2 * MOST_HALF_WIDTH + 2:
            raise WeightsError(f"a probability table has a half width above {MOST_HALF_WIDTH}")
        frequencies = np.zeros((lengths.size, int(lengths.max())), np.int32)
        frequencies[np.arange(lengths.max()) < lengths[:, None]] = flat
        return cls(frequencies, half_widths)


def _frozen_integers(array: np.ndarray, dtype: type, ndim: int, name: str) -> np.ndarray:
    """Copy into a read-only array of the given type; raises ``WeightsError`` if values change."""
    given = np.asarray(array)
    if given.ndim != ndim or given.dtype.kind not in "iu":
        raise WeightsError(f"{name} of probability tables are not {ndim}-dimensional integers")
    copied: np.ndarray = given.astype(dtype, order="C", copy=True)
    if not np.array_equal(copied, given):
        raise WeightsError(f"{name} of probability tables do not fit {np.dtype(dtype).name}")
    copied.setflags(write=False)
    return copied


def gaussian_tables(n: int = 64, smallest: float = 0.11, step: float = 1 / 8) -> ProbabilityTables:
    """Make tables of zero-mean Gaussians with scales ``smallest * exp(i * step)``.

    The symbol ``s`` gets the mass of ``[s - 1/2, s + 1/2]``, the escape that of both tails. For
    export only: erfc may differ in its last bit between machines.

    Args:
        n: Number of tables.
        smallest: Standard deviation of the first, in quantiser steps.
        step: Distance of neighbouring scales in nats.
    """
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    masses = []
    for scale in smallest * np.exp(np.arange(n) * step):
        half_width = int(min(MOST_HALF_WIDTH, max(1, np.ceil(_DEVIATIONS * scale))))
        edges = np.arange(half_width + 1) + 0.5
        # Differences of upper tails: differences of a cumulative near 1 would lose all digits.
        beyond = erfc(edges / (scale * np.sqrt(2.0)))
        sides = (beyond[:-1] - beyond[1:]) / 2.0
        masses.append(np.concatenate([[1.0 - beyond[0]], sides, [beyond[-1]]]))
    return _tables_from_masses(masses)


def tables_from_histograms(
    tables: ProbabilityTables, counts: np.ndarray, prior_weight: float
) -> ProbabilityTables:
    """Refit tables on measured histograms, keeping number and half widths.

    Each table becomes the mean of its old probabilities, worth ``prior_weight`` symbols, and the
    histogram with both signs pooled.

    Args:
        tables: The prior, usually :func:`gaussian_tables`.
        counts: ``counts[i, s + max_half]`` is how often table ``i`` met the symbol ``s``; shape
            ``(n_tables, 2 * max_half + 1)``, not negative. Symbols beyond a table count as escapes.
        prior_weight: Above zero, so that a table which was never used stays what it was.

    Raises:
        ValueError: Shape, sign or weight are not as above.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 2 or len(counts) != len(tables) or counts.shape[1] % 2 != 1:
        raise ValueError(f"histograms of shape {counts.shape} for {len(tables)} tables")
    if not prior_weight > 0 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("histograms must be finite and not negative, their prior weight positive")
    max_half = counts.shape[1] // 2
    masses = []
    for number in range(len(tables)):
        half_width = int(tables.half_widths[number])
        pooled = counts[number, max_half:] + counts[number, max_half::-1]
        pooled[0] /= 2.0
        measured = np.zeros(half_width + 2)
        covered = min(half_width, max_half) + 1
        measured[:covered] = pooled[:covered]
        measured[-1] = pooled[covered:].sum()
        measured[1:-1] /= 2.0
        prior = tables.row(number)[half_width:] / TOTAL
        masses.append(measured + prior_weight * prior)
    return _tables_from_masses(masses)


def _tables_from_masses(masses: list[np.ndarray]) -> ProbabilityTables:
    """Round tables given as masses of the symbols ``0..h`` and of the escape."""
    half_widths = np.array([len(mass) - 2 for mass in masses], np.int16)
    frequencies = np.zeros((len(masses), 2 * int(half_widths.max()) + 2), np.int32)
    for row, mass in zip(frequencies, masses, strict=True):
        folded = _rounded(mass)
        symmetric = np.concatenate([folded[-2:0:-1], folded])
        row[: len(symmetric)] = symmetric
    return ProbabilityTables(frequencies, half_widths)


def _rounded(mass: np.ndarray) -> np.ndarray:
    """Round masses to frequencies of at least 1 by largest remainder.

    Args:
        mass: Positive sum; entry 0 is the symbol 0, entries ``1..h`` stand for two symbols each
            (``s`` and ``-s``, given per symbol), the last is the escape.

    Returns:
        Integers ``f`` of the same shape with ``f[0] + 2 * sum(f[1:-1]) + f[-1] == 65536``.
    """
    copies = np.full(len(mass), 2)
    copies[[0, -1]] = 1
    small = np.zeros(len(mass), bool)
    while True:
        # Entries that would fall below 1 get 1; the others share what is left in proportion,
        # which costs less than taking it all from the most frequent symbol.
        left = TOTAL - copies[small].sum()
        share = mass * (left / (copies * mass)[~small].sum())
        below = ~small & (share < 1.0)
        if not below.any():
            break
        small |= below
    share[small] = 1.0
    rounded: np.ndarray = np.floor(share).astype(np.int64)
    missing = int(TOTAL - (copies * rounded).sum())
    for entry in np.argsort(rounded - share, kind="stable"):
        if copies[entry] <= missing and not small[entry]:
            rounded[entry] += 1
            missing -= copies[entry]
    # At most one unit is left, when only pairs had a remainder: the symbol 0 stands alone.
    rounded[0] += missing
    return rounded


def bits(tables: ProbabilityTables) -> np.ndarray:
    """Return the cost of every entry in bits, float64 of shape ``(n_tables, width)``.

    Entries past the end of a table are infinite. The escape's entry does not contain the
    Exp-Golomb code behind it.
    """
    with np.errstate(divide="ignore"):
        costs: np.ndarray = np.log2(TOTAL / tables.frequencies)
    return costs
