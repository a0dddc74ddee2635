"""Regions of pictures without classes: what ``segpic`` is told in training and never in use.

Masks are grey PNGs at a quarter of the picture's size, a number for each region, in the hidden
folder ``.masks`` beside the pictures. Ours are colour segments; any other tool's may stand there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lic.errors import InputError
from lic.files import atomic_write

__all__ = ["SHRINK", "mask_path", "read_mask", "segment", "write_masks"]

SHRINK = 4
"""Pixels of the picture a side of one of the mask."""

_SIGMA = 0.6
_MOST_REGIONS = 256


def segment(pixels: np.ndarray, scale: float = 200.0, least: int = 250) -> np.ndarray:
    """Return regions of alike colour (Felzenszwalb and Huttenlocher 2004), the largest is 0.

    Args:
        pixels: uint8 ``(H, W, 3)``.
        scale: Higher makes larger regions.
        least: Pixels of the mask that a region has at least, where the picture has as many.

    Returns:
        uint8 ``(ceil(H / 4), ceil(W / 4))``, at most 256 regions; the smallest share a number.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        from skimage.segmentation import felzenszwalb
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'lic[masks]'") from error
    height, width = (-(-side // SHRINK) for side in pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    found = felzenszwalb(np.asarray(small), scale=scale, sigma=_SIGMA, min_size=least)
    _, places, sizes = np.unique(found, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    regions: np.ndarray = rank[places].clip(max=_MOST_REGIONS - 1).astype(np.uint8)
    return regions.reshape(height, width)


def mask_path(picture: Path) -> Path:
    """Return where the mask of a picture is."""
    return picture.parent / ".masks" / f"{picture.stem}.png"


def read_mask(picture: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the mask of a picture, ``None`` where there is none.

    Masks of other tools may have any size and mode: they are shrunk by picking pixels, and colours
    are numbered.

    Args:
        picture: Its file.
        shape: Height and width of the picture.

    Raises:
        InputError: The mask cannot be read.
    """
    path = mask_path(picture)
    if not path.exists():
        return None
    height, width = (-(-side // SHRINK) for side in shape)
    try:
        with Image.open(path) as image:
            nearest = image.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            picked = np.asarray(nearest)
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot be read: {error}", str(path)) from error
    numbers = picked.astype(np.int64) @ np.array([1, 256, 65536])
    _, regions = np.unique(numbers, return_inverse=True)
    kept: np.ndarray = regions.clip(max=_MOST_REGIONS - 1).astype(np.uint8)
    return kept.reshape(height, width)


def write_masks(
    pictures: list[Path], scale: float, least: int, *, force: bool = False
) -> Iterator[tuple[Path, int | None]]:
    """Write the masks that are missing; yields each picture and its regions, ``None`` if kept.

    Args:
        pictures: Files.
        scale, least: See :func:`segment`.
        force: Make those that are there anew.

    Raises:
        InputError: A picture cannot be read, or scikit-image is not installed.
        OutputError: A mask cannot be written.
    """
    for picture in pictures:
        target = mask_path(picture)
        if target.exists() and not force:
            yield picture, None
            continue
        try:
            with Image.open(picture) as image:
                regions = segment(np.asarray(image.convert("RGB")), scale, least)
        except (OSError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot be read: {error}", str(picture)) from error
        target.parent.mkdir(exist_ok=True)
        data = io.BytesIO()
        Image.fromarray(regions).save(data, "PNG")
        atomic_write(str(target), data.getvalue(), force=True)
        yield picture, int(regions.max()) + 1
