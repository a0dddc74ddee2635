"""Download a named set, for people with a network, and check its files for everybody."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from lic.errors import InputError, OutputError
from lic.evaluation.datasets import known_hashes, missing_files
from lic.files import atomic_write

__all__ = ["ADDRESSES", "fetch"]

ADDRESSES = {"kodak": "http://r0k.us/graphics/kodak/kodak/"}
"""Where each set is published; file names are appended. The hashes make up for plain HTTP."""

_TIMEOUT_S = 30
_LARGEST_FILE = 1 << 26


def fetch(name: str, folder: Path, base: str | None, say: Callable[[str], None]) -> int:
    """Make ``folder`` hold the pictures of a set; returns how many were downloaded.

    Files that are there and right are kept, so a broken-off download goes on where it was.

    Args:
        name: A key of ``ADDRESSES``.
        folder: Made if missing.
        base: Another address that has the same files.
        say: Gets a line a downloaded file.

    Raises:
        InputError: No network, or a file that is not what it should be.
        OutputError: The folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or "cannot be made", str(folder)) from error
    hashes = known_hashes(name)
    wanted = sorted(file for group in missing_files(name, folder) for file in group)
    for file in wanted:
        address = (base or ADDRESSES[name]).rstrip("/") + "/" + file
        data = _download(address, _by_hand(name, folder))
        if hashlib.sha256(data).hexdigest() != hashes[file]:
            raise InputError(
                f"is not the known {file}: its SHA-256 differs; nothing of it was kept", address
            )
        atomic_write(str(folder / file), data, force=True)
        say(f"{folder / file}: {len(data)} bytes")
    return len(wanted)


def _by_hand(name: str, folder: Path) -> str:
    files = sorted(known_hashes(name))
    return (
        f"without a network, copy {files[0]} to {files[-1]} from elsewhere into '{folder}'; "
        f"'lic data list --data-root {folder.parent}' then checks them"
    )


def _download(address: str, way_out: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
            data: bytes = response.read(_LARGEST_FILE)
            return data
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise InputError(f"cannot be downloaded ({error}); {way_out}", address) from error
