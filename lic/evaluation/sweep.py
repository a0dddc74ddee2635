"""Encode and decode pictures at several qualities and measure; finished rows are reused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lic.codecs.base import Codec
from lic.errors import LicError
from lic.evaluation.metrics import METRICS, STANDARD
from lic.evaluation.rows import Row, RowStore
from lic.pictures import Picture, read_picture

__all__ = ["measure", "sweep"]


def measure(
    codec: Codec,
    name: str,
    quality: float,
    image: str,
    picture: Picture,
    metrics: Sequence[str] = STANDARD,
) -> Row:
    """Encode and decode one picture and measure it; only coding is timed.

    Args:
        codec: To measure. One with ``decode_timed`` also tells where decoding spends its time.
        name: That the row carries.
        quality: 0..100.
        image: File name.
        picture: The original.
        metrics: Keys of ``METRICS``.
    """
    begun = time.perf_counter()
    encoded = codec.encode(picture, quality)
    middle = time.perf_counter()
    decode_timed = getattr(codec, "decode_timed", None)
    if decode_timed is None:
        decoded, parts = codec.decode(encoded.data), {}
    else:
        decoded, parts = decode_timed(encoded.data)
    ended = time.perf_counter()
    found = {n: METRICS[n].measure(picture.pixels, decoded.pixels) for n in metrics}
    told = {k: v for k, v in (encoded.details | parts).items() if _is_number(v)}
    return Row(
        codec=name,
        quality=quality,
        image=image,
        width=picture.width,
        height=picture.height,
        bytes=len(encoded.data),
        metrics={
            key: None if v is None else round(v, METRICS[key].digits) for key, v in found.items()
        },
        encode_s=round(middle - begun, 5),
        decode_s=round(ended - middle, 5),
        details={k: round(float(v), 5) for k, v in told.items()},
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def sweep(
    codecs: dict[str, Codec],
    qualities: dict[str, tuple[float, ...]],
    files: list[Path],
    store: RowStore,
    say: Callable[[str], None],
    metrics: Sequence[str] = STANDARD,
) -> list[Row]:
    """Measure every codec at its qualities on every picture, and return all rows asked for.

    Each codec codes one picture unmeasured before its first row, which loads what loads late.

    Args:
        codecs: By the name that rows carry.
        qualities: Of each codec.
        files: Pictures.
        store: Where rows are kept and reused from.
        say: Gets a line a codec and quality.
        metrics: Keys of ``METRICS``; a kept row that lacks one is measured again.

    Raises:
        LicError: A codec cannot code a picture; names both.
    """
    rows: list[Row] = []
    for name, codec in codecs.items():
        warm = False
        for quality in qualities[name]:
            reused = 0
            for file in files:
                kept = store.rows.get((name, quality, file.name))
                if kept is not None and not kept.has(metrics):
                    kept = None
                reused += kept is not None
                if kept is None:
                    picture = read_picture(file.read_bytes(), name=str(file), max_pixels=0)
                    try:
                        if not warm:
                            codec.decode(codec.encode(picture, quality).data)
                        kept = measure(codec, name, quality, file.name, picture, metrics)
                    except LicError as error:
                        raise error.about(f"{name} quality {quality:g}, {file.name}") from None
                    warm = True
                    store.add(kept)
                rows.append(kept)
            say(_progress(name, quality, rows[-len(files) :], reused))
    return rows


def _progress(name: str, quality: float, rows: list[Row], reused: int) -> str:
    bpp = sum(r.bpp for r in rows) / len(rows)
    line = f"{name} quality {quality:g}: {bpp:.4f} bpp"
    return f"{line} ({reused} of {len(rows)} kept from before)" if reused else line
