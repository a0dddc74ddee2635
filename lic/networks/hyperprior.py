r"""The ``hyperprior`` networks: a picture to latents and back, and the pieces of its entropy model.

::

            +-- lap, W_a unshuffle16 ---------------+
    x ------+                                       +--> y --- gain ---> round ---+
            +-- unshuffle8, blocks 1/8, blocks 1/16 +     \                        |
                                                           h_a --> z --> round --+ | symbols
                                                                                 v v
    x_hat <-+-- unlap, shuffle16 W_s ---------------+        LatinContext (the coding loop)
            +-- shuffle8, blocks 1/8, blocks 1/16 --+<-- y_hat / gain <-----------+

The lapped filter across block borders starts orthogonal, the linear paths behind it as the
principal components of 16x16 blocks, and the networks learn what is left.
Sources: mean-scale hyperprior, Minnen et al. 2018 (arXiv 1809.02736); gain rows, Cui et al.
(arXiv 2003.02012); four-step context, DCVC-DC (arXiv 2302.14402).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.networks.context import LatinContext
from lic.networks.gains import DOWNSAMPLING, GainModel
from lic.networks.lapped import LappedFilter
from lic.networks.layers import Downsample, LogKnots, ResidualBlock, Upsample, rate_plane, zero_bias

__all__ = ["Analysis", "HyperAnalysis", "Hyperprior", "HyperpriorShape", "Synthesis"]

_BLOCK = DOWNSAMPLING * DOWNSAMPLING * 3
_RESIDUAL_LEVELS = 16.0


@dataclass(frozen=True)
class HyperpriorShape:
    """Widths and depths; stored in the weights' card, so that a file rebuilds its network.

    Attributes:
        latents: M, channels of y, a multiple of 4.
        hyper_latents: Channels of z.
        fine: Channels at 1/8 resolution.
        coarse: Channels at 1/16 resolution.
        analysis: Residual blocks of the analysis at 1/8 and 1/16.
        synthesis: Residual blocks of the synthesis at 1/16 and 1/8.
        hyper, width, hidden: See :class:`lic.networks.context.LatinContext`.
        knots: Rows of the gain tables.
        lapped: Filter across block borders, see :mod:`lic.networks.lapped`.
    """

    latents: int = 256
    hyper_latents: int = 64
    fine: int = 128
    coarse: int = 192
    analysis: tuple[int, int] = (2, 2)
    synthesis: tuple[int, int] = (2, 3)
    hyper: int = 128
    width: int = 128
    hidden: int = 192
    knots: int = 9
    lapped: bool = False


class Analysis(nn.Module):
    """g_a: picture levels to latents; the linear path in float32, the residual in any precision."""

    def __init__(self, shape: HyperpriorShape):
        super().__init__()
        self.lap = LappedFilter() if shape.lapped else nn.Identity()
        self.linear = nn.Conv2d(_BLOCK, shape.latents, 1, bias=False)
        self.stem = nn.Conv2d(192 + 1, shape.fine, 1)
        fine, coarse = shape.analysis
        self.fine = nn.Sequential(*(ResidualBlock(shape.fine, fine) for _ in range(fine)))
        self.fine_gain = LogKnots(shape.knots, shape.fine)
        self.down = Downsample(shape.fine, shape.coarse)
        self.coarse = nn.Sequential(*(ResidualBlock(shape.coarse, coarse) for _ in range(coarse)))
        self.out = nn.Conv2d(shape.coarse, shape.latents, 1)
        nn.init.normal_(self.out.weight, std=1e-3)
        zero_bias(self.out)

    def forward(self, levels: Tensor, rate: Tensor, deviations: Tensor) -> Tensor:
        u = F.pixel_unshuffle(levels, 8) * (1 / 64)
        u = self.stem(torch.cat([u, rate_plane(rate, u)], dim=1).to(self.stem.weight.dtype))
        u = self.fine(u) * self.fine_gain(rate).to(u.dtype)
        u = self.out(self.coarse(self.down(u)).to(self.out.weight.dtype))
        with torch.autocast(levels.device.type, enabled=False):
            blocks = F.pixel_unshuffle(self.lap(levels), 16)
            return self.linear(blocks) + u.float() * deviations


class Synthesis(nn.Module):
    """g_s: latents to picture levels, the mirror of :class:`Analysis`."""

    def __init__(self, shape: HyperpriorShape):
        super().__init__()
        self.linear = nn.Conv2d(shape.latents, _BLOCK, 1, bias=False)
        self.stem = nn.Conv2d(shape.latents + 1, shape.coarse, 1)
        coarse, fine = shape.synthesis
        self.coarse = nn.Sequential(*(ResidualBlock(shape.coarse, coarse) for _ in range(coarse)))
        self.up = Upsample(shape.coarse, shape.fine)
        self.fine = nn.Sequential(*(ResidualBlock(shape.fine, fine) for _ in range(fine)))
        self.fine_gain = LogKnots(shape.knots, shape.fine)
        self.out = nn.Conv2d(shape.fine, 192, 1)
        self.lap = LappedFilter() if shape.lapped else nn.Identity()
        nn.init.normal_(self.out.weight, std=1e-3)
        zero_bias(self.out)

    def forward(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        u = torch.cat([normalised, rate_plane(rate, normalised)], dim=1)
        u = self.fine(self.up(self.coarse(self.stem(u.to(self.stem.weight.dtype)))))
        u = self.out((u * self.fine_gain(rate).to(u.dtype)).to(self.out.weight.dtype))
        with torch.autocast(y_hat.device.type, enabled=False):
            linear = self.lap(F.pixel_shuffle(self.linear(y_hat), 16))
            return linear + _RESIDUAL_LEVELS * F.pixel_shuffle(u.float(), 8)


class HyperAnalysis(nn.Module):
    """h_a: normalised latents to the hyper-latent z at 1/64 resolution."""

    def __init__(self, latents: int, hyper_latents: int, width: int):
        super().__init__()
        last = Downsample(width, hyper_latents)
        self.layers = nn.Sequential(
            nn.Conv2d(latents + 1, width, 1),
            nn.LeakyReLU(0.125),
            Downsample(width, width),
            nn.LeakyReLU(0.125),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.125),
            last,
        )
        with torch.no_grad():
            last[1].weight.mul_(4)  # type: ignore[operator]

    def forward(self, normalised: Tensor, rate: Tensor) -> Tensor:
        return self.layers(torch.cat([normalised, rate_plane(rate, normalised)], dim=1)).float()


class Hyperprior(GainModel):
    """All networks of the family.

    Args:
        shape: Widths and depths.
        lambdas: Trade-offs at rate 0 and 1; the gains start at the steps that suit them.
    """

    def __init__(self, shape: HyperpriorShape, lambdas: tuple[float, float] = (1.6e-4, 0.11)):
        super().__init__(
            shape,
            lambdas,
            g_a=Analysis(shape),
            g_s=Synthesis(shape),
            h_a=HyperAnalysis(shape.latents, shape.hyper_latents, shape.hyper),
            context=LatinContext(
                shape.latents, shape.hyper_latents, shape.hyper, shape.width, shape.hidden
            ),
        )
