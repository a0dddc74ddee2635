"""Means of a sweep, and the files and tables that they go to."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lic.evaluation.bd import METHOD, BdRate, bd_rate
from lic.evaluation.metrics import METRICS, PERCEPTUAL, STANDARD
from lic.evaluation.rows import Row
from lic.files import atomic_write

__all__ = [
    "Point",
    "at_rate",
    "bd_summary",
    "bd_table",
    "codec_meta",
    "compare",
    "curve",
    "mean_points",
    "rate_table",
    "summary",
    "table",
    "write_json",
]

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """Means over all pictures at one quality of one codec.

    Attributes:
        quality, bpp: Bits per pixel of whole files.
        metrics: Means by name of ``METRICS``, ``None`` where a picture has none.
        encode_s, decode_s: Seconds a picture.
        psnr_of_mean_mse: dB; 0.1 to 0.7 below the mean PSNR, and what some papers report.
        details: Means of the numbers that the codec told about every picture.
    """

    quality: float
    bpp: float
    metrics: dict[str, float | None]
    encode_s: float
    decode_s: float
    psnr_of_mean_mse: float
    details: dict[str, float] = field(default_factory=dict)


def mean_points(rows: list[Row]) -> dict[str, list[Point]]:
    """Return the points of each codec in the order of the rows, by rising quality."""
    groups: dict[str, dict[float, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.codec, {}).setdefault(row.quality, []).append(row)
    return {
        codec: [_point(quality, group) for quality, group in sorted(by_quality.items())]
        for codec, by_quality in groups.items()
    }


def _point(quality: float, rows: list[Row]) -> Point:
    mse = _mean([10 ** (-(r.metrics["psnr"] or 0.0) / 10) for r in rows])
    names = set.intersection(*(set(r.details) for r in rows))
    return Point(
        quality=quality,
        bpp=_mean([r.bpp for r in rows]),
        metrics={name: _mean_if_all([r.metrics.get(name) for r in rows]) for name in METRICS},
        encode_s=_mean([r.encode_s for r in rows]),
        decode_s=_mean([r.decode_s for r in rows]),
        psnr_of_mean_mse=-10 * math.log10(mse) if mse else math.inf,
        details={n: _mean([r.details[n] for r in rows]) for n in sorted(names)},
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _mean_if_all(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return _mean(known) if len(known) == len(values) else None


def curve(points: list[Point], metric: str) -> Curve:
    """Return (bpp, metric in its plotting scale) of the points where it is defined and finite."""
    pairs = [(p.bpp, p.metrics[metric]) for p in points]
    scaled = [(rate, METRICS[metric].scale(v)) for rate, v in pairs if v is not None]
    return [(rate, v) for rate, v in scaled if math.isfinite(v)]


def compare(
    curves: dict[str, Curve],
    anchor: str,
    metric: str,
    between: tuple[float, float] | None = None,
) -> dict[str, BdRate]:
    """Return the BD-rate of every other curve against the anchor's.

    Args:
        curves: By codec.
        anchor: One of them.
        metric: What they show.
        between: Range of the metric to take it over at most; the metric's own limits when ``None``.
    """
    least = {"least_range": 0.0} if metric != "psnr" or between else {}
    limits = between or METRICS[metric].limits
    return {
        n: bd_rate(curves[anchor], c, limits=limits, **least)
        for n, c in curves.items()
        if n != anchor
    }


def summary(means: dict[str, list[Point]], meta: dict[str, Any]) -> dict[str, Any]:
    """Return CompressAI's keys for each codec, and ``meta`` with what they have no key for."""
    codecs = {
        name: {
            "name": name,
            "description": f"lic eval at qualities {', '.join(f'{p.quality:g}' for p in points)}",
            "results": {
                "bpp": [p.bpp for p in points],
                **{
                    m.result_key: [p.metrics[k] for p in points]
                    for k, m in METRICS.items()
                    if k in STANDARD or any(p.metrics[k] is not None for p in points)
                },
                "encoding_time": [p.encode_s for p in points],
                "decoding_time": [p.decode_s for p in points],
            },
        }
        for name, points in means.items()
    }
    return codecs | {"meta": meta}


def codec_meta(points: list[Point], identity: str, note: str) -> dict[str, Any]:
    """Return what stands about one codec in ``meta``."""
    names = set.intersection(*(set(p.details) for p in points))
    return {
        "identity": identity,
        "note": note,
        "qualities": [p.quality for p in points],
        "psnr-of-mean-mse": [p.psnr_of_mean_mse for p in points],
        "details": {n: [p.details[n] for p in points] for n in sorted(names)},
    }


