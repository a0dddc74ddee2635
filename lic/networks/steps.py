"""Which latents a context step codes: channels of the four phases of a 2x2 lattice.

A step is a tuple of parts of equal width; it codes them together, without seeing one another, and
sees all steps before it. Tensors of latents ``(N, M, h, w)`` are taken apart by phase to
``(N, M, 4, h/2, w/2)``, so that what a step codes is a slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PHASES", "Part", "Steps", "checkerboard", "latin_square", "merge", "split"]

PHASES = 4
_GROUP_OF_PHASE = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))
_ANCHORS, _OTHERS = (0, 3), (1, 2)


@dataclass(frozen=True)
class Part:
    """Channels ``first`` up to ``last`` (not included) of the positions of one phase.

    Phases count through a 2x2 block: upper left, upper right, lower left, lower right.
    """

    phase: int
    first: int
    last: int


@dataclass(frozen=True)
class Steps:
    """The order in which latents are coded.

    Attributes:
        parts: Of each step; together they hold every latent once.
    """

    parts: tuple[tuple[Part, ...], ...]

    def __len__(self) -> int:
        return len(self.parts)

    def take(self, taken_apart: Tensor, step: int) -> Tensor:
        """Return what a step codes of :func:`split` latents, ``(N, parts, width, h/2, w/2)``."""
        return torch.stack(
            [taken_apart[:, p.first : p.last, p.phase] for p in self.parts[step]], dim=1
        )

    def take_all(self, taken_apart: Tensor) -> list[Tensor]:
        """Return :meth:`take` of every step.

        The gradient is put together once, instead of out of one padded piece for each part.
        """
        pieces: list[dict[int, Tensor]] = []
        for phase, values in enumerate(taken_apart.unbind(2)):
            ends = sorted(
                (p.first, p.last) for step in self.parts for p in step if p.phase == phase
            )
            widths = [last - first for first, last in ends]
            firsts = [first for first, _ in ends]
            pieces.append(dict(zip(firsts, torch.split(values, widths, 1), strict=True)))
        return [torch.stack([pieces[p.phase][p.first] for p in step], 1) for step in self.parts]

    def assemble(self, values: Sequence[Tensor]) -> Tensor:
        """Return split latents ``(N, M, phase, h/2, w/2)`` of the first steps' values.

        Args:
            values: Values of the steps so far, as :meth:`take` gives them; later ones are zero.
        """
        nothing: dict[int, Tensor] = {}
        pieces: list[dict[int, Tensor]] = [{} for _ in range(PHASES)]
        for number, parts in enumerate(self.parts):
            given = values[number].unbind(1) if number < len(values) else None
            for at, p in enumerate(parts):
                if given is not None:
                    piece = given[at]
                else:
                    width = p.last - p.first
                    if width not in nothing:
                        n, _, _, h, w = values[0].shape
                        nothing[width] = values[0].new_zeros(n, width, h, w)
                    piece = nothing[width]
                pieces[p.phase][p.first] = piece
        ordered = [[by_first[first] for first in sorted(by_first)] for by_first in pieces]
        return torch.stack([torch.cat(phase, dim=1) for phase in ordered], dim=2)


def split(y: Tensor) -> Tensor:
    """Rearrange ``(N, M, h, w)`` to ``(N, M, phase, h/2, w/2)``."""
    n, m, h, w = y.shape
    return F.pixel_unshuffle(y, 2).reshape(n, m, PHASES, h // 2, w // 2)


def merge(taken_apart: Tensor) -> Tensor:
    """Undo :func:`split`."""
    n, m, phases, h, w = taken_apart.shape
    return F.pixel_shuffle(taken_apart.reshape(n, m * phases, h, w), 2)


def latin_square(latents: int) -> Steps:
    """Return four steps, each of which codes every position and another quarter at each phase.

    So each value is predicted from neighbours on all sides and from other channels at its own
    place (the four-step scheme of DCVC-DC, arXiv 2302.14402, sec. 3.3).

    Args:
        latents: M, a multiple of 4.
    """
    width = latents // PHASES
    return Steps(
        tuple(
            tuple(Part(phase, g * width, (g + 1) * width) for phase, g in enumerate(groups))
            for groups in _GROUP_OF_PHASE
        )
    )


def checkerboard(slices: tuple[int, ...]) -> Steps:
    """Return two steps a slice of channels: the anchors of a checkerboard, then the others.

    Uneven slices as in ELIC (arXiv 2203.10886, sec. 3.2), checkerboard of He et al.
    (arXiv 2103.15306).

    Args:
        slices: Channels of each slice.
    """
    steps, first = [], 0
    for width in slices:
        for phases in (_ANCHORS, _OTHERS):
            steps.append(tuple(Part(p, first, first + width) for p in phases))
        first += width
    return Steps(tuple(steps))
