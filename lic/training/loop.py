"""The training loop of all families: bounded by time, resumable, guarded against spikes."""

from __future__ import annotations

import copy
import platform
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.training.config import Recipe
from lic.training.data import Crops, load_pictures, picture_files
from lic.training.optimisers import Optimisers
from lic.training.run import RunFolder
from lic.training.schedule import learning_rate
from lic.training.step import TrainingStep, captured
from lic.training.task import Progress, Start, Task
from lic.training.tasks import TASKS, task_of

__all__ = ["TASKS", "train"]

_EMA_EVERY = 8
_LOOK_EVERY = 20.0
"""Seconds between looks at the figures, each of which waits for the device."""

_AHEAD = 16
"""Steps that the host may be ahead of the device, so that time spent is time worked."""


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
    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        budget: float,
        device: torch.device,
        report: Callable[[str], None] = lambda _line: None,
        compile: bool = False,
    ):
        self.recipe, self.run, self.budget, self.device = recipe, run, budget, device
        self.report, self.compile = report, compile
        self.task: Task = task_of(recipe)
        if device.type == "cuda":
            # Crops have at most two sizes, so what the best kernels are is asked twice.
            torch.backends.cudnn.benchmark = True
        self.state = _State()
        self.tables: dict[str, Tensor] | None = None
        self.model: nn.Module
        self.average: nn.Module
        self.optimisers: Optimisers
        self._step: TrainingStep | None = None
        self._replay: tuple[tuple[int, int], Callable[[], None]] | None = None
        self._ahead: deque[torch.cuda.Event] = deque()

    def start(self, pictures: list[Tensor], initial: Start | None) -> None:
        torch.manual_seed(self.recipe.seed)
        self._adopt(self.task.build(pictures, initial))
        if initial is not None:
            fresh = {k: v.cpu() for k, v in self.model.state_dict().items()}
            state = self.task.grow(initial.state, initial.shape, fresh)
            self.model.load_state_dict(state)
            self.average.load_state_dict(state)
            self.state.runs, self.tables = initial.runs, initial.tables
        self.task.prepare(self.model, self.device)
        self.optimisers = Optimisers(self.model, self.recipe.optimiser)
        self.state.machine = _machine(self.device)

    def _adopt(self, model: nn.Module) -> None:
        self.model = model.to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)

    def restore(self) -> None:
        saved = self.run.load()
        self._adopt(self.task.empty())
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.task.prepare(self.model, self.device)
        self.task.restore(saved.get("task", {}))
        self.optimisers = Optimisers(self.model, self.recipe.optimiser)
        self.optimisers.load_state_dicts(saved["optimisers"])
        self.state, self.tables = _State(**saved["state"]), saved.get("tables")
        torch.manual_seed(self.recipe.seed + self.state.step)

    def checkpoint(self) -> None:
        self._look()
        self.run.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": self.optimisers.state_dicts(),
                "task": self.task.state(),
                "state": vars(self.state),
                "tables": self.tables,
            }
        )

    def _progress(self) -> Progress:
        return Progress(self.state.step, min(1.0, self.state.seconds / self.budget))

    def _crop_shape(self) -> tuple[int, int]:
        data = self.recipe.data
        if self.state.seconds < (1 - data.late_part) * self.budget:
            return data.batch, data.crop
        return max(1, round(data.batch * (data.crop / data.late_crop) ** 2)), data.late_crop

    def step(self, crops: Crops) -> None:
        """Train on one batch."""
        state, progress = self.state, self._progress()
        if self._step is None:
            self._step = TrainingStep(self.task, self.model, self.optimisers, crops, self.recipe)
            self._step.typical_norm.fill_(state.typical_norm)
            self._step.steps.fill_(state.step)
            self._step.skipped.fill_(state.skipped)
            if self.compile:
                self._step.compile()
        self.optimisers.set_rate(learning_rate(self.recipe.optimiser, state.step, progress.part))
        count, side = self._crop_shape()
        if self.device.type == "cuda" and self.task.capturable:
            self._replayed(self._step, count, side)()
            self._wait()
        else:
            usable = self._step(count, side, progress)
            if not self.task.capturable and bool(usable):
                self.task.after_step(self.model)
        state.step += 1
        state.crops += count
        if state.step % _EMA_EVERY == 0:
            self._update_average()

    def _replayed(self, step: TrainingStep, count: int, side: int) -> Callable[[], None]:
        """Return the step for crops of this shape as a graph, or as it is where that fails."""
        shape = (count, side)
        if self._replay is not None and self._replay[0] == shape:
            return self._replay[1]
        self._replay = None  # its memory goes before the next graph takes some
        progress = self._progress()

        def run() -> None:
            step(count, side, progress)

        try:
            replay = captured(run, step.tensors, step.crops.generator)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if step.give_up_compiling():
                self.report(f"steps are not compiled: {reason}")
                return self._replayed(step, count, side)
            self.report(f"steps are not captured as a CUDA graph and run one by one: {reason}")
            replay = run
        self._replay = shape, replay
        return replay

    def _wait(self) -> None:
        """Wait until the device is close behind."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._ahead.append(event)
        if len(self._ahead) > _AHEAD:
            self._ahead.popleft().synchronize()

    def _look(self) -> dict[str, float]:
        """Return the figures since the last look, and note what the device has counted."""
        if self._step is None:
            return {}
        self.state.typical_norm = float(self._step.typical_norm)
        self.state.skipped = int(self._step.skipped)
        return self._step.take_figures()

    def log(self) -> None:
        """Write a line of the log and report it."""
        mean, state = self._look(), self.state
        if not mean:
            return
        rate = learning_rate(self.recipe.optimiser, state.step, self._progress().part)
        self.run.append(
            "log.csv",
            {"step": state.step, "seconds": round(state.seconds, 1), "crops": state.crops}
            | {k: round(v, 6) for k, v in mean.items()}
            | {"lr": round(rate, 6), "skipped": state.skipped},
        )
        told = "  ".join(f"{k} {v:.4g}" for k, v in mean.items())
        self.report(f"{state.seconds / 60:6.1f} min  step {state.step}  {told}")

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
    compile: bool = False,
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
        compile: Fuse what lies between convolutions, which takes minutes at first; see
            :meth:`lic.training.step.TrainingStep.compile`.
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
    trainer = _Trainer(recipe, run, budget, where, report, compile)
    pictures = load_pictures(picture_files(data), masks=recipe.data.masks > 0)
    report(f"{len(pictures)} pictures, {sum(p[0].numel() for p in pictures) / 1e6:.0f} megapixels")
    held_out = load_pictures(picture_files(valid))[: recipe.data.valid_pictures]
    trainer.restore() if resume else trainer.start(pictures, initial)
    if not resume:  # now that all is well, so that a mistake leaves no folder
        RunFolder.create(run_folder, recipe)
    count = sum(p.numel() for p in trainer.model.parameters())
    start = f"step {trainer.state.step}"
    if initial is not None:
        start = "weights of another family" if initial.adopted else "given weights"
    report(f"{count / 1e6:.2f} M parameters, from {start}")
    crops = Crops(pictures, recipe.seed + trainer.state.step, where)
    try:
        _spend(trainer, crops, held_out)
        report(trainer.finish(pictures, held_out))
    finally:
        trainer.checkpoint()
    return run


def _spend(trainer: _Trainer, crops: Crops, held_out: list[Tensor]) -> None:
    state, recipe = trainer.state, trainer.recipe
    next_validation = state.seconds + recipe.validate_every
    last_report = time.monotonic()
    while state.seconds < trainer.budget:
        begun = time.monotonic()
        trainer.step(crops)
        state.seconds += time.monotonic() - begun
        over = state.seconds >= trainer.budget  # the last steps, and runs that are short
        if over or time.monotonic() - last_report > _LOOK_EVERY:
            trainer.log()
            last_report = time.monotonic()
        if next_validation <= state.seconds < trainer.budget:
            trainer.checkpoint()
            trainer.report(f"{state.seconds / 60:6.1f} min  {trainer.validate(held_out)}")
            next_validation = state.seconds + recipe.validate_every
