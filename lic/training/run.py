"""A run's folder: recipe, log, checkpoints, curves."""

from __future__ import annotations

import csv
import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from lic.errors import InputError
from lic.training.config import Recipe, from_dict, to_dict

__all__ = ["RunFolder"]


class RunFolder:
    """Reads and writes ``recipe.json``, ``checkpoint.pt``, ``log.csv`` and ``valid.csv``."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, recipe: Recipe) -> RunFolder:
        run = cls(path)
        run.path.mkdir(parents=True, exist_ok=True)
        run._replace("recipe.json", json.dumps(to_dict(recipe), indent=2).encode())
        return run

    def exists(self) -> bool:
        """Tell whether the folder holds a run."""
        return (self.path / "recipe.json").exists()

    def recipe(self) -> Recipe:
        """Return the recipe of the run; raises ``InputError`` where there is none."""
        try:
            return from_dict(json.loads((self.path / "recipe.json").read_text()))
        except (OSError, ValueError) as error:
            raise InputError("is not the folder of a training run", str(self.path)) from error

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; an interruption leaves the old one whole."""
        temporary = self.path / ".checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.path / "checkpoint.pt")

    def load(self) -> dict[str, Any]:
        """Return the checkpoint's state, on the CPU."""
        if not (self.path / "checkpoint.pt").exists():
            raise InputError("has no checkpoint; the run ended before one", str(self.path))
        try:
            return torch.load(self.path / "checkpoint.pt", map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise InputError(f"has no usable checkpoint: {error}", str(self.path)) from error

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to a CSV file, with a head line where it is new."""
        path = self.path / name
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _replace(self, name: str, data: bytes) -> None:
        temporary = self.path / f".{name}.tmp"
        temporary.write_bytes(data)
        os.replace(temporary, self.path / name)
