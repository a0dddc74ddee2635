"""Draw one picture before a lossy channel, after it, and restored.

Usage: python scripts/restored.py PICTURE OUT.png [--loss 0.2] [--burst B] [--seed N]

Each panel is what the decoder makes of the same packets: of all of them, of those that arrived with
nothing in place of the lost indices, and of those that arrived with the default concealer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import lic
from lic.channel.channel import Channel
from lic.container.packets import read_packets, write_packets
from lic.errors import LicError

CAPTION = 22


def main() -> None:
    """Write the PNG."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture")
    parser.add_argument("out")
    parser.add_argument("--loss", type=float, default=0.2)
    parser.add_argument("--burst", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--codebook-size", type=int, default=1024)
    given = parser.parse_args()
    try:
        sent = read_packets(
            lic.encode(
                given.picture, codec="vqgan", packets=True, codebook_size=given.codebook_size
            )
        )
        channel = Channel(loss=given.loss, burst=given.burst)
        arrived = channel.send(sent, given.seed).datagrams
        whole = lic.mend(write_packets(sent))
        bare = lic.mend(write_packets(arrived), conceal="none")
        restored = lic.mend(write_packets(arrived))
    except LicError as error:
        raise SystemExit(f"restored: {error}") from error
    size = sum(map(len, sent))
    bpp = 8 * size / whole.picture.width / whole.picture.height
    lost = f"{len(sent) - len(arrived)} of {len(sent)} packets lost"
    panels = [
        (f"sent: {size} bytes, {bpp:.3f} bpp", whole),
        (f"{lost}: {100 * bare.lost / bare.indices:.0f} % of the indices", bare),
        (f"the same, restored ({restored.conceal})", restored),
    ]
    width, height = whole.picture.width, whole.picture.height
    sheet = Image.new("RGB", (width * len(panels), height + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, (caption, shown) in enumerate(panels):
        sheet.paste(Image.fromarray(shown.picture.pixels), (column * width, CAPTION))
        draw.text((column * width + 4, 2), caption, fill="black", font=font)
    sheet.save(Path(given.out))


if __name__ == "__main__":
    main()
