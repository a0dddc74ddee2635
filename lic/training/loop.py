"""The training loop of all families: bounded by time, resumable, guarded against spikes."""

from __future__ import annotations

import copy
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.training.config import Recipe
from lic.training.data import Crops, load_pictures, picture_files
from lic.training.optimisers import make_optimisers, set_schedule
from lic.training.precision import mixed_precision
from lic.training.run import RunFolder
from lic.training.task import Progress, Start, Task
from lic.training.tasks import TASKS, task_of

__all__ = ["TASKS", "train"]

_EMA_EVERY = 8
_SPIKE = 12.0


@dataclass
class _State:
    """What a checkpoint restores besides weights and optimisers."""

    step: int = 0
    seconds: float = 0.0
    crops: int = 0
    typical_norm: float = 0.0
    skipped: int = 0
    valid: list[list[float]] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    machine: str = ""


def _machine(device: torch.device) -> str:
    """Return what a run was made on, for the card."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{name}, torch {torch.__version__}"


class _Trainer:
    def __init__(self, recipe: Recipe, run: RunFolder, budget: float, device: torch.device):
        self.recipe, self.run, self.budget, self.device = recipe, run, budget, device
        self.task: Task = task_of(recipe)
        if device.type == "cuda":
            # Crops have at most two sizes, so what the best kernels are is asked twice.
            torch.backends.cudnn.benchmark = True
        self.state = _State()
        self.tables: dict[str, Tensor] | None = None
        self.model: nn.Module
        self.average: nn.Module
        self.optimisers: list[torch.optim.Optimizer]

    def start(self, pictures: list[Tensor], initial: Start | None) -> None:
        torch.manual_seed(self.recipe.seed)
        self._adopt(self.task.build(pictures))
        if initial is not None:
            state = self.task.grow(initial.state, initial.shape, self.model.state_dict())
            self.model.load_state_dict(state)
            self.average.load_state_dict(state)
            self.state.runs, self.tables = initial.runs, initial.tables
        self.task.prepare(self.model, self.device)
        self._make_optimisers()
        self.state.machine = _machine(self.device)

    def _adopt(self, model: nn.Module) -> None:
        self.model = model.to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)

    def _make_optimisers(self) -> None:
        self.optimisers = make_optimisers(self.model, self.recipe.optimiser)

    def restore(self, pictures: list[Tensor]) -> None:
        saved = self.run.load()
        self._adopt(self.task.build(pictures[:1]))
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.task.prepare(self.model, self.device)
        self.task.restore(saved.get("task", {}))
        self._make_optimisers()
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.state, self.tables = _State(**saved["state"]), saved.get("tables")
        torch.manual_seed(self.recipe.seed + self.state.step)

    def checkpoint(self) -> None:
        self.run.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": [o.state_dict() for o in self.optimisers],
                "task": self.task.state(),
                "state": vars(self.state),
                "tables": self.tables,
            }
        )

    def _progress(self) -> Progress:
        return Progress(self.state.step, min(1.0, self.state.seconds / self.budget))

    def _learning_rate(self, part: float) -> float:
        config = self.recipe.optimiser
        cosine = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * part))
        return cosine * min(1.0, (self.state.step + 1) / config.warmup)

    def _crop_shape(self) -> tuple[int, int]:
        data = self.recipe.data
        if self.state.seconds < (1 - data.late_part) * self.budget:
            return data.batch, data.crop
        return max(1, round(data.batch * (data.crop / data.late_crop) ** 2)), data.late_crop

    def step(self, crops: Crops) -> dict[str, float | Tensor] | None:
        """Train on one batch; returns figures, or None where the step was skipped as a spike."""
        progress = self._progress()
        factor = self._learning_rate(progress.part)
        set_schedule(self.optimisers, factor)
        count, side = self._crop_shape()
        x = crops.batch(count, side)
        # One rate per crop, stratified over the batch, so that no batch is all low or all high.
        rate = (torch.arange(count) + torch.rand(count)) / count
        with mixed_precision(self.device):
            loss, figures = self.task.loss(self.model, x, rate.to(self.device), progress)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimiser.clip))
        state = self.state
        state.step += 1
        state.crops += count
        typical = state.typical_norm
        if not math.isfinite(norm) or (state.step > 100 and norm > _SPIKE * typical):
            state.skipped += 1
            state.typical_norm *= 1.05  # so that a lasting change of level is let through
            return None
        state.typical_norm = norm if typical == 0 else 0.99 * typical + 0.01 * norm
        for optimiser in self.optimisers:
            optimiser.step()
        self.task.after_step(self.model)
        if state.step % _EMA_EVERY == 0:
            self._update_average()
        return {"loss": loss.detach(), "norm": norm, "lr": factor, **figures}

    @torch.no_grad()
    def _update_average(self) -> None:
        # The young average forgets faster, so that it does not carry the start along.
        decay = min(self.recipe.optimiser.ema**_EMA_EVERY, 1 - 10 / (10 + self.state.step / 8))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.model.parameters()), 1 - decay
        )
        # What is no parameter is measured rather than descended, and not averaged.
        for target, source in zip(self.average.buffers(), self.model.buffers(), strict=True):
            target.copy_(source)

    def validate(self, pictures: list[Tensor]) -> str:
        """Measure the averaged networks on held-out pictures; returns what to report."""
        self.average.eval()
        found = self.task.validate(self.average, self.tables, pictures, self.device)
        state = self.state
        state.valid.append([state.step, state.seconds, found.number])
        state.curve = found.curve
        row = {"step": state.step, "seconds": round(state.seconds)} | found.row
        self.run.append("valid.csv", row)
        return found.text

    def finish(self, pictures: list[Tensor], held_out: list[Tensor]) -> str:
        """Fit what is fitted at the end and measure once more; returns what to report."""
        self.tables, done = self.task.finish(self.average, pictures, self.tables)
        return f"{done}, {self.validate(held_out)}"


def train(
    recipe: Recipe,
    run_folder: str | Path,
    data: list[str],
    valid: list[str],
    budget: float,
    *,
    resume: bool = False,
    initial: Start | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> RunFolder:
    """Train until ``budget`` seconds of training are spent.

    The schedule is a function of the time spent, so a run always ends annealed; then the
    probability tables are fitted to the symbols of training pictures. An interruption (also
    Ctrl-C) leaves a checkpoint that ``resume`` continues, with the same or a larger budget.

    Args:
        recipe: What to train.
        run_folder: Where checkpoints and logs go.
        data, valid: Folders of training and validation pictures.
        budget: Seconds of training in all, validation not counted.
        resume: Continue from the folder's checkpoint.
        initial: Networks to start from instead of fresh ones.
        device: ``cpu`` or ``cuda``.
        report: Gets one line of progress at a time.

    Raises:
        InputError: No pictures, or no checkpoint to resume from.
        UsageProblem: A recipe that names an unknown family or optimiser, or a folder that is the
            run of another call.
    """
    where = torch.device(device)
    run = RunFolder(run_folder)
    if not resume and run.exists():
        raise UsageProblem(f"'{run_folder}' is a run; --resume continues it, --out names another")
    trainer = _Trainer(recipe, run, budget, where)
    pictures = load_pictures(picture_files(data), masks=recipe.data.masks > 0)
    report(f"{len(pictures)} pictures, {sum(p[0].numel() for p in pictures) / 1e6:.0f} megapixels")
    held_out = load_pictures(picture_files(valid))[: recipe.data.valid_pictures]
    trainer.restore(pictures) if resume else trainer.start(pictures, initial)
    if not resume:  # now that all is well, so that a mistake leaves no folder
        RunFolder.create(run_folder, recipe)
    count = sum(p.numel() for p in trainer.model.parameters())
    start = f"step {trainer.state.step}"
    if initial is not None:
        start = "weights of another family" if initial.adopted else "given weights"
    report(f"{count / 1e6:.2f} M parameters, from {start}")
    crops = Crops(pictures, recipe.seed + trainer.state.step, where)
    try:
        _spend(trainer, crops, held_out, report)
        report(trainer.finish(pictures, held_out))
    finally:
        trainer.checkpoint()
    return run


def _spend(
    trainer: _Trainer,
    crops: Crops,
    held_out: list[Tensor],
    report: Callable[[str], None],
) -> None:
    state, recipe = trainer.state, trainer.recipe
    next_validation = state.seconds + recipe.validate_every
    sums: dict[str, float | Tensor] = {}
    counted, last_report = 0, time.monotonic()
    while state.seconds < trainer.budget:
        begun = time.monotonic()
        figures = trainer.step(crops)
        state.seconds += time.monotonic() - begun
        if figures is not None:
            counted += 1
            sums = {k: sums.get(k, 0.0) + v for k, v in figures.items()}
        over = state.seconds >= trainer.budget  # the last steps, and runs that are short
        if counted and (over or time.monotonic() - last_report > 20):
            mean = {k: float(v) / counted for k, v in sums.items()}
            trainer.run.append(
                "log.csv",
                {"step": state.step, "seconds": round(state.seconds, 1), "crops": state.crops}
                | {k: round(v, 6) for k, v in mean.items()}
                | {"skipped": state.skipped},
            )
            told = "  ".join(f"{k} {v:.4g}" for k, v in mean.items() if k != "lr")
            report(f"{state.seconds / 60:6.1f} min  step {state.step}  {told}")
            sums, counted, last_report = {}, 0, time.monotonic()
        if next_validation <= state.seconds < trainer.budget:
            trainer.checkpoint()
            report(f"{state.seconds / 60:6.1f} min  {trainer.validate(held_out)}")
            next_validation = state.seconds + recipe.validate_every
