"""Families by name, as the training loop and the export see them."""

from __future__ import annotations

from collections.abc import Callable

from lic.errors import UsageProblem
from lic.training.acgc import AcgcTask
from lic.training.config import Recipe
from lic.training.hyperprior import HyperpriorTask
from lic.training.latent import LatentTask
from lic.training.prior import PriorTask
from lic.training.restorer import RestorerTask
from lic.training.rung_tuning import RungTask
from lic.training.segpic import SegpicTask
from lic.training.synthesis import SynthesisTask
from lic.training.task import Task
from lic.training.vqgan import VqganTask

__all__ = ["ADOPTED", "TASKS", "task_of"]


def _vqgan(recipe: Recipe) -> Task:
    return RungTask(recipe) if recipe.vqgan.stage == "rung" else VqganTask(recipe)


TASKS: dict[str, Callable[[Recipe], Task]] = {
    "acgc": AcgcTask,
    "hyperprior": HyperpriorTask,
    "segpic": SegpicTask,
    "vqgan": _vqgan,
    "prior-transformer": PriorTask,
    "restorer-conv": RestorerTask,
    "restorer-transformer": RestorerTask,
    "synthesis-fast": SynthesisTask,
    "synthesis-natural": SynthesisTask,
}
"""Families that can be trained."""

ADOPTED = {
    "acgc": ("hyperprior",),
    "segpic": ("hyperprior",),
    "synthesis-fast": ("hyperprior",),
    "synthesis-natural": ("hyperprior",),
}
"""Other families whose weights training may start from."""


def task_of(recipe: Recipe) -> Task:
    """Return the task of a recipe's family.

    Raises:
        UsageProblem: No such family, or a recipe that it cannot follow.
    """
    if recipe.family not in TASKS:
        known = ", ".join(TASKS)
        raise UsageProblem(f"no trainer for family '{recipe.family}'; known: {known}")
    task = TASKS[recipe.family](recipe)
    if recipe.train != "all" and not isinstance(task, LatentTask):
        raise UsageProblem(f"train '{recipe.train}' is for families with latents")
    return task
