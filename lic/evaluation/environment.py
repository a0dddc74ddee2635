"""What a reader needs to judge measured figures: versions, processor, revision."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["environment"]

_PACKAGES = (
    "lic",
    "torch",
    "numpy",
    "pillow",
    "constriction",
    "bjontegaard",
    "pytorch-msssim",
    "compressai",
    "pillow-jxl-plugin",
    "pillow-heif",
)


def environment() -> dict[str, Any]:
    """Return versions by package, processor, cores and the revision of the source, if known."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "revision": _revision(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _revision() -> str | None:
    """Return the commit of a source tree; ``None`` where lic is installed or git is missing."""
    here = Path(__file__)
    # An environment inside somebody else's repository is not a revision of lic.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
