"""Between runs and weights files: start a run from weights, export a run, pack older weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lic.errors import UsageProblem, WeightsError
from lic.training.config import Recipe, to_dict
from lic.training.run import RunFolder
from lic.training.task import Start
from lic.training.tasks import ADOPTED, task_of
from lic.weights.quantised import is_packed, stored_state
from lic.weights.store import (
    Card,
    cards_at,
    check_target,
    list_cards,
    load_tensors,
    network_state,
    save_weights,
)

__all__ = ["Run", "export_run", "initial_state", "load_run", "pack_weights", "recipe_for"]


def initial_state(path: str, recipe: Recipe) -> Start:
    """Read exported weights, by name or by path, to start a run from.

    Raises:
        WeightsError: They cannot be read, or belong to a family that this one cannot start from.
    """
    card = _card_at(path, (recipe.family, *ADOPTED.get(recipe.family, ())))
    if card.family == recipe.family:
        return task_of(recipe).read(card, load_tensors(card))
    start = task_of(Recipe(card.family)).read(card, load_tensors(card))
    return replace(start, adopted=True)


def _card_at(path: str, families: tuple[str, ...]) -> Card:
    place = Path(path)
    if RunFolder(place).exists():
        raise WeightsError("is a run; lic models export makes weights of it", path)
    cards = cards_at(place) if place.exists() else [c for c in list_cards() if c.name == path]
    if not cards:
        raise WeightsError("no such weights; lic models list shows those that there are", path)
    for family in families:
        for card in cards:
            if card.family == family:
                return card
    wanted = " or ".join(families)
    raise WeightsError(f"weights of {cards[0].family}; this recipe starts from {wanted}", path)


def recipe_for(start: Start, recipe: Recipe) -> Recipe:
    """Return the recipe with the network of the weights, where it names none itself."""
    named = recipe.network or not is_dataclass(start.shape) or start.adopted
    return recipe if named else replace(recipe, network=asdict(start.shape))


def _told(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe for a card: weights by name, since paths mean something on one machine."""
    paths = (("synthesis", "codec"), ("restorer", "codec"), ("vqgan", "restorer"))
    told = recipe | {section: dict(recipe[section]) for section, _ in paths}
    for section, key in paths:
        told[section][key] = Path(told[section][key]).stem
    return told


@dataclass(frozen=True)
class Run:
    """What a run's folder holds: recipe, averaged networks, history, fitted tables if any."""

    recipe: Recipe
    model: nn.Module
    state: dict[str, Any]
    tables: dict[str, Tensor] | None


def load_run(path: str | Path) -> Run:
    """Read the folder of a run.

    Raises:
        InputError: It is none, or has no usable checkpoint.
    """
    folder = RunFolder(path)
    recipe = folder.recipe()
    saved = folder.load()
    model = task_of(recipe).empty()
    model.load_state_dict(saved["average"])
    stored = saved.get("tables")
    return Run(recipe, model.eval(), saved["state"], stored or None)


def export_run(
    path: str | Path, folder: str | Path, *, name: str | None = None, force: bool = False
) -> Card:
    """Write the weights and card of a run into a folder.

    Raises:
        InputError: ``path`` is not the folder of a run.
        UsageProblem: The weights exist and ``force`` is not given.
        OutputError: The folder cannot be made.
    """
    run = load_run(path)
    name = name or run.recipe.family
    check_target(folder, name, force=force)
    state = run.state
    this_run = {
        "recipe": _told(to_dict(run.recipe)),
        "steps": state["step"],
        "crops": state["crops"],
        "seconds": round(state["seconds"]),
        "machine": state.get("machine", ""),
        "validation": [[s, round(t), float(f"{found:.5g}")] for s, t, found in state["valid"]],
    }
    training = {
        "runs": [*state["runs"], this_run],
        "valid_curve": [[round(x, 4) for x in row] for row in state["curve"]],
    }
    card, tensors = task_of(run.recipe).export(run.model, name, training, run.tables)
    return save_weights(folder, card, tensors)


def pack_weights(
    path: str | Path, folder: str | Path, *, name: str | None = None, force: bool = False
) -> Card:
    """Write weights of half precision again, their networks in int8 as those of a run.

    Stream tensors and fingerprint stay, so that files decode as before; pixels differ in rounding.
    Weights that are packed already are copied.

    Args:
        path: File of weights, its card beside it.
        folder: For both files; may be the one that they are in.
        name: File name without suffix; stays when ``None``.
        force: Replace existing files.

    Raises:
        WeightsError: There is no card, or the weights cannot be used.
        UsageProblem: The weights were imported, or exist and ``force`` is not given.
        OutputError: The folder cannot be made, or a file not be written.
    """
    cards = cards_at(Path(path))
    if not cards:
        raise WeightsError("has no card beside it", str(path))
    if "ch_mult" in cards[0].network:
        raise UsageProblem(f"'{path}': imported networks stay in half precision")
    card = replace(cards[0], name=name or cards[0].name)
    tensors = load_tensors(card)
    check_target(folder, card.name, force=force)
    if not any(is_packed(tensors, k) for k in tensors):
        stream = {k: v for k, v in tensors.items() if not k.startswith("net.")}
        tensors = stream | stored_state(network_state(tensors))
    return save_weights(folder, card, tensors)
