"""The exact coding loop: symbols of latents to bytes and back, in float64 on the grid.

One method runs the loop for both directions; encoder and decoder differ in where a step's symbols
come from. Rate tables are integers, looked up by the rate byte of each position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic.codecs.quantise import Choose
from lic.coding.fixed import LIMIT, exact_modules, to_grid
from lic.coding.range_coder import RangeDecoder, RangeEncoder
from lic.coding.tables import ProbabilityTables
from lic.errors import WeightsError
from lic.networks.context import LoopRates
from lic.networks.steps import split

__all__ = ["MEAN_FRACTION", "CodingLoop", "Trace", "pad_grid", "replay"]

FACTOR_BITS = 12
OFFSET_BITS = 8
MEAN_FRACTION = 16
_Symbols = Callable[[int, np.ndarray, Tensor, np.ndarray], np.ndarray]


@dataclass
class Trace:
    """What a pass through the loop produced.

    Attributes:
        y_hat: ``(1, M, h, w)`` float64 in quantiser steps, cropped to the real grid.
        checked: Integer arrays in coding order for the symbol check: z, then 16 * y_hat a step.
        indexes: Table numbers a step, in coding order.
        symbols: Symbols a step, in coding order.
    """

    y_hat: Tensor
    checked: list[np.ndarray]
    indexes: list[np.ndarray]
    symbols: list[np.ndarray]


class CodingLoop:
    """The loop with its integer tables, rebuilt from stream tensors.

    Args:
        context: Architecture, to be frozen with the stored integers.
        stream: Stream tensors by name, as :func:`lic.training.export` makes them.

    Attributes:
        side_index: Table numbers by rate byte of what a family codes before z, if it does.

    Raises:
        WeightsError: Tensors are missing, have a wrong shape, or break the exactness bound.
    """

    def __init__(self, context: Any, stream: dict[str, Tensor]):
        try:
            for name, layer in exact_modules(context).items():
                key = f"loop.{name}"
                layer.freeze(
                    int(stream[key + ".bits"]), stream[key + ".weight"], stream[key + ".bias"]
                )
            self.gains = stream["tables.gain"]
            self._offset = stream["tables.offset"]
            self._factor = stream["tables.factor"]
            self._reciprocal = stream["tables.reciprocal"]
            self._z_index = stream["tables.z_index"].numpy()
            self.side_index = stream.get("tables.side_index")
            arrays = {
                k.removeprefix("tables.coder."): v.numpy()
                for k, v in stream.items()
                if k.startswith("tables.coder.")
            }
            self.tables = ProbabilityTables.from_arrays(arrays)
        except KeyError as error:
            raise WeightsError(f"a tensor is missing: {error}") from error
        self.context = context.double().eval().requires_grad_(False)

    def proven_bound(self) -> float:
        """Return the largest share of float64's exact range that any partial sum can reach."""
        return max(layer.proven_bound() for layer in exact_modules(self.context).values())

    def rates(self, rate: Tensor) -> LoopRates:
        """Look the tables up.

        Args:
            rate: Rate bytes, int64 ``(h, w)`` over the padded latent grid.
        """

        def table(integers: Tensor, bits: int) -> Tensor:
            if bool((rate == rate.flatten()[0]).all()):
                row = integers[rate.flatten()[0]].double() * 2.0**-bits
                return row[None, :, None, None]
            return (integers[rate].double() * 2.0**-bits).permute(2, 0, 1)[None]

        return LoopRates(
            plane=((rate.double() - 128) / 128)[None, None],
            scale_offset=table(self._offset, OFFSET_BITS),
            mean_factor=table(self._factor, FACTOR_BITS),
            reciprocal=table(self._reciprocal, FACTOR_BITS),
        )

    def gain(self, rate: Tensor) -> Tensor:
        """Return gains for the transforms, float32 ``(1, M, h, w)`` for rate bytes ``(h, w)``."""
        return self.gains[rate].permute(2, 0, 1)[None]

    def encode(
        self, coder: RangeEncoder, y: Tensor, z: np.ndarray, rate: Tensor, choose: Choose
    ) -> Trace:
        """Code one tile.

        Args:
            coder: Takes the symbols.
            y: float32 ``(1, M, h, w)`` in quantiser steps.
            z: int32 ``(hyper_latents, ceil(h/4), ceil(w/4))``.
            rate: Rate bytes ``(h, w)``.
            choose: ``(offsets to the mean, table numbers) -> symbols``, float and int arrays.
        """
        limit = LIMIT - 1
        parts = split(pad_grid(y.double().clamp(-limit, limit)))
        indexes = self.z_indexes(z.shape[1:], rate)
        coder.encode(z.ravel(), indexes)

        def symbols(step: int, index: np.ndarray, means: Tensor, valid: np.ndarray) -> np.ndarray:
            offsets = (self.context.order.take(parts, step) - means).numpy().ravel()[valid]
            chosen = choose(offsets, index)
            coder.encode(chosen, index)
            return chosen

        return self._run(z, y.shape[-2:], rate, symbols)

    def decode(self, coder: RangeDecoder, size: tuple[int, int], rate: Tensor) -> Trace:
        """Decode one tile of ``size`` latent positions; mirrors :meth:`encode`."""
        z_size = (-(-size[0] // 4), -(-size[1] // 4))
        z = coder.decode(self.z_indexes(z_size, rate)).reshape(-1, *z_size)
        return self._run(z, size, rate, lambda _step, index, _means, _valid: coder.decode(index))

    def z_indexes(self, size: tuple[int, ...], rate: Tensor) -> np.ndarray:
        # z has one rate a tile, that of its first position: z is too small to profit from more.
        row = self._z_index[int(rate[0, 0])]
        return np.repeat(row, size[0] * size[1])

    def _run(self, z: np.ndarray, size: tuple[int, ...], rate: Tensor, symbols: _Symbols) -> Trace:
        h, w = size
        trace = Trace(torch.empty(0), [z.ravel()], [], [])
        padded = pad_grid(rate[None, None].float()).long()[0, 0]
        real = torch.zeros(1, self.context.latents, *padded.shape, dtype=torch.bool)
        real[..., :h, :w] = True
        real_parts = split(real.float())

        def quantise(step: int, means: Tensor, positions: Tensor) -> Tensor:
            valid = self.context.order.take(real_parts, step).numpy().ravel() > 0
            index = (positions + 0.5).floor_().clamp_(0, len(self.tables.frequencies) - 1)
            index_coded = index.numpy().ravel()[valid].astype(np.uint8)
            coded = symbols(step, index_coded, means, valid)
            values = np.zeros(means.numel())
            values[valid] = coded + means.numpy().ravel()[valid]
            y_hat = to_grid(torch.from_numpy(values).view_as(means))
            in_sixteenths = (y_hat.numpy().ravel()[valid] * MEAN_FRACTION).astype(np.int32)
            trace.checked.append(in_sixteenths)
            trace.indexes.append(index_coded)
            trace.symbols.append(coded)
            return y_hat

        z_hat = to_grid(torch.from_numpy(z.astype(np.float64))[None])
        with torch.inference_mode():
            trace.y_hat = self.context(z_hat, self.rates(padded), quantise)[..., :h, :w]
        return trace

    def checksum(self) -> str:
        """Run the loop on a fixed input and return a SHA-256 of every table number and value.

        The input is made of integers by a linear congruence, so no file and no random generator
        has to agree. Equal checksums on two machines mean equal tables and symbols there.
        """
        h = w = 8
        channels = self._z_index.shape[1]
        z = _congruence(channels * 4, 1).reshape(channels, 2, 2) % 7 - 3
        digest = hashlib.sha256()
        for byte in (0, 101, 255):

            def symbols(
                step: int, index: np.ndarray, means: Tensor, _valid: np.ndarray
            ) -> np.ndarray:
                digest.update(index.tobytes())
                digest.update((means.numpy() * MEAN_FRACTION).astype("<i4").tobytes())
                return (_congruence(index.size, step + 2) % 9 - 4).astype(np.int32)

            trace = self._run(z.astype(np.int32), (h, w), torch.full((h, w), byte), symbols)
            digest.update((trace.y_hat.numpy() * MEAN_FRACTION).astype("<i4").tobytes())
        return digest.hexdigest()


def replay(
    loop: CodingLoop, traces: list[Trace], rate: Tensor, device: torch.device, dtype: torch.dtype
) -> list[np.ndarray]:
    """Derive the table numbers and means of decoded tiles of one size again, as one batch.

    For checks of the exactness promise: how the batch is computed must not matter.

    Args:
        loop: Its context may have been moved to ``device`` and ``dtype``.
        traces: Of tiles of the same size and rate.
        rate: Rate bytes ``(h, w)`` of the tiles.
        device, dtype: To compute on and in; float64 is the exact mode.

    Returns:
        For each tile int32 table numbers and 16 * means of all steps, padded positions included.
    """
    h, w = rate.shape
    size = (-(-h // 4), -(-w // 4))
    z = np.stack([t.checked[0].reshape(-1, *size) for t in traces]).astype(np.float64)
    y_hat = torch.zeros(len(traces), loop.context.latents, 4 * size[0], 4 * size[1])
    y_hat[..., :h, :w] = torch.cat([t.y_hat for t in traces]).float()
    parts = split(y_hat.to(device, dtype))
    rates = loop.rates(pad_grid(rate[None, None].float()).long()[0, 0])
    moved = LoopRates(*(getattr(rates, f.name).to(device, dtype) for f in fields(rates)))
    plane = moved.plane.expand(len(traces), -1, -1, -1)
    found: list[Tensor] = []

    def quantise(step: int, means: Tensor, positions: Tensor) -> Tensor:
        index = (positions + 0.5).floor().clamp(0, len(loop.tables.frequencies) - 1)
        sixteenths = (means * MEAN_FRACTION + 0.5).floor()
        found.extend(x.reshape(len(traces), -1).cpu() for x in (index, sixteenths))
        return loop.context.order.take(parts, step)

    with torch.inference_mode():
        loop.context(torch.from_numpy(z).to(device, dtype), replace(moved, plane=plane), quantise)
    numbers = torch.cat(found, dim=1).to(torch.int32)
    return list(numbers.numpy())


def pad_grid(x: Tensor) -> Tensor:
    """Replicate the last row and column up to multiples of 4."""
    h, w = x.shape[-2:]
    return torch.nn.functional.pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")


def _congruence(count: int, seed: int) -> np.ndarray:
    """Return pseudo-random non-negative integers, the same everywhere."""
    position = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)
    return (((position + np.uint64(seed * 40503)) >> np.uint64(7)) % np.uint64(1 << 16)).astype(
        np.int64
    )
