"""Distances between two pictures, on 8-bit RGB as a viewer gets it.

``METRICS`` is what a sweep measures, in the order of its columns; another metric is one more entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lic.evaluation.extras import optional

__all__ = ["METRICS", "Metric", "ms_ssim", "psnr"]

_MS_SSIM_LEAST_SIDE = 161
"""Four halvings have to leave 11 pixels for the window."""


def psnr(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB over all samples, infinite for equal pictures.

    Args:
        x, x_hat: uint8 ``(H, W, 3)``.
    """
    mse = float(np.mean((x.astype(np.float64) - x_hat) ** 2))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def ms_ssim(x: np.ndarray, x_hat: np.ndarray) -> float | None:
    """Return the multi-scale structural similarity in 0..1 (Wang et al. 2003, five scales).

    ``None`` where a side is under 161 pixels, for which five scales are not defined.

    Args:
        x, x_hat: uint8 ``(H, W, 3)``.

    Raises:
        InputError: pytorch-msssim is not installed.
    """
    if min(x.shape[:2]) < _MS_SSIM_LEAST_SIDE:
        return None
    torch, package = optional("torch"), optional("pytorch_msssim")
    pair = [torch.from_numpy(a.transpose(2, 0, 1)[None].astype(np.float32)) for a in (x, x_hat)]
    value = float(package.ms_ssim(*pair, data_range=255))
    return None if math.isnan(value) else value


def _decibels(similarity: float) -> float:
    """-10 log10(1 - v), which spreads out the similarities near 1."""
    return -10 * math.log10(1 - similarity) if similarity < 1 else math.inf


@dataclass(frozen=True)
class Metric:
    """One metric of a sweep.

    Attributes:
        measure: From the original and the decoded picture, ``None`` where it is not defined.
        result_key: CompressAI's name of its means.
        digits: Decimals that are kept.
        axis: Of plots, with the unit.
        scale: From a mean to what is plotted and what BD-rate compares.
    """

    measure: Callable[[np.ndarray, np.ndarray], float | None]
    result_key: str
    digits: int
    axis: str
    scale: Callable[[float], float]


METRICS = {
    "psnr": Metric(psnr, "psnr-rgb", 4, "PSNR RGB, dB", float),
    "ms_ssim": Metric(ms_ssim, "ms-ssim-rgb", 6, "MS-SSIM RGB, -10 log10(1 - mean), dB", _decibels),
}
