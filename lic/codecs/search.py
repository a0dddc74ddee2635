"""Find the quality that meets a target, by bisection over the 256 rate bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lic.codecs.base import Codec, Encoded
from lic.errors import UsageProblem
from lic.pictures import Picture

__all__ = ["encode_to_psnr", "encode_to_size"]

_BYTES = 255


def encode_to_size(codec: Codec, picture: Picture, size: float, **options: Any) -> Encoded:
    """Encode at the highest quality whose file has at most ``size`` bytes.

    Raises:
        UsageProblem: Even quality 0 is larger.
    """
    best = _bisect(codec, picture, lambda e: len(e.data) <= size, options)
    if best is None:
        smallest = len(codec.encode(picture, 0, **options).data)
        raise UsageProblem(f"cannot be coded in {size:g} bytes; quality 0 takes {smallest}")
    return best


def encode_to_psnr(codec: Codec, picture: Picture, psnr: float, **options: Any) -> Encoded:
    """Encode at the lowest quality that reaches ``psnr`` dB on 8-bit RGB.

    Raises:
        UsageProblem: Even quality 100 is below.
    """
    options = options | {"reconstruct": True}

    def below(encoded: Encoded) -> bool:
        return _psnr(picture, encoded) < psnr

    last_below = _bisect(codec, picture, below, options)
    byte = 0 if last_below is None else round(last_below.details["quality_byte"]) + 1
    if byte > _BYTES:
        best = _psnr(picture, codec.encode(picture, 100, **options))
        raise UsageProblem(f"cannot reach {psnr:.2f} dB; quality 100 gives {best:.2f} dB")
    return codec.encode(picture, _quality(byte), **options)


def _bisect(
    codec: Codec, picture: Picture, holds: Callable[[Encoded], bool], options: dict[str, Any]
) -> Encoded | None:
    """Return the encoding at the last rate byte where ``holds``, which turns false once."""
    low, high, best = 0, _BYTES, None
    while low <= high:
        middle = (low + high) // 2
        encoded = codec.encode(picture, _quality(middle), **options)
        if holds(encoded):
            low, best = middle + 1, encoded
        else:
            high = middle - 1
    return best


def _quality(byte: int) -> float:
    return byte / 2.55


def _psnr(picture: Picture, encoded: Encoded) -> float:
    assert encoded.reconstruction is not None
    difference = picture.pixels.astype(float) - encoded.reconstruction.pixels
    mse = float(np.mean(difference**2))
    return 10 * float(np.log10(255**2 / mse)) if mse else float("inf")
