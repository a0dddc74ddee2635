"""The ``vqgan`` family from a picture to bytes and back.

Reads as the data flows: picture -> unit vectors -> nearest codewords at a rung -> indices -> bytes,
and back. Indices are integers and their coder counts in integers, so they decode alike everywhere;
what decoders of two machines make of the codewords may differ by rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lic.codecs.base import Encoded
from lic.codecs.indices import (
    CODERS,
    DEFAULT_CODER,
    coder_checksum,
    decode_indices,
    encode_indices,
    index_bits,
)
from lic.codecs.plan import Plan, finite, in_order, ready
from lic.codecs.prior import IDENTITY_BYTES, NetworkPrior, find_prior
from lic.codecs.strips import run_strips
from lic.coding.mixing import TreeStart
from lic.coding.symbols import symbol_check
from lic.container import Stream, parse_stream, write_stream
from lic.errors import LicError, StreamError, UsageProblem
from lic.networks.vqgan import Vqgan, VqganShape
from lic.pictures import Picture, pad_to_multiple
from lic.weights import Card, find_weights, load_tensors, network_state

if TYPE_CHECKING:
    from lic.networks.taming import TamingVqgan

__all__ = ["FAMILY", "VqganCodec", "as_grey"]

FAMILY = 4

_HALO = 16
"""Positions around a strip; the decoder's convolutions see 13."""


