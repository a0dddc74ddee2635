"""What callers may hand over as a picture or a file: paths, bytes, arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lic.errors import InputError
from lic.files import read_input
from lic.pictures import Picture, read_picture

__all__ = ["as_picture", "bytes_of"]


def bytes_of(source: Any) -> tuple[bytes, str | None]:
    """Return the bytes of a file, given as such or as a path, and the path if it is one.

    Raises:
        InputError: The path cannot be read.
        TypeError: ``source`` is neither.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), None
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a path or the bytes of a file are wanted, not {type(source).__name__}")
    return read_input(os.fspath(source)), os.fspath(source)


def as_picture(source: Any, max_pixels: int) -> Picture:
    """Return the picture that a path, bytes, an array, a Pillow image or a ``Picture`` holds.

    Raises:
        InputError: It cannot be read or is not supported.
        LimitError: It has more pixels than ``max_pixels``.
        TypeError: ``source`` is none of these.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        data, name = bytes_of(source)
        return read_picture(data, name=name or "picture", max_pixels=max_pixels)
    if hasattr(source, "__array_interface__"):  # arrays of numpy, images of Pillow
        return _from_array(np.array(source), getattr(source, "mode", None))
    raise TypeError(
        "a path, the bytes of a picture file, an array or a Pillow image is wanted, not "
        + type(source).__name__
    )


def _from_array(pixels: np.ndarray, mode: str | None) -> Picture:
    if mode not in (None, "RGB", "L"):
        raise InputError(f"image has mode {mode}; convert it to RGB or L first")
    if pixels.dtype != np.uint8 or not pixels.size:
        raise InputError(f"an array of uint8 with pixels is wanted, not {pixels.dtype}")
    if pixels.ndim == 2:
        return Picture(np.repeat(pixels[:, :, None], 3, axis=2), grey=True)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"shape (height, width, 3) or (height, width) wanted, not {pixels.shape}")
    return Picture(pixels)
