"""The fixed part of a ``.lic`` file, declared once: one list of fields drives writer and reader.

The list stands in the order of the byte table in ``docs/format.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lic.container.fields import Reader, leb128
from lic.errors import LimitError, StreamError

__all__ = [
    "FAMILIES",
    "FLAG_GAIN_MAP",
    "FLAG_GREY",
    "FLAG_METADATA",
    "FLAG_TILES",
    "HEADER_FIELDS",
    "INDEX_CODERS",
    "MAGIC",
    "VERSION",
    "Field",
    "Header",
    "check_pixels",
    "is_lic",
    "read_header",
    "write_header",
]

MAGIC = b"\x89LIC"
VERSION = 0
"""Newest format version that is read, and the one that is written."""

FAMILIES = {1: "hyperprior", 2: "acgc", 3: "segpic", 4: "vqgan"}

INDEX_CODERS = {"tree": 0, "static": 1, "uniform": 2, "transformer": 3}
"""Of ``vqgan``: the high half of the quality byte."""

FLAG_METADATA, FLAG_GREY, FLAG_GAIN_MAP, FLAG_TILES = 1, 2, 4, 8
_KNOWN_FLAGS = FLAG_METADATA | FLAG_GREY | FLAG_GAIN_MAP | FLAG_TILES
_FINGERPRINT_BYTES = 3
_SYMBOL_CHECK_BYTES = 2


@dataclass(frozen=True)
class Header:
    """Fields between the magic and the sections, see ``docs/format.md``."""

    version: int
    family: int
    flags: int
    fingerprint: bytes
    width: int
    height: int
    quality: int
    symbol_check: int


@dataclass(frozen=True)
class Field:
    """One row of the byte table.

    Attributes:
        label: Name in messages.
        names: Attributes of :class:`Header` that the row holds.
        spell: Their values to bytes; ``ValueError`` or ``OverflowError`` if they do not fit.
        parse: Reader and label to the tuple of values.
        problem: What is wrong with values that fit, or ``None``.
    """

    label: str
    names: tuple[str, ...]
    spell: Callable[..., bytes]
    parse: Callable[[Reader, str], tuple[Any, ...]]
    problem: Callable[..., str | None]


def _byte(value: int) -> bytes:
    return bytes([value])


def _nibbles(high: int, low: int) -> bytes:
    if not (0 <= high <= 15 and 0 <= low <= 15):
        raise ValueError(f"{high}, {low} are not two nibbles")
    return bytes([high << 4 | low])


def _three_bytes(value: bytes) -> bytes:
    if len(value) != _FINGERPRINT_BYTES:
        raise ValueError(f"a fingerprint has {_FINGERPRINT_BYTES} bytes, not {len(value)}")
    return bytes(value)


def _first_byte_problem(version: int, family: int) -> str | None:
    if version > VERSION:
        return f"format version {version}; this lic reads up to {VERSION}"
    if family not in FAMILIES:
        return f"unknown family {family}; a newer lic may know it"
    return None


def _flags_problem(flags: int) -> str | None:
    unknown = flags & ~_KNOWN_FLAGS
    return f"unknown flags {unknown:#04x}; a newer lic may know them" if unknown else None


def _side(name: str) -> Field:
    return Field(
        name,
        (name,),
        leb128,
        lambda reader, label: (reader.leb128(label),),
        lambda value: None if value else f"{name} is 0; a picture has at least one pixel",
    )


def _fine(*_values: Any) -> None:
    return None


HEADER_FIELDS = (
    Field(
        "version, family",
        ("version", "family"),
        _nibbles,
        lambda reader, label: divmod(reader.byte(label), 16),
        _first_byte_problem,
    ),
    Field("flags", ("flags",), _byte, lambda reader, label: (reader.byte(label),), _flags_problem),
    Field(
        "fingerprint",
        ("fingerprint",),
        _three_bytes,
        lambda reader, label: (reader.take(_FINGERPRINT_BYTES, label),),
        _fine,
    ),
    _side("width"),
    _side("height"),
    Field("quality", ("quality",), _byte, lambda reader, label: (reader.byte(label),), _fine),
    Field(
        "symbol check",
        ("symbol_check",),
        lambda value: value.to_bytes(_SYMBOL_CHECK_BYTES, "little"),
        lambda reader, label: (int.from_bytes(reader.take(_SYMBOL_CHECK_BYTES, label), "little"),),
        _fine,
    ),
)
"""The order is part of the format."""


def is_lic(prefix: bytes) -> bool:
    """Tell by the first four bytes whether something claims to be a ``.lic`` file.

    Args:
        prefix: The beginning of the file, at least four bytes of it.
    """
    if not isinstance(prefix, bytes | bytearray | memoryview):
        raise TypeError(f"the first bytes of a file are wanted, not {type(prefix).__name__}")
    return bytes(prefix[: len(MAGIC)]) == MAGIC


def write_header(header: Header) -> bytes:
    """Return magic and header; raises ``ValueError`` for fields outside their ranges."""
    out = [MAGIC]
    for field in HEADER_FIELDS:
        values = [getattr(header, n) for n in field.names]
        try:
            out.append(field.spell(*values))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{field.label}: {error}") from error
        if problem := field.problem(*values):
            raise ValueError(problem)
    return b"".join(out)


def check_pixels(width: int, height: int, most: int) -> None:
    """Raise ``LimitError`` for more than ``most`` pixels; 0 is no limit."""
    if most and width * height > most:
        raise LimitError(f"{width} x {height} pixels exceed --max-pixels {most}")


def read_header(reader: Reader, max_pixels: int) -> Header:
    """Read what :func:`write_header` wrote; each field is judged before the next is read.

    Raises:
        StreamError: Newer version, unknown family or flag, a side of 0.
        LimitError: More pixels than ``max_pixels``; 0 for no limit.
    """
    reader.take(len(MAGIC), "magic")
    found: dict[str, Any] = {}
    for field in HEADER_FIELDS:
        values = field.parse(reader, field.label)
        if problem := field.problem(*values):
            raise StreamError(problem)
        found |= zip(field.names, values, strict=True)
    header = Header(**found)
    check_pixels(header.width, header.height, max_pixels)
    return header
