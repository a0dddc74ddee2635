"""Encoder effort: better files at the same decoder, and no level that lies."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import WEIGHTS, photo, tiny_codec
from PIL import Image

import lic
from lic.cli.main import cli
from lic.codecs import effort, plan
from lic.codecs.hyperprior import HyperpriorCodec
from lic.codecs.registry import LEARNED, get_codec, load_codec
from lic.container import parse_stream
from lic.errors import UsageProblem
from lic.evaluation.metrics import psnr, ssimulacra2
from lic.pictures import Picture
from lic.weights import find_weights

OPTIONS = {"weights": str(WEIGHTS)}
LATENT = [name for name in LEARNED if name != "vqgan"]


@pytest.fixture
def tiles(monkeypatch):
    """Tiles of 64x64 pixels."""
    for module in ("lic.codecs.plan", "lic.container.stream"):
        monkeypatch.setattr(f"{module}.TILED_ABOVE", 64 * 64)
        monkeypatch.setattr(f"{module}.TILE_PIXELS", 64)


def cost(codec, picture: Picture, encoded) -> float:
    """Return R + lambda D in bits of a whole file and 8-bit pixels, at quality 50."""
    error = encoded.reconstruction.pixels.astype(float) - picture.pixels
    lmbda = float(codec._refiner._lambda[parse_stream(encoded.data).quality])
    return 8 * len(encoded.data) + lmbda / 3 * float((error**2).sum())


@pytest.mark.parametrize("family", LATENT)
@pytest.mark.parametrize("size", [(1, 1), (33, 70)])
def test_most_effort_decodes_to_its_reconstruction(family, size):
    codec = tiny_codec(family)
    encoded = codec.encode(Picture(photo(*size)), 60, effort=9, reconstruct=True)
    assert codec.decode(encoded.data) == encoded.reconstruction


def test_grey_stays_grey():
    pixels = np.repeat(photo(40, 40)[:, :, :1], 3, axis=2)
    codec = tiny_codec("hyperprior")
    assert codec.decode(codec.encode(Picture(pixels, grey=True), 60, effort=7).data).grey


@pytest.mark.parametrize("quality", [20, 50, 80])
def test_more_effort_costs_less(quality):
    codec, picture = tiny_codec("hyperprior"), Picture(photo(160, 192))
    usual, refined, most = (
        cost(codec, picture, codec.encode(picture, quality, effort=e, reconstruct=True))
        for e in (5, 7, 9)
    )
    assert refined < usual
    assert most < 0.995 * usual


@pytest.mark.parametrize("quality", [20, 40, 70])
def test_effort_pays_with_the_weights_that_ship(quality):
    """Passes are stable with a latent that steers many others; it stays where it is."""
    from lic.codecs.registry import get_codec

    codec, picture = get_codec("hyperprior-psnr"), Picture(photo(192, 256))
    usual, refined, more = (
        cost(codec, picture, codec.encode(picture, quality, effort=e, reconstruct=True))
        for e in (5, 7, 8)
    )
    assert refined < 0.995 * usual
    assert more < 1.002 * refined


@pytest.mark.parametrize("quality", [30, 60])
def test_effort_raises_the_score_with_weights_for_eyes(quality):
    from lic.codecs.registry import get_codec

    codec, picture = get_codec("hyperprior-eyes"), Picture(photo(192, 256))

    def coded(at: float, effort: int) -> tuple[int, float]:
        found = codec.encode(picture, at, effort=effort, reconstruct=True)
        score = ssimulacra2(picture.pixels, found.reconstruction.pixels)
        assert score is not None
        return len(found.data), score

    (size, score), (refined_size, refined) = coded(quality, 5), coded(quality, 7)
    larger_size, larger = coded(quality + 4, 5)
    points_a_byte = (larger - score) / (larger_size - size)
    assert refined - score > points_a_byte * (refined_size - size) + 0.3


@pytest.mark.parametrize("family", LATENT)
def test_no_family_of_latents_loses(family):
    codec, picture = tiny_codec(family), Picture(photo(128, 192))
    usual, refined = (
        cost(codec, picture, codec.encode(picture, 70, effort=e, reconstruct=True)) for e in (5, 7)
    )
    assert refined <= usual


def test_the_default_is_level_5(picture):
    codec = tiny_codec("hyperprior")
    files = {level: codec.encode(picture, 50, effort=level).data for level in range(1, 8)}
    usual = codec.encode(picture, 50).data
    assert all(files[level] == usual for level in (3, 4, 5, 6))
    assert files[1] == files[2]
    assert len(files[1]) > len(usual)
    assert files[7] != usual


def test_threads_change_no_byte(tiles):
    picture = Picture(photo(150, 200))
    card = find_weights("hyperprior", path=WEIGHTS)
    one, three = (HyperpriorCodec(card, threads=n) for n in (1, 3))
    data = one.encode(picture, 50, effort=7, reconstruct=True)
    assert data.data == three.encode(picture, 50, effort=7).data
    assert one.decode(data.data) == data.reconstruction


def test_tiles_gain_as_whole_pictures_do(monkeypatch):
    codec, picture = tiny_codec("hyperprior"), Picture(photo(192, 192))
    gains = []
    for side in (192, 64):
        for module in ("lic.codecs.plan", "lic.container.stream"):
            monkeypatch.setattr(f"{module}.TILED_ABOVE", side * side)
            monkeypatch.setattr(f"{module}.TILE_PIXELS", side)
        usual, refined = (
            cost(codec, picture, codec.encode(picture, 50, effort=e, reconstruct=True))
            for e in (5, 8)
        )
        gains.append(usual - refined)
    assert plan.Plan(192, 192).tiled
    assert gains[1] > 0.7 * gains[0] > 0


@pytest.mark.parametrize("family", LATENT)
def test_the_caller_may_have_turned_gradients_off(family):
    picture = Picture(photo(64, 80))
    with torch.inference_mode():
        inside = load_codec(find_weights(family, path=WEIGHTS)).encode(picture, 50, effort=7).data
    with torch.no_grad():
        assert tiny_codec(family).encode(picture, 50, effort=7).data == inside


def test_a_batch_equals_single_calls():
    codec = HyperpriorCodec(find_weights("hyperprior", path=WEIGHTS), threads=2)
    pictures = [Picture(photo(64, 80, seed)) for seed in range(3)]
    batch = [e.data for e in codec.encode_many(pictures, 50, effort=7)]
    assert batch == [codec.encode(p, 50, effort=7).data for p in pictures]


def test_a_region_of_interest_may_be_refined():
    picture, gain_map = Picture(photo(128, 128)), np.zeros((2, 2), np.int8)
    gain_map[0, 0] = 100
    codec = tiny_codec("hyperprior")
    usual, refined = (
        codec.encode(picture, 20, gain_map=gain_map, effort=e, reconstruct=True) for e in (5, 7)
    )
    assert codec.decode(refined.data) == refined.reconstruction
    inside = [
        psnr(picture.pixels[:64, :64], e.reconstruction.pixels[:64, :64]) for e in (usual, refined)
    ]
    assert len(refined.data) < 1.05 * len(usual.data)
    assert inside[1] > inside[0]


def test_targets_are_met_with_the_effort_that_is_asked_for():
    pixels = photo(128, 192)
    small = lic.encode(pixels, target_size=900, effort=7, **OPTIONS)
    usual = lic.encode(pixels, target_size=900, **OPTIONS)
    assert len(small) <= 900
    quality = [psnr(pixels, lic.decode(d, **OPTIONS).pixels) for d in (usual, small)]
    assert quality[1] > quality[0]
    reached = lic.encode(pixels, target_psnr=quality[0], effort=7, **OPTIONS)
    assert psnr(pixels, lic.decode(reached, **OPTIONS).pixels) >= quality[0]
    assert len(reached) < len(usual)


def test_targets_out_of_reach_are_refused():
    pixels = photo(64, 64)
    with pytest.raises(UsageProblem, match="quality 0 takes"):
        lic.encode(pixels, target_size=12, effort=7, **OPTIONS)
    with pytest.raises(UsageProblem, match="quality 100 gives"):
        lic.encode(pixels, target_psnr=90, effort=7, **OPTIONS)


@pytest.mark.parametrize("level", [0, 10, -1])
def test_levels_outside_1_to_9_are_refused(tmp_path, level):
    Image.fromarray(photo(16, 16)).save(tmp_path / "a.png")
    line = ["encode", str(tmp_path / "a.png"), "--effort", str(level), "--weights", str(WEIGHTS)]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 2
    assert "range 1<=x<=9" in result.stderr
    with pytest.raises(UsageProblem, match=r"outside 1\.\.9"):
        lic.encode(photo(16, 16), effort=level, **OPTIONS)
    with pytest.raises(UsageProblem, match=r"outside 1\.\.9"):
        tiny_codec("hyperprior").encode(Picture(photo(16, 16)), 50, effort=level)


def test_a_level_is_a_whole_number():
    with pytest.raises(TypeError, match="effort must be a whole number"):
        lic.encode(photo(16, 16), effort=7.5, **OPTIONS)


def test_vqgan_refuses_an_effort():
    with pytest.raises(UsageProblem, match="one effort only"):
        lic.encode(photo(16, 16), codec="vqgan", effort=5, **OPTIONS)


def test_a_codec_with_an_effort_encodes_with_it(picture):
    codec = get_codec("hyperprior@7", weights=WEIGHTS)
    data = codec.encode(picture, 50).data
    assert data == tiny_codec("hyperprior").encode(picture, 50, effort=7).data
    assert [e.data for e in codec.encode_many([picture], 50)] == [data]
    assert codec.decode(data) == next(codec.decode_many([data]))


def test_the_command_line_takes_it(tmp_path):
    Image.fromarray(photo(64, 96)).save(tmp_path / "a.png")
    line = ["encode", str(tmp_path / "a.png"), "-e", "7", "--check", "--weights", str(WEIGHTS)]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "a.lic").read_bytes() == lic.encode(photo(64, 96), effort=7, **OPTIONS)


def test_examples_hold():
    assert doctest.testmod(effort).failed == 0