class VqganCodec:
    """Indices of nested codebooks, 2^3 to 2^12 codewords with the weights that ship.

    Args:
        card: Weights; found by :func:`lic.weights.find_weights` when ``None``.
        threads: Strips or pictures at once; changes no byte and no pixel.

    Raises:
        WeightsError: The weights are missing, changed or inconsistent.
    """

    name = "vqgan"

    def __init__(self, card: Card | None = None, threads: int = 1):
        self.card = card or find_weights(self.name)
        self.threads = max(1, threads)
        tensors = load_tensors(self.card)
        model = _networks(self.card)
        network = network_state(tensors)
        network["ladder.vectors"] = tensors["codebook.ladder"].float()
        missing = model.load_state_dict(network, strict=False).missing_keys
        if missing:
            raise LicError(f"weights '{self.card.name}' lack {missing[0]}")
        codebook = {k.removeprefix("codebook."): v for k, v in tensors.items()}
        self.start = TreeStart.of_arrays(
            {k: codebook[k].numpy() for k in ("counts", "weights", "scattered") if k in codebook}
        )
        self.bottom, self.top = model.shape.bottom, model.shape.top
        self.step = model.shape.downsampling
        self.quality_steps = self.top - self.bottom + 1
        self.default_qualities = tuple(
            round(100 * i / max(1, self.quality_steps - 1), 2) for i in range(self.quality_steps)
        )
        self.model = ready(model)
        self._prior: NetworkPrior | None = None

    # -- picture -> bytes -------------------------------------------------------------------

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture.

        Args:
            picture: RGB or grey, any size from 1x1.
            quality: 0..100, from the coarsest rung to the finest.
            options: ``codebook_size`` instead of quality, a power of two that the ladder has;
                ``index_coder`` of ``lic.codecs.indices.CODERS``; ``reconstruct=True`` also returns
                the decoder's picture.

        Raises:
            UsageProblem: No such rung or coder.
        """
        bits = self.rung_of(quality, options.get("codebook_size"))
        coder = options.get("index_coder") or DEFAULT_CODER
        if coder not in CODERS:
            raise UsageProblem(f"no index coder '{coder}'; known: {', '.join(CODERS)}")
        plan = Plan(picture.height, picture.width, self.step)
        indices = self.encode_latents(picture, bits, plan)
        stream = self.write_indices(indices, bits, coder, plan, like=picture)
        shown = self._show(indices, bits, plan, stream) if options.get("reconstruct") else None
        return Encoded(write_stream(stream), self._details(indices, bits, stream), shown)

    def rung_of(self, quality: float, codebook_size: int | None) -> int:
        """Return the bits of an index; ``UsageProblem`` where the ladder has no such codebook."""
        if codebook_size is None:
            part = min(100.0, max(0.0, quality)) / 100
            return self.bottom + round(part * (self.top - self.bottom))
        bits = codebook_size.bit_length() - 1
        if codebook_size != 2**bits or not self.bottom <= bits <= self.top:
            sizes = ", ".join(str(2**b) for b in range(self.bottom, self.top + 1))
            raise UsageProblem(f"no codebook of {codebook_size}; there are {sizes}")
        return bits

    def encode_latents(self, picture: Picture, bits: int, plan: Plan) -> np.ndarray:
        """Picture to indices, int64 ``(h, w)``."""
        pixels = torch.from_numpy(pad_to_multiple(picture.pixels, self.step))
        levels = pixels.permute(2, 0, 1)[None]

        def analyse(rows: Tensor, _where: tuple[int, int]) -> Tensor:
            x = (rows.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            z = finite(self.model.encoder(x))
            return self.model.ladder.nearest(z, bits)[:, None]

        with torch.inference_mode():
            found = run_strips(analyse, levels, *plan.grid, self.step, 1, self.threads, _HALO)
        return found[0, 0].numpy()

    def write_indices(
        self, indices: np.ndarray, bits: int, coder: str, plan: Plan, *, like: Picture | Stream
    ) -> Stream:
        """Indices to a stream, one payload segment a tile; metadata of ``like`` goes along."""
        prior = self.prior_of(coder)
        hints = prior.hints if prior else None

        def one(tile: tuple[slice, slice]) -> bytes:
            return encode_indices(indices[tile], bits, coder, self.start, hints)

        segments = list(in_order(one, plan.tiles(), self.threads))
        if prior:
            segments[0] = prior.identity + segments[0]
        return Stream(
            family=FAMILY,
            fingerprint=self.card.prefix(),
            width=plan.width,
            height=plan.height,
            quality=CODERS[coder] << 4 | bits,
            symbol_check=symbol_check(indices),
            payload=b"".join(segments),
            grey=like.grey,
            icc=like.icc,
            exif=like.exif,
            xmp=like.xmp,
            tiles=tuple(map(len, segments)) if plan.tiled else None,
        )

    def prior_of(self, coder: str, identity: bytes | None = None) -> NetworkPrior | None:
        """Return the network that a coder needs, ``None`` where it needs none.

        Args:
            coder: Of ``lic.codecs.indices.CODERS``.
            identity: What a file says about its network.

        Raises:
            WeightsError: There is no such network for these weights.
        """
        if coder != "transformer":
            return None
        if self._prior is None or identity not in (None, self._prior.identity):
            self._prior = find_prior(self.card, self.model.ladder.vectors, identity)
        return self._prior

    def _details(self, indices: np.ndarray, bits: int, stream: Stream) -> dict[str, Any]:
        return {
            "quality": 100 * (bits - self.bottom) / max(1, self.top - self.bottom),
            "codebook_size": 2**bits,
            "payload_bytes": len(stream.payload),
            "index_bits": 8 * len(stream.payload),
            "bits_per_index": 8 * len(stream.payload) / indices.size,
        }

    # -- bytes -> picture -------------------------------------------------------------------

    def decode(self, data: bytes) -> Picture:
        """Decode one file; mirrors :meth:`encode`."""
        return self.decode_stream(parse_stream(data))

    def decode_stream(self, stream: Stream) -> Picture:
        """Decode a parsed stream.

        Raises:
            StreamError: The payload is damaged, or names a rung or coder that is not there.
        """
        indices, bits = self.read_indices(stream)
        return self._show(indices, bits, Plan(stream.height, stream.width, self.step), stream)

    def read_indices(self, stream: Stream) -> tuple[np.ndarray, int]:
        """Stream to indices ``(h, w)`` int64 and their bits; mirrors :meth:`write_indices`."""
        plan = Plan(stream.height, stream.width, self.step)
        number, bits = divmod(stream.quality, 16)
        names = {v: k for k, v in CODERS.items()}
        if not self.bottom <= bits <= self.top:
            raise StreamError(f"codebook of 2^{bits} indices is not in the weights' ladder")
        if number not in names:
            raise StreamError(f"unknown index coder {number}; a newer lic may know it")
        if stream.gain_map is not None:
            raise StreamError("gain map: this family has no gains")
        lengths = stream.tiles or (len(stream.payload),)
        ends = list(itertools.accumulate(lengths))
        begin, hints = 0, None
        prior = self.prior_of(names[number], stream.payload[:IDENTITY_BYTES])
        if prior:
            begin, hints = IDENTITY_BYTES, prior.hints

        def one(task: tuple[tuple[slice, slice], int, int]) -> np.ndarray:
            (rows, columns), start, end = task
            shape = rows.stop - rows.start, columns.stop - columns.start
            payload = stream.payload[start:end]
            return decode_indices(payload, shape, bits, names[number], self.start, hints)

        tiles = plan.tiles()
        tasks = list(zip(tiles, [begin, *ends[:-1]], ends, strict=True))
        indices = np.empty(plan.grid, np.int64)
        for tile, part in zip(tiles, in_order(one, tasks, self.threads), strict=True):
            indices[tile] = part
        if symbol_check(indices) != stream.symbol_check:
            raise StreamError("symbols differ from those that were encoded")
        return indices, bits

    def _show(self, indices: np.ndarray, bits: int, plan: Plan, stream: Stream) -> Picture:
        pixels = self.decode_picture(indices, bits, plan)
        if stream.grey:
            pixels = as_grey(pixels)
        return Picture(pixels, stream.grey, stream.icc, stream.exif, stream.xmp)

    def decode_picture(self, indices: np.ndarray, bits: int, plan: Plan) -> np.ndarray:
        """Indices to pixels, uint8 ``(H, W, 3)``."""
        codewords = self.model.ladder.look_up(torch.from_numpy(indices)[None], bits)
        return self.decode_codewords(codewords, torch.ones_like(codewords[:, :1]), bits, plan)

    def decode_codewords(
        self, codewords: Tensor, trust: Tensor, bits: int, plan: Plan
    ) -> np.ndarray:
        """Codewords ``(1, E, h, w)`` and trust in them ``(1, 1, h, w)`` to pixels ``(H, W, 3)``."""
        rung = torch.tensor([float(bits)])

        def synthesise(rows: Tensor, _where: tuple[int, int]) -> Tensor:
            x = self.model.decoder(rows[:, :-1], rows[:, -1:], rung)
            return ((finite(x) + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)

        with torch.inference_mode():
            source = torch.cat([codewords, trust], dim=1)
            x = run_strips(synthesise, source, *plan.grid, 1, self.step, self.threads, _HALO)
        return x[0, :, : plan.height, : plan.width].permute(1, 2, 0).contiguous().numpy()

    # -- one rung from another --------------------------------------------------------------

    def transcode(self, stream: Stream, codebook_size: int) -> Encoded:
        """Drop the last bits of the indices; no network runs.

        Raises:
            UsageProblem: The ladder has no such rung, or the file has a coarser one.
            StreamError: The file is damaged.
        """
        indices, bits = self.read_indices(stream)
        wanted = self.rung_of(0, codebook_size)
        if wanted > bits:
            raise UsageProblem(f"the file has a codebook of {2**bits}; {2**wanted} is larger")
        return self._coarser(stream, indices, bits, wanted)

    def _coarser(self, stream: Stream, indices: np.ndarray, bits: int, wanted: int) -> Encoded:
        coarse = indices >> (bits - wanted)
        coder = next(k for k, v in CODERS.items() if v == stream.quality >> 4)
        plan = Plan(stream.height, stream.width, self.step)
        written = self.write_indices(coarse, wanted, coder, plan, like=stream)
        return Encoded(write_stream(written), self._details(coarse, wanted, written))

    def transcode_to_size(self, stream: Stream, size: int) -> Encoded:
        """Drop as few bits as it takes to stay within ``size`` bytes.

        Raises:
            UsageProblem: Even the smallest codebook takes more.
            StreamError: The file is damaged.
        """
        indices, bits = self.read_indices(stream)
        for fewer in range(bits, self.bottom - 1, -1):
            encoded = self._coarser(stream, indices, bits, fewer)
            if len(encoded.data) <= size:
                return encoded
        smallest = len(encoded.data)
        raise UsageProblem(f"cannot be had in {size} bytes; {2**self.bottom} take {smallest}")

    # -- many, figures ----------------------------------------------------------------------

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode pictures in order, ``threads`` at a time."""
        yield from in_order(lambda p: self.encode(p, quality, **options), pictures, self.threads)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode files in order, ``threads`` at a time."""
        yield from in_order(self.decode, files, self.threads)

    def estimated_bits(self, indices: np.ndarray, bits: int, coder: str = DEFAULT_CODER) -> float:
        """Return what the indices of a small picture cost, without the rounding to bytes."""
        prior = self.prior_of(coder)
        return index_bits(indices, bits, coder, self.start, prior.hints if prior else None)

    def verify(self) -> tuple[str, str]:
        """Return the checksum of the index coder on stored grids, and what was run."""
        rungs = self.top - self.bottom + 1
        checksum = coder_checksum(self.start, self.bottom, self.top)
        return checksum, f"index coder, integers alone, {rungs} rungs"


def as_grey(pixels: np.ndarray) -> np.ndarray:
    """Return the mean of the channels in each of them, uint8 ``(H, W, 3)``."""
    return np.rint(pixels.mean(2, keepdims=True)).astype(np.uint8).repeat(3, axis=2)


def _networks(card: Card) -> Vqgan | TamingVqgan:
    """Return networks of the shape that the card tells: ours, or those of an imported model."""
    if "ch_mult" in card.network:
        from lic.networks.taming import TamingShape, TamingVqgan

        return TamingVqgan(TamingShape(**card.shape()))
    return Vqgan(VqganShape(**card.shape()))
