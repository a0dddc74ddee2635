r"""Encoder search: move the latents of a tile to where its bytes buy the most quality.

::

    targets --> context, symbols by price --> values --> synthesis --> distortion D
       ^                                         |                           |
       +---- values - gradient / curvature <-----+------ gradient of R + lambda D

The analysis hands over latents that are good on average. A pass codes the tile as the loop would,
asks for the gradient of J = R + lambda D at the values that the decoder would see, and takes for
each latent the value where a parabola through them has its least J; the curvature of D is measured
once, before. D is the squared error or, with weights that are tuned for eyes, a mixture of it and
SSIMULACRA 2. The own price of a symbol is left out of the gradient, since the choice by price
accounts for it exactly. Targets do not drift, as they do where a straight-through gradient is
summed up: a symbol that flips moves the gradient with it, and the target stays. Shaking the choice
at first and less and less afterwards leads past poor local optima, which is what annealing does in
stochastic Gumbel annealing (Yang et al., arXiv 2006.04240).

Everything here is float and belongs to the encoder alone; it does not depend on threads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lic.codecs.loop import CodingLoop, pad_grid
from lic.codecs.plan import DOWNSAMPLING, Plan, has_fast_bfloat16
from lic.codecs.quantise import RDO_WEIGHT, Choose, choose_symbols
from lic.codecs.side import Side
from lic.networks.context import LOG_STEPS_PER_NAT, LoopRates
from lic.networks.gains import LEVELS, SMALLEST_SCALE
from lic.networks.likelihood import gaussian_bits
from lic.networks.prices import DISTANCE_PRICES, EYES, LAMBDAS, price_of_rate
from lic.networks.ssimulacra2 import LEAST_SIDE, Ssimulacra2
from lic.networks.steps import merge, split

__all__ = ["REFINED_WEIGHT", "Refiner", "Scene"]

_LAMBDA = 26.0
"""lambda * step^2 of high-rate theory, see :class:`lic.networks.gains.GainModel`; the slope of real
files of the weights that ship is within 5 % of it at qualities 20 to 80."""

REFINED_WEIGHT = _LAMBDA / 3
"""Bits that a squared quantiser step of error is worth where latents have been refined: what theory
says. It is less than without, since values around a symbol make up for what it leaves out."""

_FIRST_WEIGHT = 2 * REFINED_WEIGHT
"""Of the first pass. Starting with more symbols and leaving them out one by one ends better."""

_FIRST_WAY, _LAST_WAY = 4.0, 1.0
"""Part of the way to its new target that a latent goes in a pass, times the number of passes: the
curvature is not quite diagonal, and more passes are for smaller steps and not for a longer way."""

_FARTHEST = 0.25
"""Quantiser steps that a latent moves in a pass at most: where tables are narrow, predictions make
the cost curve far more than is assumed."""

_TRUSTED = 2.0
"""Quantiser steps to the least of a parabola beyond which it is not believed, and the latent stays
where it is from then on: some networks have one that steers many others, far from any parabola."""

_SHAKE = 0.5
"""Width of the noise of the first pass, quantiser steps."""

_NEIGHBOURS = 2
"""Latent rows and columns around a tile that its error is measured on, too."""

_NEAR = 5
"""Rows and columns of latents that the curvature of a place is measured on."""

_LEAST_PART = 0.2
"""Of the mean curvature: what a place or a latent has at least."""

_LEAST_CURVATURE = 1.0
_TINY = 1e-6
_SEED = 5

Show = Callable[[Tensor, Tensor, Side, tuple[int, int]], Tensor]
"""(latents in quantiser steps, rate bytes, side, rows) -> levels around mid-grey."""


@dataclass(frozen=True)
class Scene:
    """A picture on its way to symbols.

    Attributes:
        levels: uint8 ``(1, 3, 16 h, 16 w)``.
        y: Latents in levels, float32 ``(1, M, h, w)``.
        rate: Rate bytes, int64 ``(h, w)``.
        side: What the family told the decoder before.
        plan: Sizes and tiles of the picture.
    """

    levels: Tensor
    y: Tensor
    rate: Tensor
    side: Side
    plan: Plan


@dataclass
class _Coded:
    """A tile as one pass coded it.

    Attributes:
        y_hat: What the decoder would have, quantiser steps, with a gradient.
        values: Symbol + mean in quantiser steps, a tensor a step; gradients are asked for there.
        bits: Sum over the tile, with the gradient of what later steps predict from ``values``.
    """

    y_hat: Tensor
    values: list[Tensor] = field(default_factory=list)
    bits: Tensor = field(default_factory=lambda: torch.zeros(()))


class Refiner:
    """Refines tiles with the networks of one codec.

    Args:
        loop: Coding loop of the codec; its context is copied to float32.
        linear: Weights of the linear path of the synthesis, ``(_, M, 1, 1)``.
        show: The codec's synthesis.
        align: Windows of the synthesis begin at multiples of so many latent rows.
        for_eyes: The weights are tuned for eyes, and so is what makes a better file.
    """

    def __init__(
        self,
        loop: CodingLoop,
        linear: Tensor,
        show: Show,
        align: int = 1,
        *,
        for_eyes: bool = False,
    ):
        self._loop, self._show = loop, show
        self._context = copy.deepcopy(loop.context).float()
        self._around = -(-_NEIGHBOURS // align) * align
        self._score = Ssimulacra2() if for_eyes else None
        power = loop.gains.square() / linear.float().square().sum((0, 2, 3))
        self._lambda = _LAMBDA * power.median(dim=1).values
        if for_eyes:
            rates = torch.arange(len(power)) / (len(power) - 1)
            self._lambda = EYES["squared"] * price_of_rate(rates, LAMBDAS)
            self._point = EYES["ssimulacra2"] * price_of_rate(rates, DISTANCE_PRICES["ssimulacra2"])

    def refine(
        self, scene: Scene, tile: tuple[slice, slice], z: np.ndarray, passes: int
    ) -> Tensor | None:
        """Return latents of a tile whose symbols, chosen by price, make a better file.

        Args:
            scene: The picture.
            tile: Rows and columns of latents; they are coded on their own.
            z: int32 ``(hyper_latents, ceil(h/4), ceil(w/4))`` of the tile.
            passes: 1 or more, each of which takes about as long as decoding.

        Returns:
            float32 ``(1, M, h, w)`` in quantiser steps, to be chosen from with
            :data:`REFINED_WEIGHT`; ``None`` where nothing better was found.
        """
        # The caller may be in inference mode, whose tensors have no gradients.
        with torch.inference_mode(False), torch.enable_grad():
            search = _Search(self, scene, tile, z)
            return search.run(passes)


class _Search:
    """The passes over one tile."""

    def __init__(self, owner: Refiner, scene: Scene, tile: tuple[slice, slice], z: np.ndarray):
        self.owner = owner
        loop, rate = owner._loop, scene.rate[tile]
        self.size = rate.shape
        self.order = owner._context.order
        padded = pad_grid(rate[None, None].float()).long()[0, 0]
        exact = loop.rates(padded)
        self.rates = LoopRates(*(getattr(exact, f.name).float() for f in fields(exact)))
        self.z_hat = torch.from_numpy(z.astype(np.float32))[None]
        real = F.pad(torch.ones(1, 1, *self.size), (0, -rate.shape[1] % 4, 0, -rate.shape[0] % 4))
        self.real = split(real.expand(1, loop.context.latents, -1, -1))
        self.window = _Window(owner, scene, tile)
        self.targets = pad_grid(self.window.steps[..., *self.window.inside])
        self.free = torch.ones_like(self.targets, dtype=torch.bool)
        self.random = torch.Generator().manual_seed(_SEED)
        self.curvature = self.measured_curvature()

    def run(self, passes: int) -> Tensor | None:
        """See :meth:`Refiner.refine`."""
        tables = self.owner._loop.tables
        with torch.no_grad():
            before = self.cost(self.code(choose_symbols(tables, RDO_WEIGHT), 0.0))
        for number in range(passes):
            done = number / max(1, passes - 1)
            weight = _FIRST_WEIGHT * (REFINED_WEIGHT / _FIRST_WEIGHT) ** done
            coded = self.code(choose_symbols(tables, weight), _SHAKE * (1 - done))
            gradients = torch.autograd.grad(self.cost(coded), coded.values)
            way = _FIRST_WAY * (_LAST_WAY / _FIRST_WAY) ** done
            self.move(coded.values, gradients, min(1.0, way / passes))
        with torch.no_grad():
            after = self.cost(self.code(choose_symbols(tables, REFINED_WEIGHT), 0.0))
        better = bool(after < before)  # false where anything is not finite
        return self.targets[..., : self.size[0], : self.size[1]] if better else None

    def measured_curvature(self) -> Tensor:
        """Return the curvature of lambda D, bits a squared step, from the errors of rounding.

        Where D is a parabola c e^2 of an error e its slope is 2 c e, so that means of slope times
        error tell c: by place, since what is seen differs from place to place, and by latent.
        """
        with torch.no_grad():
            coded = self.code(choose_symbols(self.owner._loop.tables, RDO_WEIGHT), 0.0)
        y_hat = coded.y_hat.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.window.distortion(y_hat), y_hat)
        error = y_hat.detach() - self.window.steps[..., *self.window.inside]
        product, square = slope * error / 2, error.square() + _TINY
        mean = product.sum() / square.sum()
        near = partial(F.avg_pool2d, kernel_size=_NEAR, stride=1, padding=_NEAR // 2)
        of_place = near(product.sum(1, keepdim=True)) / near(square.sum(1, keepdim=True))
        of_latent = product.sum((0, 2, 3), keepdim=True) / square.sum((0, 2, 3), keepdim=True)
        least = _LEAST_PART * mean
        found = of_place.clamp(min=least) * of_latent.clamp(min=least) / mean
        return pad_grid(found.nan_to_num(_LEAST_CURVATURE).clamp(min=_LEAST_CURVATURE))

    def code(self, choose: Choose, shake: float) -> _Coded:
        """Code the tile as the loop would, in float, with symbols shaken by so many steps."""
        parts = split(self.targets)
        coded = _Coded(self.targets)
        last = len(self.owner._loop.tables) - 1

        def quantise(step: int, means: Tensor, positions: Tensor) -> Tensor:
            fixed = means.detach().float()
            offsets = self.order.take(parts, step) - fixed
            noise = torch.rand(offsets.shape, generator=self.random) - 0.5
            numbers = (positions.detach().float() + 0.5).floor().clamp(0, last).to(torch.uint8)
            shaken = (offsets + shake * noise).numpy()
            chosen = choose(shaken.ravel(), numbers.numpy().ravel()).reshape(shaken.shape)
            real = self.order.take(self.real, step)
            values = ((torch.from_numpy(chosen) + fixed) * real).requires_grad_()
            # Distances to the mean without the gradient of the values: that is the own price.
            distances = values.detach() - means.float()
            bits = gaussian_bits(distances, positions.float(), SMALLEST_SCALE, LOG_STEPS_PER_NAT)
            coded.values.append(values)
            coded.bits = coded.bits + (bits * real).sum()
            return values

        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            y_hat = self.owner._context(self.z_hat, self.rates, quantise)
        coded.y_hat = y_hat.float()[..., : self.size[0], : self.size[1]]
        return coded

    def cost(self, coded: _Coded) -> Tensor:
        """Return R + lambda D in bits."""
        return coded.bits + self.window.distortion(coded.y_hat)

    def move(self, values: list[Tensor], gradients: tuple[Tensor, ...], pace: float) -> None:
        """Move the targets towards where each latent's parabola has its least cost."""
        slope = merge(self.order.assemble(gradients))
        apart = slope.nan_to_num(0, 0, 0) / (2 * self.curvature)
        at = merge(self.order.assemble([v.detach() for v in values]))
        way = pace * (at - apart - self.targets)
        self.free &= apart.abs() <= _TRUSTED
        way = torch.where(self.free, way, 0.0)
        self.targets = self.targets + way.clamp(-_FARTHEST, _FARTHEST)


