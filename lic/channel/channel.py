"""A channel: datagrams go in, fewer and other ones come out. Seeded, so that it can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lic.channel.losses import lost_in_bursts, lost_independently
from lic.errors import UsageProblem

__all__ = ["Channel", "Passed", "read_trace"]


@dataclass(frozen=True)
class Channel:
    """What happens to datagrams on their way, in this order: loss, damage, copies, order.

    Attributes:
        loss: Share of datagrams lost, 0..1.
        burst: Mean number lost in a row; ``None`` loses them independently.
        trace: For each datagram in turn whether it is lost, from the start again where it ends;
            instead of ``loss``.
        drop: Numbers of datagrams that are lost in any case, from 0.
        truncate: Share of datagrams of which only a part arrives, 0..1.
        flip: Share of bits that arrive inverted, 0..1.
        duplicate: Share of datagrams that arrive twice, 0..1.
        reorder: Datagrams may arrive so many places early or late.
        reverse: The last comes first.
    """

    loss: float = 0.0
    burst: float | None = None
    trace: tuple[bool, ...] | None = None
    drop: frozenset[int] = frozenset()
    truncate: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    reorder: int = 0
    reverse: bool = False

    def __post_init__(self) -> None:
        for name in ("loss", "truncate", "flip", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageProblem(f"{name} {getattr(self, name):g} is outside 0..1")
        if self.trace is not None and (self.loss or self.burst is not None):
            raise UsageProblem("a trace says what is lost; leave loss and burst out, drop may stay")
        if self.burst is not None and not self.loss:
            raise UsageProblem("burst needs loss: the share of datagrams that is lost")
        if self.reorder < 0:
            raise UsageProblem("reorder counts places: 0 or more")

    def lost(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return which of ``count`` datagrams are lost, bool."""
        if self.trace is not None:
            lost = np.resize(np.array(self.trace, bool), count)
        elif self.burst is not None:
            lost = lost_in_bursts(count, self.loss, self.burst, random)
        else:
            lost = lost_independently(count, self.loss, random)
        named = [i for i in self.drop if i < count]
        lost[named] = True
        return lost

    def send(self, datagrams: Sequence[bytes], seed: int) -> Passed:
        """Return what arrives.

        Args:
            datagrams: In sending order.
            seed: Random seed, 0 or more.
        """
        # A source of chance for each thing that may happen: switching one on moves no other.
        chances = np.random.default_rng(seed).spawn(5)
        lost = self.lost(len(datagrams), chances[0])
        arrived = [d for d, gone in zip(datagrams, lost, strict=True) if not gone]
        cut = chances[1].random(len(arrived)) < self.truncate
        parts = chances[1].random(len(arrived))
        arrived = [
            d[: int(part * len(d))] if short else d
            for d, short, part in zip(arrived, cut, parts, strict=True)
        ]
        flipped = [_flip(d, self.flip, chances[2]) for d in arrived]
        changed = sum(a != b for a, b in zip(arrived, flipped, strict=True))
        twice = chances[3].random(len(flipped)) < self.duplicate
        copies = [d for d, more in zip(flipped, twice, strict=True) for d in [d] * (1 + more)]
        places = np.arange(len(copies)) + chances[4].uniform(0, self.reorder + 1, len(copies))
        order = np.argsort(places, kind="stable")
        order = order[::-1] if self.reverse else order
        return Passed(
            datagrams=[copies[i] for i in order],
            sent=len(datagrams),
            lost=int(lost.sum()),
            cut=int(cut.sum()),
            flipped=changed,
            doubled=int(twice.sum()),
            moved=int((order != np.arange(len(order))).sum()),
        )


@dataclass(frozen=True)
class Passed:
    """What arrived, and how much of what happened.

    Attributes:
        datagrams: As they arrive.
        sent, lost, cut, flipped, doubled, moved: Numbers of datagrams.
    """

    datagrams: list[bytes]
    sent: int
    lost: int
    cut: int
    flipped: int
    doubled: int
    moved: int


def _flip(datagram: bytes, share: float, random: np.random.Generator) -> bytes:
    if not share:
        return datagram
    bits = np.unpackbits(np.frombuffer(datagram, np.uint8))
    return np.packbits(bits ^ (random.random(bits.size) < share)).tobytes()


def read_trace(text: str, name: str) -> tuple[bool, ...]:
    """Read a trace: 0 for a datagram that arrives, 1 for one that is lost, white space between.

    Raises:
        UsageProblem: It has other signs, or none.
    """
    signs = "".join(text.split())
    if not signs or set(signs) - {"0", "1"}:
        raise UsageProblem("a trace holds 0 (arrives) and 1 (lost), and white space alone", name)
    return tuple(sign == "1" for sign in signs)
