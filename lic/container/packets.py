"""The packet stream ``.pkt``: self-describing datagrams, each preceded by its length.

The lengths stand for the transport, as the length of a UDP datagram does. Every datagram names
picture, weights, size, rung and its own number, so any of them may be the only one that arrives;
``docs/format.md`` has the byte table.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from lic.container.fields import Reader, leb128
from lic.container.header import is_lic
from lic.errors import StreamError

__all__ = [
    "LONGEST_DATAGRAM",
    "MOST_DATAGRAMS",
    "PACKETS_MAGIC",
    "PACKETS_VERSION",
    "Datagram",
    "is_packets",
    "parse_datagram",
    "read_packets",
    "write_datagram",
    "write_packets",
]

PACKETS_MAGIC = b"\x89LPK"
PACKETS_VERSION = 0
"""Newest version that is read, and the one that is written."""

MOST_DATAGRAMS = 255
"""Data and parity of one picture together."""

LONGEST_DATAGRAM = 65535

_LENGTH_BYTES, _CRC_BYTES = 2, 4
_GREY = 0x80
_VERSION_SHIFT, _VERSION_MASK, _BITS_MASK = 4, 0x07, 0x0F


@dataclass(frozen=True)
class Datagram:
    """Fields of one datagram.

    Attributes:
        bits: Of an index: the rung.
        grey: Decode to a grey picture.
        picture: CRC-16 over all indices of the picture; datagrams of one picture share it.
        fingerprint: First 3 bytes of the SHA-256 over the weights' stream tensors.
        width, height: Pixels.
        count: Data packets of the picture, 1..255.
        parity: Parity packets beside them.
        index: 0..count - 1 for data, count.. for parity.
        payload: Coded indices, or parity over those of all data packets.
    """

    bits: int
    grey: bool
    picture: int
    fingerprint: bytes
    width: int
    height: int
    count: int
    parity: int
    index: int
    payload: bytes

    @property
    def of(self) -> tuple[object, ...]:
        """What all datagrams of one picture have in common."""
        return (
            self.bits,
            self.grey,
            self.picture,
            self.fingerprint,
            self.width,
            self.height,
            self.count,
            self.parity,
        )


def write_datagram(datagram: Datagram) -> bytes:
    """Return the bytes of a datagram; ``ValueError`` or ``OverflowError`` if a field is too big."""
    if not 0 < datagram.bits <= _BITS_MASK:
        raise ValueError(f"{datagram.bits} bits of an index")
    body = b"".join(
        (
            bytes([_GREY * datagram.grey | PACKETS_VERSION << _VERSION_SHIFT | datagram.bits]),
            datagram.picture.to_bytes(2, "little"),
            datagram.fingerprint,
            leb128(datagram.width),
            leb128(datagram.height),
            bytes([datagram.count, datagram.parity, datagram.index]),
            datagram.payload,
        )
    )
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


def parse_datagram(data: bytes) -> Datagram:
    """Read a datagram.

    Raises:
        StreamError: It is damaged, cut, too new or contradicts itself.
    """
    end = len(data) - _CRC_BYTES
    if end < 1:
        raise StreamError(f"datagram of {len(data)} bytes")
    if zlib.crc32(data[:end]) != int.from_bytes(data[end:], "little"):
        raise StreamError("checksum of a datagram differs")
    reader = Reader(data, end)
    first = reader.byte("rung")
    version = first >> _VERSION_SHIFT & _VERSION_MASK
    if version > PACKETS_VERSION:
        raise StreamError(f"datagram of version {version}; this lic reads up to {PACKETS_VERSION}")
    found = Datagram(
        bits=first & _BITS_MASK,
        grey=bool(first & _GREY),
        picture=int.from_bytes(reader.take(2, "picture"), "little"),
        fingerprint=reader.take(3, "fingerprint"),
        width=reader.leb128("width"),
        height=reader.leb128("height"),
        count=reader.byte("count"),
        parity=reader.byte("parity"),
        index=reader.byte("index"),
        payload=reader.take(reader.left, "payload"),
    )
    together = found.count + found.parity
    if not (found.bits and found.width and found.height and found.count):
        raise StreamError("datagram with a zero where none may be")
    if together > MOST_DATAGRAMS or found.index >= together:
        raise StreamError(f"datagram {found.index} of {together}")
    return found


def is_packets(data: bytes) -> bool:
    """Tell whether bytes begin as a packet stream does."""
    return data[: len(PACKETS_MAGIC)] == PACKETS_MAGIC


def write_packets(datagrams: list[bytes]) -> bytes:
    """Return a packet stream; ``OverflowError`` if a datagram has more than 65535 bytes."""
    parts = [PACKETS_MAGIC, bytes([PACKETS_VERSION])]
    for datagram in datagrams:
        parts += [len(datagram).to_bytes(_LENGTH_BYTES, "little"), datagram]
    return b"".join(parts)


def read_packets(data: bytes) -> list[bytes]:
    """Return the datagrams of a packet stream, as they are; the last may be cut.

    Streams that were put one behind the other are one.

    Raises:
        StreamError: It is none, or of a newer version.
    """
    if not is_packets(data):
        raise StreamError("is empty" if not data else _not_packets(data))
    reader = Reader(data)
    reader.take(len(PACKETS_MAGIC), "magic")
    version = reader.byte("version")
    if version > PACKETS_VERSION:
        raise StreamError(
            f"packet stream of version {version}; this lic reads up to {PACKETS_VERSION}"
        )
    datagrams = []
    head = PACKETS_MAGIC + bytes([version])
    while reader.left:
        if data[reader.position : reader.position + len(head)] == head:
            reader.take(len(head), "magic")  # of a stream that was put behind this one
            continue
        length = int.from_bytes(reader.take(min(_LENGTH_BYTES, reader.left), "length"), "little")
        datagrams.append(reader.take(min(length, reader.left), "datagram"))
    return datagrams


def _not_packets(data: bytes) -> str:
    if is_lic(data):
        return "is a .lic file, not a packet stream; did you mean 'lic encode --packets'?"
    return "not a packet stream"