class _Window:
    """A tile among its neighbours, which stay as the analysis gave them.

    Attributes:
        steps: Latents in quantiser steps, ``(1, M, h, w)`` with neighbours.
        inside: Rows and columns of the tile in it.
    """

    def __init__(self, owner: Refiner, scene: Scene, tile: tuple[slice, slice]):
        outer, self.inside = _grown(tile, owner._around, scene.plan.grid)
        rows, columns = outer
        self._show, self._rate = owner._show, scene.rate[outer]
        self.steps = scene.y[..., rows, columns] * owner._loop.gain(self._rate)
        self._rows, self._side = (rows.start, rows.stop), scene.side
        if scene.side.regions is not None:
            cut = scene.side.regions[..., 2 * columns.start : 2 * columns.stop]
            self._side = replace(scene.side, regions=cut)
        # What padding added to the picture costs bits and nothing else.
        bottom = min(rows.stop * DOWNSAMPLING, scene.plan.height)
        right = min(columns.stop * DOWNSAMPLING, scene.plan.width)
        top, left = rows.start * DOWNSAMPLING, columns.start * DOWNSAMPLING
        self._levels = scene.levels[..., top:bottom, left:right].float() - LEVELS / 2
        worth = owner._lambda[self._rate] / 3
        worth = worth.repeat_interleave(DOWNSAMPLING, 0).repeat_interleave(DOWNSAMPLING, 1)
        self._worth = worth[: bottom - top, : right - left]
        self._score = owner._score if min(self._worth.shape) >= LEAST_SIDE else None
        if self._score is not None:
            self._point = owner._point[self._rate].mean() * self._worth.numel()
            self._wanted = self._score.features(self._levels / LEVELS + 0.5)

    def distortion(self, y_hat: Tensor) -> Tensor:
        """Return lambda D in bits for latents of the tile."""
        steps = self.steps.clone()
        steps[..., self.inside[0], self.inside[1]] = y_hat
        shown = self._show(steps, self._rate, self._side, self._rows)
        shown = shown[..., : self._levels.shape[2], : self._levels.shape[3]]
        bits = ((shown - self._levels).square().sum(1) * self._worth).sum()
        if self._score is None:
            return bits
        score = self._score.score(self._wanted, shown.float() / LEVELS + 0.5)
        return bits + self._point * (100 - score[0])


def _grown(
    tile: tuple[slice, slice], around: int, grid: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return a tile with neighbours as far as the grid goes, and where in that the tile is."""
    outer = [
        slice(max(0, part.start - around), min(side, part.stop + around))
        for part, side in zip(tile, grid, strict=True)
    ]
    inside = [
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(tile, outer, strict=True)
    ]
    return (outer[0], outer[1]), (inside[0], inside[1])
