"""A contact sheet: what codecs make of the same pictures at about the same rate, to look at."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from lic.codecs.base import Codec
from lic.pictures import read_picture

__all__ = ["draw_sheet"]

_TILE = 384
_CAPTION = 16


def draw_sheet(
    path: Path, codecs: dict[str, Codec], qualities: dict[str, float], files: list[Path]
) -> None:
    """Write a PNG with a row a picture: the original, then every codec's version.

    The middle of each picture is shown pixel by pixel, with the rate of the whole file.

    Args:
        path: Of the PNG.
        codecs: By name, in the order of the columns.
        qualities: Of each codec.
        files: Pictures.
    """
    sheet = Image.new("RGB", (_TILE * (1 + len(codecs)), (_TILE + _CAPTION) * len(files)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, file in enumerate(files):
        picture = read_picture(file.read_bytes(), name=str(file), max_pixels=0)
        shown = [(file.stem, picture)]
        for name, codec in codecs.items():
            data = codec.encode(picture, qualities[name]).data
            bpp = 8 * len(data) / (picture.width * picture.height)
            shown.append((f"{name} {bpp:.4f} bpp", codec.decode(data)))
        for column, (caption, version) in enumerate(shown):
            at = (column * _TILE, row * (_TILE + _CAPTION))
            left, top = ((s - _TILE) // 2 for s in (picture.width, picture.height))
            box = (left, top, left + _TILE, top + _TILE)
            sheet.paste(Image.fromarray(version.pixels).crop(box), (at[0], at[1] + _CAPTION))
            draw.text((at[0] + 2, at[1] + 2), caption, fill="black")
    sheet.save(path)
