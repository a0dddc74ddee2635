"""Test pictures: a folder, or a named set below the data root, checked by its hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from lic.errors import InputError
from lic.pictures import PICTURE_SUFFIXES

__all__ = ["NAMED", "data_root", "find_dataset", "known_hashes", "missing_files"]

NAMED = ("kodak",)
"""Sets that have a name; ``$LIC_DATA/NAME`` holds their pictures."""

ROOT_VARIABLE = "LIC_DATA"


def data_root(given: str | None, name: str) -> Path:
    """Return the folder of the named sets: the given one, or ``$LIC_DATA``.

    Raises:
        InputError: Neither is there.
    """
    root = given or os.environ.get(ROOT_VARIABLE)
    if not root:
        raise InputError(
            f"data set '{name}': give the folder that holds {name}/, or set {ROOT_VARIABLE} to it; "
            f"'lic data fetch {name} --to DIR' fills one"
        )
    return Path(root)


def known_hashes(name: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a named set, by file name."""
    text = (Path(__file__).parent / f"{name}.sha256").read_text(encoding="utf-8")
    return {file: digest for digest, file in (line.split() for line in text.splitlines())}


def missing_files(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Return the files of a named set that are absent, and those that are not the known ones."""
    absent, changed = [], []
    for file, digest in known_hashes(name).items():
        path = folder / file
        if not path.is_file():
            absent.append(file)
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            changed.append(file)
    return absent, changed


def find_dataset(name: str, root: str | None = None) -> list[Path]:
    """Return the picture files of a named set or a folder, sorted.

    Args:
        name: A name of ``NAMED``, or a folder.
        root: Folder of the named sets; ``$LIC_DATA`` when ``None``.

    Raises:
        InputError: Nothing is there, or a named set is not complete; says where to put files.
    """
    if name in NAMED:
        folder = data_root(root, name) / name
        _check_named(name, folder)
        return [folder / file for file in sorted(known_hashes(name))]
    folder = Path(name)
    if not folder.is_dir():
        sets = ", ".join(NAMED)
        raise InputError(f"data set '{name}' is neither a folder nor one of: {sets}")
    files = sorted(
        f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and f.is_file()
    )
    if not files:
        raise InputError("holds no pictures", str(folder))
    return files


def _check_named(name: str, folder: Path) -> None:
    absent, changed = missing_files(name, folder)
    if absent:
        count = len(known_hashes(name))
        raise InputError(
            f"data set '{name}': {len(absent)} of {count} pictures are missing, the first is "
            f"{absent[0]}; put them into '{folder}', or run 'lic data fetch {name}'"
        )
    if changed:
        raise InputError(
            f"is not the known file of '{name}'; run 'lic data fetch {name}', or name the folder "
            "itself as the data set to use it as it is",
            str(folder / changed[0]),
        )
