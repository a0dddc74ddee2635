"""Time the step of the trainer beside its bare layers, on a CPU or a GPU.

    python scripts/trainer_speed.py configs/hyperprior.toml --data DIR --batch 24 --side 128
    python scripts/trainer_speed.py configs/hyperprior.toml --device cuda --batch 16,32,64 --check

Bare layers are the convolutions and matrix products of forward and backward, called alone with
tensors of the same shapes, layouts and types; the optimiser's own products are not among them.
``--check`` compares 20 replayed steps of a CUDA graph with 20 eager ones from the same start, and
these with themselves, since some kernels of a GPU add in any order.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lic.training.config import load_recipe
from lic.training.data import Crops, load_pictures, picture_files
from lic.training.loop import _Trainer
from lic.training.run import RunFolder
from lic.training.step import TrainingStep, captured
from lic.training.task import Progress
from lic.training.weights import initial_state, recipe_for

LAYERS = ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm")


class Recorder(TorchDispatchMode):
    """Notes the calls of layers, their tensors replaced by descriptions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function._schema.name.removeprefix("aten::") in LAYERS:
            told = tuple(
                (a.shape, a.stride(), a.dtype) if isinstance(a, Tensor) else a for a in args
            )
            self.calls.append((function, told))
        return function(*args, **(kwargs or {}))


def bare_layers(step: TrainingStep, count: int, side: int) -> Callable[[], None]:
    """Return a function that calls the layers of a step's loss, forward and backward, alone."""
    recorder = Recorder()
    with only_the_loss(step), recorder:
        step(count, side, Progress(1000, 0.5))
    device = step.crops.device

    def made(told: Any) -> Any:
        if not (isinstance(told, tuple) and len(told) == 3 and isinstance(told[0], torch.Size)):
            return told
        shape, stride, kind = told
        return torch.empty_strided(shape, stride, dtype=kind, device=device).normal_()

    calls = [(f, tuple(made(a) for a in args)) for f, args in recorder.calls]

    def run() -> None:
        for function, args in calls:
            function(*args)

    return run


@contextmanager
def only_the_loss(step: TrainingStep) -> Iterator[None]:
    """Leave the optimisers out."""
    whole = step.optimisers.step
    step.optimisers.step = lambda usable: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        step.optimisers.step = whole  # type: ignore[method-assign]


def seconds(function: Callable[[], Any], device: torch.device, least: float = 4.0) -> float:
    """Return the median time of a call, five or more of them, or of ten on a GPU."""
    for _ in range(2):
        function()
    times: list[float] = []
    together = 10 if device.type == "cuda" else 1
    while len(times) < 5 or sum(times) * together < least:
        wait(device)
        begun = time.perf_counter()
        for _ in range(together):
            function()
        wait(device)
        times.append((time.perf_counter() - begun) / together)
        if device.type == "cuda" and len(times) >= 5:
            break
    return statistics.median(times)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def as_graph(step: TrainingStep, count: int, side: int) -> Callable[[], Any]:
    """Return the captured step, on a CPU the step itself."""

    def run() -> None:
        step(count, side, Progress(1000, 0.5))

    if step.crops.device.type != "cuda":
        return run
    return captured(run, step.tensors, step.crops.generator)


def check(step: TrainingStep, count: int, side: int, steps: int = 20) -> None:
    """Print how far replayed steps are from eager ones, and eager ones from themselves."""
    step(count, side, Progress(1000, 0.5))  # so that optimisers have their states
    start = [t.clone() for t in step.tensors()]
    drawn, random = step.crops.generator.get_state(), torch.cuda.get_rng_state()

    def go(function: Callable[[], Any]) -> tuple[Tensor, list[float]]:
        with torch.no_grad():
            for tensor, value in zip(step.tensors(), start, strict=True):
                tensor.copy_(value)
        step.crops.generator.set_state(drawn)
        torch.cuda.set_rng_state(random)
        losses = []
        for _ in range(steps):
            step.sums["loss"].zero_()
            function()
            losses.append(float(step.sums["loss"]))
        return torch.cat([p.detach().flatten() for p in step.model.parameters()]), losses

    def eager() -> None:
        step(count, side, Progress(1000, 0.5))

    before = torch.cat([t.flatten() for t in start[: len(step.model.state_dict())]])
    first, again = go(eager), go(eager)
    graph = go(as_graph(step, count, side))
    moved = float((first[0] - before[: len(first[0])]).norm()) if len(before) else 0.0
    for name, (weights, losses) in (("eager again", again), ("graph", graph)):
        apart = float((weights - first[0]).norm())
        worst = max(abs(a - b) / a for a, b in zip(first[1], losses, strict=True))
        print(
            f"{steps} steps, {name} against eager: losses within {worst:.2e}, "
            f"weights {apart:.3e} apart ({moved:.3e} from the start)",
            flush=True,
        )


