"""Restorers: masks as channels leave them, networks for any grid, training that pays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo
from PIL import Image

from lic.codecs.conceal import available_concealers
from lic.codecs.packeted import PacketCodec
from lic.codecs.vqgan import VqganCodec
from lic.container.packets import read_packets, write_packets
from lic.container.received import receive
from lic.errors import UsageProblem
from lic.networks.restorer import KINDS, Restorer, RestorerShape
from lic.pictures import Picture
from lic.training.config import DataConfig, OptimiserConfig, Recipe, RestorerConfig, VqganConfig
from lic.training.loop import train
from lic.training.masks import packet_mask, random_mask
from lic.training.restorer import RestorerTask
from lic.training.task import Progress
from lic.training.vqgan import VqganTask
from lic.training.weights import export_run, initial_state
from lic.weights import find_weights

TINY = Path(__file__).parent / "weights" / "tiny-vqgan.safetensors"
SHAPE = {"width": 16, "blocks": 2, "heads": 2, "window": 4}


def recipe(kind: str) -> Recipe:
    return Recipe(
        family=f"restorer-{kind}",
        network=SHAPE,
        vqgan=VqganConfig(perceptual=0.0),
        restorer=RestorerConfig(codec=str(TINY), bits=6),
        data=DataConfig(crop=128, batch=4, late_part=0.0, valid_pictures=2),
        optimiser=OptimiserConfig(name="muon", lr=3e-3, warmup=2, ema=0.9),
        validate_every=60,
    )


def test_a_mask_of_packets_loses_whole_packets():
    random = np.random.default_rng(0)
    mask = packet_mask((9, 14), 7, 0.4, None, random)
    assert mask.shape == (9, 14)
    assert mask.sum() % 18 == 0
    assert not packet_mask((9, 14), 7, 0.0, None, random).any()


@pytest.mark.parametrize("shape", [(1, 2), (3, 50), (28, 28)])
def test_masks_leave_something_to_learn_from(shape):
    random = np.random.default_rng(1)
    for _ in range(200):
        mask = random_mask(shape, random)
        assert mask.any()
        assert not mask.all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (17, 5)])
def test_any_grid_goes_in_alone_or_in_a_batch(kind, size):
    torch.manual_seed(0)
    model = Restorer(RestorerShape(kind=kind, **SHAPE)).eval()
    vectors = torch.randn(2, 8, *size)
    trust = (torch.rand(2, 1, *size) > 0.3).float()
    rung = torch.tensor([10.0, 7.0])
    with torch.inference_mode():
        both = model(vectors, trust, rung)
        alone = model(vectors[1:], trust[1:], rung[1:])
    assert both.shape == vectors.shape
    assert torch.allclose(both[1:], alone, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lost_is_not_seen(kind):
    model = Restorer(RestorerShape(kind=kind, **SHAPE)).eval()
    trust = torch.ones(1, 1, 6, 6)
    trust[..., 2, 3] = 0
    first, second = torch.randn(2, 1, 8, 6, 6)
    second = torch.where(trust.bool(), first, second)
    rung = torch.tensor([10.0])
    with torch.inference_mode():
        assert torch.equal(model(first, trust, rung), model(second, trust, rung))


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_restorer_conceals(kind, tmp_path):
    for seed in range(4):
        Image.fromarray(photo(160, 192, seed)).save(tmp_path / f"{seed}.png")
    where, settings = [str(tmp_path)], recipe(kind)
    train(settings, tmp_path / "r", where, where, 2.0, report=lambda line: None)
    train(settings, tmp_path / "r", where, where, 2.5, resume=True, report=lambda line: None)
    card = export_run(tmp_path / "r", tmp_path)
    for suffix in (".json", ".safetensors"):
        shutil.copy(TINY.with_suffix(suffix), tmp_path)
    codec = VqganCodec(find_weights("vqgan", path=tmp_path))
    assert card.fingerprint == codec.card.fingerprint
    assert available_concealers(codec.card)[-1] == kind
    assert available_concealers(find_weights("vqgan", path=TINY))[-1] == "mean"
    initial_state(str(card.path), settings)

    packets = PacketCodec(codec)
    sent = packets.encode(Picture(photo(100, 150)), 60)
    arrived = receive(write_packets(read_packets(sent.data)[1:]))
    mended = packets.mend(arrived)
    assert mended.conceal == kind
    assert mended.lost
    assert packets.mend(arrived, kind).picture == mended.picture
    assert packets.mend(arrived, "none").picture != mended.picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_restorer_learns_from_the_picture_that_the_decoder_makes(kind):
    x = torch.from_numpy(np.stack([photo(128, 128, s) for s in range(2)])).permute(0, 3, 1, 2)
    found = []
    for weight in (0.0, 1.0, 3.0):
        settings = recipe(kind)
        restorer = replace(settings.restorer, picture=weight)
        task = RestorerTask(replace(settings, restorer=restorer))
        torch.manual_seed(5)
        model = task.build([])
        task.prepare(model, torch.device("cpu"))
        loss, figures = task.loss(model, x, torch.rand(2), Progress(0, 0.0))
        loss.backward()
        found.append((float(loss.detach()), model.out.weight.grad.clone(), figures))
    (plain, entropy, silent), (one, _, told), (three, both, _) = found
    assert "psnr" in told
    assert "psnr" not in silent
    assert three - plain == pytest.approx(3 * (one - plain), rel=1e-4)
    assert one > plain
    assert not torch.allclose(entropy, both)
    assert all(p.grad is None for p in task.codec.parameters())


def test_a_decoder_learns_from_what_a_restorer_guesses():
    card = find_weights("vqgan", path=TINY)
    settings = Recipe(family="vqgan", vqgan=VqganConfig(stage="decoder", perceptual=0.0, lost=1.0))
    task, codec = VqganTask(settings), VqganCodec(card)
    codebook = codec.model.ladder.rung(6)
    codewords = codebook[torch.randint(0, 64, (8, 6, 6))].permute(0, 3, 1, 2).contiguous()
    rungs = torch.full((8,), 6.0)
    torch.manual_seed(3)
    plain, doubt = task._lose(codec.model, codewords, rungs)
    task.restorer = Restorer(RestorerShape(**SHAPE, embed=codewords.shape[1]))
    torch.manual_seed(3)
    mended, trust = task._lose(codec.model, codewords, rungs)
    changed = (mended != plain).any(1)
    crops = changed.any((1, 2))
    assert crops.any()
    assert not crops.all()
    assert not changed[doubt[:, 0] == 1].any()
    assert torch.equal(trust[~crops], doubt[~crops])
    assert ((trust > 0) & (trust < 1))[crops].any()
    # Guesses are as long as codewords; how sure they are is in the trust.
    length = mended.norm(dim=1)[changed]
    assert torch.allclose(length, codebook.norm(dim=1).mean().expand_as(length), atol=1e-3)


def test_unknown_restorers_are_named():
    with pytest.raises(UsageProblem, match="known: transformer, conv"):
        RestorerTask(Recipe(family="restorer-magic"))
