"""What a measured row depends on besides its name, so that rows of another state are not reused."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from lic.codecs.base import Codec

__all__ = ["codec_identity", "file_digest"]

_CODING_ROOMS = ("channel", "codecs", "coding", "container", "networks")


def codec_identity(codec: Codec, threads: int) -> str:
    """Return one line that changes whenever the codec's bytes, pixels or seconds may change.

    Classic codecs name their library and settings themselves. A learned codec is its weights and
    the code that runs them, since its encoder may change while the weights stay.

    Args:
        codec: Any codec.
        threads: In force; seconds depend on them.
    """
    own = getattr(codec, "identity", None)
    if own is None:
        card = getattr(codec, "card", None)
        weights = getattr(card, "sha256", "none")
        own = f"lic code {_code_digest()} weights {weights}"
    return f"{own} threads {threads}"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _code_digest() -> str:
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in _CODING_ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
