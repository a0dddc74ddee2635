"""Encode and decode pictures at several qualities and keep every row; finished rows are reused."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lic.codecs.base import Codec
from lic.evaluation.metrics import ms_ssim, psnr
from lic.pictures import Picture, read_picture

__all__ = ["Row", "RowFile", "sweep"]


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one quality.

    Attributes:
        codec, quality, image: What was done.
        width, height: Pixels.
        bytes: Of the whole file.
        bpp: Bits per pixel of the whole file.
        psnr: dB on 8-bit RGB, infinite for an exact copy.
        ms_ssim: 0..1, ``None`` below 161 pixels a side.
        encode_s, decode_s: Seconds, networks loaded before.
    """

    codec: str
    quality: float
    image: str
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_s: float
    decode_s: float

    @property
    def key(self) -> tuple[str, float, str]:
        return self.codec, self.quality, self.image


_COLUMNS = [f.name for f in fields(Row)]


class RowFile:
    """``per_image.csv``: appended row by row; a line cut by an interruption is dropped.

    Args:
        path: Of the file.
        fresh: Start anew instead of keeping what is there.
    """

    def __init__(self, path: Path, fresh: bool = False):
        self.path = path
        self.rows: dict[tuple[str, float, str], Row] = {}
        if not fresh and path.exists():
            for row in _parse(path.read_text(encoding="utf-8")):
                self.rows[row.key] = row
        self.rewrite(self.rows.values())

    def rewrite(self, rows: Iterable[Row]) -> None:
        """Replace the file by these rows."""
        rows = list(rows)
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_plain(r) for r in rows)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text(buffer.getvalue(), encoding="utf-8")
        os.replace(temporary, self.path)
        self.rows = {r.key: r for r in rows}

    def append(self, row: Row) -> None:
        """Add a row, on the disk before the next picture begins."""
        self.rows[row.key] = row
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, _COLUMNS, lineterminator="\n").writerow(_plain(row))


def _plain(row: Row) -> dict[str, object]:
    values = asdict(row)
    return values | {"ms_ssim": "" if row.ms_ssim is None else row.ms_ssim}


def _parse(text: str) -> Iterator[Row]:
    whole = text[: text.rfind("\n") + 1]
    for v in csv.DictReader(io.StringIO(whole)):
        try:
            yield Row(
                codec=v["codec"],
                quality=float(v["quality"]),
                image=v["image"],
                width=int(v["width"]),
                height=int(v["height"]),
                bytes=int(v["bytes"]),
                bpp=float(v["bpp"]),
                psnr=float(v["psnr"]),
                ms_ssim=float(v["ms_ssim"]) if v["ms_ssim"] else None,
                encode_s=float(v["encode_s"]),
                decode_s=float(v["decode_s"]),
            )
        except (KeyError, TypeError, ValueError):
            continue  # not a finished row; it will be measured again


def measure(codec: Codec, name: str, quality: float, image: str, picture: Picture) -> Row:
    """Encode and decode one picture and measure it."""
    begun = time.perf_counter()
    data = codec.encode(picture, quality).data
    middle = time.perf_counter()
    decoded = codec.decode(data)
    ended = time.perf_counter()
    similarity = ms_ssim(picture.pixels, decoded.pixels)
    return Row(
        codec=name,
        quality=quality,
        image=image,
        width=picture.width,
        height=picture.height,
        bytes=len(data),
        bpp=round(8 * len(data) / (picture.width * picture.height), 6),
        psnr=round(psnr(picture.pixels, decoded.pixels), 4),
        ms_ssim=None if similarity is None or math.isnan(similarity) else round(similarity, 6),
        encode_s=round(middle - begun, 5),
        decode_s=round(ended - middle, 5),
    )


def sweep(
    codecs: dict[str, Codec],
    qualities: dict[str, tuple[float, ...]],
    files: list[Path],
    store: RowFile,
    report: Callable[[str], None],
) -> list[Row]:
    """Measure every codec at its qualities on every picture, and return all rows asked for.

    Args:
        codecs: By the name that rows carry.
        qualities: Of each codec.
        files: Pictures.
        store: Where rows are kept and reused from.
        report: Gets a line a codec and quality.
    """
    rows = []
    warm: set[str] = set()
    for name, codec in codecs.items():
        for quality in qualities[name]:
            for file in files:
                key = (name, float(quality), file.name)
                if key not in store.rows:
                    picture = read_picture(file.read_bytes(), name=str(file), max_pixels=0)
                    if name not in warm:
                        codec.decode(codec.encode(picture, quality).data)
                        warm.add(name)
                    store.append(measure(codec, name, float(quality), file.name, picture))
                rows.append(store.rows[key])
            done = rows[-len(files) :]
            bpp = sum(r.bpp for r in done) / len(done)
            report(f"{name} quality {quality:g}: {bpp:.4f} bpp")
    return rows
