"""Rate and distortion as differentiable quantities."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lic.networks.prices import price_of_rate

__all__ = ["ms_ssim", "tilt_of"]

_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _WINDOW_SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the multi-scale structural similarity of each picture (Wang et al. 2003, eq. 7).

    Five scales, a Gaussian window of 11 pixels, per channel, negative terms cut off at zero.

    Args:
        x, y: float32 ``(N, C, H, W)`` in 0..1, sides at least 161.

    Returns:
        ``(N,)`` in 0..1.
    """
    at = torch.arange(_WINDOW, device=x.device, dtype=x.dtype) - _WINDOW // 2
    window = (-(at**2) / (2 * _WINDOW_SIGMA**2)).exp()
    window = (window / window.sum()).expand(x.shape[1], 1, 1, -1)

    def blurred(t: Tensor) -> Tensor:
        t = F.conv2d(t, window, groups=t.shape[1])
        return F.conv2d(t, window.transpose(2, 3), groups=t.shape[1])

    total = torch.ones(x.shape[:2], device=x.device, dtype=x.dtype)
    for number, weight in enumerate(_MS_SSIM_WEIGHTS):
        mean_x, mean_y = blurred(x), blurred(y)
        variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
        covariance = blurred(x * y) - mean_x * mean_y
        similar = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
        if number == len(_MS_SSIM_WEIGHTS) - 1:
            light = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
            similar = similar * light
        total = total * similar.mean((2, 3)).clamp(min=1e-6) ** weight
        pad = [s % 2 for s in x.shape[2:]]
        x, y = (F.avg_pool2d(t, 2, padding=pad) for t in (x, y))
    return total.mean(1)


def tilt_of(rate: Tensor, lambdas: tuple[float, float], tilt: float) -> Tensor:
    """Return what the loss of each rate is multiplied by: (lambda / middle) ** -tilt.

    Args:
        rate: ``(N,)`` in [0, 1].
        lambdas: Distortion weights at rate 0 and 1; ``middle`` is their geometric mean.
        tilt: 0 for 1 everywhere, 1 for the same weight of all distortions.
    """
    return (price_of_rate(rate, lambdas) / math.sqrt(lambdas[0] * lambdas[1])) ** -tilt
