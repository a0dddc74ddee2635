"""Find the quality that meets a target, by bisection over the steps that a codec has.

An effort that takes many times as long is left out of the bisection; a few steps around what was
found are then tried with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic.codecs.base import Codec, Encoded
from lic.codecs.effort import effort_of
from lic.errors import UsageProblem
from lic.networks.ssimulacra2 import LEAST_SIDE, Ssimulacra2
from lic.pictures import Picture

__all__ = ["encode_to_psnr", "encode_to_size", "encode_to_ssimulacra2"]

_STEPS = 256
"""Of codecs that do not say ``quality_steps``: one for each rate byte."""


def encode_to_size(codec: Codec, picture: Picture, size: float, **options: Any) -> Encoded:
    """Encode at the highest quality whose file has at most ``size`` bytes.

    Raises:
        UsageProblem: Even quality 0 is larger.
    """

    def fits(encoded: Encoded) -> bool:
        return len(encoded.data) <= size

    if _refines(options):
        last, _ = _around(codec, picture, fits, options)
    else:
        best = _bisect(codec, picture, fits, options)
        last = best[1] if best else None
    if last is None:
        smallest = len(codec.encode(picture, 0, **options).data)
        raise UsageProblem(f"cannot be coded in {size:.0f} bytes; quality 0 takes {smallest}")
    return last


def encode_to_psnr(codec: Codec, picture: Picture, psnr: float, **options: Any) -> Encoded:
    """Encode at the lowest quality that reaches ``psnr`` dB on 8-bit RGB.

    Raises:
        UsageProblem: Even quality 100 is below.
    """
    return _encode_to(codec, picture, psnr, _psnr, "{:.2f} dB", options)


def encode_to_ssimulacra2(codec: Codec, picture: Picture, score: float, **options: Any) -> Encoded:
    """Encode at the lowest quality that reaches a score of SSIMULACRA 2.

    Raises:
        UsageProblem: Even quality 100 is below, or a side is under 8 pixels.
    """
    if min(picture.width, picture.height) < LEAST_SIDE:
        raise UsageProblem(f"SSIMULACRA 2 needs {LEAST_SIDE} pixels a side")
    metric = Ssimulacra2()
    with torch.inference_mode():
        wanted = metric.features(_tensor(picture))

    def measure(_picture: Picture, encoded: Encoded) -> float:
        assert encoded.reconstruction is not None
        with torch.inference_mode():
            return float(metric.score(wanted, _tensor(encoded.reconstruction)))

    return _encode_to(codec, picture, score, measure, "a SSIMULACRA 2 of {:.2f}", options)


def _encode_to(
    codec: Codec,
    picture: Picture,
    wanted: float,
    measure: Callable[[Picture, Encoded], float],
    says: str,
    options: dict[str, Any],
) -> Encoded:
    """Encode at the lowest quality that measures at least ``wanted``."""
    options = options | {"reconstruct": True}

    def below(encoded: Encoded) -> bool:
        return measure(picture, encoded) < wanted

    first = None
    if _refines(options):
        _, first = _around(codec, picture, below, options)
    else:
        best = _bisect(codec, picture, below, options)
        step = 0 if best is None else best[0] + 1
        if step < _steps(codec):
            first = codec.encode(picture, _quality(step, codec), **options)
    if first is None:
        most = measure(picture, codec.encode(picture, 100, **options))
        raise UsageProblem(
            f"cannot reach {says.format(wanted)}; quality 100 gives {says.format(most)}"
        )
    return first


def _refines(options: dict[str, Any]) -> bool:
    return effort_of(options.get("effort")).passes > 0


def _around(
    codec: Codec, picture: Picture, holds: Callable[[Encoded], bool], options: dict[str, Any]
) -> tuple[Encoded | None, Encoded | None]:
    """Return the last encoding where ``holds`` and the first where it does not.

    Begins at the step that is found with the usual effort.
    """
    quick = {k: v for k, v in options.items() if k != "effort"}
    found = _bisect(codec, picture, holds, quick)
    step = found[0] if found else 0
    last = first = None
    while (last is None or first is None) and 0 <= step < _steps(codec):
        encoded = codec.encode(picture, _quality(step, codec), **options)
        if holds(encoded):
            last, step = encoded, step + 1
        else:
            first, step = encoded, step - 1
    return last, first


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


def _tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def _psnr(picture: Picture, encoded: Encoded) -> float:
    assert encoded.reconstruction is not None
    difference = picture.pixels.astype(float) - encoded.reconstruction.pixels
    mse = float(np.mean(difference**2))
    return 10 * float(np.log10(255**2 / mse)) if mse else float("inf")
