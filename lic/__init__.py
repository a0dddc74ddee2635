"""Learned image compression: pictures to real files and back with neural networks, on a CPU.

    data = lic.encode("photo.jpg", quality=40)
    picture = lic.decode(data)          # picture.pixels: uint8 (H, W, 3)

Errors are those of :mod:`lic.errors`; all derive from ``lic.LicError``.
"""

from __future__ import annotations

import typing as _typing

if _typing.TYPE_CHECKING:
    from lic.api import decode, encode, is_lic, mend, read_info, transcode
    from lic.errors import (
        InputError,
        LicError,
        LimitError,
        NothingReceived,
        OutputError,
        StreamError,
        UsageProblem,
        WeightsError,
    )
    from lic.options import EncodeOptions
    from lic.pictures import Picture

__all__ = [
    "EncodeOptions",
    "InputError",
    "LicError",
    "LimitError",
    "NothingReceived",
    "OutputError",
    "Picture",
    "StreamError",
    "UsageProblem",
    "WeightsError",
    "__version__",
    "decode",
    "encode",
    "is_lic",
    "mend",
    "read_info",
    "transcode",
]

__version__ = "0.1.0"

_HOME = {n: "lic.errors" for n in __all__ if n.endswith(("Error", "Problem", "Received"))} | {
    "EncodeOptions": "lic.options",
    "Picture": "lic.pictures",
    "decode": "lic.api",
    "encode": "lic.api",
    "is_lic": "lic.api",
    "mend": "lic.api",
    "read_info": "lic.api",
    "transcode": "lic.api",
}


def __getattr__(name: str) -> _typing.Any:
    # Lazy, so that ``import lic`` and ``lic --help`` need neither torch nor Pillow.
    if name not in _HOME:
        raise AttributeError(f"module 'lic' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
