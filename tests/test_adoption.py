"""Training that starts from another family's weights, and training of the context alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL, photo

from lic.errors import InputError, UsageProblem, WeightsError
from lic.training.config import Recipe, from_dict
from lic.training.loop import train
from lic.training.run import RunFolder
from lic.training.task import Progress
from lic.training.tasks import task_of
from lic.training.weights import initial_state, recipe_for

TINY = Path(__file__).parent / "weights" / "tiny-hyperprior.safetensors"
SHARED = {k: v for k, v in SMALL["hyperprior"].items() if k != "latents"} | {"lapped": False}
ACGC = Recipe(
    family="acgc",
    network=SMALL["acgc"]
    | {k: SHARED[k] for k in ("fine", "coarse", "analysis", "synthesis", "hyper", "lapped")}
    | {"fine": 16, "coarse": 16, "swin_analysis": [0, 0], "swin_synthesis": [0, 0]},
)
SEGPIC = Recipe(family="segpic", network=SMALL["segpic"] | {"lapped": False})


def pictures() -> list[torch.Tensor]:
    return [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1).copy()) for s in range(3)]


def adopted(recipe: Recipe):
    task, start = task_of(recipe), initial_state(str(TINY), recipe)
    model = task.build(pictures())
    model.load_state_dict(task.grow(start.state, start.shape, model.state_dict()))
    return task, model.eval()


def original():
    start = initial_state(str(TINY), Recipe("hyperprior"))
    task = task_of(recipe_for(start, Recipe("hyperprior")))
    model = task.empty()
    model.load_state_dict(start.state)
    return task, model.eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.stack([torch.from_numpy(photo(64, 64, s).transpose(2, 0, 1).copy()) for s in (7, 8)])
    return x, torch.tensor([0.2, 0.8])


def begun(recipe: Recipe):
    (x, rate), (_, model), (_, trained) = batch(), adopted(recipe), original()
    return model, trained, x.float() - 127.5, rate


@torch.no_grad()
def test_segpic_begins_as_the_hyperprior_that_it_was():
    model, trained, levels, rate = begun(SEGPIC)
    known = torch.zeros(2, 4, 8, 8)
    for adapt in (model.g_a.adapt, model.g_s.adapt):
        adapt.after.weight.zero_()
    y, wanted = model.analyse(levels, rate, lambda u: known), trained.analyse(levels, rate)
    assert torch.allclose(y, wanted, atol=1e-4)
    normalised = y / 20
    shown = model.synthesise(y, normalised, rate, known)
    assert torch.allclose(shown, trained.synthesise(y, normalised, rate), atol=1e-4)
    rates = trained.loop_rates(rate, 4, 4)
    z = torch.zeros(2, 8, 1, 1)
    symbols = [m.context(z, rates, lambda step, means, positions: means) for m in (model, trained)]
    assert torch.allclose(*symbols, atol=1e-5)


@torch.no_grad()
def test_acgc_begins_with_the_transforms_of_the_hyperprior_strongest_latents_first():
    model, trained, levels, rate = begun(ACGC)
    order = trained.deviations.argsort(descending=True, stable=True)
    y, wanted = model.analyse(levels, rate), trained.analyse(levels, rate)
    assert torch.allclose(y, wanted[:, order], atol=1e-4)
    assert (model.deviations.diff() <= 0).all()
    shown = model.synthesise(y, y / 20, rate)
    assert torch.allclose(shown, trained.synthesise(wanted, wanted / 20, rate), atol=1e-4)


@torch.no_grad()
def test_attention_is_nothing_at_first():
    # Heads of 32 channels do not fit the tiny weights, so a wider network goes on with itself.
    from lic.networks.acgc import Acgc, AcgcShape
    from lic.networks.hyperprior import Hyperprior, HyperpriorShape
    from lic.training.adoption import adopt

    old = HyperpriorShape(**SMALL["hyperprior"] | {"fine": 32, "coarse": 32})
    new = AcgcShape(**SMALL["acgc"] | {"analysis": [1, 1], "synthesis": [1, 1], "lapped": False})
    trained, model = Hyperprior(old).eval(), Acgc(new).eval()
    for p in trained.parameters():
        p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    same = torch.arange(16)
    state = adopt(trained.state_dict(), old, model.state_dict(), new, same)
    model.load_state_dict(state)
    x, rate = batch()
    levels = x.float() - 127.5
    y = trained.analyse(levels, rate)
    assert torch.allclose(model.analyse(levels, rate), y, atol=1e-3)
    shown = trained.synthesise(y, y / 20, rate)
    assert torch.allclose(model.synthesise(y, y / 20, rate), shown, atol=1e-3)


@pytest.mark.parametrize(
    "change", [{"fine": 24}, {"synthesis": [1, 2]}, {"lapped": True}, {"latents": 20}]
)
def test_shapes_that_do_not_go_together_are_refused(change):
    with pytest.raises(UsageProblem):
        adopted(replace(SEGPIC, network=SEGPIC.network | change))


def test_hyperprior_does_not_start_from_other_families():
    other = TINY.with_name("tiny-segpic.safetensors")
    with pytest.raises(WeightsError, match="of segpic; this recipe starts from hyperprior"):
        initial_state(str(other), Recipe("hyperprior"))
    with pytest.raises(WeightsError, match="starts from acgc or hyperprior"):
        initial_state("segpic", Recipe("acgc"))
    with pytest.raises(WeightsError, match="no such weights"):
        initial_state("hyperpriorr", Recipe("acgc"))
    assert not initial_state(str(other), Recipe("segpic")).adopted


def test_of_the_context_alone_the_transforms_stay_and_the_bits_fall():
    recipe = replace(ACGC, train="context")
    task, model = adopted(recipe)
    task.prepare(model, torch.device("cpu"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    free = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(free, 3e-3)
    x, rate = batch()
    torch.manual_seed(0)
    bits = []
    for step in range(40):
        optimiser.zero_grad()
        loss, figures = task.loss(model, x, rate, Progress(step, 0.5))
        loss.backward()
        optimiser.step()
        bits.append(figures["bpp"])
    assert bits[-1] < 0.9 * bits[0]
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(k.startswith(("context.", "h_a.", "z_scales.")) for k in moved)
    # Validation sees pictures as ever.
    with torch.no_grad():
        assert "x_hat" in task.forward(model, x, rate, rounded=True)


def test_unknown_parts_do_not_train():
    with pytest.raises(UsageProblem, match="context"):
        task_of(replace(ACGC, train="decoder"))
    with pytest.raises(UsageProblem, match="latents"):
        task_of(Recipe("vqgan", train="context"))


@pytest.mark.parametrize("fast", [True, False])
def test_losses_are_mixed_precision_only_where_that_is_fast(monkeypatch, fast):
    from lic.training import precision

    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device: fast)
    a = torch.ones(2, 2)
    with precision.mixed_precision(torch.device("cpu")):
        assert (a @ a).dtype == (torch.bfloat16 if fast else torch.float32)


def test_a_run_is_neither_weights_nor_overwritten(tmp_path):
    folder = tmp_path / "run"
    RunFolder.create(folder, ACGC)
    with pytest.raises(WeightsError, match="lic models export"):
        initial_state(str(folder), ACGC)
    with pytest.raises(UsageProblem, match="--resume"):
        train(ACGC, folder, [], [], 1.0)
    with pytest.raises(InputError, match="no checkpoint"):
        RunFolder(folder).load()


def test_a_mistake_leaves_no_run(tmp_path):
    with pytest.raises(InputError):
        train(ACGC, tmp_path / "run", [str(tmp_path)], [], 1.0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change", [{"data": {"batch": 0}}, {"data": {"crop": -64}}, {"optimiser": {"lr": -1.0}}]
)
def test_numbers_that_cannot_be_are_refused(change):
    with pytest.raises(UsageProblem, match="less than"):
        from_dict({"family": "acgc"} | change)
