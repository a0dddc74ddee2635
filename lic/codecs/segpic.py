"""The ``segpic`` family, after SegPIC: a transform that adapts to regions, here cells of a grid.

A picture is described before its latents: each cell's prototype, the mean of features there, is
quantised and coded at the beginning of the first tile. One symbol says whether any of them is not
zero; cells that a small picture does not have are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic.codecs.latent import LatentCodec, Side, centred
from lic.codecs.plan import DOWNSAMPLING, Plan, finite
from lic.coding.range_coder import RangeDecoder
from lic.networks.region import cell_numbers, prototypes_of
from lic.networks.segpic import Segpic, SegpicShape

__all__ = ["SegpicCodec"]

_FLAG_TABLE = 14
"""A Gaussian of 0.63 steps: "nothing" and "something" cost about as much."""

_LARGEST = 127


class SegpicCodec(LatentCodec):
    """Picture to bytes and back as :class:`lic.codecs.latent.LatentCodec` tells."""

    name = "segpic"
    number = 3

    @staticmethod
    def networks(shape: dict[str, Any]) -> Segpic:
        """Return the networks of a card's shape."""
        return Segpic(SegpicShape(**shape))

    def describe(self, levels: Tensor, byte: int, plan: Plan) -> Side:
        """Picture to prototypes."""
        regions, present = self._regions(plan)
        if self.loop.side_index is None:
            return Side(regions=regions)
        rate = torch.full((1,), byte / 255)

        def features(rows: Tensor, _where: tuple[int, int]) -> Tensor:
            return self.model.features(centred(rows), rate)

        found = self._strips(features, levels, plan, DOWNSAMPLING, 2)
        means = prototypes_of(found, regions, self.model.shape.cells**2)
        steps = finite(self.model.side_steps(means, rate)).round_().clamp_(-_LARGEST, _LARGEST)
        symbols = steps[0].numpy()[:, present].astype(np.int32).ravel()
        something = bool(symbols.any())
        calls = [(np.array([something], np.int32), np.array([_FLAG_TABLE], np.uint8))]
        if something:
            calls.append((symbols, self._indexes(byte, len(present))))
        return Side(tuple(calls), steps, regions, rate)

    def read_side(self, coder: RangeDecoder, byte: int, plan: Plan) -> Side:
        """Decode prototypes."""
        regions, present = self._regions(plan)
        if self.loop.side_index is None:
            return Side(regions=regions)
        calls, rate = [], torch.full((1,), byte / 255)
        steps = torch.zeros(1, self.model.shape.prototypes, self.model.shape.cells**2)
        indexes = np.array([_FLAG_TABLE], np.uint8)
        calls.append((coder.decode(indexes), indexes))
        if calls[0][0].any():
            indexes = self._indexes(byte, len(present))
            symbols = coder.decode(indexes)
            calls.append((symbols, indexes))
            steps[0, :, present] = torch.from_numpy(symbols.reshape(-1, len(present))).float()
        return Side(tuple(calls), steps, regions, rate)

    def analyse(self, x: Tensor, rate: Tensor, side: Side, rows: tuple[int, int]) -> Tensor:
        """Levels to latents, told what the decoder knows about regions."""
        return self.model.analyse(x, rate, lambda _: self._known(side, rows))

    def synthesise(
        self, y_hat: Tensor, normalised: Tensor, rate: Tensor, side: Side, rows: tuple[int, int]
    ) -> Tensor:
        """Latents to levels."""
        known = self._known(side, rows)
        return self.model.synthesise(y_hat, normalised, rate, known)

    def _known(self, side: Side, rows: tuple[int, int]) -> Tensor:
        assert side.regions is not None
        regions = side.regions[:, 2 * rows[0] : 2 * rows[1]]
        if side.steps is None:
            return torch.zeros(1, 0, *regions.shape[1:])
        return self.model.known(side.steps, regions, side.rate)

    def _regions(self, plan: Plan) -> tuple[Tensor, np.ndarray]:
        """Return the cell of each position at 1/8 resolution and the cells that there are."""
        height, width = (2 * side for side in plan.grid)
        regions = cell_numbers(height, width, self.model.shape.cells, torch.device("cpu"))
        return regions, np.unique(regions.numpy())

    def _indexes(self, byte: int, cells: int) -> np.ndarray:
        assert self.loop.side_index is not None
        return self.loop.side_index[byte].numpy().repeat(cells)
