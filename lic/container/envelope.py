"""What every version of the format keeps: the magic in front, a CRC-32 over all at the end.

Damage is told apart from bytes that follow an intact file and from files of other formats, since
each has another way out.
"""

from __future__ import annotations

import zlib

from lic.container.header import MAGIC, is_lic
from lic.errors import StreamError

__all__ = ["CRC_BYTES", "SHORTEST", "check_envelope", "seal"]

CRC_BYTES = 4

SHORTEST = 18
"""Bytes of a file of at most 127 pixels a side with an empty payload."""

_SCAN = 1 << 16
_PACKETS = b"\x89LPK"
_OTHERS = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"BM", "BMP"),
)


def seal(body: bytes) -> bytes:
    """Append the checksum."""
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def check_envelope(data: bytes) -> int:
    """Check magic, length and checksum; return the position of the checksum.

    Raises:
        StreamError: Empty, another format, too short, damaged, or followed by other bytes.
    """
    if not data:
        raise StreamError("is empty")
    if not is_lic(data):
        raise StreamError(_not_lic(data))
    if len(data) < SHORTEST:
        raise StreamError(f"ends after {len(data)} bytes, inside the header")
    end = len(data) - CRC_BYTES
    stored = int.from_bytes(data[end:], "little")
    computed = zlib.crc32(memoryview(data)[:end])
    if stored == computed:
        return end
    extra = _trailing(data)
    if extra:
        plural = "s" if extra > 1 else ""
        raise StreamError(f"{extra} byte{plural} after the end of the picture")
    raise StreamError(f"checksum differs (stored {stored:08x}, computed {computed:08x})")


def _not_lic(data: bytes) -> str:
    for offset, magic, name in _OTHERS:
        if data[offset : offset + len(magic)] == magic:
            return f"is {name}, not .lic; did you mean 'lic encode'?"
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        return f"ends after {len(data)} bytes, inside the magic"
    if data[: len(_PACKETS)] == _PACKETS:
        return "is a packet stream, not a .lic file"
    return "not a .lic file"


def _trailing(data: bytes) -> int:
    """Return how many bytes follow an earlier end with a fitting checksum; 0 if none is near.

    Only a message hangs on it, so a chance hit (one in 2^16 damaged files) does no harm. The scan
    is bounded: it runs over the last 64 KiB, one step of the checksum a byte.
    """
    first = max(SHORTEST - CRC_BYTES, len(data) - CRC_BYTES - _SCAN)
    crc = zlib.crc32(memoryview(data)[:first])
    for end in range(first, len(data) - CRC_BYTES):
        if crc == int.from_bytes(data[end : end + CRC_BYTES], "little"):
            return len(data) - CRC_BYTES - end
        crc = zlib.crc32(data[end : end + 1], crc)
    return 0
