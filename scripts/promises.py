"""Try what the README promises of files, on real pictures, and print a line a promise.

Usage: python scripts/promises.py PICTURES [--run RUN] [--rates]

PICTURES is a folder or the name of a set. ``--rates`` also encodes every picture at all 101
qualities, which takes minutes. ``--run`` names the folder of the training run that the weights were
exported from, to compare the fixed-point loop with the floating-point one that was trained.
Returns 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lic.codecs import strips
from lic.codecs.registry import get_codec
from lic.errors import LicError
from lic.evaluation.datasets import find_dataset
from lic.pictures import Picture, read_picture

SIZES = ((1, 1), (7, 5), (65, 63), (640, 427), (4000, 3000))
Promise = tuple[str, bool, str]


def load(files: list[Path]) -> list[Picture]:
    return [read_picture(f.read_bytes(), name=str(f)) for f in files]


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    image = Image.fromarray(picture.pixels).resize(size, Image.Resampling.BICUBIC)
    return Picture(np.asarray(image).copy())


def sizes(pictures: list[Picture]) -> Iterator[Promise]:
    """Any size: encode, decode to the reported reconstruction, 1 and 2 threads alike."""
    one, two = (get_codec("hyperprior", threads=n) for n in (1, 2))
    for size in SIZES:
        picture = resized(pictures[0], size)
        first = one.encode(picture, 50, reconstruct=True)
        second = two.encode(picture, 50, reconstruct=True)
        good = first.data == second.data and first.reconstruction == second.reconstruction
        good &= one.decode(first.data) == first.reconstruction == two.decode(first.data)
        yield f"{size[0]}x{size[1]} with 1 and 2 threads", good, f"{len(first.data)} bytes"


def repeats(files: list[Path], pictures: list[Picture]) -> Iterator[Promise]:
    """Identical bytes when repeated and in a batch; equal pixels in another process."""
    one, two = (get_codec("hyperprior", threads=n) for n in (1, 2))
    alone = [one.encode(p, 40, reconstruct=True) for p in pictures]
    again = [one.encode(p, 40).data for p in pictures]
    batch = [e.data for e in two.encode_many(pictures, 40)]
    data = [e.data for e in alone]
    yield "two encodes of each picture", data == again, f"{len(data)} pictures"
    yield "alone and in a batch on 2 threads", data == batch, f"{len(data)} pictures"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, coded in zip(files, data, strict=True):
            (folder / f"{file.stem}.lic").write_bytes(coded)
        command = [sys.executable, "-m", "lic", "decode", str(folder), "-o", str(folder / "out")]
        subprocess.run([*command, "--quiet"], check=True, stderr=subprocess.DEVNULL)
        equal = [
            np.array_equal(
                np.asarray(Image.open(folder / "out" / f"{file.stem}.png")), e.reconstruction.pixels
            )
            for file, e in zip(files, alone, strict=True)
        ]
    yield "another process decodes the encoder's picture", all(equal), f"{sum(equal)} pictures"


def estimates(pictures: list[Picture]) -> Iterator[Promise]:
    """Files are as large as the tables say."""
    codec = get_codec("hyperprior")
    worst = 0.0
    good = True
    for picture in pictures:
        for quality in (0, 50, 100):
            encoded = codec.encode(picture, quality)
            estimate = (encoded.details["y_bits"] + encoded.details["z_bits"]) / 8
            beyond = abs(len(encoded.data) - estimate)
            worst = max(worst, beyond / estimate)
            good &= beyond <= 0.01 * estimate + 20
    yield "file against estimate", good, f"at most {100 * worst:.2f} % apart, header included"


def whole_and_strips(pictures: list[Picture]) -> Iterator[Promise]:
    """Strips leave no seam."""
    codec: Any = get_codec("hyperprior")
    picture = resized(pictures[0], (1720, 1216))
    data = codec.encode(picture, 50).data
    cut = codec.decode(data).pixels.astype(int)
    before = strips._WHOLE_UP_TO
    strips._WHOLE_UP_TO = 1 << 30
    try:
        whole = codec.decode(data).pixels
    finally:
        strips._WHOLE_UP_TO = before
    step = int(np.abs(whole - cut).max())
    share = float((whole != cut).mean())
    count = len(strips.plan_strips(76, 108))
    detail = f"{count} strips: at most {step}/255 apart, {100 * share:.3f} % of samples differ"
    yield "2 megapixels whole and in strips", step <= 1 and count > 1, detail


def rates(pictures: list[Picture]) -> Iterator[Promise]:
    """Rates rise over all 101 qualities."""
    codec: Any = get_codec("hyperprior", threads=2)
    table = np.array([[len(e.data) for e in codec.encode_many(pictures, q)] for q in range(101)])
    mean = table.mean(1)
    yield (
        "mean bytes rise at each of 101 qualities",
        bool((np.diff(mean) > 0).all()),
        (f"from {mean[0]:.0f} to {mean[-1]:.0f} bytes, least step {np.diff(mean).min():.1f}"),
    )
    down = -np.diff(table, axis=0)
    allowed = np.maximum(4, 0.005 * table[:-1])
    yield (
        "no picture steps down by more than 0.5 % or 4 bytes",
        bool((down <= allowed).all()),
        f"{(down > 0).sum()} of {down.size} steps go down",
    )


def float_bits(codec: Any, model: Any, picture: Picture, quality: float) -> float:
    """Return the bits of y with the loop as it was trained: float32, nothing rounded."""
    import torch

    from lic.codecs.latent import RDO_WEIGHT
    from lic.codecs.loop import pad_grid
    from lic.codecs.quantise import choose_symbols
    from lic.coding.symbols import estimated_bits
    from lic.networks.steps import split

    traces, steps, byte = codec.traces(picture, quality)
    parts = split(pad_grid(steps))
    h, w = 2 * parts.shape[-2], 2 * parts.shape[-1]
    z = torch.from_numpy(traces[0].checked[0].reshape(1, -1, h // 4, w // 4)).float()
    choose = choose_symbols(codec.loop.tables, RDO_WEIGHT)
    total = 0.0

    def quantise(step: int, means: Any, positions: Any) -> Any:
        nonlocal total
        index = (positions + 0.5).floor().clamp(0, len(codec.loop.tables) - 1)
        index = index.numpy().astype(np.uint8).ravel()
        offsets = (model.context.order.take(parts, step) - means).double().numpy().ravel()
        symbols = choose(offsets, index)
        total += estimated_bits(symbols, index, codec.loop.tables)
        return torch.from_numpy(symbols).float().view_as(means) + means

    rate = torch.full((1,), byte / 255)
    with torch.inference_mode():
        model.context(z, model.loop_rates(rate, h, w), quantise)
    return total


def rounding_cost(pictures: list[Picture], run: str) -> Iterator[Promise]:
    """What the fixed-point loop costs against the one that was trained."""
    from lic.training.weights import load_run

    codec, model = get_codec("hyperprior"), load_run(run).model
    exact, trained = 0.0, 0.0
    for picture in pictures:
        for quality in (10, 50, 90):
            exact += codec.encode(picture, quality).details["y_bits"]
            trained += float_bits(codec, model, picture, quality)
    cost = 100 * (exact / trained - 1)
    yield "fixed-point loop against float32", cost < 0.3, f"{cost:+.3f} % of the bits of y"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("--run")
    parser.add_argument("--rates", action="store_true")
    given = parser.parse_args()
    files = find_dataset(given.pictures)
    pictures = load(files)
    groups = [sizes(pictures), repeats(files, pictures), estimates(pictures)]
    groups.append(whole_and_strips(pictures))
    if given.rates:
        groups.append(rates(pictures))
    if given.run:
        groups.append(rounding_cost(pictures, given.run))
    broken = 0
    for group in groups:
        for name, good, detail in group:
            broken |= not good
            print(f"| {name} | {'holds' if good else 'BROKEN'} | {detail} |", flush=True)
    return int(broken)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LicError as error:
        sys.exit(str(error))
