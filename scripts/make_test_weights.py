"""Make the tiny weights that tests and golden files use: some hundred kB, trained for a minute.

Usage: python scripts/make_test_weights.py FAMILY TRAIN_DIR VALID_DIR OUTDIR

Run once a format version; golden files depend on the result, so it is committed and stays.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from lic.training.config import DataConfig, OptimiserConfig, Recipe, SegpicConfig, VqganConfig
from lic.training.loop import train
from lic.training.run import RunFolder
from lic.training.weights import export_run

SECONDS = 60.0
SHAPES = Path(__file__).parents[1] / "tests" / "shapes.json"
SPECIAL = {
    "vqgan": {"loss": "l1", "vqgan": VqganConfig(bits=8, perceptual=0.0)},
    "segpic": {"segpic": SegpicConfig(consistency=0.0)},
}


def main(family: str, data: str, valid: str, out: str) -> None:
    """Train and export ``tiny-FAMILY``."""
    recipe = Recipe(
        family=family,
        network=json.loads(SHAPES.read_text())[family],
        **SPECIAL.get(family, {}),
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
