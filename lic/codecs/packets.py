"""Codebook indices to datagrams that decode alone, and back from whichever arrive.

Reads as the data flows: indices -> packets of places -> payloads -> parity -> datagrams, and back.
Neighbours go into different packets, so a lost one leaves no hole without received indices around.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lic.coding.mixing import TreeStart
from lic.coding.order import r2_order
from lic.coding.scatter import decode_scattered, encode_scattered
from lic.coding.symbols import symbol_check
from lic.container.packets import (
    LONGEST_DATAGRAM,
    MOST_DATAGRAMS,
    Datagram,
    write_datagram,
    write_packets,
)
from lic.container.received import Received
from lic.errors import InputError, NothingReceived, StreamError, UsageProblem

__all__ = ["Grid", "decode_packets", "encode_packets"]

_AIM = 128
_FEWEST, _MOST = 6, 64
_LARGE = 1200
_LENGTH = 2
_HEADER = 32
"""Bytes of a datagram besides its payload, at most."""


# -- indices -> datagrams -------------------------------------------------------------------


def encode_packets(
    indices: np.ndarray, template: Datagram, start: TreeStart, *, payload: int | None = None
) -> bytes:
    """Return the packet stream of a grid of indices.

    Args:
        indices: int64 ``(h, w)``.
        template: Fields that all datagrams share; ``picture``, ``count``, ``index`` and ``payload``
            are filled in here.
        start: Of the index coder.
        payload: Bytes of a payload at most; about 128 and 6 to 64 packets when ``None``.

    Raises:
        UsageProblem: Not with 255 datagrams of so few bytes, or no place for so much parity.
        InputError: Parity is wanted and zfec is not installed.
    """
    payloads = _cut(indices, template, start, payload)
    if len(payloads) + template.parity > MOST_DATAGRAMS:
        raise UsageProblem(f"{len(payloads)} packets and {template.parity} of parity: over 255")
    check = symbol_check(indices)
    template = replace(template, picture=check, count=len(payloads))
    payloads += _parity(payloads, template.parity)
    return write_packets(
        [write_datagram(replace(template, index=i, payload=p)) for i, p in enumerate(payloads)]
    )


def _cut(
    indices: np.ndarray, template: Datagram, start: TreeStart, payload: int | None
) -> list[bytes]:
    most = min(MOST_DATAGRAMS - template.parity, indices.size)
    if most < 1:
        raise UsageProblem("data and parity together have 255 packets at most")
    longest = LONGEST_DATAGRAM - _HEADER - _LENGTH
    if payload is None:
        total = sum(map(len, _payloads(indices, min(_FEWEST, most), template.bits, start)))
        count = max(_FEWEST, min(_MOST, total // _AIM), total // _LARGE)
    else:
        longest = min(longest, payload)
        count = 1
    count = min(count, most)
    while max(map(len, found := _payloads(indices, count, template.bits, start))) > longest:
        if count == most:
            raise UsageProblem(
                f"payloads of {longest} bytes are too small: the picture would take over {most}"
            )
        # Smaller packets predict less, so the number that fits is approached from below.
        count = min(most, max(count + 1, -(-sum(map(len, found)) // longest)))
    return found


def _payloads(indices: np.ndarray, count: int, bits: int, start: TreeStart) -> list[bytes]:
    flat, shape = indices.ravel(), (indices.shape[0], indices.shape[1])
    return [
        encode_scattered(flat[places], places, shape, bits, start)
        for places in _places(shape, count)
    ]


def _places(shape: tuple[int, int], count: int) -> list[np.ndarray]:
    """Return the flat positions of each packet: runs of the R2 order."""
    order = r2_order(*shape)
    return [order[k * order.size // count : (k + 1) * order.size // count] for k in range(count)]


def _parity(payloads: list[bytes], parity: int) -> list[bytes]:
    """Return packets, any one of which stands in for any one that is lost."""
    if not parity:
        return []
    try:
        import zfec
    except ImportError as error:
        raise InputError("parity needs zfec: pip install 'lic[parity]'") from error
    longest = _LENGTH + max(map(len, payloads))
    blocks = [_block(p, longest) for p in payloads]
    coder = zfec.Encoder(len(payloads), len(payloads) + parity)
    return list(coder.encode(blocks, tuple(range(len(payloads), len(payloads) + parity))))


def _block(payload: bytes, length: int) -> bytes:
    return (len(payload).to_bytes(_LENGTH, "little") + payload).ljust(length, b"\0")


# -- datagrams -> indices -------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Indices as far as they are known.

    Attributes:
        indices: int64 ``(h, w)``, 0 where unknown.
        known: bool ``(h, w)``.
        recovered: Data packets that parity gave back.
        parity_unused: Data is missing that parity might give back, but zfec is not installed.
    """

    indices: np.ndarray
    known: np.ndarray
    recovered: int
    parity_unused: bool


def decode_packets(
    received: Received,
    shape: tuple[int, int],
    start: TreeStart,
    decoded: dict[tuple[int, bytes], np.ndarray] | None = None,
) -> Grid:
    """Return the indices of the packets that arrived.

    Args:
        received: From :func:`lic.container.received.receive`.
        shape: Of the grid.
        start: Of the index coder.
        decoded: Indices by number and payload of a packet, all of one picture; those that are there
            are taken, others are added.

    Raises:
        StreamError: A packet is intact and still does not decode, or all of them together are not
            the picture that was sent.
        NothingReceived: Only parity arrived, and too little of it.
    """
    header = received.header
    payloads, unused = _recover(received)
    if not payloads:
        raise NothingReceived("no data packet arrived, and too little parity")
    if header.count > shape[0] * shape[1]:
        raise StreamError(f"{header.count} packets for {shape[0] * shape[1]} indices")
    indices = np.zeros(shape[0] * shape[1], np.int64)
    known = np.zeros(indices.size, bool)
    places = _places(shape, header.count)
    decoded = {} if decoded is None else decoded
    for number, payload in payloads.items():
        at, key = places[number], (number, payload)
        if key not in decoded:
            decoded[key] = decode_scattered(payload, at, shape, header.bits, start)
        indices[at] = decoded[key]
        known[at] = True
    grid = indices.reshape(shape)
    if known.all() and symbol_check(grid) != header.picture:
        raise StreamError("indices differ from those that were sent")
    return Grid(grid, known.reshape(shape), len(payloads) - received.data, unused)


def _recover(received: Received) -> tuple[dict[int, bytes], bool]:
    """Return the payloads of data packets, and whether zfec was missed."""
    header = received.header
    data = {k: p for k, p in received.payloads.items() if k < header.count}
    if len(data) == header.count or len(received.payloads) < header.count:
        return data, False
    try:
        import zfec
    except ImportError:
        return data, True
    longest = len(next(p for k, p in received.payloads.items() if k >= header.count))
    blocks = {
        k: p if k >= header.count else _block(p, longest) for k, p in received.payloads.items()
    }
    if longest < _LENGTH or any(len(b) != longest for b in blocks.values()):
        return data, False
    numbers = sorted(blocks)[: header.count]
    coder = zfec.Decoder(header.count, header.count + header.parity)
    whole = coder.decode([blocks[k] for k in numbers], numbers)
    lengths = [int.from_bytes(b[:_LENGTH], "little") for b in whole]
    return {
        k: bytes(b[_LENGTH : _LENGTH + n])
        for k, (b, n) in enumerate(zip(whole, lengths, strict=True))
    }, False
