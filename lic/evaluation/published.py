"""Curves of other codecs from a JSON file of points."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from lic.errors import InputError
from lic.evaluation.metrics import METRICS

__all__ = ["read_published"]

Curve = list[tuple[float, float]]

_MOST_UNNAMED = 12


def read_published(path: str, names: list[str], metric: str = "psnr") -> dict[str, Curve]:
    """Return (bpp, metric) points by curve name, in the metric's plotting scale.

    The file holds ``{"curves": {NAME: {"points": [{"bpp": .., "psnr": .., "ms_ssim": ..}, ..]}}}``
    (``ms_ssim_db`` serves in place of ``ms_ssim``), a list of such curves with a ``name`` each, or
    CompressAI's ``{"name", "results": {"bpp": [..], "psnr-rgb": [..], "ms-ssim-rgb": [..]}}``.

    Args:
        path: Of the JSON file.
        names: Curves wanted; all that have the metric where empty.
        metric: A key of ``METRICS``.

    Raises:
        InputError: The file cannot be read, lacks a curve or its metric, or has too many curves to
            draw them all.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        curves = {name: _scaled(points, metric) for name, points in _curves(values).items()}
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", path) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"is not a JSON file of curves: {error}", path) from error
    if not names:
        found = {name: points for name, points in curves.items() if points}
        if not found:
            raise InputError(f"has no curve with {metric}", path)
        if len(found) > _MOST_UNNAMED:
            raise InputError(f"has {len(found)} curves; choose with --published-curve", path)
        return found
    return {name: _named(curves, name, metric, path) for name in names}


def _named(curves: dict[str, Curve], name: str, metric: str, path: str) -> Curve:
    if name not in curves:
        near = difflib.get_close_matches(name, curves, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"has no curve '{name}'{hint}", path)
    if not curves[name]:
        raise InputError(f"curve '{name}' has no {metric}", path)
    return curves[name]


def _curves(values: Any) -> dict[str, list[dict[str, Any]]]:
    """Return lists of points by name from any of the three forms."""
    if isinstance(values, dict) and "results" in values:
        results = values["results"]
        ours = {"bpp": "bpp"} | {m.result_key: name for name, m in METRICS.items()}
        known = [k for k in results if k in ours]
        rows = zip(*(results[k] for k in known), strict=True)
        points = [{ours[k]: v for k, v in zip(known, row, strict=True)} for row in rows]
        return {values.get("name", "published"): points}
    found = values.get("curves", values) if isinstance(values, dict) else values
    if isinstance(found, list):
        found = {c["name"]: c for c in found}
    return {n: c["points"] for n, c in found.items() if isinstance(c, dict) and "points" in c}


def _scaled(points: list[dict[str, Any]], metric: str) -> Curve:
    """Return sorted (bpp, value) of the points that have the metric."""
    scale = METRICS[metric].scale
    curve = []
    for p in points:
        if p.get("bpp") is None:
            continue
        if p.get(metric) is not None:
            curve.append((float(p["bpp"]), scale(float(p[metric]))))
        elif p.get(f"{metric}_db") is not None:
            curve.append((float(p["bpp"]), float(p[f"{metric}_db"])))
    return sorted(curve)
