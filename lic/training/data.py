"""Training pictures in memory and random crops from them."""

from __future__ import annotations

import concurrent.futures
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lic.errors import InputError
from lic.pictures import PICTURE_SUFFIXES
from lic.training.regions import SHRINK, read_mask

__all__ = ["Crops", "load_pictures", "picture_files", "principal_components"]

_PART = 2000
"""Blocks at once, so that statistics take little memory."""


def picture_files(folders: Iterable[str | Path]) -> list[Path]:
    """List picture files below folders, sorted, so that a run does not depend on the disk.

    Hidden files and folders are left out.
    """
    files: list[Path] = []
    for folder in folders:
        path = Path(folder)
        if not path.exists():
            raise InputError("no such file or folder", str(folder))
        inside = [path] if path.is_file() else sorted(path.rglob("*"))
        files += [
            f
            for f in inside
            if f.suffix.lower() in PICTURE_SUFFIXES
            and not any(part.startswith(".") for part in f.relative_to(path).parts)
        ]
    if not files:
        raise InputError("no pictures in " + ", ".join(str(f) for f in folders))
    return files


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot be read: {error}", str(path)) from error


def _with_mask(path: Path) -> np.ndarray:
    pixels = _read(path)
    height, width = pixels.shape[:2]
    small = read_mask(path, (height, width))
    if small is None:
        raise InputError(f"has no mask; lic data masks {path.parent} makes them", str(path))
    mask = small.repeat(SHRINK, 0).repeat(SHRINK, 1)[:height, :width]
    return np.dstack([pixels, mask])


def load_pictures(files: Iterable[Path], *, masks: bool = False) -> list[Tensor]:
    """Decode pictures into uint8 tensors ``(3, H, W)``; 250 megapixels take 0.75 GB.

    Args:
        files: Pictures.
        masks: Add a fourth channel, the number of each pixel's region.

    Raises:
        InputError: A picture cannot be read or has no mask.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(_with_mask if masks else _read, files)
        return [torch.from_numpy(a.transpose(2, 0, 1).copy()) for a in read]


class Crops:
    """Random square crops with flips and transposition, weighted by area.

    Args:
        pictures: uint8 tensors ``(C, H, W)``; those smaller than a crop are left out.
        seed: Of the random choices; the state travels in checkpoints.
        device: Where the pictures are kept and cropped.
    """

    def __init__(self, pictures: list[Tensor], seed: int, device: torch.device):
        self.pictures = [p.to(device) for p in pictures]
        self.device = device
        self.generator = np.random.default_rng(seed)

    def batch(self, count: int, side: int) -> Tensor:
        """Return ``count`` crops ``(N, C, side, side)`` as uint8."""
        usable = [p for p in self.pictures if min(p.shape[1:]) >= side]
        if not usable:
            raise InputError(f"no training picture is at least {side} pixels high and wide")
        areas = np.array([p.shape[1] * p.shape[2] for p in usable], dtype=float)
        chosen = self.generator.choice(len(usable), count, p=areas / areas.sum())
        return torch.stack([self._crop(usable[i], side) for i in chosen])

    def _crop(self, picture: Tensor, side: int) -> Tensor:
        top = int(self.generator.integers(picture.shape[1] - side + 1))
        left = int(self.generator.integers(picture.shape[2] - side + 1))
        crop = picture[:, top : top + side, left : left + side]
        turn = int(self.generator.integers(8))
        if turn & 1:
            crop = crop.flip(2)
        if turn & 2:
            crop = crop.flip(1)
        return crop.transpose(1, 2) if turn & 4 else crop


def principal_components(
    pictures: list[Tensor],
    block: int,
    count: int,
    prefilter: Callable[[Tensor], Tensor] | None = None,
    samples: int = 40_000,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return principal components of random blocks and their standard deviations.

    Args:
        pictures: uint8 tensors ``(3, H, W)``.
        block: Side of the blocks in pixels.
        count: Components kept, by falling variance.
        prefilter: Applied to levels around mid-grey before blocks are cut; reaches at most one
            block far.
        samples: Blocks drawn.
        seed: Of the draw.

    Returns:
        ``(count, 3 * block^2)`` orthonormal rows in the order of ``pixel_unshuffle`` and
        ``(count,)`` deviations in levels; the mean block is taken as mid-grey.
    """
    draw = Crops(pictures, seed, torch.device("cpu"))
    covariance = torch.zeros(3 * block**2, 3 * block**2, dtype=torch.float64)
    for done in range(0, samples, _PART):
        part = min(_PART, samples - done)
        if prefilter is None:
            inner = draw.batch(part, block).double() - 127.5
        else:
            around = prefilter(draw.batch(part, 3 * block).float() - 127.5)
            inner = around[:, :, block : 2 * block, block : 2 * block].double()
        blocks = inner.flatten(1)
        covariance += blocks.T @ blocks
    covariance /= samples
    values, vectors = torch.linalg.eigh(covariance)
    order = values.argsort(descending=True)[:count]
    return vectors[:, order].T.float(), values[order].clamp(min=1e-3).sqrt().float()
