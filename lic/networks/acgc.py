r"""The ``acgc`` networks, after S2LIC: SwinV2 transforms between dense enhancements.

::

          +-- lap, W_a unshuffle16 -------------+
    x' ---+                                     +--> y --- gain ---> AcgcContext (the coding loop)
          +-- unshuffle8, 1/8, 1/16 ------------+

x' is the picture after :class:`lic.networks.enhance.DenseEnhancement`, which also ends the way back
in reverse. At 1/8 and 1/16, residual blocks of convolutions come first, then residual groups of
SwinV2 blocks. Convolutions, linear paths, gains and hyper-analysis are those of ``hyperprior``, so
that its trained weights may be the start; what differs is what the paper is about: attention in
the transforms, and the context.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lic.networks.acgc_context import AcgcContext
from lic.networks.enhance import DenseEnhancement
from lic.networks.gains import GainModel
from lic.networks.hyperprior import HyperAnalysis
from lic.networks.layers import Downsample, Upsample, numbered_blocks
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
        analysis: Residual blocks of convolutions of the analysis at 1/8 and 1/16.
        synthesis: The same of the synthesis at 1/16 and 1/8.
        swin_analysis, swin_synthesis: SwinV2 blocks behind them.
        perceptron: Hidden channels of their perceptrons, for each channel.
        window: Side of the windows of attention, positions.
        growth: Channels that a layer of the dense enhancement adds.
        hyper, channel, inter, anchors, hidden: See
            :class:`lic.networks.acgc_context.AcgcContext`.
        knots: Rows of the gain tables.
        lapped: Filter across block borders, see :mod:`lic.networks.lapped`.
    """

    slices: tuple[int, ...] = (16, 16, 32, 64, 192)
    hyper_latents: int = 64
    fine: int = 128
    coarse: int = 192
    analysis: tuple[int, int] = (2, 2)
    synthesis: tuple[int, int] = (2, 3)
    swin_analysis: tuple[int, int] = (1, 0)
    swin_synthesis: tuple[int, int] = (1, 2)
    perceptron: int = 1
    window: int = 8
    growth: int = 16
    hyper: int = 128
    channel: int = 48
    inter: int = 32
    anchors: int = 32
    hidden: int = 160
    knots: int = 9
    lapped: bool = True

    @property
    def latents(self) -> int:
        """M, channels of y."""
        return sum(self.slices)


def _stage(shape: AcgcShape, channels: int, convolved: int, swin: int) -> nn.Sequential:
    parts = numbered_blocks(channels, convolved)
    if swin:
        heads = channels // _HEAD
        parts["swin"] = SwinGroup(channels, swin, heads, shape.window, shape.perceptron)
    return nn.Sequential(OrderedDict(parts))


def _analysis(shape: AcgcShape) -> Analysis:
    return Analysis(
        shape,
        stem=nn.Conv2d(FINE_INPUT + 1, shape.fine, 1),
        fine=_stage(shape, shape.fine, shape.analysis[0], shape.swin_analysis[0]),
        down=Downsample(shape.fine, shape.coarse),
        coarse=_stage(shape, shape.coarse, shape.analysis[1], shape.swin_analysis[1]),
    )


def _synthesis(shape: AcgcShape) -> Synthesis:
    return Synthesis(
        shape,
        stem=nn.Conv2d(shape.latents + 1, shape.coarse, 1),
        coarse=_stage(shape, shape.coarse, shape.synthesis[0], shape.swin_synthesis[0]),
        up=Upsample(shape.coarse, shape.fine),
        fine=_stage(shape, shape.fine, shape.synthesis[1], shape.swin_synthesis[1]),
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
