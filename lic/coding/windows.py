"""Windows of a grid for attention: any grid, by padding that takes no part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Windows", "offsets_apart"]


@dataclass(frozen=True)
class Windows:
    """How a grid is cut into squares.

    Attributes:
        height, width: Of the grid.
        side: Of a window, positions.
        shift: Of the windows to the upper left, 0 to ``side - 1``.
    """

    height: int
    width: int
    side: int
    shift: int = 0

    @property
    def _padded(self) -> tuple[int, int]:
        """Rows and columns with the padding."""
        height, width = (-(-(s + self.shift) // self.side) for s in (self.height, self.width))
        return height * self.side, width * self.side

    def cut(self, x: Tensor) -> Tensor:
        """Return ``(N * windows, side^2, C)`` of ``(N, C, height, width)``, padded with zeros."""
        n, c, h, w = x.shape
        (rows, columns), side = self._padded, self.side
        x = F.pad(x, (self.shift, columns - w - self.shift, self.shift, rows - h - self.shift))
        x = x.view(n, c, rows // side, side, columns // side, side).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(-1, side * side, c)

    def join(self, tokens: Tensor) -> Tensor:
        """Undo :meth:`cut`."""
        (rows, columns), side, c = self._padded, self.side, tokens.shape[2]
        x = tokens.view(-1, rows // side, columns // side, side, side, c)
        # Channels stay the innermost dimension in memory.
        x = x.transpose(2, 3).reshape(-1, rows, columns, c).permute(0, 3, 1, 2)
        return x[:, :, self.shift :, self.shift :][:, :, : self.height, : self.width]

    def hidden(self, device: torch.device) -> Tensor | None:
        """Return which positions of each window are padding, ``(windows, side^2)``, if any are."""
        if self._padded == (self.height, self.width) and not self.shift:
            return None
        inside = torch.ones(1, 1, self.height, self.width, device=device)
        return self.cut(inside)[:, :, 0] == 0


def offsets_apart(side: int) -> Tensor:
    """Return a number for the offset between any two positions of a window, ``(side^2, side^2)``.

    There are ``(2 side - 1)^2`` numbers, row by row from the offset to the upper left.
    """
    at = torch.stack(torch.meshgrid(*2 * [torch.arange(side)], indexing="ij")).flatten(1)
    apart = at[:, :, None] - at[:, None, :] + side - 1
    return apart[0] * (2 * side - 1) + apart[1]
