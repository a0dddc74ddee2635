"""Distances between two pictures, on 8-bit RGB as a viewer gets it.

``METRICS`` is what a sweep can measure, in the order of its columns; another metric is one more
entry. Those that follow what people see take up to seconds a picture, so they are asked for; LPIPS
and DISTS need ``make perceptual``.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lic.evaluation.extras import optional

__all__ = [
    "METRICS",
    "MS_SSIM_LEAST_SIDE",
    "PERCEPTUAL",
    "SSIMULACRA2_LEAST_SIDE",
    "STANDARD",
    "Metric",
    "dists",
    "lpips",
    "ms_ssim",
    "psnr",
    "ssimulacra2",
]

_PERCEPTUAL_LEAST_SIDE = 64
SSIMULACRA2_LEAST_SIDE = 8
MS_SSIM_LEAST_SIDE = 161
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
    if min(x.shape[:2]) < MS_SSIM_LEAST_SIDE:
        return None
    torch, package = optional("torch"), optional("pytorch_msssim")
    pair = [torch.from_numpy(a.transpose(2, 0, 1)[None].astype(np.float32)) for a in (x, x_hat)]
    value = float(package.ms_ssim(*pair, data_range=255))
    return None if math.isnan(value) else value


def lpips(x: np.ndarray, x_hat: np.ndarray) -> float | None:
    """Return LPIPS v0.1 with AlexNet, 0 for equal pictures (Zhang et al. 2018).

    ``None`` where a side is under 64 pixels.

    Args:
        x, x_hat: uint8 ``(H, W, 3)``.

    Raises:
        InputError: Its weights are not installed.
    """
    return _perceptual(_lpips, x, x_hat, _PERCEPTUAL_LEAST_SIDE)


def dists(x: np.ndarray, x_hat: np.ndarray) -> float | None:
    """Return DISTS at full size, 0 for equal pictures (Ding et al. 2020).

    ``None`` where a side is under 64 pixels.

    Args:
        x, x_hat: uint8 ``(H, W, 3)``.

    Raises:
        InputError: Its weights are not installed.
    """
    return _perceptual(_dists, x, x_hat, _PERCEPTUAL_LEAST_SIDE)


def ssimulacra2(x: np.ndarray, x_hat: np.ndarray) -> float | None:
    """Return SSIMULACRA 2, 100 for equal pictures and below 0 for very bad ones (Sneyers 2023).

    ``None`` where a side is under 8 pixels.

    Args:
        x, x_hat: uint8 ``(H, W, 3)``.
    """
    return _perceptual(_ssimulacra2, x, x_hat, SSIMULACRA2_LEAST_SIDE)


def _perceptual(
    comparison: Callable[[], _Comparison], x: np.ndarray, x_hat: np.ndarray, least_side: int
) -> float | None:
    if min(x.shape[:2]) < least_side:
        return None
    with optional("torch").inference_mode():
        return comparison().value(x, x_hat)


class _Comparison(threading.local):
    """A comparison by features, which remembers those of the last original.

    A sweep compares many pictures with one original, which would cost half of the time.

    Args:
        extract: Features of the original ``(1, 3, H, W)``.
        compare: From those features and the decoded picture.
        low: What 0 of a picture is to them; 255 is 1.
    """

    def __init__(
        self, extract: Callable[[Any], Any], compare: Callable[[Any, Any], Any], low: float
    ):
        self.extract, self.compare, self.low = extract, compare, low
        self.original: np.ndarray | None = None
        self.features: Any = None

    def value(self, x: np.ndarray, x_hat: np.ndarray) -> float:
        if self.original is None or not np.array_equal(self.original, x):
            self.original, self.features = x.copy(), self.extract(self._input(x))
        return float(self.compare(self.features, self._input(x_hat)))

    def _input(self, x: np.ndarray) -> Any:
        levels = optional("torch").from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32))
        return levels / 255 * (1 - self.low) + self.low


@cache
def _lpips() -> _Comparison:
    from lic.networks.perceptual import LPIPS
    from lic.weights.perceptual import read_lpips

    network = LPIPS(read_lpips("alex"), "alex")
    return _Comparison(network.features, network.distance, -1.0)


@cache
def _dists() -> _Comparison:
    from lic.networks.perceptual import DISTS
    from lic.weights.perceptual import read_dists, read_lpips

    network = DISTS(read_lpips("vgg"), read_dists())
    return _Comparison(network.features, network.distance, 0.0)


@cache
def _ssimulacra2() -> _Comparison:
    from lic.networks.ssimulacra2 import Ssimulacra2

    network = Ssimulacra2()
    return _Comparison(network.features, network.score, 0.0)


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
        scale: From a mean to what is plotted and what BD-rate compares; rises with quality.
        least_side: Pixels that both sides of a picture need.
        unit: Unit of the plotted value, such as ``dB``; empty where it has none.
        limits: Range that BD-rates are taken over at most, where the metric tells qualities apart.
    """

    measure: Callable[[np.ndarray, np.ndarray], float | None]
    result_key: str
    digits: int
    axis: str
    scale: Callable[[float], float]
    least_side: int = 1
    unit: str = ""
    limits: tuple[float, float] = (-math.inf, math.inf)


METRICS = {
    "psnr": Metric(psnr, "psnr-rgb", 4, "PSNR RGB, dB", float, unit="dB"),
    "ms_ssim": Metric(
        ms_ssim,
        "ms-ssim-rgb",
        6,
        "MS-SSIM RGB, -10 log10(1 - mean), dB",
        _decibels,
        MS_SSIM_LEAST_SIDE,
        unit="dB",
    ),
    "ssimulacra2": Metric(
        ssimulacra2,
        "ssimulacra2",
        4,
        "SSIMULACRA 2, 100 = equal",
        float,
        SSIMULACRA2_LEAST_SIDE,
        limits=(10.0, 85.0),
    ),
    "lpips": Metric(
        lpips, "lpips", 5, "LPIPS (AlexNet), negative", operator.neg, _PERCEPTUAL_LEAST_SIDE
    ),
    "dists": Metric(dists, "dists", 5, "DISTS, negative", operator.neg, _PERCEPTUAL_LEAST_SIDE),
}

STANDARD = ("psnr", "ms_ssim")
"""Measured always."""

PERCEPTUAL = ("ssimulacra2", "lpips", "dists")
"""Measured when asked for."""
