"""Bits a sample, for the formats that Pillow would cut to 8 bits without a word.

Grey pictures of 16 bits get a mode of their own; colour pictures do not, so their files are asked.
"""

from __future__ import annotations

import re

from PIL import Image

__all__ = ["bits_per_sample"]

_TIFF_BITS = 258
_PNG_DEPTH_AT = 24
_SIZ = b"\xff\x4f\xff\x51"
_SIZ_COMPONENTS = 40
_AV1_CONFIGURATION = b"av1C"
_HIGH_BITDEPTH, _TWELVE_BIT = 0x40, 0x20
_SEARCHED = 1 << 16


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Return the largest number of bits of a sample in a file that Pillow has opened."""
    by_format = {
        "PNG": lambda: data[_PNG_DEPTH_AT],
        "TIFF": lambda: max(_numbers(image.tag_v2.get(_TIFF_BITS, 8))),  # type: ignore[attr-defined]
        "PPM": lambda: _ppm(data),
        "JPEG2000": lambda: _jpeg2000(data),
        "AVIF": lambda: _avif(data),
    }
    return by_format.get(image.format or "", lambda: 8)()


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _ppm(data: bytes) -> int:
    """Follow the plain-text header: magic, width, height, largest value (none for bitmaps)."""
    if data[:2] in (b"P1", b"P4"):
        return 1
    words = re.sub(rb"#[^\r\n]*", b"", data[:_SEARCHED]).split(None, 4)
    largest = words[3] if len(words) > 3 else b""
    return int(largest).bit_length() if largest.isdigit() else 8


def _jpeg2000(data: bytes) -> int:
    """Read the SIZ marker segment, ISO/IEC 15444-1, A.5.1: bits less one, sign in the top bit."""
    start = data.find(_SIZ, 0, _SEARCHED)
    if start < 0:
        return 8
    at = start + _SIZ_COMPONENTS
    count = int.from_bytes(data[at : at + 2], "big")
    depths = data[at + 2 : at + 2 + 3 * count : 3]
    return max(((d & 0x7F) + 1 for d in depths), default=8)


def _avif(data: bytes) -> int:
    """Read ``high_bitdepth`` and ``twelve_bit`` of the AV1 codec configuration box."""
    start = data.find(_AV1_CONFIGURATION, 0, _SEARCHED)
    flags = data[start + 6 : start + 7]
    if start < 0 or not flags or not flags[0] & _HIGH_BITDEPTH:
        return 8
    return 12 if flags[0] & _TWELVE_BIT else 10
