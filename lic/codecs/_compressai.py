"""CompressAI's networks and entropy models without the rest of CompressAI.

The package's own ``__init__`` imports torchvision, torch-geometric and pandas, gigabytes that
nothing here uses. So the packages on the way to the six architectures are registered by path
alone, and their code never runs; written for compressai 1.2.8. The price: whatever else in this
process imports compressai finds these light packages, so nothing but this module does it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from lic.errors import InputError

__all__ = ["ARCHITECTURES", "architecture_class", "compressai_version"]

ARCHITECTURES = {
    "bmshj2018-factorized": ("google", "FactorizedPrior", ((128, 192),) * 5 + ((192, 320),) * 3),
    "bmshj2018-hyperprior": ("google", "ScaleHyperprior", ((128, 192),) * 5 + ((192, 320),) * 3),
    "mbt2018-mean": ("google", "MeanScaleHyperprior", ((128, 192),) * 4 + ((192, 320),) * 4),
    "mbt2018": (
        "google",
        "JointAutoregressiveHierarchicalPriors",
        ((192, 192),) * 4 + ((192, 320),) * 4,
    ),
    "cheng2020-anchor": ("waseda", "Cheng2020Anchor", ((128,),) * 3 + ((192,),) * 3),
    "cheng2020-attn": ("waseda", "Cheng2020Attention", ((128,),) * 3 + ((192,),) * 3),
}
"""Module, class and the widths (N, M) of each of CompressAI's quality levels, from level 1."""

_BY_PATH_ALONE = ("compressai", "compressai.models")
_PACKAGE = "compressai"


def architecture_class(name: str) -> Any:
    """Return the class of an architecture of ``ARCHITECTURES``.

    Raises:
        InputError: compressai, or scipy which it needs, is not installed.
    """
    module, attribute, _ = ARCHITECTURES[name]
    _register()
    try:
        return getattr(importlib.import_module(f"compressai.models.{module}"), attribute)
    except ModuleNotFoundError as error:
        raise InputError(f"compressai needs {error.name}: pip install {error.name}") from error


def compressai_version() -> str:
    """Return the installed version."""
    return importlib.metadata.version(_PACKAGE)


def _register() -> None:
    """Put light packages into ``sys.modules``, unless compressai is there already."""
    if _PACKAGE in sys.modules:
        return
    found = importlib.util.find_spec(_PACKAGE)  # looks for it and runs nothing
    if found is None or not found.submodule_search_locations:
        raise InputError("compressai is not installed: pip install --no-deps compressai==1.2.8")
    root = Path(next(iter(found.submodule_search_locations)))
    for name in _BY_PATH_ALONE:
        package: Any = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    # What the entropy models ask the top package for.
    top: Any = sys.modules[_PACKAGE]
    top.get_entropy_coder = lambda: "ans"
    top.available_entropy_coders = lambda: ["ans"]
    # The registry lists torchvision's and torch-geometric's transforms; the architectures only
    # enter their names there, and nobody looks them up.
    registry: Any = types.ModuleType("compressai.registry")
    registry.register_model = registry.register_module = _register_nothing
    sys.modules["compressai.registry"] = registry


def _register_nothing(_name: str) -> Any:
    return lambda cls: cls
