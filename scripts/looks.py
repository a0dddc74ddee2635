"""Draw crops of pictures as codecs and looks show them, all at the size of one of the files.

Usage: python scripts/looks.py OUT BPP PICTURE@LEFT,TOP... [--side 224] [--measure]

A row a picture: the original, AVIF, lic tuned for PSNR and for eyes, and the natural look of the
file before it. --measure prints PSNR, SSIMULACRA 2, LPIPS and DISTS of the whole pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lic.codecs.base import Codec
from lic.codecs.registry import get_codec
from lic.codecs.search import encode_to_size
from lic.evaluation.metrics import METRICS
from lic.pictures import Picture, read_picture

COLUMNS = {
    "AVIF": "avif",
    "lic, for PSNR": "hyperprior-psnr",
    "lic, for eyes": "hyperprior-eyes",
    "natural look": "hyperprior-eyes:natural",
}
MEASURED = ("psnr", "ssimulacra2", "lpips", "dists")
CAPTION = 22


def versions(codecs: dict[str, Codec], picture: Picture, bpp: float) -> list[tuple[str, Picture]]:
    """Return what each codec shows of a picture in at most so many bits per pixel."""
    shown = []
    for title, codec in codecs.items():
        size = bpp * picture.width * picture.height / 8
        data = encode_to_size(codec, picture, size).data
        shown.append((f"{title}, {len(data) / 1000:.1f} kB", codec.decode(data)))
    return shown


def main() -> None:
    """Draw, and measure if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("bpp", type=float)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE@LEFT,TOP")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    codecs = {title: get_codec(name, threads=2) for title, name in COLUMNS.items()}
    side, font = given.side, ImageFont.load_default(size=14)
    size = (side * (1 + len(codecs)), (side + CAPTION) * len(given.pictures))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, chosen in enumerate(given.pictures):
        path, _, place = chosen.rpartition("@")
        left, top = (int(n) for n in place.split(","))
        picture = read_picture(Path(path).read_bytes(), name=path)
        shown = versions(codecs, picture, given.bpp)
        for column, (caption, version) in enumerate([("original", picture), *shown]):
            at = column * side, row * (side + CAPTION)
            crop = np.ascontiguousarray(version.pixels[top : top + side, left : left + side])
            sheet.paste(Image.fromarray(crop), (at[0], at[1] + CAPTION))
            draw.text((at[0] + 3, at[1] + 2), caption, fill="black", font=font)
        for caption, version in shown if given.measure else ():
            values = (METRICS[n].measure(picture.pixels, version.pixels) for n in MEASURED)
            told = zip(MEASURED, values, strict=True)
            print(f"{Path(path).stem}: {caption}: " + ", ".join(f"{n} {v:.3f}" for n, v in told))
    sheet.save(given.out, quality=92)


if __name__ == "__main__":
    main()
