"""Make the tiny weights that tests and golden files use: under 300 kB, trained for a minute.

Usage: python scripts/make_test_weights.py TRAIN_DIR VALID_DIR OUTDIR

Run once a format version; golden files depend on the result, so it is committed and stays.
"""

from __future__ import annotations

import sys
import tempfile

from lic.training.config import DataConfig, OptimiserConfig, Recipe
from lic.training.loop import train
from lic.training.weights import export_run

SECONDS = 60.0
TINY = {
    "latents": 16,
    "hyper_latents": 8,
    "fine": 16,
    "coarse": 16,
    "analysis": (1, 1),
    "synthesis": (1, 1),
    "hyper": 16,
    "width": 16,
    "hidden": 16,
    "knots": 3,
}


def main(data: str, valid: str, out: str) -> None:
    """Train and export ``tiny-hyperprior``."""
    recipe = Recipe(
        family="hyperprior",
        network=TINY,
        data=DataConfig(crop=64, batch=16, late_crop=64),
        optimiser=OptimiserConfig(name="muon", muon_lr=0.01),
        validate_every=SECONDS,
    )
    with tempfile.TemporaryDirectory() as run:
        train(recipe, run, [data], [valid], SECONDS)
        card = export_run(run, out, name="tiny-hyperprior", force=True)
    print(card.path, card.path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:4])
