"""Numbers and byte strings with bounds: every length is compared with the bytes really left."""

from __future__ import annotations

from lic.errors import StreamError

__all__ = ["LARGEST_NUMBER", "Reader", "leb128"]

_LONGEST = 5

LARGEST_NUMBER = 2 ** (7 * _LONGEST) - 1
"""Largest number that LEB128 of five bytes holds."""


def leb128(value: int) -> bytes:
    """Return the shortest LEB128 spelling of a number; ``ValueError`` if it needs six bytes."""
    if not 0 <= value <= LARGEST_NUMBER:
        raise ValueError(f"{value} does not fit five LEB128 bytes")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Takes fields off a byte string, front to back.

    Args:
        data: All bytes.
        end: Position that no field may pass; the end of ``data`` when ``None``.
    """

    def __init__(self, data: bytes, end: int | None = None):
        self._data = data
        self._end = len(data) if end is None else end
        self.position = 0

    @property
    def left(self) -> int:
        return self._end - self.position

    def take(self, count: int, what: str) -> bytes:
        """Return the next ``count`` bytes; ``StreamError`` names the field that does not fit."""
        if count > self.left:
            raise StreamError(f"{what}: {self.left} of {count} bytes are there")
        self.position += count
        return self._data[self.position - count : self.position]

    def byte(self, what: str) -> int:
        return self.take(1, what)[0]

    def leb128(self, what: str) -> int:
        """Return a number; a spelling that is not the shortest or has over 5 bytes is an error."""
        value = 0
        for i in range(_LONGEST):
            byte = self.byte(what)
            value |= (byte & 0x7F) << (7 * i)
            if not byte & 0x80:
                if byte == 0 and i > 0:
                    raise StreamError(f"{what}: number is not in its shortest spelling")
                return value
        raise StreamError(f"{what}: number of more than {_LONGEST} bytes")
