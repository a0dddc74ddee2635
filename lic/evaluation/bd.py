"""Bjontegaard's rate difference, by the ``bjontegaard`` package, with what it covers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lic.evaluation.extras import optional

__all__ = ["METHOD", "BdRate", "bd_rate", "rising"]

Curve = list[tuple[float, float]]

METHOD = "akima"
_FEWEST_POINTS = 4
_GOOD_POINTS = 10
_GOOD_RANGE_DB = 8.0


@dataclass(frozen=True)
class BdRate:
    """A mean difference of rate at equal quality.

    Attributes:
        percent: Negative where the test needs fewer bits; ``None`` where nothing can be said.
        low, high: Common range of the metric, ``None`` where there is none.
        note: What limits the figure, empty if nothing does.
    """

    percent: float | None
    low: float | None
    high: float | None
    note: str


def rising(points: Curve) -> Curve:
    """Return the points that are above their predecessor in both rate and quality."""
    kept: Curve = []
    for rate, value in sorted(points):
        if math.isfinite(value) and (not kept or (rate > kept[-1][0] and value > kept[-1][1])):
            kept.append((rate, value))
    return kept


def bd_rate(
    anchor: Curve,
    test: Curve,
    *,
    least_range: float = _GOOD_RANGE_DB,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> BdRate:
    """Compare two curves by the mean difference of log rate over their common range.

    Points that are not above the previous one in both rate and metric are dropped and counted in
    the note, and so are fewer than ten points and a short common range.

    Args:
        anchor, test: (bpp, metric) in any order.
        least_range: A shorter common range is noted; 0 for metrics other than PSNR.
        limits: Only this range of the metric counts; points outside still shape the curves.

    Raises:
        InputError: bjontegaard is not installed.
    """
    a, t = rising(anchor), rising(test)
    points = min(len(a), len(t))
    if points < _FEWEST_POINTS:
        return BdRate(None, None, None, f"{points} points; {_FEWEST_POINTS} are needed")
    low, high = max(a[0][1], t[0][1], limits[0]), min(a[-1][1], t[-1][1], limits[1])
    if high <= low:
        return BdRate(None, None, None, "no common range")
    (rate_a, value_a), (rate_t, value_t) = zip(*a, strict=True), zip(*t, strict=True)
    percent, curve_a, curve_t = optional("bjontegaard").bd_rate(
        rate_a,
        value_a,
        rate_t,
        value_t,
        method=METHOD,
        require_matching_points=False,
        interpolators=True,
        min_overlap=0,  # the range is told instead
    )
    if low == limits[0] or high == limits[1]:
        area = curve_t.integrate(low, high) - curve_a.integrate(low, high)
        percent = 100 * (10 ** (area / (high - low)) - 1)
    notes = []
    if points < _GOOD_POINTS:
        notes.append(f"only {points} points")
    if high - low < least_range:
        notes.append(f"range under {least_range:g} dB")
    dropped = len(anchor) + len(test) - len(a) - len(t)
    if dropped:
        notes.append(f"{dropped} points dropped, not rising")
    return BdRate(float(percent), low, high, ", ".join(notes))
