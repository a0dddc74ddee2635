"""Masks of training pictures: made once, beside the pictures, or taken from other tools."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import photo
from PIL import Image

from lic.cli.main import cli
from lic.training.data import picture_files
from lic.training.regions import mask_path, read_mask, segment

pytest.importorskip("skimage")


def halves() -> np.ndarray:
    """Two colours, the right one smaller."""
    pixels = np.zeros((100, 160, 3), np.uint8)
    pixels[:, :120], pixels[:, 120:] = (200, 40, 40), (20, 180, 220)
    return pixels


def test_regions_follow_colours_and_the_largest_is_the_first():
    regions = segment(halves(), least=60)
    assert regions.shape == (25, 40)
    assert len(np.unique(regions)) == 2
    assert (regions[:, 2] == 0).all()
    assert (regions[:, 38] == 1).all()


def test_masks_are_made_once_and_are_no_training_pictures(tmp_path):
    for seed in range(2):
        Image.fromarray(photo(120, 140, seed)).save(tmp_path / f"{seed}.png")

    def run(*options: str) -> str:
        return CliRunner().invoke(cli, ["data", "masks", str(tmp_path), *options]).stdout

    assert run().startswith("2 masks made, 0 kept")
    assert run() == "0 masks made, 2 kept\n"
    assert run("--force").startswith("2 masks made, 0 kept")
    pictures = picture_files([tmp_path])
    assert [p.name for p in pictures] == ["0.png", "1.png"]
    mask = read_mask(pictures[0], (120, 140))
    assert np.array_equal(mask, np.asarray(Image.open(mask_path(pictures[0]))))


def test_masks_of_other_tools_have_colours_and_any_size(tmp_path):
    Image.fromarray(halves()).save(tmp_path / "a.png")
    (tmp_path / ".masks").mkdir()
    Image.fromarray(halves()).save(tmp_path / ".masks" / "a.png")
    mask = read_mask(tmp_path / "a.png", (100, 160))
    assert mask.shape == (25, 40)
    assert sorted(np.unique(mask)) == [0, 1]
    assert len(np.unique(mask[:, :30])) == 1
    assert read_mask(tmp_path / "b.png", (100, 160)) is None
