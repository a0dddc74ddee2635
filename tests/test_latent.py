"""The codec: any size, honest estimates, exact reconstructions, tiles, gain maps, damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, photo, untrained_card

from lic.codecs import plan, strips
from lic.codecs.hyperprior import HyperpriorCodec
from lic.codecs.latent import LatentCodec
from lic.codecs.registry import load_codec
from lic.container import parse_stream, write_stream
from lic.errors import LicError
from lic.networks.hyperprior import Hyperprior
from lic.networks.lapped import LappedFilter
from lic.pictures import Picture
from lic.training.config import Recipe
from lic.training.export import export_latent
from lic.training.growth import grow
from lic.training.lapping import fit_lapped_matrix
from lic.training.weights import initial_state
from lic.weights import find_weights
from lic.weights.store import save_weights

TINY = Path(__file__).parent / "weights" / "tiny-hyperprior.safetensors"


@pytest.fixture(scope="module", params=["blocks", "lapped", "acgc", "segpic"])
def codec(request, tmp_path_factory) -> LatentCodec:
    """The test weights, the same grown by the filter across block borders, and other families."""
    if request.param in SMALL:
        return load_codec(untrained_card(request.param, tmp_path_factory.mktemp("untrained")))
    card = find_weights("hyperprior", path=TINY)
    if request.param == "lapped":
        start = initial_state(str(TINY), Recipe(family="hyperprior"))
        shape = replace(start.shape, lapped=True)
        model = Hyperprior(shape)
        pictures = [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1)) for s in range(3)]
        filters = {"g_a.lap.weight": (p := fit_lapped_matrix(pictures)), "g_s.lap.weight": p.T}
        fresh = model.state_dict() | filters
        model.load_state_dict(grow(start.state, start.shape, fresh, shape))
        folder = tmp_path_factory.mktemp("lapped")
        tables = HyperpriorCodec(card).loop.tables
        card = save_weights(folder, *export_latent(model, "hyperprior", "lapped", {}, tables))
    return HyperpriorCodec(card)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (63, 65), (1, 200), (33, 16), (130, 70)])
def test_any_size_round_trips_to_the_reported_reconstruction(codec, size):
    encoded = codec.encode(Picture(photo(*size)), 50, reconstruct=True)
    decoded = codec.decode(encoded.data)
    assert decoded == encoded.reconstruction
    assert decoded.pixels.shape == (*size, 3)


@pytest.mark.parametrize("kind", ["black", "white", "noise", "checkerboard"])
def test_extreme_pictures_round_trip(codec, kind):
    pixels = {
        "black": np.zeros((48, 64, 3), np.uint8),
        "white": np.full((48, 64, 3), 255, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8),
        "checkerboard": np.tile(np.uint8([[0, 255], [255, 0]])[..., None], (24, 32, 3)),
    }[kind]
    encoded = codec.encode(Picture(pixels), 100, reconstruct=True)
    assert codec.decode(encoded.data) == encoded.reconstruction
    assert len(encoded.data) < 2 * pixels.size


def test_grey_stays_grey(codec):
    pixels = np.repeat(photo(40, 40)[:, :, :1], 3, axis=2)
    decoded = codec.decode(codec.encode(Picture(pixels, grey=True), 60).data)
    assert decoded.grey
    assert (decoded.pixels == decoded.pixels[:, :, :1]).all()


def test_encoding_twice_gives_the_same_bytes(codec, picture):
    assert codec.encode(picture, 33).data == codec.encode(picture, 33).data


def test_rate_and_quality_rise_together(codec, picture):
    sizes = [len(codec.encode(picture, q).data) for q in range(0, 101, 10)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_estimated_bits_equal_the_file(codec, picture, quality):
    encoded = codec.encode(picture, quality)
    estimate = sum(encoded.details[k] for k in ("y_bits", "z_bits", "side_bits")) / 8
    assert abs(estimate - encoded.details["payload_bytes"]) <= 0.01 * estimate + 8
    assert len(encoded.data) - encoded.details["payload_bytes"] <= 20


def test_gain_map_spends_bits_where_it_is_high(codec):
    picture = Picture(photo(128, 128))
    gain_map = np.zeros((2, 2), np.int8)
    gain_map[0, 0] = 100
    encoded = codec.encode(picture, 20, gain_map=gain_map, reconstruct=True)
    decoded = codec.decode(encoded.data)
    assert decoded == encoded.reconstruction
    error = (decoded.pixels.astype(float) - picture.pixels) ** 2
    plain = codec.decode(codec.encode(picture, 20).data).pixels
    before = (plain.astype(float) - picture.pixels) ** 2
    assert error[:48, :48].mean() < 0.8 * before[:48, :48].mean()


def test_hand_made_gain_map_of_zeros_decodes_as_none(codec, picture):
    stream = parse_stream(codec.encode(picture, 50).data)
    mapped = replace(stream, gain_map=np.zeros((2, 2), np.int8))
    assert codec.decode(write_stream(mapped)) == codec.decode(write_stream(stream))


def test_large_pictures_are_tiled(codec, monkeypatch):
    monkeypatch.setattr(plan, "TILED_ABOVE", 64 * 64)
    monkeypatch.setattr(plan, "TILE_PIXELS", 64)
    monkeypatch.setattr("lic.container.stream.TILED_ABOVE", 64 * 64)
    monkeypatch.setattr("lic.container.stream.TILE_PIXELS", 64)
    encoded = codec.encode(Picture(photo(150, 200)), 50, reconstruct=True)
    assert len(parse_stream(encoded.data).tiles) == 12
    assert codec.decode(encoded.data) == encoded.reconstruction


def test_strips_equal_the_whole_up_to_rounding(codec, monkeypatch):
    picture = Picture(photo(1400, 96))
    whole = codec.decode(codec.encode(picture, 50).data).pixels
    data = codec.encode(picture, 50).data
    monkeypatch.setattr(strips, "_WHOLE_UP_TO", 0)
    monkeypatch.setattr(strips, "_STRIP_POSITIONS", 60)
    assert len(strips.plan_strips(88, 6)) > 2
    cut = codec.decode(data).pixels
    assert np.abs(whole.astype(int) - cut).max() <= 1


def test_halos_follow_the_depth_of_the_transforms(monkeypatch):
    """A halo of what the deepest transform sees makes strips whole; a few rows do not."""
    from lic.codecs.latent import _seen
    from lic.networks.hyperprior import Hyperprior, HyperpriorShape

    monkeypatch.setattr(strips, "_WHOLE_UP_TO", 0)
    monkeypatch.setattr(strips, "_STRIP_POSITIONS", 60)
    shape = HyperpriorShape(**SMALL["hyperprior"] | {"analysis": (4, 4), "lapped": True})
    torch.manual_seed(0)
    model = Hyperprior(shape)
    torch.nn.init.normal_(model.g_a.out.weight)
    levels = torch.from_numpy(photo(16 * 120, 64).transpose(2, 0, 1)[None].copy()).float() - 127.5
    rate = torch.tensor([0.7])

    def apart(halo: int) -> float:
        def analyse(rows, _where):
            return model.analyse(rows, rate)

        with torch.inference_mode():
            found = strips.run_strips(analyse, levels, 120, 4, 16, 1, 1, halo)
            return float((found - model.analyse(levels, rate)).abs().max())

    assert len(strips.plan_strips(120, 4, 1, _seen(shape))) > 1
    assert apart(_seen(shape)) < 1e-3
    assert apart(4) > 1e-3


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_pixel(codec, monkeypatch, threads):
    monkeypatch.setattr(strips, "_WHOLE_UP_TO", 0)
    monkeypatch.setattr(strips, "_STRIP_POSITIONS", 60)
    other = type(codec)(codec.card, threads)
    encoded = other.encode(Picture(photo(1400, 96)), 50, reconstruct=True)
    again = codec.encode(Picture(photo(1400, 96)), 50, reconstruct=True)
    assert encoded.data == again.data
    assert encoded.reconstruction == again.reconstruction


def test_the_lapped_filter_is_undone_by_its_transpose_up_to_the_edges():
    pictures = [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1)) for s in range(3)]
    matrix = fit_lapped_matrix(pictures)
    assert torch.allclose(matrix @ matrix.T, torch.eye(16), atol=1e-5)
    there, back = LappedFilter(), LappedFilter()
    there.weight.data.copy_(matrix)
    back.weight.data.copy_(matrix.T)
    x = pictures[0][None].float()
    assert not torch.allclose(there(x), x, atol=1)
    assert torch.allclose(back(there(x)), x, atol=1e-3)


def test_a_lapped_start_keeps_most_of_what_the_blocks_had_learned(codec):
    # An untrained filter in front of trained layers would cost many decibels.
    picture = Picture(photo(160, 192))
    shown = codec.encode(picture, 80, reconstruct=True).reconstruction
    plain = HyperpriorCodec(find_weights("hyperprior", path=TINY))
    before = plain.encode(picture, 80, reconstruct=True).reconstruction
    errors = [np.square(p.pixels.astype(float) - picture.pixels).mean() for p in (shown, before)]
    assert errors[0] < 1.3 * errors[1]


def test_batches_equal_single_calls(codec):
    pictures = [Picture(photo(40, 50, seed)) for seed in range(3)]
    files = [e.data for e in type(codec)(codec.card, 2).encode_many(pictures, 40)]
    assert files == [codec.encode(p, 40).data for p in pictures]
    assert list(codec.decode_many(files)) == [codec.decode(f) for f in files]


def test_a_network_that_yields_nan_is_an_error(codec, picture, monkeypatch):
    nan = float("nan")
    monkeypatch.setattr(codec.model.g_a, "forward", lambda *a: a[0].new_full((1, 16, 5, 6), nan))
    with pytest.raises(LicError, match="not finite"):
        codec.encode(picture, 50)
