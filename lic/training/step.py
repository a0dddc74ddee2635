"""One step of training as work for the device alone, so that it can be captured as a CUDA graph.

Between a draw of crops and the updated weights no number is read back and none is sent: what
changes from step to step (learning rates, the level of the gradient) lies in tensors, and what is
reported is summed on the device. A small network's step has some thousand kernels of a few
microseconds; launched one by one they take longer than they run, replayed as a graph they do not.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lic.networks.layers import ResidualBlock
from lic.training.augmentation import augmented
from lic.training.config import Recipe
from lic.training.data import Crops
from lic.training.optimisers import Optimisers
from lic.training.precision import mixed_precision
from lic.training.task import Progress, Task

__all__ = ["TrainingStep", "captured"]

_SPIKE = 12.0
_SPIKES_FROM = 100
_WARM_UP = 5
"""Steps before capture, in which cuDNN chooses its kernels and optimisers make their states."""


class TrainingStep:
    """Crops to updated weights.

    Args:
        task: The family's side of training.
        model: Trains.
        optimisers: Update its parameters.
        crops: Source of random crops.
        recipe: Recipe of the run.

    Attributes:
        typical_norm: 0-dimensional, running mean of the norm of gradients.
        steps, skipped: 0-dimensional, all steps and those that were left out as spikes.
        sums: Sums of the figures since they were last taken, by name.
    """

    def __init__(
        self, task: Task, model: nn.Module, optimisers: Optimisers, crops: Crops, recipe: Recipe
    ):
        self.task, self.model, self.optimisers, self.crops = task, model, optimisers, crops
        self.recipe = recipe
        device = crops.device
        self.typical_norm, self.steps, self.skipped = torch.zeros(3, device=device).unbind()
        self.sums: dict[str, Tensor] = {"counted": torch.zeros((), device=device)}
        self._compiled = False
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def __call__(self, count: int, side: int, progress: Progress) -> Tensor:
        """Train on ``count`` crops of ``side`` pixels at the learning rates that are set.

        Returns:
            0-dimensional, 1 or 0 where the step was left out as a spike.
        """
        device = self.crops.device
        generator = self.crops.generator
        x = augmented(self.crops.batch(count, side), self.recipe.data, generator)
        # One rate per crop, stratified over the batch, so that no batch is all low or all high.
        part = torch.rand(count, generator=generator, device=device)
        rate = (torch.arange(count, device=device) + part) / count
        with mixed_precision(device):
            loss, figures = self.task.loss(self.model, x, rate, progress)
        for p in self._parameters:
            p.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            usable = self._clip()
            self.optimisers.step(usable)
            self._sum({"loss": loss.detach(), "norm": self._norm, **figures}, usable)
        return usable

    def compile(self, backend: str = "inductor") -> None:
        """Fuse what lies between the convolutions of blocks, and the likelihood, by the compiler.

        These parts recur, so a few small graphs are compiled instead of one large one, when the
        next step runs, and again where the shape of crops changes.

        Args:
            backend: Backend of ``torch.compile``.
        """
        for module in self.model.modules():
            if isinstance(module, ResidualBlock):
                module.compile(backend=backend, fullgraph=True, dynamic=False)
        self.task.fuse(lambda f: torch.compile(f, backend=backend, fullgraph=True, dynamic=False))
        self._compiled = True

    def give_up_compiling(self) -> bool:
        """Run everything as it is from now on; tells whether that is a change."""
        was, self._compiled = self._compiled, False
        for module in self.model.modules():
            module._compiled_call_impl = None  # there is no public way to undo Module.compile
        self.task.fuse(lambda function: function)
        return was

    def _clip(self) -> Tensor:
        """Scale gradients to the recipe's norm; returns 1 where they are usable, 0 at a spike."""
        grads = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(grads, foreach=True)
        clip = self.recipe.optimiser.clip
        torch._foreach_mul_(grads, (clip / (norm + 1e-6)).clamp(max=1.0))
        typical = self.typical_norm
        young = self.steps < _SPIKES_FROM
        usable = torch.isfinite(norm) & (young | (norm <= _SPIKE * typical))
        followed = torch.where(typical == 0, norm, 0.99 * typical + 0.01 * norm)
        # A level that stays high is let through after a while.
        typical.copy_(torch.where(usable, followed, 1.05 * typical))
        self.steps += 1
        self.skipped += ~usable
        self._norm = norm
        return usable.float()

    def _sum(self, figures: dict[str, float | Tensor], usable: Tensor) -> None:
        for name, value in figures.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(usable)
            self.sums[name] += torch.where(usable > 0, value, 0.0)
        self.sums["counted"] += usable

    def tensors(self) -> list[Tensor]:
        """Return everything that a step changes."""
        own = [self.typical_norm, self.steps, self.skipped, *self.sums.values()]
        return [*self.model.state_dict().values(), *self.optimisers.tensors(), *own]

    def take_figures(self) -> dict[str, float]:
        """Return means of the figures since the last call; waits for the device."""
        names, values = list(self.sums), torch.stack(list(self.sums.values())).tolist()
        for value in self.sums.values():
            value.zero_()
        found = dict(zip(names, values, strict=True))
        counted = found.pop("counted")
        return {k: v / counted for k, v in found.items()} if counted else {}


def captured(
    step: Callable[[], None], tensors: Callable[[], list[Tensor]], generator: torch.Generator
) -> Callable[[], None]:
    """Return a function that replays ``step`` as one CUDA graph.

    Args:
        step: Reads and writes only tensors that stay where they are.
        tensors: Returns those that it changes; after warm-up steps they get their values back.
        generator: What it draws from.

    Raises:
        RuntimeError: Something in it cannot be captured.
    """
    before: list[Tensor] = []
    state = generator.get_state()
    known = tensors()
    before = [t.clone() for t in known]
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    with torch.no_grad():
        for tensor in tensors():  # optimisers have made states since; those began at zero
            tensor.zero_()
        for tensor, value in zip(known, before, strict=True):
            tensor.copy_(value)
    generator.set_state(state)
    gc.collect()
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay
