"""Rate-distortion plots."""

from __future__ import annotations

from pathlib import Path

__all__ = ["plot_curves"]

Curves = dict[str, list[tuple[float, float]]]


def plot_curves(path: Path, measured: Curves, published: Curves, label: str) -> None:
    """Draw quality over bits per pixel.

    Args:
        path: PNG to write.
        measured: Curves of this run, solid.
        published: Curves quoted from others, dashed and marked so.
        label: Of the vertical axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6))
    for name, points in measured.items():
        rate, value = zip(*sorted(points), strict=True)
        axes.plot(rate, value, marker="o", markersize=3.5, label=name)
    for name, points in published.items():
        rate, value = zip(*sorted(points), strict=True)
        axes.plot(rate, value, linestyle="--", linewidth=1, label=f"{name} (published)")
    rates = [r for points in measured.values() for r, _ in points]
    values = [v for points in measured.values() for _, v in points]
    if rates:
        axes.set_xlim(0, 1.05 * max(rates))
        axes.set_ylim(min(values) - 0.3, max(values) + 0.7)
    axes.set(xlabel="bits per pixel of whole files", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
