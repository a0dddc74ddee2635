"""Bjontegaard's rate difference, by the ``bjontegaard`` package, with what it covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["METHOD", "BdRate", "bd_rate"]

METHOD = "akima"
_FEWEST_POINTS = 4
_GOOD_POINTS = 10
_GOOD_RANGE_DB = 8.0


@dataclass(frozen=True)
class BdRate:
    """A mean difference of rate at equal quality.

    Attributes:
        percent: Negative where the test needs fewer bits; ``None`` where nothing can be said.
        low, high: Common range of the metric.
        note: What limits the figure, empty if nothing does.
    """

    percent: float | None
    low: float
    high: float
    note: str


def rising(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that are above their predecessor in both rate and quality."""
    kept: list[tuple[float, float]] = []
    for rate, value in sorted(points):
        if np.isfinite(value) and (not kept or (rate > kept[-1][0] and value > kept[-1][1])):
            kept.append((rate, value))
    return kept


def bd_rate(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]], *, decibels: bool = True
) -> BdRate:
    """Compare two curves of (bpp, metric).

    Args:
        anchor, test: Points in any order.
        decibels: The metric is PSNR; a short common range is then noted.
    """
    import bjontegaard

    a, t = rising(anchor), rising(test)
    if min(len(a), len(t)) < _FEWEST_POINTS:
        return BdRate(None, float("nan"), float("nan"), f"fewer than {_FEWEST_POINTS} points")
    low, high = max(a[0][1], t[0][1]), min(a[-1][1], t[-1][1])
    if high <= low:
        return BdRate(None, low, high, "no common range")
    (ra, da), (rt, dt) = zip(*a, strict=True), zip(*t, strict=True)
    percent = float(
        bjontegaard.bd_rate(
            ra, da, rt, dt, method=METHOD, require_matching_points=False, min_overlap=0
        )
    )
    notes = []
    if min(len(a), len(t)) < _GOOD_POINTS:
        notes.append(f"{min(len(a), len(t))} points")
    if decibels and high - low < _GOOD_RANGE_DB:
        notes.append(f"range under {_GOOD_RANGE_DB:g} dB")
    return BdRate(percent, low, high, ", ".join(notes))
