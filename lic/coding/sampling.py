"""Bilinear sampling in the coding loop, with the two modes of :mod:`lic.coding.fixed`."""

from __future__ import annotations

from torch import Tensor

from lic.coding.fixed import is_exact, to_grid

__all__ = ["SIXTEENTHS", "sample_bilinear", "to_sixteenths"]

SIXTEENTHS = 16
"""Fractions of a position, so that the four weights are multiples of 2^-8."""


def to_sixteenths(x: Tensor) -> Tensor:
    """Round to multiples of 1/16, half up, in exact mode; the identity while training."""
    if not is_exact(x):
        return x
    return (x * SIXTEENTHS + 0.5).floor_().mul_(1 / SIXTEENTHS)


def sample_bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return values between positions; beyond the edge, those of the edge.

    In exact mode a value of 20 bits times a weight of 2^-8, four of them, stay far below 2^53.

    Args:
        x: ``(N, C, h, w)``.
        rows, columns: ``(N, n)``, in positions; multiples of 1/16 in exact mode.

    Returns:
        ``(N, C, n)``; the gradient flows to values and places.
    """
    height, width = x.shape[2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left
    flat = x.flatten(2)

    def corner(row: Tensor, column: Tensor, weight: Tensor) -> Tensor:
        at = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
        values = flat.gather(2, at.long()[:, None].expand(-1, x.shape[1], -1))
        return values * weight[:, None].to(x.dtype)

    mixed = (
        corner(top, left, (1 - down) * (1 - right))
        + corner(top, left + 1, (1 - down) * right)
        + corner(top + 1, left, down * (1 - right))
        + corner(top + 1, left + 1, down * right)
    )
    return to_grid(mixed)
