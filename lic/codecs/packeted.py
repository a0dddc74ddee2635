"""``vqgan`` over a channel that loses packets: a picture to datagrams, and back from those left.

Reads as the data flows: picture -> indices -> datagrams, and back: datagrams -> some indices ->
codewords with holes -> concealed -> picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic.codecs.base import Encoded
from lic.codecs.conceal import CONCEALERS, Concealer, concealer, default_concealer
from lic.codecs.packets import Grid, decode_packets, encode_packets
from lic.codecs.plan import Plan, in_order
from lic.codecs.vqgan import VqganCodec, as_grey
from lic.container.packets import Datagram, parse_datagram, read_packets
from lic.container.received import Received, receive
from lic.errors import StreamError, UsageProblem, WeightsError
from lic.pictures import Picture

__all__ = ["Mended", "PacketCodec"]


@dataclass(frozen=True)
class Mended:
    """A picture from what arrived.

    Attributes:
        picture: Of its full size, whatever is missing.
        received: The datagrams.
        recovered: Data packets that parity gave back.
        lost: Indices that had to be concealed.
        indices: Of the picture.
        parity_unused: Parity could have given data back, but zfec is not installed.
        conceal: Name of the concealer.
        vectors: float32 ``(E, h, w)``, what the decoder made of: codewords, and means of codewords
            where some were concealed.
        known: bool ``(h, w)``, positions whose index arrived.
    """

    picture: Picture
    received: Received
    recovered: int
    lost: int
    indices: int
    parity_unused: bool
    conceal: str
    vectors: np.ndarray = field(repr=False)
    known: np.ndarray = field(repr=False)


class PacketCodec:
    """Packets around a ``vqgan`` codec.

    Args:
        codec: Networks, ladder and index coder.
    """

    def __init__(self, codec: VqganCodec):
        self.codec = codec
        self.name = codec.name
        self.quality_steps = codec.quality_steps
        self._concealers: dict[str, Concealer] = {}

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture to a packet stream. Metadata does not travel.

        Args:
            picture: RGB or grey, any size from 1x1.
            quality: 0..100, from the coarsest rung to the finest.
            options: ``codebook_size`` instead of quality; ``payload``, bytes of a datagram's
                payload at most, about 128 when ``None``; ``parity``, datagrams beside those of
                data, any of which replaces any that is lost; ``reconstruct=True`` also returns what
                a receiver of everything will show.

        Raises:
            UsageProblem: No such rung, or too many or too small datagrams.
            InputError: Parity is wanted and zfec is not installed.
        """
        codec, parity = self.codec, options.get("parity") or 0
        bits = codec.rung_of(quality, options.get("codebook_size"))
        plan = Plan(picture.height, picture.width, codec.step)
        indices = codec.encode_latents(picture, bits, plan)
        data, details = self.pack(indices, picture, bits, options.get("payload"), parity)
        shown = None
        if options.get("reconstruct"):
            pixels = codec.decode_picture(indices, bits, plan)
            shown = Picture(as_grey(pixels) if picture.grey else pixels, picture.grey)
        return Encoded(data, details, shown)

    def pack(
        self, indices: np.ndarray, like: Picture, bits: int, payload: int | None, parity: int
    ) -> tuple[bytes, dict[str, Any]]:
        """Return a packet stream of indices and what it took; arguments as of :meth:`encode`.

        Args:
            indices: Of the rung ``bits``, ``(h, w)``.
            like: The picture, for its size and whether it is grey.
        """
        codec = self.codec
        template = Datagram(
            bits=bits,
            grey=like.grey,
            picture=0,
            fingerprint=codec.card.prefix(),
            width=like.width,
            height=like.height,
            count=0,
            parity=parity,
            index=0,
            payload=b"",
        )
        data = encode_packets(indices, template, codec.start, payload=payload)
        datagrams = read_packets(data)
        sizes = [len(d) for d in datagrams]
        payloads = [len(parse_datagram(d).payload) for d in datagrams]
        details: dict[str, Any] = {
            "quality": 100 * (bits - codec.bottom) / max(1, codec.top - codec.bottom),
            "codebook_size": 2**bits,
            "packets": len(sizes) - parity,
            "parity": parity,
            "wire_bytes": sum(sizes),
            "header_bits": 8 * (len(data) - sum(payloads)),
            "index_bits": 8 * sum(payloads[: len(sizes) - parity]),
            "parity_bits": 8 * sum(payloads[len(sizes) - parity :]),
            "longest_datagram": max(sizes),
        }
        return data, details

    def decode(self, data: bytes) -> Picture:
        """Decode a packet stream, whatever of it arrived."""
        return self.mend(receive(data)).picture

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode pictures in order, ``threads`` of the codec at a time."""
        threads = self.codec.threads
        yield from in_order(lambda p: self.encode(p, quality, **options), pictures, threads)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode packet streams in order, ``threads`` of the codec at a time."""
        yield from in_order(self.decode, files, self.codec.threads)

    def mend(
        self,
        received: Received,
        conceal: str | None = None,
        decoded: dict[tuple[int, bytes], np.ndarray] | None = None,
    ) -> Mended:
        """Decode what arrived.

        Args:
            received: From :func:`lic.container.received.receive`.
            conceal: Of ``CONCEALERS``; the best that there is for these weights when ``None``.
            decoded: Kept by a caller who mends one picture many times, see
                :func:`lic.codecs.packets.decode_packets`.

        Raises:
            StreamError: An intact datagram that this codec cannot have written.
            NothingReceived: Only parity arrived, and too little of it.
            WeightsError: The indices are of other weights, or there is no such network for them.
        """
        header, codec = received.header, self.codec
        if header.fingerprint != codec.card.prefix():
            raise WeightsError(f"the packets need weights {header.fingerprint.hex()}")
        if not codec.bottom <= header.bits <= codec.top:
            raise StreamError(f"codebook of 2^{header.bits} indices is not in the weights' ladder")
        conceal = conceal or default_concealer(codec.card)
        if conceal not in CONCEALERS:
            raise UsageProblem(f"no concealer '{conceal}'; known: {', '.join(CONCEALERS)}")
        plan = Plan(header.height, header.width, codec.step)
        grid = decode_packets(received, plan.grid, codec.start, decoded)
        codewords, trust = self._filled(grid, header.bits, conceal)
        pixels = codec.decode_codewords(codewords, trust, header.bits, plan)
        if header.grey:
            pixels = as_grey(pixels)
        return Mended(
            picture=Picture(pixels, header.grey),
            received=received,
            recovered=grid.recovered,
            lost=int((~grid.known).sum()),
            indices=grid.known.size,
            parity_unused=grid.parity_unused,
            conceal=conceal,
            vectors=(codewords * trust)[0].numpy(),
            known=grid.known,
        )

    def _filled(self, grid: Grid, bits: int, conceal: str) -> tuple[Tensor, Tensor]:
        """Return codewords without holes, and the trust in them."""
        ladder, known = self.codec.model.ladder, torch.from_numpy(grid.known)
        with torch.inference_mode():
            codewords = ladder.look_up(torch.from_numpy(grid.indices)[None], bits)
            if known.all():
                return codewords, torch.ones_like(codewords[:, :1])
            fill = self._concealer(conceal)
            return fill(codewords, known, ladder.rung(bits), bits)

    def _concealer(self, name: str) -> Concealer:
        if name not in self._concealers:
            self._concealers[name] = concealer(name, self.codec.card)
        return self._concealers[name]
