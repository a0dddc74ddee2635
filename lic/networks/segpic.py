r"""The ``segpic`` networks, after SegPIC: transforms that adapt to regions by coded prototypes.

::

    x --> begin: blocks 1/8 --+--------------------- RAT --> finish: blocks 1/16 --> y --> as
                              +-- means of regions --+                                 hyperprior
                                        | p, coded before z
    x_hat <-- finish: blocks 1/8 <---- RAT <---------+------ begin: blocks 1/16 <-- y_hat

Linear paths, gains, hyper-analysis and context are those of ``hyperprior``. New are the
region-adaptive transform on either side, scale affine layers and the prototypes. A region is what
a mask says in training and a cell of a grid in use, so nobody needs a mask to encode.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lic.networks.context import LOG_STEPS_PER_NAT, LatinContext
from lic.networks.gains import SMALLEST_SCALE, GainModel
from lic.networks.hyperprior import HyperAnalysis, HyperpriorShape
from lic.networks.layers import Downsample, LogKnots, Upsample, numbered_blocks
from lic.networks.region import RegionAdaptive, ScaleAffine, spread
from lic.networks.transforms import FINE_INPUT, Analysis, Synthesis

__all__ = ["Describe", "Segpic", "SegpicShape"]

_HIDDEN = 64
_STEPS, _DEVIATION = (0.3, 3.0), 0.27
"""Of prototypes at the start of training, in quantiser steps at rate 0 and 1, and before: their
bits stay few beside those of the pixels that they serve."""


Describe = Callable[[Tensor], Tensor]
"""Features ``(N, fine, h, w)`` at 1/8 resolution to what :meth:`Segpic.known` returns."""


@dataclass(frozen=True)
class SegpicShape(HyperpriorShape):
    """Widths and depths; stored in the weights' card.

    Attributes:
        prototypes: Symbols of a prototype; 0 leaves the region-adaptive transform out.
        cells: A side of the grid of regions.
        groups: Of channels that share a kernel of the region-adaptive transform.
        kernels: Channels of the network that makes its kernels.
        affine: Scale affine layers beside the blocks.
    """

    prototypes: int = 32
    cells: int = 4
    groups: int = 8
    kernels: int = 32
    affine: bool = True
    lapped: bool = True


def _stage(*parts: dict[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(item for named in parts for item in named.items()))


def _adaptive(shape: SegpicShape) -> RegionAdaptive | None:
    if not shape.prototypes:
        return None
    return RegionAdaptive(shape.fine, shape.prototypes, shape.groups, shape.kernels)


class RegionAnalysis(Analysis):
    """g_a: levels to latents by way of what describes the regions."""

    def __init__(self, shape: SegpicShape):
        fine, coarse = shape.analysis
        super().__init__(
            shape,
            stem=nn.Conv2d(FINE_INPUT + 1, shape.fine, 1),
            fine=_stage(numbered_blocks(shape.fine, fine), _affine(shape, shape.fine)),
            down=Downsample(shape.fine, shape.coarse),
            coarse=_stage(numbered_blocks(shape.coarse, coarse), _affine(shape, shape.coarse)),
        )
        if shape.prototypes:
            self.project = nn.Conv2d(shape.fine, shape.prototypes, 1)
        self.adapt = _adaptive(shape)

    def forward(  # type: ignore[override]
        self, levels: Tensor, rate: Tensor, deviations: Tensor, describe: Describe
    ) -> Tensor:
        u = self.begin(levels, rate)
        if self.adapt is not None:
            u = self.adapt(u, describe(u))
        return self.finish(u, levels, rate, deviations)


class RegionSynthesis(Synthesis):
    """g_s: latents to levels, the mirror of :class:`RegionAnalysis`."""

    def __init__(self, shape: SegpicShape):
        coarse, fine = shape.synthesis
        super().__init__(
            shape,
            stem=nn.Conv2d(shape.latents + 1, shape.coarse, 1),
            coarse=_stage(_affine(shape, shape.coarse), numbered_blocks(shape.coarse, coarse)),
            up=Upsample(shape.coarse, shape.fine),
            fine=_stage(_affine(shape, shape.fine), numbered_blocks(shape.fine, fine)),
        )
        self.adapt = _adaptive(shape)

    def forward(  # type: ignore[override]
        self, y_hat: Tensor, normalised: Tensor, rate: Tensor, known: Tensor
    ) -> Tensor:
        u = self.begin(normalised, rate)
        if self.adapt is not None:
            u = self.adapt(u, known)
        return self.finish(u, y_hat, rate)


def _affine(shape: SegpicShape, channels: int) -> dict[str, nn.Module]:
    return {"affine": ScaleAffine(channels)} if shape.affine else {}


class Segpic(GainModel):
    """All networks of the family.

    Args:
        shape: Widths and depths.
        lambdas: Trade-offs at rate 0 and 1; the gains start at the steps that suit them.
    """

    only_training = (*GainModel.only_training, "side_scales.")

    def __init__(self, shape: SegpicShape, lambdas: tuple[float, float] = (1.6e-4, 0.11)):
        super().__init__(
            shape,
            lambdas,
            g_a=RegionAnalysis(shape),
            g_s=RegionSynthesis(shape),
            h_a=HyperAnalysis(shape.latents, shape.hyper_latents, shape.hyper),
            context=LatinContext(
                shape.latents, shape.hyper_latents, shape.hyper, shape.width, shape.hidden
            ),
        )
        if shape.prototypes:
            low, high = (math.log(steps) for steps in _STEPS)
            start = torch.linspace(low, high, shape.knots)[:, None].repeat(1, shape.prototypes)
            self.side_gains = LogKnots(shape.knots, shape.prototypes, start - math.log(_DEVIATION))
            self.side_scales = LogKnots(shape.knots, shape.prototypes, start)
            self.expand = nn.Sequential(
                nn.Conv1d(shape.prototypes, _HIDDEN, 1),
                nn.LeakyReLU(0.125),
                nn.Conv1d(_HIDDEN, shape.prototypes, 1),
            )

    def features(self, levels: Tensor, rate: Tensor) -> Tensor:
        """Return what prototypes are means of, ``(N, prototypes, 2 h, 2 w)``."""
        found: Tensor = self.g_a.project(self.g_a.begin(levels, rate))
        return found

    def analyse(  # type: ignore[override]
        self, levels: Tensor, rate: Tensor, describe: Describe
    ) -> Tensor:
        """Return y, float32 ``(N, M, h, w)`` in levels.

        Args:
            levels: float32 ``(N, 3, 16 h, 16 w)`` around mid-grey.
            rate: ``(N,)`` in [0, 1], or ``(N, h, w)`` where it differs from place to place.
            describe: Makes features known; not called without prototypes.
        """
        y: Tensor = self.g_a(levels, rate, self.deviations[None, :, None, None], describe)
        return y

    def synthesise(  # type: ignore[override]
        self, y_hat: Tensor, normalised: Tensor, rate: Tensor, known: Tensor
    ) -> Tensor:
        """Return levels; ``known`` as :meth:`known` returns it."""
        levels: Tensor = self.g_s(y_hat, normalised, rate, known)
        return levels

    def side_steps(self, means: Tensor, rate: Tensor) -> Tensor:
        """Return prototypes in quantiser steps.

        Args:
            means: float32 ``(N, prototypes, count)``, of the features of each region.
            rate: ``(N,)`` in [0, 1].
        """
        return means * self.side_gains.log_rows(rate).exp()[:, :, None]

    def side_positions(self, rate: Tensor) -> Tensor:
        """Return table positions of a prototype's symbols, ``(N, prototypes)``, in tables."""
        start = -math.log(SMALLEST_SCALE)
        return LOG_STEPS_PER_NAT * (self.side_scales.log_rows(rate) + start)

    def known(self, steps: Tensor, regions: Tensor, rate: Tensor) -> Tensor:
        """Return what decoder and encoder know of each position's region.

        Args:
            steps: ``(N, prototypes, count)``, quantised.
            regions: ``(N, h, w)`` numbers in ``[0, count)``, at 1/8 resolution.
            rate: ``(N,)`` in [0, 1].

        Returns:
            ``(N, prototypes, h, w)``.
        """
        means = steps / self.side_gains.log_rows(rate).exp()[:, :, None]
        return spread(self.expand(means), regions)

    def rate_tables(self, rate: Tensor) -> dict[str, Tensor]:
        """Return table numbers of a prototype's symbols for each rate."""
        if not self.shape.prototypes:
            return {}
        return {"side_index": self.side_positions(rate)}
