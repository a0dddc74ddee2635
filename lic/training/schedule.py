"""The learning rate over a run, as a function of the part of its budget that is spent."""

from __future__ import annotations

import math

from lic.training.config import OptimiserConfig

__all__ = ["learning_rate"]


def learning_rate(config: OptimiserConfig, step: int, part: float) -> float:
    """Return the learning rate as a part of its peak.

    After ``warmup`` steps it stays at its peak for the part ``constant`` of the budget, then falls
    to ``final`` by the end: along a cosine, or in a line where it was constant before (the cooled
    branch of Haegele et al. 2024, arXiv 2405.18392). Since it follows time and not steps, a run
    ends annealed on any machine.

    Args:
        config: Section ``optimiser`` of the recipe.
        step: Steps done in this run.
        part: Share of the budget that is spent, 0..1.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if not config.constant:
        fallen = 0.5 * (1 + math.cos(math.pi * part))
    else:
        fallen = min(1.0, (1 - part) / max(1e-9, 1 - config.constant))
    return warm * (config.final + (1 - config.final) * fallen)
