"""What a restorer trains on: grids with holes as channels leave them, and others."""

from __future__ import annotations

import numpy as np

from lic.channel.losses import lost_in_bursts, lost_independently
from lic.coding.order import r2_order

__all__ = ["packet_mask", "random_mask"]

_PACKETS = (6, 48)
_LOSS = (0.03, 0.6)
_BURST = (2.0, 8.0)


def packet_mask(
    shape: tuple[int, int],
    count: int,
    loss: float,
    burst: float | None,
    random: np.random.Generator,
) -> np.ndarray:
    """Return which positions are lost with the packets of a channel, bool ``(h, w)``.

    Args:
        shape: Of the grid.
        count: Packets that it is sent in.
        loss: Share of packets lost.
        burst: Mean number lost in a row; independent when ``None``.
        random: Source of chance.
    """
    if burst is None:
        gone = lost_independently(count, loss, random)
    else:
        gone = lost_in_bursts(count, loss, burst, random)
    order = r2_order(*shape)
    lost = np.empty(order.size, bool)
    lost[order] = gone[np.arange(order.size) * count // order.size]
    return lost.reshape(shape)


def random_mask(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Return lost positions for training: half of packets, a quarter alone, a quarter in blocks.

    At least one position is lost and one is not, where there is more than one.
    """
    kind = random.random()
    if kind < 0.5:
        count = int(random.integers(*_PACKETS, endpoint=True))
        burst = float(random.uniform(*_BURST)) if random.random() < 0.5 else None
        lost = packet_mask(shape, count, float(random.uniform(*_LOSS)), burst, random)
    elif kind < 0.75:
        lost = random.random(shape) < random.random()
    else:
        lost = _blocks(shape, random)
    flat = lost.ravel()
    if flat.all() or not flat.any():
        flat[random.integers(flat.size)] ^= True
    return lost


def _blocks(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Return a few rectangles, or runs of rows."""
    lost = np.zeros(shape, bool)
    for _ in range(int(random.integers(1, 5))):
        high, wide = (int(random.integers(1, max(2, side // 2))) for side in shape)
        wide = shape[1] if random.random() < 0.3 else wide
        top = int(random.integers(0, shape[0] - high + 1))
        left = int(random.integers(0, shape[1] - wide + 1))
        lost[top : top + high, left : left + wide] = True
    return lost
