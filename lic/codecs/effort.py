"""How much time the encoder may take for a smaller file of the same quality.

The decoder and the format know nothing of it: a file does not say how much effort it took.

Example:
    >>> from lic.codecs.effort import effort_of
    >>> effort_of(None) == effort_of(5)
    True
    >>> effort_of(1).by_price, effort_of(5).by_price, effort_of(5).passes
    (False, True, 0)
    >>> effort_of(7).passes < effort_of(8).passes < effort_of(9).passes
    True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lic.errors import UsageProblem

if TYPE_CHECKING:
    from lic.codecs.base import Encoded
    from lic.codecs.latent import LatentCodec
    from lic.pictures import Picture

__all__ = ["DEFAULT_EFFORT", "Effort", "EffortCodec", "effort_of"]

DEFAULT_EFFORT = 5
_LEAST_BY_PRICE = 3
_PASSES = {7: 8, 8: 24, 9: 72}


@dataclass(frozen=True)
class Effort:
    """What a level means.

    Attributes:
        by_price: Symbols are chosen by their price; otherwise they are rounded to nearest.
        passes: Refining passes over the latents before that, see :mod:`lic.codecs.refine`.
    """

    by_price: bool
    passes: int


def effort_of(level: int | None) -> Effort:
    """Return what a level from 1 to 9 means; the default when ``None``.

    Raises:
        UsageProblem: There is no such level.
    """
    level = DEFAULT_EFFORT if level is None else level
    if not 1 <= level <= 9:
        raise UsageProblem(f"effort {level} is outside 1..9")
    return Effort(level >= _LEAST_BY_PRICE, _PASSES.get(level, 0))


class EffortCodec:
    """A codec that takes one effort whatever it is asked to: to compare levels.

    Args:
        codec: Codec of a family with latents.
        level: 1 to 9.

    Raises:
        UsageProblem: There is no such level.
    """

    def __init__(self, codec: LatentCodec, level: int):
        effort_of(level)
        self.codec, self.level = codec, level
        self.name, self.card = f"{codec.name}@{level}", codec.card

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture."""
        return self.codec.encode(picture, quality, **options | {"effort": self.level})

    def decode(self, data: bytes) -> Picture:
        """Decode one file."""
        return self.codec.decode(data)

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode several pictures in order."""
        return self.codec.encode_many(pictures, quality, **options | {"effort": self.level})

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode several files in order."""
        return self.codec.decode_many(files)
