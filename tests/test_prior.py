"""The network beside the contexts: in fixed point, exact however it is run, and it round trips."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import photo
from PIL import Image

from lic.cli.main import cli
from lic.codecs import plan
from lic.codecs.plan import Plan
from lic.codecs.prior import NetworkPrior
from lic.codecs.vqgan import VqganCodec
from lic.coding.leaves import LeafBits
from lic.coding.order import r2_order
from lic.coding.scatter import decode_scattered, encode_scattered, scattered_bits
from lic.container import parse_stream, stream
from lic.errors import StreamError, WeightsError
from lic.pictures import Picture
from lic.training.config import DataConfig, OptimiserConfig, Recipe, RestorerConfig, VqganConfig
from lic.training.loop import train
from lic.training.weights import export_run, initial_state
from lic.weights import find_weights, load_tensors

TINY = Path(__file__).parent / "weights" / "tiny-vqgan.safetensors"


@pytest.fixture(scope="module")
def codec() -> VqganCodec:
    return VqganCodec(find_weights("vqgan", path=TINY))


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    for seed in range(4):
        Image.fromarray(photo(160, 192, seed)).save(folder / f"{seed}.png")
    recipe = Recipe(
        family="prior-transformer",
        network={"width": 16, "blocks": 2, "heads": 2, "window": 4},
        vqgan=VqganConfig(perceptual=0.0),
        restorer=RestorerConfig(codec=str(TINY), bits=6),
        data=DataConfig(crop=128, batch=4, late_part=0.0, valid_pictures=2),
        optimiser=OptimiserConfig(name="muon", lr=3e-3, warmup=2, ema=0.9),
        validate_every=60,
    )
    where = [str(folder)]
    train(recipe, folder / "r", where, where, 2.0, report=lambda line: None)
    card = export_run(folder / "r", folder)
    initial_state(str(card.path), recipe)
    for suffix in (".json", ".safetensors"):
        shutil.copy(TINY.with_suffix(suffix), folder)
    return card


@pytest.fixture(scope="module")
def prior(card, codec) -> NetworkPrior:
    return NetworkPrior.of_card(card, codec.model.ladder.vectors)


@pytest.mark.parametrize("size", [(1, 1), (30, 40), (160, 192)])
@pytest.mark.parametrize("bits", [3, 6, 8])
def test_files_round_trip(codec, prior, size, bits):
    grid = codec.encode_latents(Picture(photo(*size)), bits, Plan(*size, 16))
    places = r2_order(*grid.shape)
    what = grid.ravel()[places], places, grid.shape, bits, codec.start
    data = encode_scattered(*what, prior.hints)
    assert np.array_equal(decode_scattered(data, *what[1:], prior.hints), what[0])
    assert abs(8 * len(data) - scattered_bits(*what, prior.hints)) < 40


def test_checksums_survive_a_new_load_and_other_threads(card, codec, prior):
    assert prior.checksum() == card.loop_checksum
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = NetworkPrior.of_card(card, codec.model.ladder.vectors)
        assert again.checksum() == card.loop_checksum
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def beside(card) -> VqganCodec:
    """The codec, with the network beside its weights."""
    return VqganCodec(find_weights("vqgan", path=card.path.parent))


@pytest.mark.parametrize("size", [(1, 1), (70, 130), (300, 40)])
def test_files_name_their_network_and_decode_with_it(card, beside, size, monkeypatch):
    for module in (plan, stream):
        monkeypatch.setattr(module, "TILED_ABOVE", 64 * 64)
        monkeypatch.setattr(module, "TILE_PIXELS", 64)
    picture, options = Picture(photo(*size)), {"index_coder": "transformer", "codebook_size": 64}
    encoded = parse_stream(beside.encode(picture, 0, **options).data)
    assert encoded.payload[:4].hex() == card.loop_checksum[:8]
    wanted = beside.encode_latents(picture, 6, Plan(*size, 16))
    assert np.array_equal(beside.read_indices(encoded)[0], wanted)
    smaller = parse_stream(beside.transcode(encoded, 8).data)
    assert np.array_equal(beside.read_indices(smaller)[0], wanted >> 3)
    assert beside.estimated_bits(wanted, 6, "transformer") > 0


def test_files_without_their_network_say_which_one_they_need(
    card, codec, beside, picture, monkeypatch
):
    data = beside.encode(picture, 100, index_coder="transformer").data
    with pytest.raises(WeightsError, match=f"{card.loop_checksum[:8]} .* not found"):
        codec.decode(data)
    with pytest.raises(WeightsError, match="not found"):
        codec.encode(picture, 100, index_coder="transformer")
    monkeypatch.setenv("LIC_WEIGHTS", str(card.path.parent))
    assert codec.decode(data) == beside.decode(data)


def test_damaged_files_are_refused(beside, picture):
    sent = parse_stream(beside.encode(picture, 100, index_coder="transformer").data)
    for at in (1, 5, len(sent.payload) - 1):
        payload = bytearray(sent.payload)
        payload[at] ^= 4
        with pytest.raises((StreamError, WeightsError)):
            beside.decode_stream(replace(sent, payload=bytes(payload)))
    with pytest.raises((StreamError, WeightsError)):
        beside.decode_stream(replace(sent, payload=sent.payload[:3]))


def test_models_verify_runs_the_network(card, monkeypatch):
    monkeypatch.setenv("LIC_WEIGHTS", str(card.path.parent))
    told = CliRunner().invoke(cli, ["models", "verify", card.name])
    assert told.exit_code == 0
    assert f"{card.loop_checksum[:16]} as in the card" in told.stdout


def test_missing_layers_are_a_weights_error(card, codec, prior):
    tensors = load_tensors(card)
    del tensors["prior.stem.weight"]
    with pytest.raises(WeightsError, match="missing"):
        NetworkPrior(tensors, prior.model.shape, codec.model.ladder.vectors)


def test_bits_have_the_probabilities_of_their_leaves():
    random = np.random.default_rng(0)
    logits = random.integers(-600, 600, (5, 16))
    leaves = LeafBits(logits, 4)
    chances = np.exp(logits / 256) / np.exp(logits / 256).sum(1, keepdims=True)
    node = np.ones(5, np.int64)
    for depth, halves in ((0, (8, 16)), (1, (12, 16))):
        logit = leaves(depth, node) / 4096
        half, end = halves
        ones = chances[:, half:end].sum(1)
        zeros = chances[:, 2 * half - end : half].sum(1)
        assert np.allclose(logit, np.log(ones / zeros), atol=0.02)
        node = 2 * node + 1
