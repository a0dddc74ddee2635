"""A whole ``.lic`` file as one object, written and parsed here and nowhere else.

Magic and header (:mod:`lic.container.header`), sections where a flag announces them
(:mod:`lic.container.sections`), payload, CRC-32 (:mod:`lic.container.envelope`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from lic.container import header as head
from lic.container import sections as sect
from lic.container.envelope import check_envelope, seal
from lic.container.fields import Reader, leb128
from lic.container.gain_map import gain_map_shape, parse_gain_map, write_gain_map
from lic.container.header import Header, read_header, write_header
from lic.container.sections import read_sections, write_sections
from lic.errors import LicError, StreamError

__all__ = ["TILED_ABOVE", "TILE_PIXELS", "Stream", "parse_stream", "tile_count", "write_stream"]

TILED_ABOVE = 2**21
"""Pictures of more pixels are coded in tiles."""

TILE_PIXELS = 1024
"""Side of a tile."""

# The room of pictures has the same number; the two rooms do not import each other.
_DEFAULT_MAX_PIXELS = 178_956_970


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
        icc, exif, xmp: Metadata to hand on; empty bytes are the same as ``None``.
        gain_map: int8 ``(ceil(H/64), ceil(W/64))``, steps of the rate byte.
        tiles: Bytes of each tile's segment of the payload, in raster order; present exactly for
            pictures of more than 2^21 pixels.
        version: Format version.
        unknown: Types of optional sections that the reader skipped; never written.
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        names = [f.name for f in fields(self) if f.name != "gain_map"]
        if any(getattr(self, n) != getattr(other, n) for n in names):
            return False
        if self.gain_map is None or other.gain_map is None:
            return self.gain_map is other.gain_map
        return np.array_equal(self.gain_map, other.gain_map)

    __hash__ = None  # type: ignore[assignment]


def tile_count(width: int, height: int) -> int:
    """Return the number of tiles of a picture, 1 up to 2^21 pixels."""
    if width * height <= TILED_ABOVE:
        return 1
    return -(-width // TILE_PIXELS) * -(-height // TILE_PIXELS)


def write_stream(stream: Stream) -> bytes:
    """Return the bytes of a file.

    Raises:
        ValueError: Fields out of range or in contradiction; a mistake of the caller.
    """
    sections = _sections_of(stream)
    header = Header(
        version=stream.version,
        family=stream.family,
        flags=_flags_of(sections) | head.FLAG_GREY * stream.grey,
        fingerprint=stream.fingerprint,
        width=stream.width,
        height=stream.height,
        quality=stream.quality,
        symbol_check=stream.symbol_check,
    )
    return seal(write_header(header) + write_sections(sections) + stream.payload)


def _flags_of(sections: dict[int, bytes]) -> int:
    """Return the flags that announce sections; each is set exactly when its section is there."""
    others = sections.keys() - {sect.GAIN_MAP, sect.TILES}
    return (
        head.FLAG_METADATA * bool(others)
        | head.FLAG_GAIN_MAP * (sect.GAIN_MAP in sections)
        | head.FLAG_TILES * (sect.TILES in sections)
    )


def _sections_of(stream: Stream) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    if stream.gain_map is not None:
        shape = gain_map_shape(stream.width, stream.height)
        found[sect.GAIN_MAP] = write_gain_map(stream.gain_map, shape)
    large = stream.width * stream.height > TILED_ABOVE
    if (stream.tiles is not None) != large:
        raise ValueError("tiles are for pictures of more than 2^21 pixels, and required there")
    if stream.tiles is not None:
        count = tile_count(stream.width, stream.height)
        if len(stream.tiles) != count or sum(stream.tiles) != len(stream.payload):
            raise ValueError(f"tiles: {count} lengths that add up to the payload's are wanted")
        found[sect.TILES] = b"".join(leb128(n) for n in stream.tiles)
    found |= {k: getattr(stream, n) for k, n in sect.METADATA.items() if getattr(stream, n)}
    return found


def parse_stream(
    data: bytes, *, name: str | None = None, max_pixels: int = _DEFAULT_MAX_PIXELS
) -> Stream:
    """Check a file and return its fields; mirrors :func:`write_stream`.

    Nothing is allocated by a size that the file merely claims, and no network runs before all
    checks hold: magic, length, checksum, version, family, flags, limits, sections.

    Args:
        data: The whole file.
        name: Stands in error messages.
        max_pixels: Larger pictures are refused; 0 for no limit.

    Raises:
        StreamError: Not a ``.lic`` file, damaged, cut, too long, or newer than this program.
        LimitError: Too many pixels.
    """
    try:
        reader = Reader(data, check_envelope(data))
        return _read_body(reader, read_header(reader, max_pixels))
    except LicError as error:
        raise (error.about(name) if name else error) from None


def _read_body(reader: Reader, header: Header) -> Stream:
    announced = header.flags & (head.FLAG_METADATA | head.FLAG_GAIN_MAP | head.FLAG_TILES)
    sections = read_sections(reader) if announced else {}
    _check_flags(header, announced, sections)
    payload = reader.take(reader.left, "payload")
    gain_map = tiles = None
    if sect.GAIN_MAP in sections:
        shape = gain_map_shape(header.width, header.height)
        gain_map = parse_gain_map(sections[sect.GAIN_MAP], shape)
    if sect.TILES in sections:
        tiles = _parse_tiles(sections[sect.TILES], header, len(payload))
    return Stream(
        family=header.family,
        fingerprint=header.fingerprint,
        width=header.width,
        height=header.height,
        quality=header.quality,
        symbol_check=header.symbol_check,
        payload=payload,
        grey=bool(header.flags & head.FLAG_GREY),
        icc=sections.get(sect.ICC),
        exif=sections.get(sect.EXIF),
        xmp=sections.get(sect.XMP),
        gain_map=gain_map,
        tiles=tiles,
        version=header.version,
        unknown=tuple(k for k in sections if k not in (sect.GAIN_MAP, sect.TILES, *sect.METADATA)),
    )


def _check_flags(header: Header, announced: int, sections: dict[int, bytes]) -> None:
    wrong = announced ^ _flags_of(sections)
    names = {
        head.FLAG_METADATA: "metadata",
        head.FLAG_GAIN_MAP: "gain map",
        head.FLAG_TILES: "tiles",
    }
    for flag, label in names.items():
        if wrong & flag:
            raise StreamError(f"{label}: flag and section disagree")
    large = header.width * header.height > TILED_ABOVE
    if large != bool(announced & head.FLAG_TILES):
        size = f"{header.width} x {header.height} pixels"
        raise StreamError(f"tiles: missing for {size}" if large else f"tiles: not for {size}")


def _parse_tiles(data: bytes, header: Header, payload: int) -> tuple[int, ...]:
    reader, count = Reader(data), tile_count(header.width, header.height)
    # A length has at least one byte: a huge count ends here, before a list of that size is made.
    if count > len(data):
        raise StreamError(f"tiles: {len(data)} bytes cannot hold the lengths of {count} tiles")
    lengths = tuple(reader.leb128("tiles") for _ in range(count))
    if reader.left:
        raise StreamError(f"tiles: {reader.left} bytes more than the lengths of {count} tiles")
    if sum(lengths) != payload:
        raise StreamError(f"tiles: lengths add up to {sum(lengths)}, the payload has {payload}")
    return lengths
