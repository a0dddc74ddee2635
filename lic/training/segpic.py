"""What the training loop needs to know about the ``segpic`` family.

Masks are privileged information: some crops are told their regions by a mask, the others by the
cells of a grid, as in use, and all validation goes by the grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lic.networks.likelihood import round_ste
from lic.networks.region import cell_numbers, prototypes_of
from lic.networks.segpic import Segpic, SegpicShape
from lic.training.adoption import adopt
from lic.training.growth import places
from lic.training.latent import LatentTask, Passing, bits_of, noisy
from lic.training.task import Start

__all__ = ["SegpicTask"]

_SHRINK = 8
_MOST = 16
"""Regions of a crop; what is more shares the last one."""

_SMALLEST_CELL, _LARGEST_CELL = 12, 32
"""Positions a side of the cells in training, 96 to 256 pixels: those of common pictures. A crop is
smaller than a picture, so a grid of a crop's own would have cells that never occur in use."""

_PIXELS_A_PROTOTYPE = 192 * 128
"""What a prototype serves in use, where it is one of 16 of a picture of 768x512. Crops show a small
part of a region, and pay the same part of its bits."""


class _RegionPassing(Passing):
    def __init__(
        self, model: Segpic, regions: Tensor, count: int, other: Tensor | None, rounded: bool
    ):
        super().__init__(model)
        self.regions, self.count, self.other, self.rounded = regions, count, other, rounded
        self.consistency = 0.0
        self.known = torch.zeros(())

    def analyse(self, levels: Tensor, rate: Tensor) -> Tensor:
        """Return latents, with prototypes on the way."""

        def describe(u: Tensor) -> Tensor:
            features = self.model.g_a.project(u)
            self.known, self.side_bits = self._told(features, self.regions, rate)
            if self.other is not None and self.consistency:
                by_grid, _ = self._told(features, self.other, rate)
                first, second = (self.model.g_a.adapt(u, k) for k in (self.known, by_grid))
                apart = (first - second).float().square().mean((1, 2, 3))
                size = u.detach().float().square().mean((1, 2, 3))
                self.penalty = self.consistency * apart / size
            return self.known

        y: Tensor = self.model.analyse(levels, rate, describe)
        return y

    def _told(self, features: Tensor, regions: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        means = prototypes_of(features, regions, self.count)
        steps = self.model.side_steps(means, rate)
        positions = self.model.side_positions(rate)[:, :, None].expand_as(steps)
        quantised = round_ste(steps)
        bits = bits_of(quantised if self.rounded else noisy(steps), positions).sum(1)
        sizes = torch.zeros_like(bits).scatter_add_(
            1, regions.flatten(1), torch.ones_like(regions.flatten(1), dtype=bits.dtype)
        )
        bits = torch.where(sizes > 0, bits, 0)
        if self.rounded:
            side_bits = bits.sum(1)
        else:
            served = _SHRINK**2 * sizes / _PIXELS_A_PROTOTYPE
            side_bits = (bits * served).sum(1)
        return self.model.known(quantised, regions, rate), side_bits

    def synthesise(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return levels."""
        levels: Tensor = self.model.synthesise(y_hat, normalised, rate, self.known)
        return levels


class SegpicTask(LatentTask):
    """Family ``segpic``."""

    def shape(self, named: dict[str, Any]) -> SegpicShape:
        """Return a shape."""
        return SegpicShape(**named)

    def networks(self, shape: SegpicShape) -> Segpic:
        """Return fresh networks of a shape."""
        return Segpic(shape, self.recipe.lambdas)

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Fit trained networks to the recipe's shape; those of ``hyperprior`` may be the start."""
        new = self.shape(self.recipe.network)
        if isinstance(old, SegpicShape):
            return super().grow(state, old, fresh)
        return adopt(state, old, fresh, new, places(new.latents, old.latents))

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
        """Return fresh networks; masks do not matter to statistics."""
        return super().build([p[:3] for p in pictures], initial)

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Fit the probability tables as in use, without masks."""
        return super().finish(model, [p[:3] for p in pictures], tables)

    def passing(self, model: nn.Module, x: Tensor, rounded: bool) -> Passing:
        """Return how a batch passes, with regions of masks, of random grids, or of the real one."""
        assert isinstance(model, Segpic)
        n, channels = x.shape[:2]
        height, width = (side // _SHRINK for side in x.shape[2:])
        if rounded:
            cells = model.shape.cells
            grid = cell_numbers(height, width, cells, x.device).expand(n, -1, -1)
            return _RegionPassing(model, grid, cells**2, None, rounded)
        grid = random_grids(n, height, width, x.device)
        if channels == 3:
            return _RegionPassing(model, grid, _MOST, None, rounded)
        masked = torch.rand(n, device=x.device) < self.recipe.data.masks
        middle = _SHRINK // 2
        told = few_regions(x[:, 3, middle::_SHRINK, middle::_SHRINK])
        regions = torch.where(masked[:, None, None], told, grid)
        passing = _RegionPassing(model, regions, _MOST, grid, rounded)
        passing.consistency = self.recipe.segpic.consistency
        return passing


def random_grids(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return cells ``(count, height, width)`` of grids of random sizes at random places."""
    numbers = []
    cell = torch.randint(_SMALLEST_CELL, _LARGEST_CELL + 1, (2, count, 1), device=device)
    for side, cells in zip((height, width), cell, strict=True):
        start = (torch.rand(count, 1, device=device) * cells).long()
        numbers.append((torch.arange(side, device=device)[None] + start) // cells)
    rows, columns = numbers
    down, across = (side // _SMALLEST_CELL + 2 for side in (height, width))
    return few_regions(rows[:, :, None] * across + columns[:, None, :], down * across)


def few_regions(regions: Tensor, numbers: int = 256) -> Tensor:
    """Number the regions of each crop from 0 in the order of their numbers, at most 16 of them.

    Args:
        regions: ``(N, h, w)``, integers.
        numbers: They are below it; masks have 256.
    """
    at = regions.flatten(1).long()
    there = torch.zeros(len(at), numbers, dtype=torch.long, device=at.device).scatter(1, at, 1)
    ranks = (there.cumsum(1) - 1).clamp(max=_MOST - 1)
    return ranks.gather(1, at).view(regions.shape)
