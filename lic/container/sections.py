"""The optional parts between header and payload: type byte, LEB128 length, data; type 0 ends them.

Types are odd if a reader must understand them and even if it may skip them. They stand in ascending
order, each at most once, so a file has one spelling and no section can come twice.
"""

from __future__ import annotations

from lic.container.fields import Reader, leb128
from lic.errors import StreamError

__all__ = ["EXIF", "GAIN_MAP", "ICC", "METADATA", "TILES", "XMP", "read_sections", "write_sections"]

_END, GAIN_MAP, ICC, TILES, EXIF, XMP = 0, 1, 2, 3, 4, 6

METADATA = {ICC: "icc", EXIF: "exif", XMP: "xmp"}
"""Types of metadata, with the names of the fields of a ``Stream``."""

_REQUIRED = {GAIN_MAP, TILES}


def write_sections(sections: dict[int, bytes]) -> bytes:
    """Return the section area; nothing at all without sections."""
    if not sections:
        return b""
    parts = [bytes([k]) + leb128(len(d)) + d for k, d in sorted(sections.items())]
    return b"".join(parts) + bytes([_END])


def read_sections(reader: Reader) -> dict[int, bytes]:
    """Read what :func:`write_sections` wrote, unknown optional sections included.

    Raises:
        StreamError: A length that exceeds the file, an unknown required section, types that do not
            ascend, no sections at all, or an empty metadata section.
    """
    sections: dict[int, bytes] = {}
    last = _END
    while (kind := reader.byte("section type")) != _END:
        if kind <= last:
            raise StreamError(f"section {kind} stands behind section {last}; types must ascend")
        if kind & 1 and kind not in _REQUIRED:
            raise StreamError(f"required section {kind} is unknown; a newer lic may know it")
        length = reader.leb128(f"length of section {kind}")
        sections[kind] = reader.take(length, f"section {kind}")
        if kind in METADATA and not length:
            raise StreamError(f"section {kind} is empty")
        last = kind
    if not sections:
        raise StreamError("flags announce sections and there are none")
    return sections
