"""Distances between two pictures, on 8-bit RGB as a viewer gets it."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["ms_ssim", "psnr"]

_MS_SSIM_LEAST_SIDE = 161


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
    """
    if min(x.shape[:2]) < _MS_SSIM_LEAST_SIDE:
        return None
    import torch
    from pytorch_msssim import ms_ssim as compute

    pair = [torch.from_numpy(a.transpose(2, 0, 1)[None].astype(np.float32)) for a in (x, x_hat)]
    return float(compute(*pair, data_range=255))
