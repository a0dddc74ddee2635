"""The rate-distortion plot of a run."""

from __future__ import annotations

import csv

from lic.training.run import RunFolder
from lic.training.validation import QUALITIES, RATES

__all__ = ["plot_run"]

_NUMBERS = {"lpips": "LPIPS (AlexNet)", "loss": "PSNR less than the codec's own, dB"}
"""What is drawn of rows without a curve, by the beginning of its columns, and how it is called."""


def plot_run(run: RunFolder) -> None:
    """Draw ``RUN/rd.png`` from ``valid.csv``; nothing without matplotlib.

    Plotting comes with the ``eval`` extra, and a training machine may do without it.
    """
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    path = run.path / "valid.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if "bd" not in rows[-1]:
        _plot_numbers(run, rows)
        return
    figure, axes = pyplot.subplots(figsize=(7, 5))
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    quality = QUALITIES[run.recipe().loss]
    for row in shown:
        bpp = [float(row[f"bpp@{r:.2f}"]) for r in RATES]
        measured = [float(row[f"{quality.column}@{r:.2f}"]) for r in RATES]
        label = f"step {row['step']}, {float(row['bd']):+.1f} % against JPEG, {row['tables']}"
        label = label.removesuffix(", ")
        axes.plot(bpp, measured, marker="o", label=label)
    axes.set(
        xlabel=f"bits per pixel, {rows[-1]['bpp']}",
        ylabel=quality.axis,
        title="Validation pictures",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(run.path / "rd.png", dpi=120)
    pyplot.close(figure)


def _plot_numbers(run: RunFolder, rows: list[dict[str, str]]) -> None:
    """Draw over the steps what families without a curve over rates measure: at rungs or rates."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    steps = [int(row["step"]) for row in rows]
    for name in rows[-1]:
        kind, at, _ = name.partition("@")
        if at and kind in _NUMBERS:
            axes.plot(steps, [float(row[name]) for row in rows], marker="o", label=name)
            axes.legend()
            axes.set_ylabel(_NUMBERS[kind])
    axes.set(xlabel="step", title="Validation pictures")
    axes.grid(alpha=0.3)
    figure.savefig(run.path / "rd.png", dpi=120)
    pyplot.close(figure)
