"""Families that code latents with gains, from a picture to bytes and back.

Reads as the data flows; families differ in their networks alone. Up to the latents and after them
everything is float and may run in strips; between symbols and tables everything is the exact loop
of :mod:`lic.codecs.loop`.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lic.codecs.base import Encoded
from lic.codecs.effort import Effort, effort_of
from lic.codecs.loop import CodingLoop, Trace
from lic.codecs.plan import DOWNSAMPLING, Plan, finite, in_order, ready
from lic.codecs.quantise import RDO_WEIGHT, Choose, choose_symbols
from lic.codecs.rates import rate_byte, rate_bytes, rates_of
from lic.codecs.refine import REFINED_WEIGHT, Refiner, Scene
from lic.codecs.side import Side
from lic.codecs.strips import HALO, one_thread, run_strips
from lic.coding.range_coder import RangeDecoder, RangeEncoder
from lic.coding.symbols import estimated_bits, symbol_check
from lic.container import Stream, parse_stream, write_stream
from lic.errors import LicError, StreamError, UsageProblem
from lic.networks.gains import LEVELS, GainModel, SynthesisModel
from lic.pictures import Picture, pad_to_multiple
from lic.weights import Card, find_weights, load_tensors, network_state

__all__ = ["RDO_WEIGHT", "LatentCodec", "Side", "centred"]


class LatentCodec(ABC):
    """A hyperprior codec with one set of weights for all rates; families name their networks.

    Attributes:
        name, number: Of the family; the number is part of the format.
        has_gains: Rate may differ from block to block.
        synthesiser: Whose synthesis shows files; the family's networks, unless another was asked
            for.
        halo, align: Of strips, latent rows; see :func:`lic.codecs.strips.run_strips`.

    Args:
        card: Weights; found by :func:`lic.weights.find_weights` when ``None``.
        threads: Strips or pictures at once; changes no byte and no pixel.

    Raises:
        WeightsError: The weights are missing, changed or inconsistent.
    """

    name: str
    number: int
    has_gains = True
    halo, align = HALO, 1

    def __init__(self, card: Card | None = None, threads: int = 1):
        self.card = card or find_weights(self.name)
        self.threads = max(1, threads)
        tensors = load_tensors(self.card)
        model = self.networks(self.card.shape())
        self.loop = CodingLoop(model.context, tensors)
        network = network_state(tensors)
        missing = model.load_state_dict(network, strict=False).missing_keys
        self._check_complete(missing, model.only_training)
        self.model = ready(model)
        self.synthesiser: GainModel | SynthesisModel = self.model
        self.halo = max(HALO, _seen(model.shape))

    @staticmethod
    @abstractmethod
    def networks(shape: dict[str, Any]) -> GainModel:
        """Return the family's networks of a card's shape."""

    def synthesis(self, shape: dict[str, Any]) -> SynthesisModel:
        """Return a synthesis of a card's shape, where the family may have several.

        Raises:
            UsageProblem: It has one.
        """
        raise UsageProblem(f"'{self.name}' has one synthesis")

    def shown_by(self, other: SynthesisModel) -> Self:
        """Return a codec of the same files that shows them by another synthesis.

        It shares everything else with this one, whose pictures stay what they are.
        """
        codec = copy.copy(self)
        codec.synthesiser, codec.halo = other, _seen_by_synthesis(other.shape)
        return codec

    def _check_complete(self, missing: list[str], only_training: tuple[str, ...]) -> None:
        needed = [n for n in missing if not n.startswith(("context.", *only_training))]
        if needed:
            raise LicError(f"weights '{self.card.name}' lack {needed[0]}")

    # -- picture -> bytes -------------------------------------------------------------------

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture.

        Args:
            picture: RGB or grey, any size from 1x1.
            quality: 0..100.
            options: ``reconstruct=True`` also returns the decoder's picture; ``gain_map`` int8
                steps of the rate byte per 64x64 pixels; ``effort`` 1..9, see
                :mod:`lic.codecs.effort`.

        Raises:
            UsageProblem: There is no such effort.
        """
        effort = effort_of(options.get("effort"))
        byte = rate_byte(quality)
        gain_map = options.get("gain_map")
        plan = Plan(picture.height, picture.width)
        rate = rate_bytes(byte, gain_map, plan.grid)
        levels = _padded(picture)
        side = self.describe(levels, byte, plan)
        y = self.encode_latents(levels, side, rate, plan)
        scene = Scene(levels, y, rate, side, plan)
        payload, lengths, traces = self.code_latents(scene, byte, effort)
        check = symbol_check(*side.checked, *(a for t in traces for a in t.checked))
        stream = Stream(
            family=self.number,
            fingerprint=self.card.prefix(),
            width=picture.width,
            height=picture.height,
            quality=byte,
            symbol_check=check,
            payload=payload,
            grey=picture.grey,
            icc=picture.icc,
            exif=picture.exif,
            xmp=picture.xmp,
            gain_map=gain_map,
            tiles=tuple(lengths) if plan.tiled else None,
        )
        details = {
            "quality": byte / 2.55,
            "payload_bytes": len(payload),
            "z_bits": sum(self._z_bits(t, rate) for t in traces),
            "y_bits": sum(self._y_bits(t) for t in traces),
            "side_bits": float(sum(estimated_bits(*c, self.loop.tables) for c in side.calls)),
        }
        shown = None
        if options.get("reconstruct"):
            shown = self._show(self._assemble(traces, plan), side, rate, plan, stream)
        return Encoded(write_stream(stream), details, shown)

    def traces(self, picture: Picture, quality: float) -> tuple[list[Trace], Tensor, int]:
        """Return what :meth:`encode` would code, for measurements.

        Returns:
            A trace a tile, the latents in quantiser steps ``(1, M, h, w)`` and the rate byte.
        """
        byte = rate_byte(quality)
        plan = Plan(picture.height, picture.width)
        rate = rate_bytes(byte, None, plan.grid)
        levels = _padded(picture)
        side = self.describe(levels, byte, plan)
        y = self.encode_latents(levels, side, rate, plan)
        traces = self.code_latents(Scene(levels, y, rate, side, plan), byte, effort_of(None))[2]
        return traces, y * self.loop.gain(rate), byte

    def symbols(self, picture: Picture, quality: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield table numbers and symbols of all latents that :meth:`encode` codes, in parts."""
        traces, _, byte = self.traces(picture, quality)
        for trace in traces:
            h, w = trace.y_hat.shape[-2:]
            yield self._z_indexes(trace, torch.full((h, w), byte)), trace.checked[0]
            yield from zip(trace.indexes, trace.symbols, strict=True)

    def describe(self, levels: Tensor, byte: int, plan: Plan) -> Side:
        """Picture to what the decoder is told first; nothing, unless a family says otherwise.

        Args:
            levels: uint8 ``(1, 3, 16 h, 16 w)``.
            byte: Rate byte.
            plan: Sizes and tiles of the picture.
        """
        return Side()

    def read_side(self, coder: RangeDecoder, byte: int, plan: Plan) -> Side:
        """Decode what :meth:`describe` told."""
        return Side()

    def analyse(self, x: Tensor, rate: Tensor, side: Side, rows: tuple[int, int]) -> Tensor:
        """Levels around mid-grey to latents; ``rows`` tells where the strip is."""
        return self.model.analyse(x, rate)

    def synthesise(
        self,
        y_hat: Tensor,
        normalised: Tensor,
        rate: Tensor,
        side: Side,
        rows: tuple[int, int],
    ) -> Tensor:
        """Latents to levels around mid-grey; ``rows`` tells where the strip is."""
        return self.synthesiser.synthesise(y_hat, normalised, rate)

    def encode_latents(self, levels: Tensor, side: Side, rate: Tensor, plan: Plan) -> Tensor:
        """Picture to latents in levels, float32 ``(1, M, h, w)``."""

        def analyse(rows: Tensor, where: tuple[int, int]) -> Tensor:
            local = rates_of(rate[where[0] : where[1]])
            return self.analyse(centred(rows), local, side, where)

        return finite(self._strips(analyse, levels, plan, DOWNSAMPLING, 1))

    def code_latents(
        self, scene: Scene, byte: int, effort: Effort
    ) -> tuple[bytes, list[int], list[Trace]]:
        """Latents to one payload segment a tile; the first begins with the side information."""

        def one(task: tuple[int, tuple[slice, slice]]) -> tuple[bytes, Trace]:
            number, tile = task
            rows, columns = tile
            local = scene.rate[tile]
            steps = scene.y[:, :, rows, columns] * self.loop.gain(local)
            coder = RangeEncoder(self.loop.tables)
            for symbols, indexes in scene.side.calls if number == 0 else ():
                coder.encode(symbols, indexes)
            z = self._hyper_latents(steps, local, byte)
            steps, choose = self._search(scene, tile, steps, z, effort)
            trace = self.loop.encode(coder, steps, z, local, choose)
            return coder.finish(), trace

        with one_thread:
            done = list(in_order(one, enumerate(scene.plan.tiles()), self.threads))
        segments = [segment for segment, _ in done]
        return b"".join(segments), [len(s) for s in segments], [trace for _, trace in done]

    def _search(
        self,
        scene: Scene,
        tile: tuple[slice, slice],
        steps: Tensor,
        z: np.ndarray,
        effort: Effort,
    ) -> tuple[Tensor, Choose]:
        """Return latents of a tile in quantiser steps and how to choose symbols for them."""
        if effort.passes:
            refined = self._refiner.refine(scene, tile, z, effort.passes)
            if refined is not None:
                return refined, choose_symbols(self.loop.tables, REFINED_WEIGHT)
        return steps, choose_symbols(self.loop.tables, RDO_WEIGHT if effort.by_price else None)

    @cached_property
    def _refiner(self) -> Refiner:
        with torch.inference_mode(False):  # kept beyond the caller's inference
            linear, for_eyes = self.model.g_s.linear.weight, self.card.tune == "eyes"
            return Refiner(self.loop, linear, self._levels, self.align, for_eyes=for_eyes)

    def _hyper_latents(self, steps: Tensor, rate: Tensor, byte: int) -> np.ndarray:
        h, w = steps.shape[-2:]
        reciprocal = self.loop.rates(rate).reciprocal.float()
        normalised = torch.nn.functional.pad(
            steps * reciprocal, (0, -w % 4, 0, -h % 4), mode="replicate"
        )
        with torch.inference_mode():
            z = self.model.h_a(normalised, torch.full((1,), byte / 255))
        return finite(z + 0.5).floor_().clamp_(-127, 127)[0].to(torch.int32).numpy()

    # -- bytes -> picture -------------------------------------------------------------------

    def decode(self, data: bytes) -> Picture:
        """Decode one file; mirrors :meth:`encode`."""
        return self.decode_stream(parse_stream(data))

    def decode_stream(self, stream: Stream) -> Picture:
        """Decode a parsed stream.

        Raises:
            StreamError: The payload is damaged, or this machine rounded differently from the
                encoder's.
        """
        plan = Plan(stream.height, stream.width)
        rate = rate_bytes(stream.quality, stream.gain_map, plan.grid)
        side, traces = self.decode_latents(stream, rate, plan)
        checked = itertools.chain(side.checked, *(t.checked for t in traces))
        if symbol_check(*checked) != stream.symbol_check:
            raise StreamError("symbols differ from those that were encoded")
        return self._show(self._assemble(traces, plan), side, rate, plan, stream)

    def decode_latents(self, stream: Stream, rate: Tensor, plan: Plan) -> tuple[Side, list[Trace]]:
        """Payload segments to side information and latents in quantiser steps, a trace a tile."""
        lengths = stream.tiles or (len(stream.payload),)
        ends = list(itertools.accumulate(lengths))

        def one(task: tuple[int, tuple[slice, slice], int, int]) -> tuple[Side, Trace]:
            number, (rows, columns), start, end = task
            coder = RangeDecoder(stream.payload[start:end], self.loop.tables)
            side = Side() if number else self.read_side(coder, stream.quality, plan)
            local = rate[rows, columns]
            trace = self.loop.decode(coder, (local.shape[0], local.shape[1]), local)
            coder.finish()
            return side, trace

        tiles = plan.tiles()
        tasks = list(zip(range(len(tiles)), tiles, [0, *ends[:-1]], ends, strict=True))
        with one_thread:
            done = list(in_order(one, tasks, self.threads))
        return done[0][0], [trace for _, trace in done]

    def trace(self, stream: Stream) -> tuple[list[Trace], list[Tensor]]:
        """Decode the symbols alone; returns a trace and the rate bytes of each tile."""
        plan = Plan(stream.height, stream.width)
        rate = rate_bytes(stream.quality, stream.gain_map, plan.grid)
        return self.decode_latents(stream, rate, plan)[1], [rate[t] for t in plan.tiles()]

    def _assemble(self, traces: list[Trace], plan: Plan) -> Tensor:
        y_hat = torch.empty(1, self.model.shape.latents, *plan.grid)
        for (rows, columns), trace in zip(plan.tiles(), traces, strict=True):
            y_hat[:, :, rows, columns] = trace.y_hat.float()
        return y_hat

    def _show(self, y_hat: Tensor, side: Side, rate: Tensor, plan: Plan, stream: Stream) -> Picture:
        pixels = self.decode_picture(y_hat, side, rate, plan)
        if stream.grey:
            pixels = np.rint(pixels.mean(2, keepdims=True)).astype(np.uint8).repeat(3, axis=2)
        return Picture(pixels, stream.grey, stream.icc, stream.exif, stream.xmp)

    def decode_picture(self, y_hat: Tensor, side: Side, rate: Tensor, plan: Plan) -> np.ndarray:
        """Latents in quantiser steps to pixels, uint8 ``(H, W, 3)``."""

        def synthesise(rows: Tensor, where: tuple[int, int]) -> Tensor:
            levels = self._levels(rows, rate[where[0] : where[1]], side, where)
            return (finite(levels) + LEVELS / 2).round_().clamp_(0, 255).to(torch.uint8)

        x = self._strips(synthesise, y_hat, plan, 1, DOWNSAMPLING)
        return x[0, :, : plan.height, : plan.width].permute(1, 2, 0).contiguous().numpy()

    def _levels(self, y_hat: Tensor, rate: Tensor, side: Side, rows: tuple[int, int]) -> Tensor:
        """Latents in quantiser steps to levels around mid-grey."""
        normalised = y_hat * self.loop.rates(rate).reciprocal.float()
        return self.synthesise(
            (y_hat / self.loop.gain(rate)).contiguous(memory_format=torch.channels_last),
            normalised.contiguous(memory_format=torch.channels_last),
            rates_of(rate),
            side,
            rows,
        )

    def _strips(
        self,
        transform: Callable[[Tensor, tuple[int, int]], Tensor],
        source: Tensor,
        plan: Plan,
        source_rows: int,
        target_rows: int,
    ) -> Tensor:
        strips = self.threads, self.halo, self.align
        with torch.inference_mode():
            return run_strips(transform, source, *plan.grid, source_rows, target_rows, *strips)

    # -- many -------------------------------------------------------------------------------

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode pictures in order, ``threads`` at a time."""
        yield from in_order(lambda p: self.encode(p, quality, **options), pictures, self.threads)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode files in order, ``threads`` at a time."""
        yield from in_order(self.decode, files, self.threads)

    def verify(self) -> tuple[str, str]:
        """Return the checksum of the coding loop on its stored input, and what was run."""
        bound = self.loop.proven_bound()
        said = f"coding loop, partial sums reach {bound:.2e} of the exact range of float64"
        return self.loop.checksum(), said

    # -- figures ----------------------------------------------------------------------------

    def _z_bits(self, trace: Trace, rate: Tensor) -> float:
        indexes = self._z_indexes(trace, rate)
        return float(estimated_bits(trace.checked[0], indexes, self.loop.tables))

    def _z_indexes(self, trace: Trace, rate: Tensor) -> np.ndarray:
        size = (-(-trace.y_hat.shape[-2] // 4), -(-trace.y_hat.shape[-1] // 4))
        return self.loop.z_indexes(size, rate)

    def _y_bits(self, trace: Trace) -> float:
        pairs = zip(trace.symbols, trace.indexes, strict=True)
        return float(sum(estimated_bits(s, i, self.loop.tables) for s, i in pairs))


def _seen(shape: Any) -> int:
    """Return how many latent rows away the transforms see."""
    fine, coarse = shape.analysis
    return max(_reach(coarse, fine), _seen_by_synthesis(shape))


def _seen_by_synthesis(shape: Any) -> int:
    return _reach(*shape.synthesis)


def _reach(coarse: int, fine: int) -> int:
    """Return latent rows that blocks see: two each at 1/16, one at 1/8, and one by the filter."""
    lapped = 1
    return 2 * coarse + fine + lapped


def centred(rows: Tensor) -> Tensor:
    """Return levels around mid-grey of uint8 pixels, in the layout that convolutions like."""
    return (rows.float() - LEVELS / 2).contiguous(memory_format=torch.channels_last)


def _padded(picture: Picture) -> Tensor:
    pixels = torch.from_numpy(pad_to_multiple(picture.pixels, DOWNSAMPLING))
    return pixels.permute(2, 0, 1)[None]
