"""Size, work and speed of the families with latents, beside CompressAI's cheng2020-anchor.

Usage: python scripts/families.py PICTURES [--weights DIR] [--threads 2] [--anchor 1]

PICTURES is a folder or the name of a set. Prints a Markdown table. Work is what the layers multiply
and add on a picture of 768x512, per pixel. Seconds are means over the pictures in one process that
has its networks loaded. cheng2020-anchor (quality 5, random weights: only its seconds mean
anything) codes the first ANCHOR pictures in bfloat16 where the families do too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lic.codecs.plan import has_fast_bfloat16
from lic.codecs.registry import get_codec
from lic.errors import LicError
from lic.evaluation.datasets import find_dataset
from lic.pictures import Picture, read_picture

FAMILIES = ("hyperprior-psnr", "acgc", "segpic")
QUALITY = 50.0
SIZE = (512, 768)


def work(call: Callable[[], object]) -> float:
    """Return kMAC per pixel of a call on a picture of :data:`SIZE`."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops() / 2 / (SIZE[0] * SIZE[1]) / 1e3


def timed(codec: Any, pictures: list[Picture]) -> tuple[float, float]:
    """Return seconds a picture to encode and to decode."""
    codec.decode(codec.encode(pictures[0], QUALITY).data)
    begun = time.perf_counter()
    coded = [e.data for e in codec.encode_many(pictures, QUALITY)]
    between = time.perf_counter()
    list(codec.decode_many(coded))
    return (between - begun) / len(pictures), (time.perf_counter() - between) / len(pictures)


def family_row(name: str, weights: Path | None, threads: int, pictures: list[Picture]) -> str:
    """Return a family's row of the table."""
    # On one thread, since the counter sees only what runs in its own.
    codec: Any = get_codec(name, weights=weights)
    picture = Picture(np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    data = codec.encode(picture, QUALITY).data
    encode, decode = work(lambda: codec.encode(picture, QUALITY)), work(lambda: codec.decode(data))
    parameters = sum(p.numel() for p in codec.model.parameters()) / 1e6
    megabytes = codec.card.path.stat().st_size / 1e6
    seconds = timed(get_codec(name, weights=weights, threads=threads), pictures)
    return _row(name, parameters, megabytes, encode, decode, *seconds)


def _row(name: str, *figures: float) -> str:
    forms = ("{:.2f}", "{:.2f}", "{:.1f}", "{:.1f}", "{:.3f}", "{:.3f}")
    return (
        f"| {name} | " + " | ".join(f.format(v) for f, v in zip(forms, figures, strict=True)) + " |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--anchor", type=int, default=1)
    given = parser.parse_args()
    pictures = [read_picture(f.read_bytes(), name=f.name) for f in find_dataset(given.pictures)]
    print(
        f"| {given.threads} threads | M parameters | MB | encode kMAC/pixel | decode kMAC/pixel "
        "| encode s | decode s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in FAMILIES:
        print(family_row(name, given.weights, given.threads, pictures), flush=True)
    if given.anchor:
        torch.set_num_threads(given.threads)
        kind = "@bf16" if has_fast_bfloat16() else ""
        anchor: Any = get_codec(f"compressai:cheng2020-anchor{kind}:5", threads=given.threads)
        seconds = timed(anchor, pictures[: given.anchor])
        print(f"| cheng2020-anchor{kind} | | | | | {seconds[0]:.3f} | {seconds[1]:.3f} |")


if __name__ == "__main__":
    try:
        main()
    except LicError as error:
        sys.exit(str(error))
