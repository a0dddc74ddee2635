"""What sends a picture in datagrams and shows what arrives: ``vqgan`` packets, and files cut up."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageFile

from lic.codecs.base import Codec
from lic.codecs.packeted import PacketCodec
from lic.container.packets import read_packets, write_packets
from lic.container.received import receive
from lic.errors import InputError, NothingReceived
from lic.evaluation.identity import codec_identity
from lic.networks.restorer import KINDS
from lic.pictures import Picture
from lic.weights import companions

__all__ = ["FileSender", "PacketSender", "Sender", "Shown"]

_ALONE = threading.Lock()
"""The setting of Pillow below is one for all threads."""


@dataclass(frozen=True)
class Shown:
    """What a receiver shows.

    Attributes:
        picture: ``None`` where nothing can be shown.
        lost: Share of indices, or of the file's bytes, that did not arrive, 0..1.
        distance: Mean squared distance of concealed codewords from those that were sent, over the
            squared length of a codeword; ``None`` where nothing was concealed.
    """

    picture: Picture | None
    lost: float
    distance: float | None = None


class Sender(Protocol):
    """One way to send pictures.

    Attributes:
        name: In results.
        concealers: Names of what stands in for losses.
        identity: One line that changes whenever what it sends or shows may change.
    """

    name: str
    identity: str
    concealers: tuple[str, ...]

    def send(self, picture: Picture) -> list[bytes]:
        """Return the datagrams of a picture."""

    def receiver(self, picture: Picture, sent: list[bytes]) -> Callable[[list[bytes], str], Shown]:
        """Return what shows datagrams that arrive of ``sent``, by a concealer."""


class PacketSender:
    """``vqgan`` packets.

    Args:
        codec: Of packets.
        codebook_size: Codewords.
        concealers: To compare.
        payload: Bytes of a payload at most; the codec's own when ``None``.
        parity: Parity packets. With some, the codebook is the largest whose datagrams take no more
            bytes than those of ``codebook_size`` without parity.
    """

    def __init__(
        self,
        codec: PacketCodec,
        codebook_size: int,
        concealers: tuple[str, ...],
        payload: int | None = None,
        parity: int = 0,
    ):
        self.codec, self.size, self.concealers = codec, codebook_size, concealers
        card = codec.codec.card
        self.payload, self.parity = payload, parity
        self.name = f"{codec.name}+{parity}" if parity else codec.name
        networks = (c.sha256 for kind in KINDS for c in companions(card, f"restorer-{kind}")[:1])
        own = f"codebook {codebook_size} payload {payload} parity {parity}"
        self.identity = " ".join((codec_identity(codec.codec, 1), own, *networks))

    def send(self, picture: Picture) -> list[bytes]:
        """Return the datagrams of a picture."""
        plain = self._coded(picture, self.size, 0)
        if not self.parity:
            return plain
        size = self.size
        while size > 2**self.codec.codec.bottom:
            size //= 2
            sent = self._coded(picture, size, self.parity)
            if sum(map(len, sent)) <= sum(map(len, plain)):
                return sent
        raise InputError(f"{self.parity} parity packets leave no bytes for the picture")

    def _coded(self, picture: Picture, size: int, parity: int) -> list[bytes]:
        options = {"codebook_size": size, "payload": self.payload, "parity": parity}
        return read_packets(self.codec.encode(picture, 0, **options).data)

    def receiver(self, picture: Picture, sent: list[bytes]) -> Callable[[list[bytes], str], Shown]:
        """Return what shows datagrams that arrive of ``sent``, by a concealer."""
        decoded: dict[tuple[int, bytes], np.ndarray] = {}
        whole = self.codec.mend(receive(write_packets(sent)), "none", decoded).vectors

        def show(arrived: list[bytes], conceal: str) -> Shown:
            try:
                mended = self.codec.mend(receive(write_packets(arrived)), conceal, decoded)
            except NothingReceived:
                return Shown(None, 1.0)
            share = mended.lost / mended.indices
            if not mended.lost:
                return Shown(mended.picture, share)
            apart = np.square(mended.vectors - whole).sum(0)[~mended.known].mean()
            return Shown(mended.picture, share, float(apart / np.square(whole).sum(0).mean()))

        return show


class FileSender:
    """Files of other codecs, cut into payloads; what comes after the first loss is of no use.

    Args:
        name: Of the codec.
        codec: Classic.
        quality: 0..100.
        payload: Bytes of a datagram.
    """

    concealers: tuple[str, ...] = ("none",)

    def __init__(self, name: str, codec: Codec, quality: float, payload: int = 128):
        self.name, self.codec, self.quality, self.payload = name, codec, quality, payload
        self.identity = f"{codec_identity(codec, 1)} quality {quality:g} payload {payload}"

    def send(self, picture: Picture) -> list[bytes]:
        """Return the file of a picture in pieces; a number of two bytes goes before each."""
        data = self.codec.encode(picture, self.quality).data
        starts = range(0, len(data), self.payload)
        return [
            number.to_bytes(2, "little") + data[at : at + self.payload]
            for number, at in enumerate(starts)
        ]

    def receiver(self, picture: Picture, sent: list[bytes]) -> Callable[[list[bytes], str], Shown]:
        """Return what shows the pieces before the first that is missing."""

        def show(arrived: list[bytes], conceal: str) -> Shown:
            there = {int.from_bytes(d[:2], "little"): d[2:] for d in arrived}
            until = next((i for i in range(len(sent)) if i not in there), len(sent))
            data = b"".join(there[i] for i in range(until))
            lost = 1 - sum(map(len, there.values())) / sum(len(d) - 2 for d in sent)
            return Shown(_begun(data, picture), lost)

        return show


def _begun(data: bytes, like: Picture) -> Picture | None:
    """Return what Pillow makes of the beginning of a file, ``None`` where that is nothing."""
    with _cut_files_allowed():
        try:
            pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except (OSError, SyntaxError, ValueError):
            return None
    return Picture(pixels) if pixels.shape == like.pixels.shape else None


@contextlib.contextmanager
def _cut_files_allowed() -> Iterator[None]:
    module: Any = ImageFile
    with _ALONE:
        before, module.LOAD_TRUNCATED_IMAGES = module.LOAD_TRUNCATED_IMAGES, True
        try:
            yield
        finally:
            module.LOAD_TRUNCATED_IMAGES = before
