"""What needs the real coder: probability tables fitted to symbols, and curves of whole files."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from lic.codecs.registry import load_codec
from lic.coding.tables import ProbabilityTables, tables_from_histograms
from lic.pictures import Picture
from lic.training.validation import RATES, Measure, psnr_of
from lic.weights.store import save_weights

__all__ = ["byte_curve", "fit_tables", "has_coder", "temporary_codec"]

_LARGEST_SYMBOL = 1023
_PRIOR_WEIGHT = 4000.0
"""Symbols that the Gaussian start of a table is worth: enough for rare tables to keep its shape."""

_SIDE = 512
_PICTURES = 160


def has_coder() -> bool:
    """Tell whether files can be made here; a bare GPU machine trains without the range coder."""
    return importlib.util.find_spec("constriction") is not None


def temporary_codec(task: Any, model: nn.Module, tables: dict[str, Tensor] | None) -> Any:
    """Return the codec that an export of these networks would be.

    Args:
        task: Of the family.
        model: Averaged weights.
        tables: Fitted tables; Gaussian ones when ``None``.
    """
    with tempfile.TemporaryDirectory() as folder:
        return load_codec(save_weights(folder, *task.export(model, "unfitted", {}, tables)))


def fit_tables(task: Any, model: nn.Module, pictures: Sequence[Tensor]) -> ProbabilityTables:
    """Refit the probability tables to the symbols that the encoder really chooses.

    The encoder leaves out symbols that are not worth their bits and images are not Gaussian, so
    measured tables cost less than Gaussian ones. Each picture is coded at two of the rates; both
    ends of the range get their share.

    Args:
        task: Of the family.
        model: Averaged weights.
        pictures: Of the training set, uint8 ``(3, H, W)``; the middle of some of them is used.
    """
    codec = temporary_codec(task, model, None)
    tables: ProbabilityTables = codec.loop.tables
    counts = np.zeros((len(tables), 2 * _LARGEST_SYMBOL + 1), np.int64)
    chosen = pictures[:: max(1, len(pictures) // _PICTURES)]
    for number, pixels in enumerate(chosen):
        for rate in (RATES[number % len(RATES)], RATES[(number + len(RATES) // 2) % len(RATES)]):
            for index, symbol in codec.symbols(_middle(pixels), 100 * rate):
                symbol = symbol.astype(np.int64).clip(-_LARGEST_SYMBOL, _LARGEST_SYMBOL)
                np.add.at(counts, (index.astype(np.int64), symbol + _LARGEST_SYMBOL), 1)
    return tables_from_histograms(tables, counts, _PRIOR_WEIGHT)


def byte_curve(codec: Any, pictures: Sequence[Tensor], measure: Measure = psnr_of) -> np.ndarray:
    """Return rows (rate, bpp, quality), means over pictures, from whole files and 8-bit pixels."""
    rows = []
    for rate in RATES:
        points = []
        for pixels in pictures:
            picture = _picture(pixels)
            encoded = codec.encode(picture, 100 * rate, reconstruct=True)
            area = picture.width * picture.height
            quality = measure(picture.pixels, encoded.reconstruction.pixels)
            points.append((8 * len(encoded.data) / area, quality))
        rows.append([rate, *np.mean(points, axis=0)])
    return np.array(rows)


def _picture(pixels: Tensor) -> Picture:
    return Picture(np.ascontiguousarray(pixels.numpy().transpose(1, 2, 0)))


def _middle(pixels: Tensor) -> Picture:
    top, left = (max(0, (s - _SIDE) // 2) for s in pixels.shape[1:])
    return _picture(pixels[:, top : top + _SIDE, left : left + _SIDE])
