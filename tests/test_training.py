"""Training on small pictures: a run ends in weights that code, resumes, and explains mistakes."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, photo
from PIL import Image

from lic.codecs.registry import load_codec
from lic.errors import InputError, UsageProblem, WeightsError
from lic.networks.likelihood import gaussian_bits, round_ste
from lic.pictures import Picture
from lic.training.config import DataConfig, Recipe, load_recipe, parse_duration
from lic.training.data import Crops, principal_components
from lic.training.loop import train
from lic.training.losses import ms_ssim
from lic.training.optimisers import Muon
from lic.training.plot import plot_run
from lic.training.weights import export_run, initial_state, load_run
from lic.weights.store import find_weights

CONFIG = Path(__file__).parent.parent / "configs" / "hyperprior.toml"
TINY = SMALL["hyperprior"]


def recipe(**changes) -> Recipe:
    settings = {
        "network": TINY,
        "data": DataConfig(crop=64, batch=4, late_crop=128, valid_pictures=2),
        "validate_every": 1.0,
    }
    return Recipe(family="hyperprior", **(settings | changes))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(6):
        Image.fromarray(photo(160, 192, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe(), folder, [str(pictures)], [str(pictures)], 3, report=lambda _line: None)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_ends_in_files_that_are_smaller_than_at_its_start(run):
    first, last = (float(r["bd"]) for r in (rows(run.path / "valid.csv")[i] for i in (0, -1)))
    assert last < first
    assert rows(run.path / "valid.csv")[-1]["bpp"] == "whole files"


def test_the_plot_of_a_run_is_drawn(run):
    plot_run(run)
    with Image.open(run.path / "rd.png") as image:
        assert image.size > (300, 300)


def test_exported_weights_code_and_carry_fitted_tables(run, tmp_path):
    card = export_run(run.path, tmp_path / "new" / "folder")
    with pytest.raises(WeightsError, match="has hyperprior: --codec names a family"):
        find_weights("segpic", path=tmp_path / "new" / "folder")
    assert (run.path / "log.csv").exists()
    assert torch.__version__ in card.training["runs"][-1]["machine"]
    codec = load_codec(card)
    picture = Picture(photo(70, 90, 9))
    encoded = codec.encode(picture, 40, reconstruct=True)
    assert codec.decode(encoded.data) == encoded.reconstruction
    assert card.training["tables"].startswith("fitted")
    stored = load_run(run.path).tables["frequencies"].numpy()
    assert np.array_equal(codec.loop.tables.to_arrays()["frequencies"], stored)
    assert card.training["runs"][0]["steps"] > 0


def test_export_does_not_replace_weights_unasked(run, tmp_path):
    export_run(run.path, tmp_path)
    with pytest.raises(UsageProblem, match="--force"):
        export_run(run.path, tmp_path)


def test_resuming_goes_on_and_a_start_from_weights_begins_anew(run, pictures, tmp_path):
    where = [str(pictures)]
    export_run(run.path, tmp_path)
    before = load_run(run.path).state
    silent = {"report": lambda _line: None}
    start = initial_state(str(tmp_path / "hyperprior.safetensors"), recipe())
    begun = train(recipe(), tmp_path / "new", where, where, 0.3, initial=start, **silent)
    after = load_run(begun.path).state
    assert after["step"] < before["step"]
    assert len(after["runs"]) == 1
    # Weights travel through halves and integers; the networks are still trained ones.
    assert float(rows(begun.path / "valid.csv")[-1]["bd"]) < float(
        rows(run.path / "valid.csv")[0]["bd"]
    )
    resumed = train(recipe(), run.path, where, where, 6.0, resume=True, **silent)
    assert load_run(resumed.path).state["step"] > before["step"]


def trainer(folder: Path, **changes):
    """Return a trainer of tiny networks and its crops."""
    from lic.training import loop

    wanted = recipe(**changes)
    run = loop.RunFolder.create(folder, wanted)
    made = loop._Trainer(wanted, run, 60.0, torch.device("cpu"))
    tensors = [torch.from_numpy(photo(160, 192).transpose(2, 0, 1).copy())]
    made.start(tensors, None)
    return made, Crops(tensors, 0, torch.device("cpu"))


def test_a_spike_is_skipped(tmp_path):
    made, crops = trainer(tmp_path / "r")
    made.step(crops)
    before = {k: v.clone() for k, v in made.model.state_dict().items()}
    states = [v.clone() for v in made.optimisers.tensors()]
    loss = made.task.loss
    made.task.loss = lambda *a: (loss(*a)[0] * math.inf, {})
    made.step(crops)
    assert all((before[k] == v).all() for k, v in made.model.state_dict().items())
    assert all((a == b).all() for a, b in zip(states, made.optimisers.tensors(), strict=True))
    assert made._look()["norm"] > 0
    assert made.state.skipped == 1
    made.task.loss = loss
    made.step(crops)
    assert any((before[k] != v).any() for k, v in made.model.state_dict().items())


def test_a_grown_network_computes_what_the_small_one_did():
    from lic.networks.hyperprior import Hyperprior, HyperpriorShape
    from lic.training.growth import grow
    from lic.training.hyperprior import HyperpriorTask

    torch.manual_seed(0)
    old = HyperpriorShape(**TINY)
    larger = TINY | {"latents": 24, "synthesis": (2, 3), "analysis": (1, 2), "rated": True}
    larger |= {k: TINY[k] + 8 for k in ("fine", "coarse", "hyper", "width", "hidden")}
    task = HyperpriorTask(recipe(network=larger))
    small = Hyperprior(old)
    small.deviations.copy_(torch.linspace(60, 2, 16))
    tensors = [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1).copy()) for s in range(3)]
    fresh = task.build(tensors)
    fresh.load_state_dict(grow(small.state_dict(), old, fresh.state_dict(), fresh.shape))
    x = torch.from_numpy(photo(64, 64).transpose(2, 0, 1).copy())[None]
    rate = torch.tensor([0.3])
    with torch.no_grad():
        # Silence the new latents; everything else must be as before.
        places = torch.arange(24).view(4, 6)[:, 4:].reshape(-1)
        fresh.g_a.linear.weight[places] = 0
        fresh.g_a.out.weight[places] = 0
        fresh.g_a.out.bias[places] = 0
        before = HyperpriorTask(recipe()).forward(small, x, rate, rounded=True)
        after = task.forward(fresh, x, rate, rounded=True)
    assert torch.allclose(before["x_hat"], after["x_hat"], atol=1e-3)
    assert float(after["z_bits"]) == pytest.approx(float(before["z_bits"]), rel=1e-4)


def test_a_network_does_not_shrink():
    from lic.networks.hyperprior import HyperpriorShape
    from lic.training.growth import grow

    old = HyperpriorShape(**TINY)
    for change in ({"fine": 8}, {"latents": 8}, {"synthesis": (0, 1)}, {"knots": 12}):
        with pytest.raises(UsageProblem, match="network." + next(iter(change))):
            grow({}, old, {}, HyperpriorShape(**(TINY | change)))


def test_components_are_orthonormal_and_ordered():
    tensors = [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1).copy()) for s in range(3)]
    rows, deviations = principal_components(tensors, 16, 8, samples=500)
    assert torch.allclose(rows @ rows.T, torch.eye(8), atol=1e-4)
    assert (deviations.diff() <= 0).all()


def test_gaussian_bits_are_the_mass_of_a_unit_interval():
    scale = 0.11 * math.exp(20 / 8)
    upper, lower = (0.5 * math.erfc(-e / scale / math.sqrt(2)) for e in (1.5, 0.5))
    found = gaussian_bits(torch.tensor([1.0]), torch.tensor([20.0]), 0.11, 8)
    assert float(found) == pytest.approx(-math.log2(upper - lower), rel=1e-4)


def test_rounding_passes_gradients_and_rounds_as_the_coder():
    x = torch.tensor([-0.5, 0.5, 1.49], requires_grad=True)
    y = round_ste(x)
    y.sum().backward()
    assert y.tolist() == [0, 1, 1]
    assert x.grad.tolist() == [1, 1, 1]


def test_muon_makes_an_update_with_equal_singular_values():
    weight = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    weight.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=1.0).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1))
    assert 0.6 < values.min() < values.max() < 1.4


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("size", [(64, 16), (16, 64)])
def test_muon_stays_bounded_in_directions_without_a_gradient(size, fast, monkeypatch):
    """Rounding blows them up where a Gram matrix of bfloat16 serves for five steps."""
    monkeypatch.setattr("lic.training.optimisers.has_fast_bfloat16", lambda _device: fast)
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(size[0], 3, generator=generator),
        torch.randn(3, size[1], generator=generator),
    )
    weight = torch.nn.Parameter(torch.zeros(*size, 1, 1))
    weight.grad = (a @ b)[..., None, None]
    Muon([weight], lr=1.0).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1))
    scale = max(1.0, size[0] / size[1]) ** 0.5
    assert 0.6 < values[2] / scale < values[0] / scale < 1.3
    assert values[3] / scale < (0.4 if fast else 0.01)


def test_muon_in_bfloat16_moves_as_in_float32():
    from lic.training.optimisers import _orthogonalised

    generator = torch.Generator().manual_seed(0)
    sets = [torch.randn(3, *s, generator=generator) for s in ((16, 60), (60, 16), (16, 24))]
    factors = [1.0, -2.0, torch.tensor(0.5)]
    exact = _orthogonalised(sets, factors, torch.float32)
    fast = _orthogonalised(sets, factors, torch.bfloat16)
    for first, second in zip(exact, fast, strict=True):
        assert (first - second.float()).norm() < 0.05 * first.norm()


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("optimiser.lrr=1", "did you mean 'optimiser.lr'"),
        ("data.crop='wide'", "takes int"),
        ("batch", "expected section.key=value"),
        ("data=3", "takes DataConfig"),
        ("data.grain=2", "data.grain is 2.0, a share is 0 to 1"),
        ("optimiser.constant=1.5", "a share is 0 to 1"),
        ("optimiser.lr=-1", "less than 0"),
    ],
)
def test_mistakes_in_a_recipe_are_named(override, text):
    with pytest.raises(UsageProblem, match=text):
        load_recipe(CONFIG, [override])


def test_the_shipped_recipe_reads_and_can_be_overridden():
    read = load_recipe(CONFIG, ["data.crop=64", "optimiser.name=adamw", "tilt=1"])
    assert (read.data.crop, read.optimiser.name, read.tilt) == (64, "adamw", 1.0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("25m", 1500), ("1h30m", 5400)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


def test_no_duration_is_a_usage_problem():
    with pytest.raises(UsageProblem):
        parse_duration("soon")


def test_what_cannot_be_trained_on_is_named(tmp_path, pictures):
    silent = {"report": lambda _line: None}
    with pytest.raises(InputError, match="no pictures"):
        train(recipe(), tmp_path / "a", [str(tmp_path)], [str(pictures)], 1, **silent)
    with pytest.raises(InputError, match="not the folder of a training run"):
        load_run(tmp_path)
    other = Recipe(family="no")
    with pytest.raises(UsageProblem, match="family"):
        train(other, tmp_path / "b", [str(pictures)], [str(pictures)], 1, **silent)
    with pytest.raises(UsageProblem, match="loss 'l1' is unknown"):
        train(recipe(loss="l1"), tmp_path / "c", [str(pictures)], [str(pictures)], 1, **silent)
    with pytest.raises(WeightsError, match="no such weights"):
        initial_state("nowhere", recipe())
    tiny = [torch.from_numpy(np.zeros((3, 20, 20), np.uint8))]
    with pytest.raises(InputError, match="at least 64 pixels"):
        Crops(tiny, 0, torch.device("cpu")).batch(1, 64)


def test_ms_ssim_is_that_of_the_package():
    package = pytest.importorskip("pytorch_msssim")
    x = torch.from_numpy(photo(177, 200).transpose(2, 0, 1).copy())[None].float() / 255
    y = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert ms_ssim(x, y).item() == pytest.approx(package.ms_ssim(x, y, 1.0).item(), abs=1e-5)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-6)


def test_ms_ssim_is_a_loss_that_trains(tmp_path):
    for seed in range(2):
        Image.fromarray(photo(192, 192, seed)).save(tmp_path / f"{seed}.png")
    where, lines = [str(tmp_path)], []
    wide = DataConfig(crop=192, batch=1, late_crop=192, valid_pictures=1)
    wanted = replace(recipe(loss="ms-ssim"), data=wide)
    folder = train(wanted, tmp_path / "r", where, where, 1.0, report=lines.append)
    assert "against JPEG at equal MS-SSIM" in lines[-1]
    assert "ms_ssim_db@1.00" in (folder.path / "valid.csv").read_text()
    plot_run(folder)
    assert (folder.path / "rd.png").stat().st_size > 10_000
    with pytest.raises(UsageProblem, match="crops of 161"):
        train(recipe(loss="ms-ssim"), tmp_path / "c", where, where, 1)


def test_muon_moves_matrices_together_as_one_by_one():
    torch.manual_seed(0)
    given = [torch.randn(6, 4, 3, 3) for _ in range(3)]
    moved = []
    for together in (True, False):
        weights = [torch.nn.Parameter(w.clone()) for w in given]
        optimiser = Muon(weights, lr=1.0)
        for _ in range(3):
            for number, weight in enumerate(weights):
                weight.grad = (weight.detach() + number) ** 2
            sets = [weights] if together else [[w] for w in weights]
            with torch.no_grad():
                optimiser._move(sets, 0.1, 0.95)
        moved.append([w.detach() for w in weights])
    for first, second in zip(*moved, strict=True):
        assert torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(moved[0][0], given[0], atol=1e-2)
