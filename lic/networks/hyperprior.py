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

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lic.networks.context import LatinContext
from lic.networks.gains import GainModel, SynthesisModel
from lic.networks.layers import (
    Downsample,
    RatedBlock,
    RatedBlocks,
    Upsample,
    numbered_blocks,
    rate_plane,
)
from lic.networks.transforms import FINE_INPUT, Analysis, Synthesis

__all__ = ["HyperAnalysis", "Hyperprior", "HyperpriorShape", "synthesis_alone"]


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
        rated: Every residual block has scales of its own for the rate, instead of the last alone.
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
    rated: bool = False


def _blocks(shape: HyperpriorShape, channels: int, depth: int) -> nn.Sequential:
    if not shape.rated:
        return nn.Sequential(OrderedDict(numbered_blocks(channels, depth)))
    return RatedBlocks(*(RatedBlock(channels, depth, shape.knots) for _ in range(depth)))


def _analysis(shape: HyperpriorShape) -> Analysis:
    fine, coarse = shape.analysis
    return Analysis(
        shape,
        stem=nn.Conv2d(FINE_INPUT + 1, shape.fine, 1),
        fine=_blocks(shape, shape.fine, fine),
        down=Downsample(shape.fine, shape.coarse),
        coarse=_blocks(shape, shape.coarse, coarse),
    )


def _synthesis(shape: HyperpriorShape) -> Synthesis:
    coarse, fine = shape.synthesis
    return Synthesis(
        shape,
        stem=nn.Conv2d(shape.latents + 1, shape.coarse, 1),
        coarse=_blocks(shape, shape.coarse, coarse),
        up=Upsample(shape.coarse, shape.fine),
        fine=_blocks(shape, shape.fine, fine),
    )


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
            g_a=_analysis(shape),
            g_s=_synthesis(shape),
            h_a=HyperAnalysis(shape.latents, shape.hyper_latents, shape.hyper),
            context=LatinContext(
                shape.latents, shape.hyper_latents, shape.hyper, shape.width, shape.hidden
            ),
        )


def synthesis_alone(shape: HyperpriorShape) -> SynthesisModel:
    """Return the synthesis of a shape without the other networks."""
    return SynthesisModel(shape, _synthesis(shape))
