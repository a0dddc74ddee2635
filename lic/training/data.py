"""Training pictures in memory and random crops from them."""

from __future__ import annotations

import concurrent.futures
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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

    All pictures lie in one tensor on the device, and a crop is a gather whose indices are drawn
    there: no number travels between host and device, so a step may be captured as a CUDA graph.

    Args:
        pictures: uint8 tensors ``(C, H, W)``; those smaller than a crop are left out.
        seed: Random seed of the choices.
        device: Where the pictures are kept and cropped.

    Attributes:
        generator: What all choices are drawn from.
    """

    def __init__(self, pictures: list[Tensor], seed: int, device: torch.device):
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self._sizes = [(p.shape[1], p.shape[2]) for p in pictures]
        # Channels last, so that a gathered row is a pixel and a crop comes out as convolutions
        # like it.
        self._pixels = torch.cat([p.permute(1, 2, 0).flatten(0, 1).to(device) for p in pictures])
        self._places: dict[int, _Places] = {}

    def batch(self, count: int, side: int) -> Tensor:
        """Return ``count`` crops ``(N, C, side, side)`` as uint8, channels last in memory.

        Raises:
            InputError: No picture is large enough.
        """
        places = self._places_for(side)
        draw = torch.rand(4, count, generator=self.generator, device=self.device)
        picture = torch.searchsorted(places.cumulative, draw[0]).clamp_(max=len(places.widths) - 1)
        width = places.widths[picture]
        top = (draw[1] * places.rows[picture]).long()
        left = (draw[2] * places.columns[picture]).long()
        turn = (draw[3] * 8).long()[:, None]
        along = places.along
        row = top[:, None] + torch.where(turn % 2 == 1, side - 1 - along, along)
        column = left[:, None] + torch.where(turn // 2 % 2 == 1, side - 1 - along, along)
        index = (places.starts[picture][:, None] + row * width[:, None])[:, :, None]
        index = index + column[:, None]
        index = torch.where(turn[:, :, None] >= 4, index.mT, index)
        crops = self._pixels.index_select(0, index.flatten())
        return crops.view(count, side, side, -1).permute(0, 3, 1, 2)

    def _places_for(self, side: int) -> _Places:
        if side not in self._places:
            self._places[side] = self._find_places(side)
        return self._places[side]

    def _find_places(self, side: int) -> _Places:
        sizes = np.array(self._sizes, np.int64)
        starts = np.concatenate([[0], sizes.prod(1).cumsum()[:-1]])
        usable = sizes.min(1) >= side
        if not usable.any():
            raise InputError(f"no training picture is at least {side} pixels high and wide")
        sizes, starts = sizes[usable], starts[usable]
        shares = sizes.prod(1).cumsum() / sizes.prod(1).sum()

        def kept(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

        return _Places(
            cumulative=kept(shares.astype(np.float32)),
            starts=kept(starts),
            widths=kept(sizes[:, 1]),
            rows=kept(sizes[:, 0] - side + 1),
            columns=kept(sizes[:, 1] - side + 1),
            along=torch.arange(side, device=self.device),
        )


@dataclass(frozen=True)
class _Places:
    """Where crops of one size may lie; int64 per picture unless it says otherwise.

    Attributes:
        cumulative: float32, share of the area of all pictures up to this one.
        starts: Number of the picture's first pixel.
        widths: Pixels a row.
        rows, columns: Number of places in each direction.
        along: ``(side,)``, 0 and up.
    """

    cumulative: Tensor
    starts: Tensor
    widths: Tensor
    rows: Tensor
    columns: Tensor
    along: Tensor


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
        seed: Random seed of the draw.

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
