"""Draw validation against the pixels that a model was trained on, from its card.

    python scripts/learning_curve.py hyperprior docs/learning-curve.png

Prints a line a run and what a power law through the annealed ends of the runs would give at ten
times the pixels: an extrapolation, across changes of the network, and no promise.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from lic.weights import find_weights

CROP = 256 * 256
BIG = 1e6


def points(runs: list[dict[str, object]]) -> list[tuple[float, float]]:
    """Return millions of crops of 256x256 seen in all, and the last validation, of each run."""
    found, pixels = [], 0.0
    for run in runs:
        recipe: dict = run["recipe"]  # type: ignore[assignment]
        data = recipe["data"]
        pixels += int(str(run["steps"])) * data["batch"] * data["crop"] ** 2
        validation: list = run["validation"]  # type: ignore[assignment]
        found.append((pixels / CROP / BIG, validation[-1][2]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family")
    parser.add_argument("out")
    parser.add_argument("--last", type=int, default=5, help="runs that the power law goes through")
    given = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    card = find_weights(given.family)
    found = points(card.training["runs"])
    for number, (crops, percent) in enumerate(found, 1):
        print(f"run {number}: {crops:7.3f} M crops of 256x256, {percent:6.2f} % against JPEG")
    x, y = (np.array(v) for v in zip(*found, strict=True))
    rate = np.log1p(y / 100)
    slope, start = np.polyfit(np.log(x[-given.last :]), rate[-given.last :], 1)
    ten = 100 * math.expm1(start + slope * math.log(10 * x[-1]))
    print(f"a tenfold {100 * math.expm1(slope * math.log(10)):+.1f} % of the bits, so {ten:.1f} %")
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    axes.semilogx(x, y, marker="o", label=f"{given.family}, end of each run")
    more = np.geomspace(x[-given.last], 10 * x[-1], 50)
    drawn = 100 * np.expm1(start + slope * np.log(more))
    axes.semilogx(more, drawn, "--", color="grey", label="power law through the last runs")
    axes.set(
        xlabel="millions of crops of 256x256 seen",
        ylabel="% of rate at equal PSNR against JPEG",
        title="Validation pictures, whole files",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
