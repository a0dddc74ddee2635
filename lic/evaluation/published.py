"""Curves of other codecs from a JSON file of points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lic.errors import InputError

__all__ = ["read_published"]


def read_published(path: str, names: list[str]) -> dict[str, list[tuple[float, float]]]:
    """Return (bpp, PSNR) points by curve name.

    The file holds ``{"curves": {NAME: {"points": [{"bpp": .., "psnr": ..}, ..]}}}``, a list of
    such curves with a ``name`` each, or CompressAI's ``{"name", "results": {"bpp", "psnr-rgb"}}``.

    Args:
        path: Of the JSON file.
        names: Curves wanted; all where empty.

    Raises:
        InputError: The file cannot be read, or has no curve of a name.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"is not a JSON file of curves: {error}", path) from error
    curves = _curves(values)
    missing = [n for n in names if n not in curves]
    if missing or not curves:
        raise InputError(f"has no curve '{missing[0] if missing else 'at all'}'", path)
    wanted = names or sorted(curves)
    return {n: curves[n] for n in wanted if curves[n]}


def _curves(values: Any) -> dict[str, list[tuple[float, float]]]:
    if isinstance(values, dict) and "results" in values:
        results = values["results"]
        points = list(
            zip(results["bpp"], results.get("psnr-rgb", results.get("psnr")), strict=True)
        )
        return {values.get("name", "published"): points}
    found = values.get("curves", values) if isinstance(values, dict) else values
    if isinstance(found, list):
        found = {c["name"]: c for c in found if isinstance(c, dict) and "name" in c}
    return {n: _points(c) for n, c in found.items() if isinstance(c, dict) and "points" in c}


def _points(curve: dict[str, Any]) -> list[tuple[float, float]]:
    return [
        (float(p["bpp"]), float(p["psnr"]))
        for p in curve["points"]
        if p.get("psnr") is not None and p.get("bpp") is not None
    ]
