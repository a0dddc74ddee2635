"""What families share around their networks: sizes and tiles of a picture, order, checks."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from lic.container.stream import TILE_PIXELS, TILED_ABOVE
from lic.errors import LicError

__all__ = ["DOWNSAMPLING", "Plan", "finite", "has_fast_bfloat16", "in_order", "ready"]

DOWNSAMPLING = 16
"""Pixels a side of a position of the latent or index grid, for every network that ships."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Plan:
    """Sizes that follow from a picture's width and height.

    Attributes:
        height, width: Pixels.
        step: Pixels a side of a position of the grid, a divisor of a tile's side.
    """

    height: int
    width: int
    step: int = DOWNSAMPLING

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return -(-self.height // self.step), -(-self.width // self.step)

    @property
    def tiled(self) -> bool:
        """Whether the grid is coded in tiles."""
        return self.height * self.width > TILED_ABOVE

    def tiles(self) -> list[tuple[slice, slice]]:
        """Return rows and columns of each tile of the grid in raster order."""
        h, w = self.grid
        if not self.tiled:
            return [(slice(0, h), slice(0, w))]
        side = TILE_PIXELS // self.step
        return [
            (slice(top, min(top + side, h)), slice(left, min(left + side, w)))
            for top in range(0, h, side)
            for left in range(0, w, side)
        ]


def in_order(function: Callable[[In], Out], items: Iterable[In], threads: int) -> Iterator[Out]:
    """Apply a function to items, ``threads`` at a time, and yield the results in order."""
    if threads == 1 or (isinstance(items, list) and len(items) == 1):
        yield from map(function, items)
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, items)


def finite(x: Tensor) -> Tensor:
    """Return ``x``; raises ``LicError`` where a network left the range of floats."""
    if not bool(torch.isfinite(x).all()):
        raise LicError("network output is not finite")
    return x


def ready(model: Any) -> Any:
    """Freeze a family's networks for coding, in the layout and precision that this CPU likes."""
    model.eval().requires_grad_(False)
    model.to(memory_format=torch.channels_last)
    if has_fast_bfloat16():
        model.use_bfloat16()
    return model


def has_fast_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16 itself."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
