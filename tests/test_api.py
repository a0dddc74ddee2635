"""The Python interface: what it takes, and what it says of what it does not."""

from __future__ import annotations

import inspect
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import WEIGHTS, photo
from PIL import Image

import lic

TINY = {"weights": str(WEIGHTS)}


def test_paths_bytes_arrays_and_images_give_one_file(tmp_path):
    image = Image.fromarray(photo(40, 48))
    path = tmp_path / "a.png"
    image.save(path)
    wanted = lic.encode(path, quality=30, **TINY)
    for source in (str(path), path.read_bytes(), bytearray(path.read_bytes()), image,
                   np.asarray(image), lic.Picture(photo(40, 48))):  # fmt: skip
        assert lic.encode(source, quality=30, **TINY) == wanted
    assert lic.decode(wanted, **TINY) == lic.decode(memoryview(wanted), **TINY)


def test_grey_arrays_stay_grey():
    data = lic.encode(photo(24, 24)[:, :, 0], quality=30, **TINY)
    assert lic.read_info(data)["grey"]
    assert lic.decode(data, **TINY).grey


@pytest.mark.parametrize("source", [None, 5, [1, 2], object()])
def test_other_things_are_type_errors(source):
    for function in (lic.encode, lic.decode, lic.read_info, lic.is_lic):
        with pytest.raises(TypeError, match="wanted, not"):
            function(source)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((4, 4, 3)), "uint8"),
        (np.zeros((4, 4, 4), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "with pixels"),
        (Image.new("RGBA", (4, 4)), "mode RGBA"),
    ],
)
def test_arrays_that_are_no_pictures_are_input_errors(array, text):
    with pytest.raises(lic.InputError, match=text):
        lic.encode(array, **TINY)


def test_options_are_checked_and_visible():
    assert "target_psnr" in inspect.signature(lic.encode).parameters
    with pytest.raises(TypeError, match="quality must be a number"):
        lic.encode(photo(8, 8), quality="40", **TINY)
    with pytest.raises(lic.UsageProblem, match="give one of quality"):
        lic.encode(photo(8, 8), quality=3, target_bpp=1, **TINY)
    with pytest.raises(lic.UsageProblem, match="is for 'lic eval'"):
        lic.encode(photo(8, 8), codec="jpeg")


def test_everything_promised_is_there():
    for name in lic.__all__:
        assert getattr(lic, name) is not None
        assert name in dir(lic)
    assert issubclass(lic.StreamError, lic.LicError)
    with pytest.raises(AttributeError):
        lic.nothing  # noqa: B018


def test_a_file_that_does_not_exist_is_a_usage_problem(tmp_path):
    with pytest.raises(lic.UsageProblem, match="does not exist"):
        lic.decode(Path("no.lic"))
    with pytest.raises(lic.UsageProblem, match="is a folder, not a file"):
        lic.read_info(tmp_path)


def test_a_pipe_is_read_once(tmp_path):
    x = photo(40, 48)
    for data in (
        lic.encode(x, quality=30, **TINY),
        lic.encode(x, codec="vqgan", packets=True, **TINY),
    ):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        shown = lic.decode(str(pipe), **TINY)
        writer.join()
        pipe.unlink()
        assert shown == lic.decode(data, **TINY)
