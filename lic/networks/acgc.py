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
from torch import Tensor, nn

from lic.networks.acgc_context import AcgcContext
from lic.networks.enhance import DenseEnhancement
from lic.networks.gains import GainModel
from lic.networks.hyperprior import HyperAnalysis
from lic.networks.layers import Upsample
from lic.networks.swin import SwinGroup
from lic.networks.transforms import FINE_INPUT, Analysis, Synthesis

__all__ = ["Acgc", "AcgcShape"]

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


def _analysis(shape: AcgcShape) -> Analysis:
    fine, coarse = shape.analysis
    return Analysis(
        shape,
        stem=nn.Conv2d(FINE_INPUT + 1, shape.fine, 1),
        fine=SwinGroup(shape.fine, fine, shape.fine // _HEAD, shape.window),
        down=nn.Conv2d(shape.fine, shape.coarse, 3, 2, 1),
        coarse=SwinGroup(shape.coarse, coarse, shape.coarse // _HEAD, shape.window),
    )


def _synthesis(shape: AcgcShape) -> Synthesis:
    coarse, fine = shape.synthesis
    return Synthesis(
        shape,
        stem=nn.Conv2d(shape.latents + 1, shape.coarse, 3, padding=1),
        coarse=SwinGroup(shape.coarse, coarse, shape.coarse // _HEAD, shape.window),
        up=Upsample(shape.coarse, shape.fine),
        fine=SwinGroup(shape.fine, fine, shape.fine // _HEAD, shape.window),
    )


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
            g_a=_analysis(shape),
            g_s=_synthesis(shape),
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
