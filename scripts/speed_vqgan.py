"""Time the decoder of vqgan beside that of taming-transformers' f16 models, on the same indices.

Usage: python scripts/speed_vqgan.py [--threads 2] [--runs 3] [--size 768x512]

taming's network has the shape of its ImageNet models (f16, 1024 codewords) and random weights: its
picture means nothing, its seconds do. Both run through the same code with the same data type, first
the one that the CPU multiplies fastest, then float32; the turns alternate and the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch

from lic.codecs.plan import Plan, has_fast_bfloat16
from lic.codecs.vqgan import VqganCodec
from lic.networks.taming import TamingShape, TamingVqgan
from lic.pictures import Picture
from lic.training.export import export_vqgan
from lic.weights.store import save_weights

IMAGENET_F16 = TamingShape(
    ch=128,
    ch_mult=(1, 1, 2, 2, 4),
    num_res_blocks=2,
    attention=(4,),
    resamp_with_conv=True,
    z_channels=256,
    double_z=False,
    embed=256,
    top=10,
)


def taming_codec() -> VqganCodec:
    """Return a codec around taming's own classes with random weights."""
    torch.manual_seed(0)
    model = TamingVqgan(IMAGENET_F16)
    with tempfile.TemporaryDirectory() as folder:
        card, tensors = export_vqgan(model, "taming", {}, None)
        return VqganCodec(save_weights(folder, card, tensors))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", default="768x512", metavar="WxH")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    width, height = (int(side) for side in given.size.split("x"))
    random = np.random.default_rng(0)
    picture = Picture(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    codecs = {"lic": VqganCodec(), "taming f16": taming_codec()}
    plan = Plan(height, width, 16)
    indices = random.integers(0, 1024, plan.grid)
    parameters = {
        name: sum(p.numel() for p in codec.model.decoder.parameters()) / 1e6
        for name, codec in codecs.items()
    }
    print("| decoder | M parameters | data type | picture s | whole file s |")
    print("|---|---:|---|---:|---:|")
    told = []
    for dtype in (["bfloat16"] if has_fast_bfloat16() else []) + ["float32"]:
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in codecs}
        files = {n: c.encode(picture, 0, codebook_size=1024).data for n, c in codecs.items()}
        if dtype == "float32":
            for codec in codecs.values():
                codec.model.float()
        for run in range(given.runs + 1):
            for name, codec in codecs.items():
                begun = time.perf_counter()
                codec.decode_picture(indices, 10, plan)
                middle = time.perf_counter()
                codec.decode(files[name])
                if run:  # the first warms up
                    seconds[name].append((middle - begun, time.perf_counter() - middle))
        medians = {
            n: [statistics.median(x) for x in zip(*s, strict=True)] for n, s in seconds.items()
        }
        for name, (alone, whole) in medians.items():
            print(f"| {name} | {parameters[name]:.1f} | {dtype} | {alone:.3f} | {whole:.3f} |")
        ratio = medians["taming f16"][1] / medians["lic"][1]
        told.append(f"whole files in {dtype}: {ratio:.1f} times faster")
    print("\n" + "\n".join(told))


if __name__ == "__main__":
    main()
