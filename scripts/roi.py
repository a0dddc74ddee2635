"""Encode pictures with and without a region of interest at equal file size, and compare.

Usage: python scripts/roi.py PICTURES OUT [--only NAMES] [--quality 30] [--gain 25]

PICTURES is a folder or the name of a set. The mask of a picture is the segment of alike colour
that has most of its middle and at most a third of it; `lic data masks` finds segments in the same
way. Prints a Markdown table and draws mask, plain and region of interest side by side.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import lic
from lic.errors import LicError
from lic.evaluation.datasets import find_dataset
from lic.training.regions import SHRINK, segment

CAPTION = 22
SCALE, LEAST = 400.0, 400


def mask_of(pixels: np.ndarray) -> np.ndarray:
    """Return the segment that fills most of the middle and at most a third of the picture.

    Returns:
        uint8 ``(H, W)`` of 0 and 255.
    """
    height, width = pixels.shape[:2]
    regions = segment(pixels, SCALE, LEAST)
    regions = regions.repeat(SHRINK, 0).repeat(SHRINK, 1)[:height, :width]
    middle = regions[height // 4 : -height // 4, width // 4 : -width // 4]
    count = int(regions.max()) + 1
    size = np.bincount(regions.ravel(), minlength=count)
    central = np.bincount(middle.ravel(), minlength=count)
    chosen = np.where(size <= regions.size / 3, central, 0).argmax()
    return (255 * (regions == chosen)).astype(np.uint8)


def psnr(x: np.ndarray, shown: np.ndarray, where: np.ndarray) -> float:
    """Return the PSNR over the pixels where ``where`` holds, dB."""
    squared = (x[where].astype(float) - shown[where]) ** 2
    return float(10 * np.log10(255**2 / squared.mean()))


def at_size(pixels: np.ndarray, size: int, **options: object) -> bytes:
    """Return the file of the quality whose size is nearest to ``size`` bytes."""
    low, high, best = 0.0, 100.0, b""
    for _ in range(12):
        middle = (low + high) / 2
        data = lic.encode(pixels, quality=middle, **options)
        if abs(len(data) - size) < abs(len(best) - size):
            best = data
        low, high = (middle, high) if len(data) < size else (low, middle)
    return best


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", default="hyperprior")
    parser.add_argument("--tune", default="psnr", help="since PSNR is what is compared")
    parser.add_argument("--quality", type=float, default=30)
    parser.add_argument("--gain", type=float, default=25)
    parser.add_argument("--only", help="names without suffix, with commas between")
    given = parser.parse_args()
    print(f"| {given.codec}, gain {given.gain:g} | bytes | white | inside dB | outside dB |")
    print("|---|---:|---:|---:|---:|")
    rows = []
    for path in find_dataset(given.pictures):
        if given.only and path.stem not in given.only.split(","):
            continue
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        mask = mask_of(pixels)
        options = {"codec": given.codec, "tune": given.tune}
        plain = lic.encode(pixels, quality=given.quality, **options)
        with_region = at_size(pixels, len(plain), roi=_png(mask), roi_gain=given.gain, **options)
        inside = mask > 0
        shown = []
        for label, data in (("plain", plain), ("region", with_region)):
            picture = lic.decode(data).pixels
            shown.append(picture)
            figures = [psnr(pixels, picture, w) for w in (inside, ~inside)]
            print(
                f"| {path.name}, {label} | {len(data)} | {100 * inside.mean():.0f} % "
                f"| {figures[0]:.2f} | {figures[1]:.2f} |"
            )
        rows.append([np.repeat(mask[..., None], 3, 2), *shown])
    _draw(rows).save(given.out, quality=92)


def _png(mask: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(mask).save(target, "PNG")
    return target.getvalue()


def _draw(rows: list[list[np.ndarray]]) -> Image.Image:
    width = max(r[0].shape[1] for r in rows)
    tall = max(r[0].shape[0] for r in rows) + CAPTION
    sheet = Image.new("RGB", (3 * width, tall * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for line, row in enumerate(rows):
        for column, (label, pixels) in enumerate(
            zip(("mask", "plain", "region"), row, strict=True)
        ):
            at = (column * width, line * tall)
            draw.text((at[0] + 4, at[1]), label, fill="black", font=font)
            sheet.paste(Image.fromarray(pixels), (at[0], at[1] + CAPTION))
    return sheet


if __name__ == "__main__":
    try:
        main()
    except LicError as error:
        sys.exit(str(error))
