"""Regions of interest: more bits where a mask is white, the same file format."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import WEIGHTS, photo, tiny_codec
from PIL import Image

import lic
from lic.cli.main import cli
from lic.codecs.roi import gain_map_of
from lic.container import parse_stream
from lic.errors import InputError, LicError, UsageProblem
from lic.evaluation.metrics import psnr
from lic.pictures import Picture

OPTIONS = {"weights": str(WEIGHTS)}


def mask(height: int, width: int) -> np.ndarray:
    """White in the left half."""
    white = np.zeros((height, width), np.uint8)
    white[:, : width // 2] = 255
    return white


def test_a_block_counts_as_its_whitest_pixel():
    white = np.zeros((100, 200), np.uint8)
    white[63, 64], white[99, 199] = 255, 51
    picture = Picture(np.zeros((100, 200, 3), np.uint8))
    mask = Picture(np.repeat(white[..., None], 3, 2), grey=True)
    steps = gain_map_of(tiny_codec("hyperprior"), mask, picture, 40)
    assert steps.tolist() == [[0, 102, 0, 0], [0, 0, 0, 20]]
    assert gain_map_of(tiny_codec("hyperprior"), mask, picture, -40)[0, 1] == -102


@pytest.mark.parametrize("gain", [30, -30])
def test_white_gets_the_bits_at_equal_size(gain):
    pixels = photo(192, 256)
    plain = lic.encode(pixels, target_size=1500, **OPTIONS)
    own = lic.encode(pixels, target_size=1500, roi=mask(192, 256), roi_gain=gain, **OPTIONS)
    assert parse_stream(own).gain_map is not None
    assert parse_stream(plain).gain_map is None
    assert len(own) <= 1500
    shown = [lic.decode(data, **OPTIONS).pixels for data in (plain, own)]
    inside, outside = slice(0, 128), slice(128, 256)
    better = [
        psnr(pixels[:, s], shown[1][:, s]) - psnr(pixels[:, s], shown[0][:, s])
        for s in (inside, outside)
    ]
    assert better[0] * gain > 0
    assert better[1] * gain < 0


def test_a_gain_without_a_region_is_refused():
    with pytest.raises(UsageProblem, match="roi-gain goes with roi"):
        lic.encode(photo(64, 96), roi_gain=30, **OPTIONS)


def test_a_mask_that_is_white_all_over_is_a_higher_quality():
    """The transforms are told the rate of each place, not that of the picture."""
    pixels = photo(192, 256)
    white = np.full((192, 256), 255, np.uint8)
    raised = lic.encode(pixels, quality=20, roi=white, roi_gain=40, **OPTIONS)
    plain = lic.encode(pixels, quality=60, **OPTIONS)
    assert abs(len(raised) - len(plain)) < 0.02 * len(plain) + 10
    found = [psnr(pixels, lic.decode(data, **OPTIONS).pixels) for data in (raised, plain)]
    assert abs(found[0] - found[1]) < 0.05


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="10x10 pixels, the picture 96x64"):
        lic.encode(photo(64, 96), roi=mask(10, 10), **OPTIONS)
    with pytest.raises(UsageProblem, match="one quality a picture"):
        lic.encode(photo(64, 96), codec="vqgan", roi=mask(64, 96), **OPTIONS)
    with pytest.raises(UsageProblem, match="-49"):
        lic.encode(photo(64, 96), roi=mask(64, 96), roi_gain=60, **OPTIONS)


def test_the_command_takes_a_mask_or_a_folder_of_them(tmp_path):
    pictures, masks = tmp_path / "in", tmp_path / "masks"
    pictures.mkdir()
    masks.mkdir()
    for name in ("a", "b"):
        Image.fromarray(photo(96, 128)).save(pictures / f"{name}.png")
    Image.fromarray(mask(96, 128)).save(masks / "a.png")

    def encode(*arguments: object):
        common = ["--weights", str(WEIGHTS), "-f", "-o", str(tmp_path / "out")]
        return CliRunner().invoke(cli, ["encode", *map(str, arguments), *common])

    (tmp_path / "out").mkdir()
    assert encode(pictures / "a.png", "--roi", masks / "a.png").exit_code == 0
    first = (tmp_path / "out" / "a.lic").read_bytes()
    assert parse_stream(first).gain_map[0].tolist() == [64, 0]
    assert encode(pictures / "a.png", "--roi", masks).exit_code == 0
    assert (tmp_path / "out" / "a.lic").read_bytes() == first
    missing = encode(pictures / "b.png", "--roi", masks)
    assert isinstance(missing.exception, LicError) or missing.exit_code == InputError.exit_code
    assert not (tmp_path / "out" / "b.lic").exists()
