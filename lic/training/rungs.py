"""How well the rungs of a ``vqgan`` show held-out pictures, and how many codewords they use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lic.networks.perceptual import LPIPS
from lic.networks.taming import TamingVqgan
from lic.networks.vqgan import Vqgan
from lic.training.codebook import perplexity
from lic.training.ladder import middle, vectors_of
from lic.training.precision import mixed_precision

__all__ = ["RungFigures", "measure_rungs"]


@dataclass(frozen=True)
class RungFigures:
    """Means over pictures at one rung.

    Attributes:
        bits: Of an index.
        lpips: AlexNet; NaN where it was not measured.
        psnr: dB.
        perplexity: Codewords in use over all pictures, as the exponential of the entropy.
    """

    bits: int
    lpips: float
    psnr: float
    perplexity: float

    def __str__(self) -> str:
        lpips = "" if math.isnan(self.lpips) else f"LPIPS {self.lpips:.4f}, "
        used = f"{self.perplexity:.0f} of {2**self.bits} codewords in use"
        return f"{lpips}{self.psnr:.2f} dB, {used}"


@torch.no_grad()
def measure_rungs(
    model: Vqgan | TamingVqgan, pictures: list[Tensor], rungs: list[int], metric: LPIPS | None
) -> list[RungFigures]:
    """Show the middle of each picture from its indices, which are not coded for that.

    Args:
        model: With the rungs in its ladder.
        pictures: uint8 ``(3, H, W)``.
        rungs: Bits of an index.
        metric: LPIPS on the model's device, or ``None``.
    """
    device = model.ladder.vectors.device
    lpips, psnr = torch.zeros(len(rungs)), torch.zeros(len(rungs))
    used = [torch.zeros(2**bits) for bits in rungs]
    for picture in pictures:
        x = middle(picture).to(device)[None].float() / 127.5 - 1
        z = vectors_of(model, picture)
        for at, bits in enumerate(rungs):
            indices = model.ladder.nearest(z, bits)
            codewords = model.ladder.look_up(indices, bits)
            trust = torch.ones_like(codewords[:, :1])
            with mixed_precision(device):
                x_hat = model.decoder(codewords, trust, torch.tensor([bits], device=device))
            x_hat = ((x_hat + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
            mse = float((x_hat - x).square().mean()) / 4
            psnr[at] += -10 * math.log10(max(mse, 1e-9)) / len(pictures)
            lpips[at] += (math.nan if metric is None else float(metric(x, x_hat))) / len(pictures)
            used[at] += torch.bincount(indices.reshape(-1).cpu(), minlength=2**bits)
    return [
        RungFigures(bits, float(lpips[at]), float(psnr[at]), perplexity(used[at]))
        for at, bits in enumerate(rungs)
    ]
