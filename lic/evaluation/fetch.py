"""Download the Kodak pictures, for people with a network, and check them for everybody."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from lic.errors import InputError

__all__ = ["fetch_kodak", "kodak_hashes"]

KODAK_URL = "http://r0k.us/graphics/kodak/kodak/"
_TIMEOUT_S = 30


def kodak_hashes() -> dict[str, str]:
    """Return the SHA-256 of each of the 24 files by name."""
    text = (Path(__file__).parent / "kodak.sha256").read_text(encoding="utf-8")
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def fetch_kodak(folder: Path, base: str | None = None) -> int:
    """Make ``folder`` hold the 24 pictures; returns how many were downloaded.

    Args:
        folder: Made if missing. Files there are kept if their hash is right.
        base: Address that the file names are appended to.

    Raises:
        InputError: No network, or a file that is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = 0
    for name, digest in kodak_hashes().items():
        path = folder / name
        if path.exists() and _digest(path.read_bytes()) == digest:
            continue
        data = _download((base or KODAK_URL).rstrip("/") + "/" + name, folder)
        if _digest(data) != digest:
            raise InputError(
                "is not the known file (SHA-256 differs); nothing was kept of it", name
            )
        temporary = path.with_name(f".{name}.tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)
        new += 1
    return new


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(address: str, folder: Path) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
            data: bytes = response.read()
            return data
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(
            f"cannot be downloaded ({error}); without a network, copy kodim01.png to kodim24.png "
            f"into '{folder}' from elsewhere and run this again to check them",
            address,
        ) from error
