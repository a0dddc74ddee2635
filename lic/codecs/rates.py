"""The rate byte of a picture and of each of its places."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lic.codecs.plan import DOWNSAMPLING

__all__ = ["rate_byte", "rate_bytes", "rates_of"]

_GAIN_MAP_BLOCK = 64 // DOWNSAMPLING


def rate_byte(quality: float) -> int:
    """Return the rate byte of a quality, which is held within 0..100."""
    return round(2.55 * min(100.0, max(0.0, quality)))


def rate_bytes(byte: int, gain_map: np.ndarray | None, grid: tuple[int, int]) -> Tensor:
    """Return the rate byte of each latent position, int64 ``(h, w)``.

    Args:
        byte: Rate byte of the picture, 0..255.
        gain_map: int8 steps of it per 64x64 pixels.
        grid: Rows and columns of latent positions.
    """
    rate = torch.full(grid, byte, dtype=torch.int64)
    if gain_map is None:
        return rate
    blocks = torch.from_numpy(gain_map.astype(np.int64))
    fine = blocks.repeat_interleave(_GAIN_MAP_BLOCK, 0).repeat_interleave(_GAIN_MAP_BLOCK, 1)
    return (rate + fine[: grid[0], : grid[1]]).clamp(0, 255)


def rates_of(rate: Tensor) -> Tensor:
    """Return rates in [0, 1] of rate bytes ``(h, w)``: ``(1,)`` where all are one."""
    first = int(rate[0, 0])
    return torch.full((1,), first / 255) if bool((rate == first).all()) else rate[None] / 255