def random_pictures() -> list[Tensor]:
    random = np.random.default_rng(0)
    shape = (3, 64, 96)
    coarse = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(8)]
    return [torch.from_numpy(c.repeat(8, 1).repeat(8, 2)) for c in coarse]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--init", metavar="WEIGHTS")
    parser.add_argument("--data", help="pictures; made up when not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", default="", help="crops a step, separated by commas")
    parser.add_argument("--side", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compile", action="store_true", help="as lic train --compile")
    parser.add_argument("--profile", action="store_true", help="list what takes longest")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = load_recipe(given.recipe, given.set)
    initial = initial_state(given.init, recipe) if given.init else None
    recipe = recipe_for(initial, recipe) if initial else recipe
    device = torch.device(given.device)
    trainer = _Trainer(recipe, RunFolder(Path("unused")), 600.0, device)
    pictures = load_pictures(picture_files([given.data])) if given.data else random_pictures()
    trainer.start(pictures, initial)
    trainer.optimisers.set_rate(0.1)
    crops = Crops(pictures, 0, device)
    side = given.side or recipe.data.crop
    step = TrainingStep(trainer.task, trainer.model, trainer.optimisers, crops, recipe)
    for count in map(int, given.batch.split(",") if given.batch else [recipe.data.batch]):
        if given.check:
            check(step, count, side)
            given.check = False
        bare = seconds(graphed(bare_layers(step, count, side), device), device)
        gc.collect()
        if given.compile:
            step.compile()
            given.compile = False
        eager = seconds(lambda: step(count, side, Progress(1000, 0.5)), device)  # noqa: B023
        whole = eager
        if device.type == "cuda":
            whole = seconds(as_graph(step, count, side), device)
        print(
            f"{count} crops of {side}: {count / whole:.1f} a second, {1e3 * whole:.1f} ms a step "
            f"(eager {1e3 * eager:.1f}); bare layers {1e3 * bare:.1f} ms, "
            f"{100 * bare / whole:.0f} % of the step, ratio {whole / bare:.2f}",
            flush=True,
        )
        if given.profile:
            profile(as_graph(step, count, side), device)
            given.profile = False


def profile(function: Callable[[], Any], device: torch.device, calls: int = 3) -> None:
    """Print the kernels, or on a CPU the operations, that take longest."""
    kinds = torch.profiler.ProfilerActivity
    kind = kinds.CUDA if device.type == "cuda" else kinds.CPU
    with torch.profiler.profile(activities=[kind]) as found:
        for _ in range(calls):
            function()
        wait(device)
    rows = []
    for event in found.key_averages():
        spent = event.self_device_time_total if kind is kinds.CUDA else event.self_cpu_time_total
        rows.append((spent / calls / 1e3, event.count / calls, event.key))
    print(f"{sum(r[0] for r in rows):.2f} ms in {sum(r[1] for r in rows):.0f} calls a step")
    for spent, count, name in sorted(rows, reverse=True)[:40]:
        print(f"{spent:8.3f} ms {count:6.0f}  {name[:100]}", flush=True)


def graphed(function: Callable[[], None], device: torch.device) -> Callable[[], Any]:
    """Return bare layers without the time of launching them."""
    if device.type != "cuda":
        return function
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


if __name__ == "__main__":
    main()
