"""Networks in int8: error, what stays in halves, loading, damage, conversion."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import FAMILIES, SMALL, WEIGHTS, photo, tiny_codec
from safetensors.torch import load_file, save_file

import lic.weights
from lic.cli.models import models
from lic.codecs.registry import load_codec
from lic.errors import UsageProblem, WeightsError
from lic.pictures import Picture
from lic.training.config import Recipe
from lic.training.weights import initial_state, pack_weights
from lic.weights import find_weights, list_cards, load_tensors, network_state
from lic.weights.quantised import pack, stored_state, unpack

PACKED = "net.g_a.coarse.0.conv1.weight"
LATENTS = [f for f in FAMILIES if f != "vqgan"]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def wide(monkeypatch):
    """Tiny networks have few tensors that are worth it otherwise."""
    monkeypatch.setattr("lic.weights.quantised._WORTHWHILE", 256)


@pytest.fixture
def packed(wide, tmp_path):
    """Packed test weights of ``hyperprior``."""
    return pack_weights(WEIGHTS / "tiny-hyperprior.safetensors", tmp_path)


@pytest.mark.parametrize("shape", [(8, 5), (6, 4, 3, 3), (3, 7, 1)])
def test_no_weight_moves_by_more_than_half_a_scale(shape):
    weight = random(*shape) * 10.0 ** torch.arange(-3, shape[0] - 3).view(-1, *[1] * len(shape[1:]))
    numbers, scale = pack(weight)
    assert numbers.dtype == torch.int8
    assert scale.dtype == torch.float32
    assert numbers.shape == shape
    assert scale.shape == shape[:1]
    error = (unpack(numbers, scale) - weight).flatten(1).abs().amax(1)
    assert bool((error <= scale * 0.50001).all())


def test_channels_of_zeros_and_of_tiny_weights_are_kept():
    numbers, scale = pack(torch.tensor([[0.0, 0.0], [1e-42, -1e-42], [3.0, -1.5]]))
    weight = unpack(numbers, scale)
    assert bool((weight[:2] == 0).all())
    assert weight[2].tolist() == pytest.approx([3.0, -1.5], rel=0.01)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(WeightsError, match="not finite"):
        pack(torch.tensor([[1.0, float("nan")]]))


def test_what_is_sensitive_or_small_stays_in_floats():
    shapes = {
        "g_a.stem.weight": (64, 65, 1, 1),
        "g_a.stem.bias": (5000,),
        "g_a.linear.weight": (64, 768, 1, 1),
        "g_s.out.weight": (64, 64, 1, 1),
        "g_s.fine_gain.log": (9, 64),
        "g_s.fine.swin.blocks.0.attention.out.weight": (64, 64),
        "g_s.lap.weight": (64, 64),
        "deviations": (320,),
    }
    stored = stored_state({name: random(*shape) for name, shape in shapes.items()})
    kinds = {name: stored[f"net.{name}"].dtype for name in shapes}
    assert [n for n, k in kinds.items() if k == torch.int8] == [
        "g_a.stem.weight",
        "g_s.fine.swin.blocks.0.attention.out.weight",
    ]
    assert [n for n, k in kinds.items() if k == torch.float32] == ["g_s.lap.weight", "deviations"]
    assert set(stored) - {f"net.{n}" for n in shapes} == {
        "net.g_a.stem.weight.scale",
        "net.g_s.fine.swin.blocks.0.attention.out.weight.scale",
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_weights_round_trip_and_decode_older_files(family, wide, tmp_path):
    before = tiny_codec(family)
    card = pack_weights(before.card.path, tmp_path)
    old, new = load_tensors(before.card), load_tensors(card)
    assert card.fingerprint == before.card.fingerprint
    assert new.keys() >= old.keys()
    assert any(v.dtype == torch.int8 for k, v in new.items() if k.startswith("net."))
    assert all(torch.equal(new[k], v) for k, v in old.items() if not k.startswith("net."))
    assert card.path.stat().st_size < before.card.path.stat().st_size
    for name, weight in network_state(new).items():
        scale = new.get(f"net.{name}.scale", torch.zeros(1))
        error = (weight - network_state(old)[name]).abs().flatten(1 if weight.ndim > 1 else 0)
        assert bool((error.amax(-1) <= scale * 0.50001).all())
    after = load_codec(card)
    assert after.verify()[0] == card.loop_checksum
    picture = Picture(photo(70, 90))
    encoded = after.encode(picture, 60, reconstruct=True)
    assert after.decode(encoded.data) == encoded.reconstruction
    data = before.encode(picture, 60).data
    both = [codec.decode(data).pixels.astype(float) for codec in (before, after)]
    assert np.abs(both[0] - both[1]).mean() < 2


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_run_in_floats(family, wide, tmp_path):
    card = pack_weights(tiny_codec(family).card.path, tmp_path)
    state = load_codec(card).model.state_dict()
    assert all(v.is_floating_point() for k, v in state.items() if not k.startswith("context."))


@pytest.mark.parametrize("family", LATENTS)
def test_a_run_starts_from_packed_weights(family, wide, tmp_path):
    card = pack_weights(tiny_codec(family).card.path, tmp_path)
    start = initial_state(str(card.path), Recipe(family=family, network=SMALL[family]))
    old = initial_state(str(tiny_codec(family).card.path), Recipe(family=family)).state
    assert start.state.keys() == old.keys()
    assert all(v.is_floating_point() and v.shape == old[k].shape for k, v in start.state.items())
    assert all(torch.equal(v, start.state[k]) for k, v in old.items() if k.startswith("context."))


def without_scale(tensors):
    del tensors[PACKED + ".scale"]


def short_scale(tensors):
    tensors[PACKED + ".scale"] = tensors[PACKED + ".scale"][1:].clone()


def integer_scale(tensors):
    tensors[PACKED + ".scale"] = torch.ones_like(tensors[PACKED + ".scale"], dtype=torch.int8)


def zero_scale(tensors):
    tensors[PACKED + ".scale"][0] = 0


def endless_scale(tensors):
    tensors[PACKED + ".scale"][0] = torch.inf


@pytest.mark.parametrize(
    "damage", [without_scale, short_scale, integer_scale, zero_scale, endless_scale]
)
def test_missing_and_damaged_scales_end_in_one_line(damage, packed):
    tensors = load_file(packed.path)
    damage(tensors)
    save_file(tensors, packed.path)
    sha256 = hashlib.sha256(packed.path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=r"tiny-hyperprior.*net\.g_a.*scale") as caught:
        load_codec(replace(packed, sha256=sha256))
    assert "\n" not in str(caught.value)


def test_packing_replaces_nothing_unasked_and_twice_is_once(packed, wide, tmp_path):
    with pytest.raises(UsageProblem, match="--force"):
        pack_weights(packed.path, tmp_path)
    before = packed.path.read_bytes()
    again = pack_weights(packed.path, tmp_path, name="other")
    assert again.path.read_bytes() == before
    assert again.sha256 == packed.sha256
    assert json.loads((tmp_path / "other.json").read_text())["name"] == "other"
    assert find_weights("hyperprior", path=again.path) == again


def test_imported_networks_are_not_packed(packed, tmp_path):
    card = json.loads((tmp_path / "tiny-hyperprior.json").read_text())
    card["network"]["ch_mult"] = [1, 2]
    (tmp_path / "tiny-hyperprior.json").write_text(json.dumps(card))
    with pytest.raises(UsageProblem, match="imported"):
        pack_weights(packed.path, tmp_path, force=True)


def test_the_command_takes_a_file_of_weights(wide, tmp_path):
    source = str(WEIGHTS / "tiny-segpic.safetensors")
    arguments = ["export", source, "-o", str(tmp_path), "--name", "small"]
    result = CliRunner().invoke(models, arguments, catch_exceptions=False)
    assert result.output.startswith(f"{tmp_path / 'small.safetensors'}: ")
    assert (tmp_path / "small.safetensors").stat().st_size < Path(source).stat().st_size


def test_no_file_that_ships_has_more_than_24_megabytes():
    ships = [card for card in list_cards() if card.path.parent == Path(lic.weights.__file__).parent]
    assert ships
    assert all(card.path.stat().st_size <= 24e6 for card in ships)


def test_weights_without_a_card_are_not_packed(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="no card"):
        pack_weights(tmp_path / "a.safetensors", tmp_path)
