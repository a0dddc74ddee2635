"""The interface that every codec keeps, learned or classic: no caller knows special cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lic.pictures import Picture

__all__ = ["Codec", "Encoded"]


@dataclass(frozen=True)
class Encoded:
    """One encoded picture.

    Attributes:
        data: The whole file, header and checksums included.
        details: What ``info`` and ``eval`` may print beside the bytes: bits per part,
            estimated bits, options in force. Plain numbers and strings.
        reconstruction: The picture that a decoder on this machine will return, bit for bit;
            ``None`` unless it was asked for with ``reconstruct=True``.
    """

    data: bytes
    details: dict[str, Any] = field(default_factory=dict)
    reconstruction: Picture | None = None


@runtime_checkable
class Codec(Protocol):
    """A picture codec. Quality runs over 0..100, higher is better and larger, for every family."""

    name: str

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture; raises ``InputError`` for pictures outside the format's limits."""

    def decode(self, data: bytes) -> Picture:
        """Decode one file; raises ``StreamError`` for anything that is not an intact one."""

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode several pictures in order; the bytes equal those of single calls."""

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode several files in order; the pictures equal those of single calls."""
