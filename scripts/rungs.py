"""What each rung of the vqgan ladder costs, by each index coder, and what transcoding to it costs.

Usage: python scripts/rungs.py PICTURES [--weights PATH] [--limit N]

PICTURES is a folder or the name of a set. Prints two Markdown tables. The first is about indices:
bits of an index by each coder against log2(K), whole files, codewords in use, most seconds of the
default coder and, where its network is there, of the transformer. The second compares files encoded
at a rung with files that `lic transcode` made from those of 1024 codewords.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lic.codecs.indices import DEFAULT_CODER, decode_indices, encode_indices
from lic.codecs.plan import Plan
from lic.codecs.vqgan import VqganCodec
from lic.container import parse_stream
from lic.errors import LicError
from lic.evaluation.datasets import find_dataset
from lic.evaluation.metrics import lpips, psnr
from lic.pictures import Picture, read_picture
from lic.weights import companions, find_weights

FROM = 1024
NETWORK = "transformer"


def rung_row(
    codec: VqganCodec, pictures: Sequence[Picture], bits: int, coders: Sequence[str]
) -> str:
    """Code the indices of all pictures at a rung with every coder."""
    grids = [codec.encode_latents(p, bits, Plan(p.height, p.width, codec.step)) for p in pictures]
    positions = sum(g.size for g in grids)
    cost: dict[str, float] = {}
    seconds: dict[str, list[tuple[float, float]]] = {c: [] for c in coders}
    for coder in coders:
        coded = []
        prior = codec.prior_of(coder)
        rest = codec.start, prior.hints if prior else None
        for grid in grids:
            begun = time.perf_counter()
            coded.append(encode_indices(grid, bits, coder, *rest))
            middle = time.perf_counter()
            back = decode_indices(coded[-1], grid.shape, bits, coder, *rest)
            seconds[coder].append((middle - begun, time.perf_counter() - middle))
            if not np.array_equal(back, grid):
                raise LicError(f"{coder} did not give the indices of 2^{bits} back")
        cost[coder] = 8 * sum(map(len, coded)) / positions
    options = {"codebook_size": 2**bits}
    rates = [8 * len(codec.encode(p, 0, **options).data) / p.width / p.height for p in pictures]
    flat = np.concatenate([g.ravel() for g in grids])
    used = np.unique(flat, return_counts=True)[1] / positions
    saved = 100 * (1 - cost[DEFAULT_CODER] / bits)
    slow = [c for c in coders if c in (DEFAULT_CODER, NETWORK)]
    return (
        " | ".join(
            (
                f"| {2**bits}",
                f"{statistics.mean(rates):.4f}",
                *(f"{cost[c]:.2f}" for c in coders),
                f"{saved:.1f} %",
                f"{math.exp(-(used * np.log(used)).sum()):.0f}",
                *(f"{max(s[i] for s in seconds[c]):.3f}" for c in slow for i in (0, 1)),
            )
        )
        + " |"
    )


def transcode_row(codec: VqganCodec, pictures: Sequence[Picture], size: int) -> str:
    """Compare files encoded at a rung with those transcoded to it."""
    rows = []
    for picture in pictures:
        fine = parse_stream(codec.encode(picture, 0, codebook_size=FROM).data)
        files = (
            codec.encode(picture, 0, codebook_size=size).data,
            codec.transcode(fine, size).data,
        )
        for data in files:
            shown = codec.decode(data).pixels
            rate = 8 * len(data) / picture.width / picture.height
            distance = lpips(picture.pixels, shown)
            assert distance is not None  # pictures large enough
            rows.append((rate, distance, psnr(picture.pixels, shown)))
    means = [[statistics.mean(r[i] for r in rows[at::2]) for i in range(3)] for at in (0, 1)]
    cells = [f"{r:.4f} | {d:.4f} | {p:.2f}" for r, d, p in means]
    return f"| {size} | {cells[0]} | {cells[1]} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures")
    parser.add_argument("--weights")
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    try:
        codec = VqganCodec(find_weights("vqgan", path=given.weights))
        files = find_dataset(given.pictures)[: given.limit]
        pictures = [read_picture(Path(f).read_bytes(), name=str(f)) for f in files]
        rungs = range(codec.bottom, codec.top + 1)
        codec.decode(codec.encode(pictures[0], 0).data)  # compiles the coder
        coders = ["uniform", "static", DEFAULT_CODER]
        heads = ["encode s", "decode s"]
        if companions(codec.card, "prior-transformer"):
            coders, heads = [*coders, NETWORK], [*heads, f"{NETWORK}: encode s", "decode s"]
        columns = ["K", "bpp", *coders, "below log2 K", "perplexity", *heads]
        print(f"| {' | '.join(columns)} |\n{'|---:' * len(columns)}|")
        for bits in rungs:
            print(rung_row(codec, pictures, bits, coders), flush=True)
        print(f"\n| K | bpp | LPIPS | PSNR dB | from {FROM}: bpp | LPIPS | PSNR dB |")
        print("|---:" * 7 + "|")
        for bits in rungs:
            if 2**bits < FROM:
                print(transcode_row(codec, pictures, 2**bits), flush=True)
    except LicError as error:
        raise SystemExit(f"rungs: {error}") from error


if __name__ == "__main__":
    main()
