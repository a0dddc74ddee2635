r"""The ``acgc`` networks, after S2LIC: SwinV2 transforms between dense enhancements.

::

          +-- lap, W_a unshuffle16 -------------+
    x' ---+                                     +--> y --- gain ---> AcgcContext (the coding loop)
          +-- unshuffle8, Swin 1/8, Swin 1/16 --+

x' is the picture after :class:`lic.networks.enhance.DenseEnhancement`, which also ends the way back
in reverse. Linear paths, gains and hyper-analysis are those of ``hyperprior``; what differs is what
the paper is about: residual groups of SwinV2 blocks instead of convolutions, and the context.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.networks.acgc_context import AcgcContext
from lic.networks.enhance import DenseEnhancement
from lic.networks.gains import DOWNSAMPLING, GainModel
from lic.networks.hyperprior import HyperAnalysis
from lic.networks.lapped import LappedFilter
from lic.networks.layers import LogKnots, Upsample, rate_plane, zero_bias
from lic.networks.swin import SwinGroup

__all__ = ["Acgc", "AcgcShape"]

_BLOCK = DOWNSAMPLING * DOWNSAMPLING * 3
_RESIDUAL_LEVELS = 16.0
_HEAD = 32


@dataclass(frozen=True)
class AcgcShape:
    """Widths and depths; stored in the weights' card.

    Attributes:
        slices: Channels of each slice of y, in the order of coding.
        hyper_latents: Channels of z.
        fine, coarse: Channels at 1/8 and 1/16 resolution, multiples of 32.
        analysis: SwinV2 blocks of the analysis at 1/8 and 1/16.
        synthesis: SwinV2 blocks of the synthesis at 1/16 and 1/8.
        window: Side of the windows of attention, positions.
        growth: Channels that a layer of the dense enhancement adds.
        hyper, channel, inter, anchors, hidden: See
            :class:`lic.networks.acgc_context.AcgcContext`.
        knots: Rows of the gain tables.
        lapped: Filter across block borders, see :mod:`lic.networks.lapped`.
    """

    slices: tuple[int, ...] = (16, 16, 32, 64, 128)
    hyper_latents: int = 64
    fine: int = 128
    coarse: int = 192
    analysis: tuple[int, int] = (2, 2)
    synthesis: tuple[int, int] = (2, 4)
    window: int = 8
    growth: int = 32
    hyper: int = 128
    channel: int = 48
    inter: int = 32
    anchors: int = 48
    hidden: int = 192
    knots: int = 9
    lapped: bool = True

    @property
    def latents(self) -> int:
        """M, channels of y."""
        return sum(self.slices)


class SwinAnalysis(nn.Module):
    """g_a: picture levels to latents; the linear path in float32, the residual in any precision."""

    def __init__(self, shape: AcgcShape):
        super().__init__()
        self.lap = LappedFilter() if shape.lapped else nn.Identity()
        self.linear = nn.Conv2d(_BLOCK, shape.latents, 1, bias=False)
        fine, coarse = shape.analysis
        self.stem = nn.Conv2d(192 + 1, shape.fine, 1)
        self.fine = SwinGroup(shape.fine, fine, shape.fine // _HEAD, shape.window)
        self.fine_gain = LogKnots(shape.knots, shape.fine)
        self.down = nn.Conv2d(shape.fine, shape.coarse, 3, 2, 1)
        self.coarse = SwinGroup(shape.coarse, coarse, shape.coarse // _HEAD, shape.window)
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


class SwinSynthesis(nn.Module):
    """g_s: latents to picture levels, the mirror of :class:`SwinAnalysis`."""

    def __init__(self, shape: AcgcShape):
        super().__init__()
        self.linear = nn.Conv2d(shape.latents, _BLOCK, 1, bias=False)
        coarse, fine = shape.synthesis
        self.stem = nn.Conv2d(shape.latents + 1, shape.coarse, 3, padding=1)
        self.coarse = SwinGroup(shape.coarse, coarse, shape.coarse // _HEAD, shape.window)
        self.up = Upsample(shape.coarse, shape.fine)
        self.fine = SwinGroup(shape.fine, fine, shape.fine // _HEAD, shape.window)
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


class Acgc(GainModel):
    """All networks of the family.

    Args:
        shape: Widths and depths.
        lambdas: Trade-offs at rate 0 and 1; the gains start at the steps that suit them.
    """

    def __init__(self, shape: AcgcShape, lambdas: tuple[float, float] = (1.6e-4, 0.11)):
        super().__init__(
            shape,
            lambdas,
            g_a=SwinAnalysis(shape),
            g_s=SwinSynthesis(shape),
            h_a=HyperAnalysis(shape.latents, shape.hyper_latents, shape.hyper),
            context=AcgcContext(
                shape.slices,
                shape.hyper_latents,
                shape.hyper,
                shape.channel,
                shape.inter,
                shape.anchors,
                shape.hidden,
            ),
        )
        self.enhance = DenseEnhancement(shape.growth)

    def analyse(self, levels: Tensor, rate: Tensor) -> Tensor:
        """Return y of the enhanced picture."""
        return super().analyse(self.enhance(levels), rate)

    def synthesise(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return levels, the enhancement taken back."""
        levels: Tensor = self.enhance.reverse(super().synthesise(y_hat, normalised, rate))
        return levels

    def use_bfloat16(self) -> None:
        """Also keep the enhancement in bfloat16."""
        super().use_bfloat16()
        self.enhance.to(torch.bfloat16)
