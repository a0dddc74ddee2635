"""What the training loop asks of a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from lic.training.config import Recipe

if TYPE_CHECKING:
    from lic.weights.store import Card

__all__ = ["Progress", "Start", "Task", "Validation"]


@dataclass(frozen=True)
class Start:
    """What a run starts from instead of fresh networks.

    Attributes:
        state: State dict of the networks.
        shape: Of these networks, the family's own class; training may ask for a larger one.
        runs: What the card says about the runs that made them, oldest first.
        tables: What the coder starts from, where training keeps it.
        adopted: The networks are those of another family.
    """

    state: dict[str, Tensor]
    shape: Any
    runs: list[dict[str, Any]]
    tables: dict[str, Tensor] | None = None
    adopted: bool = False


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps done, and the spent part of its budget in 0..1."""

    step: int
    part: float


@dataclass(frozen=True)
class Validation:
    """One measurement on held-out pictures.

    Attributes:
        number: Lower is better; what runs are compared by.
        text: The same for people.
        row: What ``valid.csv`` keeps.
        curve: Points for the card.
    """

    number: float
    text: str
    row: dict[str, Any]
    curve: list[list[float]] = field(default_factory=list)


class Task(Protocol):
    """A family's side of training. The loop knows steps, time and checkpoints, a task the rest."""

    capturable: bool
    """Whether :meth:`loss` is work for the device alone: no number is read back, no shape depends
    on values, and progress does not matter."""

    def __init__(self, recipe: Recipe): ...

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape, whose values do not matter."""

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return what exported weights hold for training."""

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
        """Return fresh networks; ``pictures`` give statistics to start from.

        What ``initial`` brings along, where it is given, need not be measured.
        """

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Fit trained networks of shape ``old`` to the recipe's shape."""

    def prepare(self, model: nn.Module, device: torch.device) -> None:
        """Get ready to train ``model``, on its device: freeze parts, load what losses need."""

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Return the loss of a batch of crops, uint8 ``(N, 3, H, W)``, and figures for the log.

        Figures may stay on the device, so that nothing waits for it.
        """

    def fuse(self, compiled: Callable[[Any], Any]) -> None:
        """Let the compiler fuse what a loss does besides convolutions, where there is much."""

    def after_step(self, model: nn.Module) -> None:
        """Do what follows an optimiser's step, such as moving a codebook."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps besides networks and optimisers."""

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""

    def validate(
        self,
        model: nn.Module,
        tables: dict[str, Tensor] | None,
        pictures: list[Tensor],
        device: torch.device,
    ) -> Validation:
        """Measure averaged networks."""

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Fit to training pictures what the coder starts from; returns it and what was done."""

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship."""
