"""A region of interest as a gain map: more bits where a mask is white."""

from __future__ import annotations

import numpy as np

from lic.codecs.base import Codec
from lic.container.gain_map import BLOCK, gain_map_shape
from lic.errors import InputError, UsageProblem
from lic.pictures import Picture

__all__ = ["gain_map_of"]

_BYTES_A_POINT = 2.55
_WHITE = 255


def gain_map_of(codec: Codec, mask: Picture, picture: Picture, gain: float) -> np.ndarray:
    """Return steps of the rate byte, int8, one per 64x64 pixels.

    A block counts as its whitest pixel, so that a region is covered up to its edge.

    Args:
        codec: That will encode.
        mask: White is of interest, grey in part.
        picture: As large as the mask.
        gain: Quality points of white, -49 to 49.

    Raises:
        UsageProblem: The codec has one quality a picture.
        InputError: The mask has another size.
    """
    if not getattr(codec, "has_gains", False):
        raise UsageProblem(f"'{codec.name}' has one quality a picture; roi needs another codec")
    height, width = picture.height, picture.width
    if (mask.height, mask.width) != (height, width):
        raise InputError(
            f"the mask has {mask.width}x{mask.height} pixels, the picture {width}x{height}"
        )
    rows, columns = gain_map_shape(width, height)
    white = np.zeros((rows * BLOCK, columns * BLOCK), np.uint8)
    white[:height, :width] = mask.pixels.max(2)
    part = white.reshape(rows, BLOCK, columns, BLOCK).max((1, 3)) / _WHITE
    steps: np.ndarray = np.rint(part * gain * _BYTES_A_POINT).astype(np.int8)
    return steps
