"""Means, files and tables of a sweep."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from lic.evaluation.bd import METHOD, BdRate, bd_rate
from lic.evaluation.sweep import Row

__all__ = ["compare", "curve", "environment", "summarise", "table", "write_json"]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def summarise(rows: list[Row]) -> dict[str, list[dict[str, Any]]]:
    """Return, for each codec, one dict of means a quality, by rising quality."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.codec, row.quality), []).append(row)
    out: dict[str, list[dict[str, Any]]] = {}
    for (codec, quality), group in sorted(groups.items()):
        similarity = [r.ms_ssim for r in group if r.ms_ssim is not None]
        out.setdefault(codec, []).append(
            {
                "quality": quality,
                "bpp": _mean([r.bpp for r in group]),
                "psnr": _mean([r.psnr for r in group]),
                "ms_ssim": _mean(similarity) if len(similarity) == len(group) else None,
                "encode_s": _mean([r.encode_s for r in group]),
                "decode_s": _mean([r.decode_s for r in group]),
                "pictures": len(group),
            }
        )
    return out


def curve(points: list[dict[str, Any]], metric: str) -> list[tuple[float, float]]:
    """Return (bpp, metric) pairs of a codec's means; points without the metric are left out."""
    return [(p["bpp"], p[metric]) for p in points if p[metric] is not None]


def compare(
    curves: dict[str, list[tuple[float, float]]], anchor: str, metric: str
) -> dict[str, BdRate]:
    """Return the BD-rate of every curve against the anchor's."""
    decibels = metric == "psnr"
    return {
        name: bd_rate(curves[anchor], points, decibels=decibels)
        for name, points in curves.items()
        if name != anchor
    }


def environment() -> dict[str, Any]:
    """Return what a reader needs to judge the figures: versions, processor, revision."""
    packages = ("torch", "numpy", "pillow", "constriction", "bjontegaard", "pytorch-msssim")
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "revision": _revision(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _revision() -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def compressai_summary(means: dict[str, list[dict[str, Any]]], meta: dict[str, Any]) -> dict:
    """Return CompressAI's result keys for each codec, plus ``meta``."""
    keys = {
        "bpp": "bpp",
        "psnr-rgb": "psnr",
        "ms-ssim-rgb": "ms_ssim",
        "encoding_time": "encode_s",
        "decoding_time": "decode_s",
    }
    codecs = {
        name: {
            "name": name,
            "description": f"lic eval, qualities {[p['quality'] for p in points]}",
            "results": {k: [p[v] for p in points] for k, v in keys.items()},
        }
        for name, points in means.items()
    }
    return codecs | {"meta": meta}


def write_json(path: Path, values: Any) -> None:
    """Replace a JSON file as a whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def bd_summary(anchor: str, metric: str, found: dict[str, BdRate]) -> dict[str, Any]:
    """Return what ``bd_rate.json`` holds."""
    return {
        "anchor": anchor,
        "metric": metric,
        "method": METHOD,
        "codecs": {name: bd.percent for name, bd in found.items()},
        "ranges": {name: [bd.low, bd.high] for name, bd in found.items()},
        "notes": {name: bd.note for name, bd in found.items() if bd.note},
    }


def table(means: dict[str, list[dict[str, Any]]]) -> str:
    """Return the means as a text table."""
    head = f"{'codec':18}{'quality':>8}{'bpp':>9}{'PSNR':>8}{'MS-SSIM':>9}{'enc s':>8}{'dec s':>8}"
    lines = [head]
    for codec, points in means.items():
        for p in points:
            similarity = "" if p["ms_ssim"] is None else f"{p['ms_ssim']:.4f}"
            lines.append(
                f"{codec:18}{p['quality']:8g}{p['bpp']:9.4f}{p['psnr']:8.2f}{similarity:>9}"
                f"{p['encode_s']:8.3f}{p['decode_s']:8.3f}"
            )
    return "\n".join(lines)


def bd_table(anchor: str, metric: str, found: dict[str, BdRate]) -> str:
    """Return the BD-rates as a text table, with range and method."""
    lines = [f"BD-rate against {anchor}, {metric}, {METHOD} interpolation"]
    for name, bd in sorted(found.items(), key=lambda item: item[1].percent or 0):
        percent = "     n/a" if bd.percent is None else f"{bd.percent:+7.1f} %"
        note = f"  ({bd.note})" if bd.note else ""
        lines.append(f"{name:24}{percent}  over {bd.low:.2f}..{bd.high:.2f}{note}")
    return "\n".join(lines)
