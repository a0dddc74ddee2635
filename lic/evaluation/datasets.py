"""Test pictures: a folder, or a named set below the data root."""

from __future__ import annotations

import os
from pathlib import Path

from lic.errors import InputError

__all__ = ["NAMED", "find_dataset"]

NAMED = ("kodak",)
"""Sets that have a name; ``$LIC_DATA/NAME`` holds their pictures."""

_SUFFIXES = {".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def find_dataset(name: str, root: str | None = None) -> list[Path]:
    """Return the picture files of a named set or a folder, sorted.

    Args:
        name: A name of ``NAMED``, or a folder.
        root: Folder of the named sets; ``$LIC_DATA`` when ``None``.

    Raises:
        InputError: Nothing is there; says where it was looked for.
    """
    if name in NAMED:
        base = root or os.environ.get("LIC_DATA")
        if not base:
            raise InputError(
                f"data set '{name}': give --data-root DIR or set LIC_DATA to a folder with {name}/ "
                f"in it; 'lic data fetch {name}' downloads it"
            )
        folder = Path(base) / name
    else:
        folder = Path(name)
    if not folder.is_dir():
        raise InputError(f"data set '{name}' not found; put its pictures into '{folder}'")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES)
    if not files:
        raise InputError("holds no pictures", str(folder))
    return files
