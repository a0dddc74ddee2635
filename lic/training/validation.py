"""Rate-distortion curves while training, and one number to compare recipes by."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.evaluation.metrics import (
    MS_SSIM_LEAST_SIDE,
    SSIMULACRA2_LEAST_SIDE,
    psnr,
    ssimulacra2,
)
from lic.training.losses import ms_ssim
from lic.training.precision import mixed_precision

__all__ = [
    "QUALITIES",
    "RATES",
    "Measure",
    "curve",
    "jpeg_curve",
    "psnr_of",
    "rate_change",
    "score_of",
]

RATES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
"""Points of the curve."""

_JPEG_QUALITIES = (5, 8, 12, 18, 26, 36, 48, 60, 70, 80, 88, 92, 95)
_MOST_PSNR = 10 * math.log10(255**2 / 1e-4)

Measure = Callable[[np.ndarray, np.ndarray], float]
"""(original, shown), uint8 ``(H, W, 3)`` -> quality, higher is better."""


def psnr_of(x: np.ndarray, shown: np.ndarray) -> float:
    """Return the PSNR in dB, finite for equal pictures: at most 88 (a squared error of 1e-4)."""
    return min(psnr(x, shown), _MOST_PSNR)


def ms_ssim_of(x: np.ndarray, shown: np.ndarray) -> float:
    """Return -10 log10(1 - MS-SSIM), dB.

    Raises:
        UsageProblem: The picture is too small for five scales.
    """
    if min(x.shape[:2]) < MS_SSIM_LEAST_SIDE:
        raise UsageProblem(f"ms-ssim needs pictures of {MS_SSIM_LEAST_SIDE} pixels a side")
    pair = [
        torch.from_numpy(a.transpose(2, 0, 1)[None].astype(np.float32) / 255) for a in (x, shown)
    ]
    return -10 * math.log10(max(1 - float(ms_ssim(pair[0], pair[1])), 1e-6))


def score_of(x: np.ndarray, shown: np.ndarray) -> float:
    """Return SSIMULACRA 2.

    Raises:
        UsageProblem: The picture is too small.
    """
    score = ssimulacra2(x, shown)
    if score is None:
        raise UsageProblem(f"SSIMULACRA 2 needs pictures of {SSIMULACRA2_LEAST_SIDE} pixels a side")
    return score


@dataclass(frozen=True)
class Quality:
    """What a loss is validated by.

    Attributes:
        measure: Of two pictures.
        name: For people.
        column: Beginning of its columns in ``valid.csv``.
        axis: Label of a plot.
        span: Qualities that are compared, of those that both curves have.
    """

    measure: Measure
    name: str
    column: str
    axis: str
    span: tuple[float, float] = (-math.inf, math.inf)


QUALITIES = {
    "mse": Quality(psnr_of, "PSNR", "psnr", "PSNR RGB, dB"),
    "ms-ssim": Quality(ms_ssim_of, "MS-SSIM", "ms_ssim_db", "-10 log10(1 - MS-SSIM), dB"),
    "eyes": Quality(score_of, "SSIMULACRA 2", "ssimulacra2", "SSIMULACRA 2", (10.0, 85.0)),
}
"""By loss."""


def curve(task: Any, model: nn.Module, pictures: list[Tensor], device: torch.device) -> np.ndarray:
    """Return rows (rate, bpp, quality), means over pictures, estimated from rounded symbols."""
    rows = []
    model.eval()
    for rate in RATES:
        with mixed_precision(device):
            figures = [task.measure(model, p.to(device), rate) for p in pictures]
        rows.append([rate, *(np.mean([f[k] for f in figures]) for k in ("bpp", "quality"))])
    model.train()
    return np.array(rows)


def jpeg_curve(pictures: list[Tensor], measure: Measure = psnr_of) -> np.ndarray:
    """Return rows (q, bpp, quality) of optimised 4:2:0 JPEG, the yardstick of validation."""
    rows = []
    for quality in _JPEG_QUALITIES:
        points = []
        for picture in pictures:
            pixels = picture.numpy().transpose(1, 2, 0)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
            shown = np.asarray(Image.open(buffer))
            area = pixels.shape[0] * pixels.shape[1]
            points.append((8 * len(buffer.getvalue()) / area, measure(pixels, shown)))
        rows.append([quality, *np.mean(points, axis=0)])
    return np.array(rows)


def rate_change(
    anchor: np.ndarray, test: np.ndarray, span: tuple[float, float] = (-math.inf, math.inf)
) -> float:
    """Return the mean change of log rate at equal quality over the common range, in percent.

    Piecewise linear, an indicator for comparing runs; ``lic eval`` uses the real method.
    """
    low = max(anchor[:, 2].min(), test[:, 2].min(), span[0])
    high = min(anchor[:, 2].max(), test[:, 2].max(), span[1])
    if not high > low:
        return float("nan")
    grid = np.linspace(low, high, 200)
    logs = [
        np.interp(grid, c[np.argsort(c[:, 2]), 2], np.log(c[np.argsort(c[:, 2]), 1]))
        for c in (anchor, test)
    ]
    return 100 * (float(np.exp(np.mean(logs[1] - logs[0]))) - 1)
