"""Encode and decode a real photograph, and compare with other formats at the nearest size.

Usage: python scripts/demo.py OUTDIR

The photograph ships with scikit-learn. OUTDIR gets the .lic file, the decoded PNG and a
side-by-side picture of the same crop from all codecs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lic.codecs.base import Codec
from lic.codecs.registry import get_codec
from lic.evaluation.metrics import psnr, ssimulacra2
from lic.pictures import Picture, write_picture

QUALITY = 40
CROP = (230, 60, 470, 300)
RIVALS = ("jpeg", "webp", "avif", "jpeg2000")
COLUMNS = 3
CAPTION = 30


def photograph() -> Picture:
    """Return the 640x427 photograph of a flower that scikit-learn ships."""
    from sklearn.datasets import load_sample_image

    return Picture(np.ascontiguousarray(load_sample_image("flower.jpg")))


def nearest(codec: Codec, picture: Picture, size: int) -> bytes:
    """Return the file of the whole quality whose size is nearest to ``size`` bytes."""
    low, high = 0, 100
    while high - low > 1:
        middle = (low + high) // 2
        if len(codec.encode(picture, middle).data) < size:
            low = middle
        else:
            high = middle
    files = (codec.encode(picture, q).data for q in (low, high))
    return min(files, key=lambda data: abs(len(data) - size))


def side_by_side(shown: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Return the crops at twice their size with captions, ``COLUMNS`` in a row."""
    left, top, right, bottom = CROP
    width, height = 2 * (right - left), 2 * (bottom - top)
    rows = -(-len(shown) // COLUMNS)
    sheet = Image.new("RGB", (width * COLUMNS, (height + CAPTION) * rows), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=20)
    for i, (caption, pixels) in enumerate(shown):
        x, y = i % COLUMNS * width, i // COLUMNS * (height + CAPTION)
        crop = Image.fromarray(pixels[top:bottom, left:right])
        sheet.paste(crop.resize((width, height), Image.Resampling.NEAREST), (x, y + CAPTION))
        draw.text((x + 6, y + 4), caption, fill="black", font=font)
    return sheet


def main(folder: str) -> None:
    """Write everything into ``folder`` and print a table."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    picture = photograph()
    pixels = picture.width * picture.height
    (out / "original.png").write_bytes(write_picture(picture, format="PNG"))

    codec = get_codec("hyperprior")
    begun = time.perf_counter()
    file = codec.encode(picture, QUALITY).data
    middle = time.perf_counter()
    decoded = codec.decode(file)
    ended = time.perf_counter()
    (out / "photo.lic").write_bytes(file)
    (out / "photo.png").write_bytes(write_picture(decoded, format="PNG"))
    print(f"lic encoded in {middle - begun:.2f} s and decoded in {ended - middle:.2f} s")

    rows = [("lic", file, decoded)]
    for name in RIVALS:
        rival = get_codec(name)
        data = nearest(rival, picture, len(file))
        rows.append((name, data, rival.decode(data)))
    shown = [(f"original, {3 * pixels} bytes of RGB", picture.pixels)]
    print(f"{'codec':10}{'bytes':>8}{'bpp':>8}{'PSNR dB':>9}{'SSIMULACRA 2':>14}")
    for name, data, result in rows:
        quality = psnr(picture.pixels, result.pixels)
        score = ssimulacra2(picture.pixels, result.pixels)
        rate = 8 * len(data) / pixels
        print(f"{name:10}{len(data):8}{rate:8.3f}{quality:9.2f}{score:14.1f}")
        shown.append((f"{name}, {len(data)} bytes, {quality:.2f} dB, {score:.0f}", result.pixels))
    side_by_side(shown).save(out / "side-by-side.png")
    print(f"look at {out / 'side-by-side.png'}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo-out")
