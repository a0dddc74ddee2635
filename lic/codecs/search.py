"""Find the quality that meets a target, by bisection over the steps that a codec has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lic.codecs.base import Codec, Encoded
from lic.errors import UsageProblem
from lic.pictures import Picture

__all__ = ["encode_to_psnr", "encode_to_size"]

_STEPS = 256
"""Of codecs that do not say ``quality_steps``: one for each rate byte."""


def encode_to_size(codec: Codec, picture: Picture, size: float, **options: Any) -> Encoded:
    """Encode at the highest quality whose file has at most ``size`` bytes.

    Raises:
        UsageProblem: Even quality 0 is larger.
    """
    best = _bisect(codec, picture, lambda e: len(e.data) <= size, options)
    if best is None:
        smallest = len(codec.encode(picture, 0, **options).data)
        raise UsageProblem(f"cannot be coded in {size:.0f} bytes; quality 0 takes {smallest}")
    return best[1]


def encode_to_psnr(codec: Codec, picture: Picture, psnr: float, **options: Any) -> Encoded:
    """Encode at the lowest quality that reaches ``psnr`` dB on 8-bit RGB.

    Raises:
        UsageProblem: Even quality 100 is below.
    """
    options = options | {"reconstruct": True}

    def below(encoded: Encoded) -> bool:
        return _psnr(picture, encoded) < psnr

    best = _bisect(codec, picture, below, options)
    step = 0 if best is None else best[0] + 1
    if step == _steps(codec):
        reached = _psnr(picture, codec.encode(picture, 100, **options))
        raise UsageProblem(f"cannot reach {psnr:.2f} dB; quality 100 gives {reached:.2f} dB")
    return codec.encode(picture, _quality(step, codec), **options)


def _bisect(
    codec: Codec, picture: Picture, holds: Callable[[Encoded], bool], options: dict[str, Any]
) -> tuple[int, Encoded] | None:
    """Return the last step where ``holds``, which turns false once, and its encoding."""
    low, high, best = 0, _steps(codec) - 1, None
    while low <= high:
        middle = (low + high) // 2
        encoded = codec.encode(picture, _quality(middle, codec), **options)
        if holds(encoded):
            low, best = middle + 1, (middle, encoded)
        else:
            high = middle - 1
    return best


def _steps(codec: Codec) -> int:
    return getattr(codec, "quality_steps", _STEPS)


def _quality(step: int, codec: Codec) -> float:
    return 100 * step / max(1, _steps(codec) - 1)


def _psnr(picture: Picture, encoded: Encoded) -> float:
    assert encoded.reconstruction is not None
    difference = picture.pixels.astype(float) - encoded.reconstruction.pixels
    mse = float(np.mean(difference**2))
    return 10 * float(np.log10(255**2 / mse)) if mse else float("inf")
