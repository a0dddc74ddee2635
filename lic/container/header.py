"""The fixed part of a ``.lic`` file: the fields of ``docs/format.md``, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from lic.container.fields import Reader, leb128
from lic.errors import LimitError, StreamError

__all__ = ["FAMILIES", "MAGIC", "VERSION", "Header", "is_lic", "read_header", "write_header"]

MAGIC = b"\x89LIC"
VERSION = 0
"""Newest format version that is read, and the one that is written."""

FAMILIES = {1: "hyperprior", 2: "acgc", 3: "segpic", 4: "vqgan"}

FLAG_METADATA, FLAG_GREY, FLAG_GAIN_MAP, FLAG_TILES = 1, 2, 4, 8
_KNOWN_FLAGS = FLAG_METADATA | FLAG_GREY | FLAG_GAIN_MAP | FLAG_TILES
FINGERPRINT_BYTES = 3


@dataclass(frozen=True)
class Header:
    """Fields between the magic and the sections."""

    version: int
    family: int
    flags: int
    fingerprint: bytes
    width: int
    height: int
    quality: int
    symbol_check: int


def is_lic(prefix: bytes) -> bool:
    """Tell by the first four bytes whether something claims to be a ``.lic`` file."""
    return prefix[: len(MAGIC)] == MAGIC


def write_header(header: Header) -> bytes:
    """Return magic and header; raises ``ValueError`` for fields outside their ranges."""
    if header.family not in FAMILIES or len(header.fingerprint) != FINGERPRINT_BYTES:
        raise ValueError("family or fingerprint out of range")
    if header.width < 1 or header.height < 1:
        raise ValueError("a picture has at least one pixel")
    return (
        MAGIC
        + bytes([header.version << 4 | header.family, header.flags])
        + header.fingerprint
        + leb128(header.width)
        + leb128(header.height)
        + bytes([header.quality])
        + header.symbol_check.to_bytes(2, "little")
    )


def read_header(reader: Reader, max_pixels: int) -> Header:
    """Read what :func:`write_header` wrote; mirrors it field for field.

    Raises:
        StreamError: Newer version, unknown family or flag, a side of 0.
        LimitError: More pixels than ``max_pixels``; 0 for no limit.
    """
    reader.take(len(MAGIC), "magic")
    first = reader.byte("version")
    version, family = first >> 4, first & 0x0F
    if version > VERSION:
        raise StreamError(f"format version {version}; this lic reads up to {VERSION}")
    if family not in FAMILIES:
        raise StreamError(f"unknown family {family}; a newer lic may know it")
    flags = reader.byte("flags")
    if flags & ~_KNOWN_FLAGS:
        raise StreamError(f"unknown flags {flags & ~_KNOWN_FLAGS:#04x}; a newer lic may know them")
    fingerprint = reader.take(FINGERPRINT_BYTES, "fingerprint")
    width, height = reader.leb128("width"), reader.leb128("height")
    if not width or not height:
        raise StreamError(f"{width} x {height} pixels: a side is zero")
    if max_pixels and width * height > max_pixels:
        raise LimitError(f"{width} x {height} pixels exceed --max-pixels {max_pixels}")
    quality = reader.byte("quality")
    symbol_check = int.from_bytes(reader.take(2, "symbol check"), "little")
    return Header(version, family, flags, fingerprint, width, height, quality, symbol_check)
