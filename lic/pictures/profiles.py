"""Colour profiles: which one says nothing, and which one does not fit its picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

__all__ = ["fits", "is_srgb"]

_MODES = {b"RGB ": "RGB", b"GRAY": "L"}
"""ICC.1:2022, table 19: colour space of the data, at byte 16 of a profile."""

_TOLERANCE = 2
"""Levels; tables of 1024 entries and 16-bit matrices move sRGB by one."""


def fits(icc: bytes, grey: bool) -> bool:
    """Tell whether a profile describes grey or RGB pixels, as wanted."""
    return icc[16:20] == (b"GRAY" if grey else b"RGB ")


def is_srgb(icc: bytes) -> bool:
    """Tell whether a profile maps a grid of colours to themselves in sRGB.

    The effect decides and not the name: there are linear profiles with "sRGB" in their description,
    and sRGB profiles called "c2". Where Pillow has no colour management, only the bytes are left.
    """
    mode = _MODES.get(icc[16:20])
    if mode is None:
        return False
    try:
        from PIL import ImageCms
    except ImportError:
        return b"sRGB IEC61966" in icc
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.buildTransform(profile, srgb, mode, "RGB")
        probe = _probe(mode)
        shown = ImageCms.applyTransform(probe, transform)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return False
    difference = np.asarray(probe.convert("RGB"), np.int16) - np.asarray(shown, np.int16)
    return bool(np.abs(difference).max() <= _TOLERANCE)


def _probe(mode: str) -> Image.Image:
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return Image.fromarray(grid.reshape(len(steps), -1, 3))
