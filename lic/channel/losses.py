"""Which packets of a row are lost: models of channels.

Independent losses, and the two-state chain of Gilbert (1960) whose bad state loses all, given
by what people measure: the share that is lost and the mean length of a burst.
"""

from __future__ import annotations

import numpy as np

from lic.errors import UsageProblem

__all__ = ["lost_in_bursts", "lost_independently"]


def lost_independently(count: int, loss: float, random: np.random.Generator) -> np.ndarray:
    """Return which of ``count`` packets are lost, bool.

    Args:
        count: Packets in sending order.
        loss: Probability of a loss, 0..1.
        random: Source of chance.

    Raises:
        UsageProblem: ``loss`` is outside 0..1.
    """
    _check_loss(loss)
    return random.random(count) < loss


def lost_in_bursts(
    count: int, loss: float, burst: float, random: np.random.Generator
) -> np.ndarray:
    """Return which of ``count`` packets are lost, bool; the chain starts in its long-term state.

    Args:
        count: Packets in sending order.
        loss: Share that is lost in the long run, 0..1.
        burst: Mean number of packets lost in a row, at least 1.
        random: Source of chance.

    Raises:
        UsageProblem: ``loss`` is outside 0..1, or so high that good runs would be shorter than one.
    """
    _check_loss(loss)
    if burst < 1:
        raise UsageProblem(f"a burst of {burst:g} packets is shorter than one")
    if loss in (0.0, 1.0):
        return np.full(count, loss == 1.0)
    leave = 1 / burst
    enter = loss * leave / (1 - loss)
    if enter > 1:
        raise UsageProblem(f"bursts of {burst:g} do not lose {loss:g} of all; longer ones do")
    chance = random.random(count)
    lost = np.empty(count, bool)
    bad = random.random() < loss
    for i, x in enumerate(chance):
        lost[i] = bad
        bad = x >= leave if bad else x < enter
    return lost


def _check_loss(loss: float) -> None:
    if not 0 <= loss <= 1:
        raise UsageProblem(f"loss {loss:g} is outside 0..1")
