"""What networks over index grids have in common: a trained ``vqgan`` that makes the grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lic.codecs.vqgan import VqganCodec
from lic.errors import UsageProblem
from lic.networks.vqgan import Vqgan
from lic.training.config import Recipe
from lic.training.picture_loss import PictureLoss
from lic.training.task import Start
from lic.weights.store import find_weights

__all__ = ["GridTask"]


class GridTask(ABC):
    """Half of a :class:`lic.training.task.Task`; the other half knows the network.

    Args:
        recipe: Its ``restorer`` names the weights of ``vqgan``.

    Raises:
        UsageProblem: These are of an imported model.
    """

    shape: Any

    capturable = False

    def __init__(self, recipe: Recipe):
        self.recipe, self.config = recipe, recipe.restorer
        self.card = find_weights("vqgan", path=recipe.restorer.codec or None)
        self.parent = VqganCodec(self.card)
        if not isinstance(self.parent.model, Vqgan):
            raise UsageProblem("networks over indices are for the package's own vqgan")
        self.codec: Vqgan = self.parent.model
        self.rungs = {"bottom": self.parent.bottom, "top": self.parent.top}
        self.picture_loss = PictureLoss(recipe)
        self.random = np.random.default_rng(recipe.seed)

    @abstractmethod
    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape."""

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
        """Return fresh networks."""
        return self.empty()

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``state``; networks of another shape cannot start from it.

        Raises:
            UsageProblem: The shapes differ.
        """
        if old != self.shape:
            raise UsageProblem("the weights' network has another shape than the recipe's")
        return state

    def prepare(self, model: nn.Module, device: torch.device) -> None:
        """Move the codec to the device and load LPIPS, if the recipe has it."""
        self.codec.to(device)
        self.picture_loss.prepare(device)

    def any_rung(self) -> int:
        """Return the rung of the recipe half of the time, any for the rest."""
        if self.random.random() < 0.5:
            return self.config.bits
        return int(self.random.integers(self.shape.bottom, self.shape.top + 1))

    def fuse(self, compiled: Callable[[Any], Any]) -> None:  # noqa: B027
        """There is little to fuse."""

    def after_step(self, model: nn.Module) -> None:  # noqa: B027 - most networks need nothing
        """Nothing follows a step."""

    def state(self) -> dict[str, Any]:
        """Return the source of chance."""
        return {"random": self.random.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        self.random.bit_generator.state = state["random"]
