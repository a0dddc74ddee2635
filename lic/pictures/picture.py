"""A picture as the codecs see it: 8-bit RGB and the metadata that travels along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["DEFAULT_MAX_PIXELS", "PICTURE_SUFFIXES", "Picture", "pad_to_multiple"]

DEFAULT_MAX_PIXELS = 178_956_970
"""Twice what Pillow warns about: the pixels of a 512 MB RGB picture."""

PICTURE_SUFFIXES = frozenset(
    [
        *(".avif", ".bmp", ".dib", ".gif", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".webp"),
        *(".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"),
        *(".tif", ".tiff"),
    ]
)
"""By which pictures are found in folders; a file that is named may have any suffix."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory.

    Attributes:
        pixels: uint8 ``(H, W, 3)``, RGB in the colour space of ``icc``, sRGB without one.
        grey: All three channels are equal and the picture is to be written as grey.
        icc: Colour profile.
        exif: EXIF block without an orientation; pixels are upright.
        xmp: XMP packet.
    """

    pixels: np.ndarray
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        same = (self.grey, self.icc, self.exif, self.xmp) == (
            other.grey,
            other.icc,
            other.exif,
            other.xmp,
        )
        return same and np.array_equal(self.pixels, other.pixels)

    __hash__ = None  # type: ignore[assignment]


def pad_to_multiple(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Replicate the last row and column of ``(H, W, 3)`` up to multiples of ``multiple``.

    The result is contiguous and writeable; it may share memory with the input.
    """
    height, width = pixels.shape[:2]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return np.require(pixels, requirements=["C", "W"])
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
