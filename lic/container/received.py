"""Which datagrams of a packet stream are usable, and of which picture."""

from __future__ import annotations

from dataclasses import dataclass, field

from lic.container.header import check_pixels
from lic.container.packets import Datagram, parse_datagram, read_packets
from lic.errors import NothingReceived, StreamError

__all__ = ["Received", "receive"]


@dataclass(frozen=True)
class Received:
    """What arrived of one picture, and what else did.

    Attributes:
        header: Any datagram of it.
        payloads: By number; parity from ``header.count`` on.
        datagrams: In the stream, all together.
        damaged: Cut or changed on the way, or not datagrams at all.
        doubled: Arrived before.
        foreign: Of other pictures.
    """

    header: Datagram
    payloads: dict[int, bytes] = field(repr=False)
    datagrams: int
    damaged: int
    doubled: int
    foreign: int

    @property
    def data(self) -> int:
        """Data packets that arrived."""
        return sum(k < self.header.count for k in self.payloads)


def receive(data: bytes, max_pixels: int = 0) -> Received:
    """Sort the datagrams of a stream; where several pictures arrived, the one with most counts.

    Raises:
        StreamError: It is no packet stream.
        NothingReceived: It has no intact datagram.
        LimitError: The picture has more than ``max_pixels``; 0 is no limit.
    """
    whole = read_packets(data)
    pictures: dict[tuple[object, ...], dict[int, Datagram]] = {}
    damaged = doubled = 0
    for bytes_ in whole:
        try:
            datagram = parse_datagram(bytes_)
        except StreamError:
            damaged += 1
            continue
        numbers = pictures.setdefault(datagram.of, {})
        doubled += datagram.index in numbers
        numbers.setdefault(datagram.index, datagram)
    if not pictures:
        told = f"{damaged} damaged datagrams and no intact one" if damaged else "no datagram"
        raise NothingReceived(told + " arrived")
    chosen = max(pictures.values(), key=len)
    foreign = sum(map(len, pictures.values())) - len(chosen)
    header = next(iter(chosen.values()))
    check_pixels(header.width, header.height, max_pixels)
    payloads = {k: d.payload for k, d in sorted(chosen.items())}
    return Received(header, payloads, len(whole), damaged, doubled, foreign)
