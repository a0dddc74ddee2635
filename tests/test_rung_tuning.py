"""Tuning one rung of an imported model: what moves, what stays, what comes out codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import photo
from PIL import Image
from test_importing import taming_state

from lic.codecs.vqgan import VqganCodec
from lic.errors import UsageProblem
from lic.pictures import Picture
from lic.training.config import DataConfig, OptimiserConfig, Recipe, VqganConfig
from lic.training.importing import import_checkpoint
from lic.training.loop import train
from lic.training.weights import export_run, initial_state, recipe_for
from lic.weights import find_weights, load_tensors

TINY = Path(__file__).parent / "weights" / "tiny-vqgan.safetensors"


def recipe(bits: int = 3) -> Recipe:
    return Recipe(
        family="vqgan",
        loss="l1",
        vqgan=VqganConfig(stage="rung", bits=bits, perceptual=0.0),
        data=DataConfig(crop=64, batch=2, late_part=0.0, valid_pictures=2),
        optimiser=OptimiserConfig(lr=1e-2, linear_lr=1.0, warmup=1, ema=0.5),
        validate_every=60,
    )


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    torch.save({"state_dict": taming_state()}, folder / "last.ckpt")
    import_checkpoint(str(folder / "last.ckpt"), 16, output=str(folder))
    for seed in range(4):
        Image.fromarray(photo(96, 128, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.mark.parametrize("bits", [3, 4])
def test_a_tuned_rung_codes_and_leaves_the_rest_as_it_was(imported, tmp_path, bits):
    path = str(imported / "vqgan-imported.safetensors")
    start = initial_state(path, recipe(bits))
    settings, where = recipe_for(start, recipe(bits)), [str(imported)]
    train(settings, tmp_path / "r", where, where, 1.5, initial=start, report=lambda line: None)
    train(settings, tmp_path / "r", where, where, 2.0, resume=True, report=lambda line: None)
    card = export_run(tmp_path / "r", tmp_path)

    old, new = load_tensors(find_weights("vqgan", path=path)), load_tensors(card)
    assert new.keys() - old.keys() == {"codebook.scattered"}
    moved = {k for k in old if k.startswith("net.") and not old[k].equal(new[k])}
    assert moved
    assert all("quant_conv" in k for k in moved)
    assert card.network["top"] == bits

    codec = VqganCodec(card)
    encoded = codec.encode(Picture(photo(50, 70)), 100, reconstruct=True)
    assert codec.decode(encoded.data) == encoded.reconstruction


def test_own_weights_and_missing_rungs_are_refused(imported):
    with pytest.raises(UsageProblem, match="tunes imported weights"):
        initial_state(str(TINY), recipe())
    with pytest.raises(UsageProblem, match="no codebook of 512"):
        initial_state(str(imported / "vqgan-imported.safetensors"), recipe(9))
