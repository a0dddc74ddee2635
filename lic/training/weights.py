"""Between runs and weights files: start a run from weights, export a run."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lic.errors import OutputError, UsageProblem, WeightsError
from lic.networks.hyperprior import Hyperprior, HyperpriorShape
from lic.training.config import Recipe, to_dict
from lic.training.export import export_hyperprior, import_hyperprior
from lic.training.run import RunFolder
from lic.weights.store import Card, find_weights, load_tensors, save_weights

__all__ = ["export_run", "initial_state", "load_run"]


def initial_state(path: str, recipe: Recipe) -> dict[str, Tensor]:
    """Return the state dict of exported weights, to start a run from.

    Raises:
        WeightsError: They cannot be read, or belong to another family.
    """
    if not Path(path).exists():
        card = find_weights(recipe.family)
        if path != card.name:
            raise WeightsError("no such weights", path)
    else:
        card = find_weights(recipe.family, path=path)
    return import_hyperprior(load_tensors(card))


def load_run(path: str | Path) -> tuple[Recipe, Hyperprior, dict[str, Any]]:
    """Return recipe, averaged networks and the history of a run."""
    run = RunFolder(path)
    recipe = run.recipe()
    saved = run.load()
    model = Hyperprior(HyperpriorShape(**recipe.network), recipe.lambdas)
    model.load_state_dict(saved["average"])
    return recipe, model.eval(), saved["state"]


def export_run(
    path: str | Path, folder: str | Path, *, name: str | None = None, force: bool = False
) -> Card:
    """Write the weights and card of a run into a folder.

    Raises:
        UsageProblem: They exist and ``force`` is not given.
        OutputError: The folder does not exist.
    """
    recipe, model, state = load_run(path)
    name = name or recipe.family
    if not Path(folder).is_dir():
        raise OutputError(f"folder '{folder}' does not exist")
    target = Path(folder) / f"{name}.safetensors"
    if target.exists() and not force:
        raise UsageProblem(f"'{target}' exists; pass --force to replace it")
    training = {
        "recipe": to_dict(recipe),
        "steps": state["step"],
        "crops": state["crops"],
        "seconds": round(state["seconds"]),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "validation": [[s, round(t), round(bd, 2)] for s, t, bd in state["valid"]],
    }
    card, tensors = export_hyperprior(model, name, training)
    return save_weights(folder, card, tensors)
