"""Run a transform over a picture in strips, with bounded memory and without a seam.

A strip is computed with a halo at least as tall as the transform's receptive field and cropped, so
strips agree with the whole picture up to rounding. The plan depends on the picture's size alone:
more threads take more strips at once and change no result.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["HALO", "one_thread", "plan_strips", "run_strips"]

_WHOLE_UP_TO = 4096
_STRIP_POSITIONS = 4096
HALO = 8
_TALL_HALO = 16
"""Strips do not grow with halos above it, so that memory stays bounded."""


def plan_strips(height: int, width: int, align: int = 1, halo: int = HALO) -> list[tuple[int, int]]:
    """Return row ranges of a latent grid: one up to a megapixel, then about a megapixel each.

    All begin at multiples of ``align``, and are tall enough for the halo to cost less than they do.
    """
    if height * width <= _WHOLE_UP_TO:
        return [(0, height)]
    rows = max(4 * min(halo, _TALL_HALO), _STRIP_POSITIONS // width)
    count = max(1, round(height / rows))
    edges = [height * i // count // align * align for i in range(count)]
    return list(itertools.pairwise([*dict.fromkeys(edges), height]))


class _OneThread:
    """Holds torch to one thread an operation while anybody is inside.

    The setting belongs to the process and, in part, to the calling thread: everybody who enters
    sets it, the last one to leave restores what the first one found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.set_num_threads(self._before)


one_thread = _OneThread()


def run_strips(
    transform: Callable[[Tensor, tuple[int, int]], Tensor],
    source: Tensor,
    height: int,
    width: int,
    source_rows: int,
    target_rows: int,
    threads: int,
    halo: int = HALO,
    align: int = 1,
) -> Tensor:
    """Apply a transform strip by strip.

    Args:
        transform: ``(rows of source, (first, last) latent rows with halo) -> rows of target``.
        source: ``(1, C, height * source_rows, ...)``.
        height, width: Of the latent grid.
        source_rows, target_rows: Rows of source and target per latent row.
        threads: Strips at once.
        halo: Latent rows around a strip, at least as many as the transform sees; a multiple of
            ``align``.
        align: Strips begin at multiples of so many latent rows, as windows of attention want.

    Returns:
        The assembled target.
    """

    def one(rows: tuple[int, int]) -> Tensor:
        first, last = max(0, rows[0] - halo), min(height, rows[1] + halo)
        out = transform(source[:, :, first * source_rows : last * source_rows], (first, last))
        top = (rows[0] - first) * target_rows
        return out[:, :, top : top + (rows[1] - rows[0]) * target_rows]

    strips = plan_strips(height, width, align, halo)
    with one_thread:
        if threads == 1 or len(strips) == 1:
            return torch.cat([one(rows) for rows in strips], dim=2)
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(one, strips)), dim=2)
