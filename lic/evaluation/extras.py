"""The optional packages of evaluation, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from lic.errors import InputError

__all__ = ["optional"]


def optional(module: str) -> Any:
    """Import a module of the ``eval`` extra.

    Raises:
        InputError: It is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'lic[eval]'") from error
