"""``segpic``: prototypes in the file, regions in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL, photo, untrained_card
from PIL import Image

from lic.codecs.plan import Plan
from lic.codecs.registry import load_codec
from lic.codecs.segpic import SegpicCodec
from lic.container import parse_stream, write_stream
from lic.errors import InputError, StreamError
from lic.pictures import Picture
from lic.training.config import DataConfig, Recipe
from lic.training.data import Crops, load_pictures
from lic.training.loop import train
from lic.training.regions import write_masks
from lic.training.segpic import few_regions, random_grids
from lic.training.tasks import task_of

RECIPE = Recipe(
    family="segpic",
    network=SMALL["segpic"],
    data=DataConfig(crop=128, batch=4, late_crop=128, masks=0.5),
)


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> SegpicCodec:
    found = load_codec(untrained_card("segpic", tmp_path_factory.mktemp("segpic")))
    assert isinstance(found, SegpicCodec)
    # So that prototypes have something to say and it can be seen.
    with torch.no_grad():
        found.model.side_gains.log.fill_(3.0)
        for part in (found.model.g_a, found.model.g_s):
            torch.nn.init.normal_(part.adapt.after.weight, std=0.3)
            torch.nn.init.normal_(part.out.weight, std=0.1)
    return found


def test_prototypes_are_read_as_they_were_written(codec):
    picture = Picture(photo(130, 200))
    encoded = codec.encode(picture, 50, reconstruct=True)
    assert encoded.details["side_bits"] > 16 * 4
    assert codec.decode(encoded.data) == encoded.reconstruction


def test_both_transforms_depend_on_the_prototypes(codec):
    model, rate = codec.model, torch.tensor([0.5])
    torch.manual_seed(0)
    x, y_hat = 50 * torch.randn(1, 3, 64, 64), 50 * torch.randn(1, 16, 4, 4)
    zeros, ones = torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8)
    with torch.inference_mode():
        y = [model.analyse(x, rate, lambda _, k=k: k) for k in (zeros, ones)]
        shown = [model.synthesise(y_hat, y_hat / 50, rate, k) for k in (zeros, ones)]
    assert not torch.allclose(*y, rtol=0, atol=1e-3)
    assert not torch.allclose(*shown, rtol=0, atol=1e-2)


def test_nothing_to_say_costs_one_symbol(codec, monkeypatch):
    monkeypatch.setattr(codec.model, "side_steps", lambda means, _rate: 0 * means)
    encoded = codec.encode(Picture(photo(130, 200)), 50, reconstruct=True)
    assert encoded.details["side_bits"] < 2
    assert codec.decode(encoded.data) == encoded.reconstruction


@pytest.mark.parametrize(("size", "cells"), [((10, 10), 4), ((10, 200), 8), ((130, 200), 16)])
def test_cells_that_are_not_there_are_not_coded(codec, size, cells):
    plan = Plan(*size)
    levels = torch.zeros(1, 3, *(16 * side for side in plan.grid), dtype=torch.uint8)
    side = codec.describe(levels, 128, plan)
    assert [symbols.size for symbols, _ in side.calls] == [1, 4 * cells]


def test_prototypes_are_part_of_the_symbol_check(codec, monkeypatch):
    data = codec.encode(Picture(photo(130, 200)), 50).data
    read = codec.read_side

    def wrong(*arguments):
        side = read(*arguments)
        (flag, (symbols, indexes)) = side.calls
        return replace(side, calls=(flag, (symbols + 1, indexes)))

    monkeypatch.setattr(codec, "read_side", wrong)
    with pytest.raises(StreamError, match="symbols differ"):
        codec.decode(data)


def test_every_damaged_byte_of_the_prototypes_is_noticed(codec):
    stream = parse_stream(codec.encode(Picture(photo(96, 96)), 50).data)
    for at in range(12):
        payload = bytearray(stream.payload)
        payload[at] ^= 0x10
        with pytest.raises(StreamError):
            codec.decode(write_stream(replace(stream, payload=bytes(payload))))


def test_random_grids_have_rectangles_of_cells_in_use():
    torch.manual_seed(0)
    grids = random_grids(50, 16, 16, torch.device("cpu"))
    assert grids.shape == (50, 16, 16)
    counts = [len(g.unique()) for g in grids]
    assert 1 in counts
    assert max(counts) in (4, 6, 9)
    for grid in grids:
        assert (grid[:, :1].diff(dim=0) != 0).sum() <= 2
        columns = grid - grid[:1]
        assert all(len(row.unique()) == 1 for row in columns)
    assert random_grids(2, 400, 400, torch.device("cpu")).max() == 15


def test_regions_are_numbered_from_zero():
    given = torch.tensor([[[7, 7], [200, 9]], [[3, 3], [3, 3]]], dtype=torch.uint8)
    assert few_regions(given).tolist() == [[[0, 0], [2, 1]], [[0, 0], [0, 0]]]
    assert few_regions(torch.arange(30).view(1, 5, 6)).max() == 15


def pictures_with_masks(folder: Path, masks: bool = True) -> list[Path]:
    for seed in range(2):
        Image.fromarray(photo(160, 192, seed)).save(folder / f"{seed}.png")
    files = sorted(folder.glob("*.png"))
    if masks:
        list(write_masks(files, 200.0, 60))
    return files


def test_masks_turn_with_their_pictures(tmp_path):
    files = pictures_with_masks(tmp_path)
    pictures = load_pictures(files, masks=True)
    assert [p.shape for p in pictures] == [(4, 160, 192)] * 2
    for picture in pictures:
        picture[3] = picture[0]
    batch = Crops(pictures, 0, torch.device("cpu")).batch(16, 64)
    assert torch.equal(batch[:, 3], batch[:, 0])


def test_a_picture_without_a_mask_is_named(tmp_path):
    files = pictures_with_masks(tmp_path, masks=False)
    with pytest.raises(InputError, match="lic data masks"):
        load_pictures(files, masks=True)


@pytest.mark.parametrize("masks", [0.0, 0.5])
def test_a_run_learns_with_and_without_masks(tmp_path, masks):
    data = tmp_path / "data"
    data.mkdir()
    pictures_with_masks(data, masks=masks > 0)
    recipe = replace(RECIPE, data=replace(RECIPE.data, masks=masks))
    run = train(recipe, tmp_path / "run", [str(data)], [str(data)], 3.0, report=lambda _: None)
    gains = run.load()["average"]["side_gains.log"]
    assert not torch.equal(gains, torch.full_like(gains, float(gains.flatten()[0])))


def test_masks_and_their_consistency_reach_the_loss(tmp_path):
    pictures = load_pictures(pictures_with_masks(tmp_path), masks=True)
    losses = {}
    for weight in (0.0, 10.0):
        recipe = replace(RECIPE, segpic=replace(RECIPE.segpic, consistency=weight))
        task = task_of(recipe)
        torch.manual_seed(1)
        model = task.build(pictures)
        torch.nn.init.normal_(model.g_a.adapt.after.weight, std=1.0)
        torch.nn.init.constant_(model.side_gains.log, 4.0)
        x = Crops(pictures, 0, torch.device("cpu")).batch(6, 128)
        torch.manual_seed(2)
        out = task.forward(model, x, torch.full((6,), 0.7), rounded=False)
        losses[weight] = out["penalty"]
        assert (out["side_bits"] > 0).all()
    assert float(losses[0.0].sum()) == 0
    assert (losses[10.0] > 1e-6).any()
    assert (losses[10.0] < 1e-9).any()


def test_without_prototypes_there_is_no_side_information(tmp_path):
    network = SMALL["segpic"] | {"prototypes": 0, "affine": False}
    recipe = Recipe(family="segpic", network=network)
    task = task_of(recipe)
    pictures = [torch.from_numpy(photo(160, 192).transpose(2, 0, 1).copy())]
    from lic.weights.store import save_weights

    codec = load_codec(save_weights(tmp_path, *task.export(task.build(pictures), "p", {}, None)))
    encoded = codec.encode(Picture(photo(50, 60)), 50, reconstruct=True)
    assert encoded.details["side_bits"] == 0
    assert codec.decode(encoded.data) == encoded.reconstruction
