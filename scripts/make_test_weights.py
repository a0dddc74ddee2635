"""Make the tiny weights that tests and golden files use: under 300 kB, trained for a minute.

Usage: python scripts/make_test_weights.py FAMILY TRAIN_DIR VALID_DIR OUTDIR

Run once a format version; golden files depend on the result, so it is committed and stays.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace

from lic.training.config import DataConfig, OptimiserConfig, Recipe, VqganConfig
from lic.training.loop import train
from lic.training.run import RunFolder
from lic.training.weights import export_run

SECONDS = 60.0
HYPERPRIOR = {
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
VQGAN = {
    "top": 8,
    "encoder": (8, 16, 32),
    "decoder": (16, 16, 32),
    "encoder_blocks": (1, 1, 1),
    "decoder_blocks": (1, 1, 1),
}
RECIPES = {
    "hyperprior": Recipe(family="hyperprior", network=HYPERPRIOR),
    "vqgan": Recipe(
        family="vqgan", loss="l1", network=VQGAN, vqgan=VqganConfig(bits=8, perceptual=0.0)
    ),
}


def main(family: str, data: str, valid: str, out: str) -> None:
    """Train and export ``tiny-FAMILY``."""
    recipe = replace(
        RECIPES[family],
        data=DataConfig(crop=64, batch=16, late_crop=64),
        optimiser=OptimiserConfig(name="muon", muon_lr=0.01),
        validate_every=SECONDS,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        train(recipe, run, [data], [valid], SECONDS)
        if family == "vqgan":
            # The start of the index coder alone would be a megabyte.
            saved = RunFolder(run).load()
            RunFolder(run).save(saved | {"tables": None})
        card = export_run(run, out, name=f"tiny-{family}", force=True)
    print(card.path, card.path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:5])