def bd_summary(anchor: str | None, metric: str, found: dict[str, BdRate]) -> dict[str, Any]:
    """Return what ``bd_rate.json`` holds."""
    return {
        "anchor": anchor,
        "metric": metric,
        "method": METHOD,
        "codecs": {name: bd.percent for name, bd in found.items()},
        "ranges": {name: [bd.low, bd.high] for name, bd in found.items()},
        "notes": {name: bd.note for name, bd in found.items() if bd.note},
    }


def write_json(path: Path, values: Any) -> None:
    """Replace a JSON file as a whole; infinite numbers, which JSON lacks, become null."""
    text = json.dumps(_plain(values), indent=1, allow_nan=False, ensure_ascii=False)
    atomic_write(str(path), text.encode() + b"\n", force=True)


def _plain(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: _plain(v) for k, v in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(v) for v in values]
    if isinstance(values, float):
        return round(values, 6) if math.isfinite(values) else None
    return values


def table(means: dict[str, list[Point]], notes: dict[str, str]) -> str:
    """Return the means as a text table; codecs with a note are starred and it stands below."""
    width = max(5, *(len(n) + (n in notes) for n in means))
    every = [p for points in means.values() for p in points]
    shown = [n for n in PERCEPTUAL if any(p.metrics[n] is not None for p in every)]
    columns = {n: max(8, len(n) + 2) for n in shown}
    heads = "".join(f"{n.upper():>{columns[n]}}" for n in shown)
    lines = [f"{'codec':{width}} quality     bpp  PSNR dB  MS-SSIM{heads}  encode s  decode s"]
    for name, points in means.items():
        starred = f"{name}*" if name in notes else name
        for p in points:
            others = "".join(f"{_number(p.metrics[n]):>{columns[n]}}" for n in shown)
            lines.append(
                f"{starred:{width}} {p.quality:7g} {p.bpp:7.4f} {p.metrics['psnr']:8.2f} "
                f"{_number(p.metrics['ms_ssim']):>8}{others} {p.encode_s:9.4f} {p.decode_s:9.4f}"
            )
    return "\n".join([*lines, *(f"* {name}: {note}" for name, note in notes.items())])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def at_rate(points: list[Point], bpp: float) -> dict[str, float]:
    """Return each metric at a rate, linear in the logarithm of the rate between two points.

    Empty where the rate is outside the points' range; metrics that a point lacks are left out.
    """
    rates = [math.log(p.bpp) for p in points]
    wanted = math.log(bpp)
    if not points or not min(rates) <= wanted <= max(rates):
        return {}
    order = sorted(range(len(points)), key=rates.__getitem__)
    found = {}
    for name in METRICS:
        values = [points[i].metrics[name] for i in order]
        known = [v for v in values if v is not None and math.isfinite(v)]
        if len(known) == len(values):
            found[name] = float(np.interp(wanted, [rates[i] for i in order], known))
    return found


def rate_table(means: dict[str, list[Point]], bpp: float) -> str:
    """Return all metrics of all codecs at one rate as a text table."""
    width = max(5, *(len(n) for n in means))
    lines = [f"at {bpp:g} bpp, interpolated in log rate"]
    for name, points in means.items():
        found = at_rate(points, bpp)
        told = "  ".join(f"{k.upper().replace('_', '-')} {v:.4f}" for k, v in found.items())
        low, high = min(p.bpp for p in points), max(p.bpp for p in points)
        lines.append(f"{name:{width}}  {told or f'reaches {low:.4f} to {high:.4f} bpp only'}")
    return "\n".join(lines)


def bd_table(
    anchor: str,
    metric: str,
    found: dict[str, BdRate],
    between: tuple[float, float] | None = None,
) -> str:
    """Return the BD-rates as a text table, best first, with anchor, method and range."""
    width = max((len(n) for n in found), default=0)
    unit = f" in {METRICS[metric].unit}" if METRICS[metric].unit else ""
    low, high = between or METRICS[metric].limits
    cut = f", within {low:g} to {high:g}" if math.isfinite(low) else ""
    lines = [f"BD-rate against {anchor} by {metric}, {METHOD}; common range{unit}{cut}"]
    for name, bd in sorted(found.items(), key=lambda item: _rank(item[1])):
        if bd.percent is None:
            lines.append(f"{name:{width}}       n/a  {bd.note}")
            continue
        note = f"  ({bd.note})" if bd.note else ""
        lines.append(f"{name:{width}} {bd.percent:+7.1f} %  {bd.low:.2f} to {bd.high:.2f}{note}")
    return "\n".join(lines)


def _rank(bd: BdRate) -> float:
    return math.inf if bd.percent is None else bd.percent
