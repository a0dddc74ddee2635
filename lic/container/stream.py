"""A whole ``.lic`` file as one object, written and parsed here and nowhere else.

Layout: magic and header (:mod:`lic.container.header`), sections where a flag announces them,
payload, CRC-32. ``docs/format.md`` is the definition.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from lic.container import header as head
from lic.container.fields import Reader, leb128
from lic.container.gain_map import gain_map_shape, parse_gain_map, write_gain_map
from lic.container.header import MAGIC, Header, is_lic, read_header, write_header
from lic.errors import LicError, StreamError

__all__ = ["TILED_ABOVE", "TILE_PIXELS", "Stream", "parse_stream", "tile_count", "write_stream"]

TILED_ABOVE = 2**21
"""Pictures of more pixels are coded in tiles."""

TILE_PIXELS = 1024
"""Side of a tile."""

_END, _GAIN_MAP, _ICC, _TILES, _EXIF, _XMP = 0, 1, 2, 3, 4, 6
_METADATA = {_ICC: "icc", _EXIF: "exif", _XMP: "xmp"}
_CRC_BYTES = 4
_SCAN = 1 << 16
_DEFAULT_MAX_PIXELS = 178_956_970
_OTHERS = (
    (b"\x89PNG", 0, "PNG"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"WEBP", 8, "WebP"),
    (b"ftypavif", 4, "AVIF"),
    (b"GIF8", 0, "GIF"),
    (b"II*\0", 0, "TIFF"),
    (b"MM\0*", 0, "TIFF"),
    (b"BM", 0, "BMP"),
)


@dataclass(frozen=True, eq=False)
class Stream:
    """Fields of a file.

    Attributes:
        family: Number of the codec family, see ``FAMILIES``.
        fingerprint: First 3 bytes of the SHA-256 over the weights' stream tensors.
        width, height: Pixels.
        quality: Rate byte, 0..255.
        symbol_check: CRC-16 over the decoded integers.
        payload: Coded symbols.
        grey: Decode to a grey picture.
        icc, exif, xmp: Metadata to hand on.
        gain_map: int8 ``(ceil(H/64), ceil(W/64))``, steps of the rate byte.
        tiles: Bytes of each tile's segment of the payload, in raster order; present exactly for
            pictures of more than 2^21 pixels.
        version: Format version.
        unknown: Types of optional sections that were skipped.
    """

    family: int
    fingerprint: bytes
    width: int
    height: int
    quality: int
    symbol_check: int
    payload: bytes
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    gain_map: np.ndarray | None = None
    tiles: tuple[int, ...] | None = None
    version: int = head.VERSION
    unknown: tuple[int, ...] = ()


def tile_count(width: int, height: int) -> int:
    """Return the number of tiles of a picture, 1 up to 2^21 pixels."""
    if width * height <= TILED_ABOVE:
        return 1
    return -(-width // TILE_PIXELS) * -(-height // TILE_PIXELS)


def write_stream(stream: Stream) -> bytes:
    """Return the bytes of a file; raises ``ValueError`` for fields that contradict each other."""
    if (stream.tiles is not None) != (stream.width * stream.height > TILED_ABOVE):
        raise ValueError("tiles are for pictures of more than 2^21 pixels, and required there")
    sections = _write_sections(stream)
    metadata = any(getattr(stream, n) for n in _METADATA.values())
    flags = (
        head.FLAG_METADATA * metadata
        | head.FLAG_GREY * stream.grey
        | head.FLAG_GAIN_MAP * (stream.gain_map is not None)
        | head.FLAG_TILES * (stream.tiles is not None)
    )
    header = Header(
        stream.version,
        stream.family,
        flags,
        stream.fingerprint,
        stream.width,
        stream.height,
        stream.quality,
        stream.symbol_check,
    )
    body = write_header(header) + sections + stream.payload
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


def _write_sections(stream: Stream) -> bytes:
    found: list[tuple[int, bytes]] = []
    if stream.gain_map is not None:
        if stream.gain_map.shape != gain_map_shape(stream.width, stream.height):
            raise ValueError("the gain map has another shape than the picture")
        found.append((_GAIN_MAP, write_gain_map(stream.gain_map)))
    if stream.tiles is not None:
        found.append((_TILES, b"".join(leb128(n) for n in stream.tiles)))
    for kind, name in _METADATA.items():
        if getattr(stream, name):
            found.append((kind, getattr(stream, name)))
    if not found:
        return b""
    return b"".join(bytes([k]) + leb128(len(d)) + d for k, d in found) + bytes([_END])


def parse_stream(
    data: bytes, *, name: str | None = None, max_pixels: int = _DEFAULT_MAX_PIXELS
) -> Stream:
    """Check a file and return its fields; mirrors :func:`write_stream`.

    Nothing is allocated by a size that the file merely claims, and no network runs before all
    checks hold.

    Args:
        data: The whole file.
        name: Stands in error messages.
        max_pixels: Larger pictures are refused; 0 for no limit.

    Raises:
        StreamError: Not a ``.lic`` file, damaged, cut, too long, or newer than this program.
        LimitError: Too many pixels.
    """
    try:
        _check_whole(data)
        reader = Reader(data, len(data) - _CRC_BYTES)
        header = read_header(reader, max_pixels)
        return _read_body(reader, header)
    except LicError as error:
        raise (error.about(name) if name else error) from None


def _check_whole(data: bytes) -> None:
    if not data:
        raise StreamError("is empty")
    if not is_lic(data):
        for magic, offset, other in _OTHERS:
            if data[offset : offset + len(magic)] == magic:
                raise StreamError(f"is {other}, not .lic; did you mean 'lic encode'?")
        raise StreamError("not a .lic file")
    if len(data) < len(MAGIC) + _CRC_BYTES:
        raise StreamError(f"ends after {len(data)} bytes, inside the header")
    stored = int.from_bytes(data[-_CRC_BYTES:], "little")
    computed = zlib.crc32(data[:-_CRC_BYTES])
    if stored != computed:
        extra = _trailing(data)
        if extra:
            raise StreamError(f"{extra} bytes after the end of the picture")
        raise StreamError(f"checksum differs (stored {stored:08x}, computed {computed:08x})")


def _trailing(data: bytes) -> int:
    """Return how many bytes follow an earlier end with a fitting checksum; 0 if none is near."""
    first = max(len(MAGIC) + 11, len(data) - _CRC_BYTES - _SCAN)
    crc = zlib.crc32(data[:first])
    for end in range(first, len(data) - _CRC_BYTES):
        if crc == int.from_bytes(data[end : end + _CRC_BYTES], "little"):
            return len(data) - _CRC_BYTES - end
        crc = zlib.crc32(data[end : end + 1], crc)
    return 0


def _read_body(reader: Reader, header: Header) -> Stream:
    announced = head.FLAG_METADATA | head.FLAG_GAIN_MAP | head.FLAG_TILES
    sections = _read_sections(reader) if header.flags & announced else {}
    payload = reader.take(reader.left, "payload")
    gain_map = tiles = None
    if _wanted(header, head.FLAG_GAIN_MAP, sections, _GAIN_MAP, "gain map"):
        shape = gain_map_shape(header.width, header.height)
        gain_map = parse_gain_map(sections[_GAIN_MAP], shape)
    large = header.width * header.height > TILED_ABOVE
    if large != bool(header.flags & head.FLAG_TILES):
        raise StreamError("tiles: required above 2^21 pixels and only there")
    if _wanted(header, head.FLAG_TILES, sections, _TILES, "tiles"):
        tiles = _parse_tiles(sections[_TILES], header, len(payload))
    return Stream(
        family=header.family,
        fingerprint=header.fingerprint,
        width=header.width,
        height=header.height,
        quality=header.quality,
        symbol_check=header.symbol_check,
        payload=payload,
        grey=bool(header.flags & head.FLAG_GREY),
        icc=sections.get(_ICC),
        exif=sections.get(_EXIF),
        xmp=sections.get(_XMP),
        gain_map=gain_map,
        tiles=tiles,
        version=header.version,
        unknown=tuple(k for k in sections if k not in (_GAIN_MAP, _TILES, *_METADATA)),
    )


def _wanted(header: Header, flag: int, sections: dict[int, bytes], kind: int, name: str) -> bool:
    """Tell whether a section is there; flag and section must agree."""
    if bool(header.flags & flag) != (kind in sections):
        raise StreamError(f"{name}: flag and section disagree")
    return kind in sections


def _read_sections(reader: Reader) -> dict[int, bytes]:
    sections: dict[int, bytes] = {}
    while (kind := reader.byte("section")) != _END:
        if kind in sections:
            raise StreamError(f"section {kind} stands twice")
        if kind & 1 and kind not in (_GAIN_MAP, _TILES):
            raise StreamError(f"required section {kind} is unknown; a newer lic may know it")
        length = reader.leb128(f"section {kind}")
        sections[kind] = reader.take(length, f"section {kind}")
    return sections


def _parse_tiles(data: bytes, header: Header, payload: int) -> tuple[int, ...]:
    reader, count = Reader(data), tile_count(header.width, header.height)
    if count > len(data):
        raise StreamError(f"tiles: {len(data)} bytes cannot hold the lengths of {count} tiles")
    lengths = tuple(reader.leb128("tiles") for _ in range(count))
    if reader.left or sum(lengths) != payload:
        raise StreamError(f"tiles: lengths add up to {sum(lengths)}, the payload has {payload}")
    return lengths
