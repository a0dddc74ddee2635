"""Learned image compression: pictures to real files and back with neural networks, on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lic.api import decode, encode, is_lic, read_info

__all__ = ["__version__", "decode", "encode", "is_lic", "read_info"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, so that ``import lic`` and ``lic --help`` need neither torch nor Pillow.
    if name in ("decode", "encode", "is_lic", "read_info"):
        import lic.api

        return getattr(lic.api, name)
    raise AttributeError(f"module 'lic' has no attribute '{name}'")
