"""Rate-distortion plots."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from lic.evaluation.extras import optional
from lic.files import atomic_write

__all__ = ["plot_curves", "save_figure"]

Curves = dict[str, list[tuple[float, float]]]

_SIZE_INCHES = (9, 6)
_DPI = 130


def plot_curves(
    path: Path, measured: Curves, published: Curves, *, axis: str, title: str, log: bool = False
) -> None:
    """Draw a metric over bits per pixel.

    The window is that of the measured curves, since published ones may reach far beyond.

    Args:
        path: PNG to write, replaced as a whole.
        measured: Curves of this run, solid with a mark a point.
        published: Curves quoted from others, dashed and called so.
        axis: Label of the vertical axis.
        title: Above.
        log: Logarithmic rate.

    Raises:
        InputError: matplotlib is not installed.
    """
    # A figure by itself draws without a display and leaves pyplot's state alone.
    measured, published = ({n: c for n, c in g.items() if c} for g in (measured, published))
    figure = optional("matplotlib.figure").Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    for name, points in measured.items():
        rate, value = zip(*sorted(points), strict=True)
        axes.plot(rate, value, marker="o", markersize=3.5, linewidth=1.6, label=name)
    for name, points in published.items():
        rate, value = zip(*sorted(points), strict=True)
        axes.plot(
            rate, value, linestyle="--", marker="x", markersize=4, linewidth=1, label=_quoted(name)
        )
    if log:
        axes.set_xscale("log")
    _frame(axes, measured or published, log)
    axes.set(xlabel="bits per pixel of whole files", ylabel=axis, title=title)
    axes.grid(alpha=0.3, which="both")
    if measured or published:
        axes.legend(fontsize=8, loc="lower right")
    save_figure(path, figure)


def save_figure(path: Path, figure: Any) -> None:
    """Write a figure as PNG, replaced as a whole."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    atomic_write(str(path), picture.getvalue(), force=True)


def _quoted(name: str) -> str:
    return name if name.endswith("(published)") else f"{name} (published)"


def _frame(axes: Any, curves: Curves, log: bool) -> None:
    rates = [rate for points in curves.values() for rate, _ in points]
    values = [value for points in curves.values() for _, value in points]
    if not rates:
        return
    axes.set_xlim(0.9 * min(rates) if log else 0, 1.05 * max(rates))
    margin = 0.05 * (max(values) - min(values)) + 0.2
    axes.set_ylim(min(values) - margin, max(values) + margin)
