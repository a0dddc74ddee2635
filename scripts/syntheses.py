"""What the syntheses of hyperprior cost: arithmetic, bytes, CPU seconds in both precisions.

Usage: python scripts/syntheses.py DIR [--quality 50] [--threads 1] [--limit N]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lic.codecs import plan, registry
from lic.codecs.synthesis import SynthesisCodec
from lic.pictures import read_picture

NAMES = ("hyperprior-psnr", "hyperprior-psnr:fast")
SIDE = 32
"""Rows and columns of latents that arithmetic is counted on."""


def codecs(names: tuple[str, ...], threads: int, bfloat16: bool) -> dict[str, Any]:
    """Load codecs anew, in a precision whatever the CPU likes."""
    detected = plan.has_fast_bfloat16
    plan.has_fast_bfloat16 = lambda: bfloat16
    registry._loaded.clear()
    found = {name: registry.get_codec(name, threads=threads) for name in names}
    plan.has_fast_bfloat16 = detected
    return found


def multiplications(g_s: Any, latents: int) -> float:
    """Return thousands of multiplications a pixel, without the filter across block borders."""
    y_hat = torch.zeros(1, latents, SIDE, SIDE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        g_s(y_hat, y_hat, torch.full((1,), 0.5))
        total = counter.get_total_flops()
        g_s.lap(torch.zeros(1, 3, 16 * SIDE, 16 * SIDE))
        filtered = counter.get_total_flops() - total
    return (total - filtered) / 2 / (16 * SIDE) ** 2 / 1000


def main() -> None:
    """Print a table, a row a synthesis."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    files = sorted(given.folder.glob("*.png"))[: given.limit]
    coder = registry.get_codec(NAMES[0], threads=given.threads)
    data = [
        coder.encode(read_picture(f.read_bytes(), name=f.name), given.quality).data for f in files
    ]
    seconds: dict[tuple[str, bool], float] = {}
    counted = {}
    for bfloat16 in (True, False):
        for name, codec in codecs(NAMES, given.threads, bfloat16).items():
            own = codec.shown if isinstance(codec, SynthesisCodec) else codec
            list(codec.decode_many(data[:1]))
            begun = time.process_time()
            list(codec.decode_many(data))
            seconds[name, bfloat16] = (time.process_time() - begun) / len(data)
            cost = multiplications(own.synthesiser.g_s, own.model.shape.latents)
            counted[name] = cost, codec.card.path.stat().st_size / 1e6, own.halo
    print("| synthesis | kMAC a pixel | MB | halo | bfloat16, s | float32, s |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, (cost, size, halo) in counted.items():
        times = f"{seconds[name, True]:.3f} | {seconds[name, False]:.3f}"
        print(f"| `{name}` | {cost:.1f} | {size:.1f} | {halo} | {times} |")


if __name__ == "__main__":
    main()
