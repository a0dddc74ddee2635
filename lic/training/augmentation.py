"""What is done to crops so that few pictures tell more: grain and inversion.

Pictures that were scaled down or compressed hold little noise, photographs straight from a camera
hold a level or two of it everywhere. At high rates this is what bits are spent on, so a codec has
to have seen it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lic.training.config import DataConfig

__all__ = ["add_grain", "augmented"]

_BLUR = (0.5, 0.7)
"""Standard deviations of the blur of grain, in pixels: a sensor's noise after demosaicing."""


def augmented(crops: Tensor, data: DataConfig, generator: torch.Generator) -> Tensor:
    """Return crops with the recipe's share of grain and of inversion.

    Args:
        crops: uint8 ``(N, C, H, W)``; channels from the fourth on, which tell regions, stay.
        data: Its ``grain``, ``grain_levels`` and ``inversion`` tell the shares.
        generator: What is drawn from, on the device of the crops.
    """
    if not (data.grain or data.inversion):
        return crops
    count = len(crops)
    draw = torch.rand(3, count, 1, 1, 1, generator=generator, device=crops.device)
    pixels = crops[:, :3]
    if data.inversion:
        pixels = torch.where(draw[0] < data.inversion, 255 - pixels, pixels)
    if data.grain:
        levels = torch.where(draw[1] < data.grain, draw[2] * data.grain_levels, 0.0)
        pixels = add_grain(pixels, levels, generator)
    if crops.shape[1] > 3:
        pixels = torch.cat([pixels, crops[:, 3:]], dim=1)
    return pixels.contiguous(memory_format=torch.channels_last)


def add_grain(pixels: Tensor, levels: Tensor, generator: torch.Generator) -> Tensor:
    """Return pixels with Gaussian grain; half of the crops get it blurred.

    The channels share a part of it, drawn between none and all.

    Args:
        pixels: uint8 ``(N, 3, H, W)``.
        levels: ``(N, 1, 1, 1)``, standard deviation.
        generator: What is drawn from.
    """
    n, channels, height, width = pixels.shape
    device = pixels.device
    noise = torch.randn(n, channels + 1, height, width, generator=generator, device=device)
    shared, blur, sigma = torch.rand(3, n, 1, 1, 1, generator=generator, device=device)
    noise = shared.sqrt() * noise[:, -1:] + (1 - shared).sqrt() * noise[:, :-1]
    sigma = _BLUR[0] + (_BLUR[1] - _BLUR[0]) * sigma
    side = torch.where(blur < 0.5, (-0.5 / sigma**2).exp(), 0.0)
    for axis in (2, 3):  # three taps, scaled so that the deviation stays
        around = noise.roll(1, axis) + noise.roll(-1, axis)
        noise = (noise + side * around) * (1 + 2 * side**2).rsqrt()
    return (pixels + levels * noise).round_().clamp_(0, 255).to(torch.uint8)
