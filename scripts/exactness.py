"""Show that the coding loop derives the same integers however it is computed.

Usage: python scripts/exactness.py PICTURES [QUALITY [FAMILY]]

Encodes every picture, at quality 50 with ``hyperprior`` unless others are named, then derives all
table numbers and means again in fresh processes with other thread counts, instruction sets,
backends, batch sizes and memory formats, and counts what differs. Two controls have to differ: the
loop in float32, and the loop with weights off their grid.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lic.errors import LicError

VARIANTS: dict[str, dict[str, str]] = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "MKL SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "MKL AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "MKL AVX512": {"MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "ATen default": {"ATEN_CPU_CAPABILITY": "default"},
    "ATen AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "oneDNN SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "oneDNN off": {"LIC_CHECK": "mkldnn-off"},
    "channels_last": {"LIC_CHECK": "channels-last"},
    "batch of 4": {"LIC_CHECK": "batch"},
    "GPU": {"LIC_CHECK": "cuda"},
    "control: float32": {"LIC_CHECK": "float32"},
    "control: weights off the grid": {"LIC_CHECK": "off-grid"},
}


def numbers(folder: Path, family: str) -> dict[str, np.ndarray]:
    """Return table numbers and 16 * means of each tile, derived as ``LIC_CHECK`` says."""
    import torch

    from lic.codecs.registry import get_codec
    from lic.container import parse_stream

    how = os.environ.get("LIC_CHECK", "")
    codec: Any = get_codec(family)
    cases = []
    for file in sorted(folder.glob("*.lic")):
        stream = parse_stream(file.read_bytes())
        traces, rates = codec.trace(stream)
        pairs = enumerate(zip(traces, rates, strict=True))
        cases += [(f"{file.stem}.{i}", t, r) for i, (t, r) in pairs]
    context = codec.loop.context
    device, dtype = torch.device("cpu"), torch.float64
    if how == "channels-last":
        context.to(memory_format=torch.channels_last)
    elif how == "cuda":
        device = torch.device("cuda")
    elif how == "float32":
        dtype = torch.float32
    elif how == "off-grid":
        _leave_grid(context)
    context.to(device, dtype)
    size = 4 if how == "batch" else 1
    with torch.backends.mkldnn.flags(enabled=how != "mkldnn-off"):
        return _derive(codec, cases, size, device, dtype)


def _leave_grid(context: Any) -> None:
    """Move each weight within the step that rounding removed, as unrounded weights would lie."""
    import torch

    from lic.coding.fixed import exact_modules

    generator = torch.Generator().manual_seed(0)
    for layer in exact_modules(context).values():
        step = 2.0**-layer.weight_bits
        noise = torch.rand(layer.weight.shape, generator=generator, dtype=torch.float64) - 0.5
        layer.weight.data += noise * step


def _derive(codec: Any, cases: list, size: int, device: Any, dtype: Any) -> dict[str, np.ndarray]:
    from lic.codecs.loop import replay

    groups: dict[tuple, list] = {}
    for case in cases:
        groups.setdefault(tuple(case[1].y_hat.shape), []).append(case)
    out = {}
    for group in groups.values():
        for start in range(0, len(group), size):
            part = group[start : start + size]
            found = replay(codec.loop, [c[1] for c in part], part[0][2], device, dtype)
            out |= dict(zip((name for name, _, _ in part), found, strict=True))
    return out


def main(pictures: str, quality: str = "50", family: str = "hyperprior") -> int:
    """Print a line a variant; returns 1 if a promise is broken or a control does not differ."""
    from lic.api import encode
    from lic.evaluation.datasets import find_dataset

    broken = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in find_dataset(pictures):
            data = encode(file, codec=family, quality=float(quality))
            (folder / f"{file.stem}.lic").write_bytes(data)
        expected = _run(folder, family, {"OMP_NUM_THREADS": "1"})
        assert expected is not None
        total = sum(a.size for a in expected.values())
        for name, environment in VARIANTS.items():
            found = _run(folder, family, environment)
            if found is None:
                print(f"{name:32} not available here")
                continue
            wrong = sum(int((expected[k] != found[k]).sum()) for k in expected)
            control = name.startswith("control")
            broken |= (wrong == 0) if control else (wrong > 0)
            print(f"{name:32} {wrong} of {total} integers differ", flush=True)
    return broken


def _run(folder: Path, family: str, environment: dict[str, str]) -> dict[str, np.ndarray] | None:
    if environment.get("LIC_CHECK") == "cuda":
        import torch

        if not torch.cuda.is_available():
            return None
    command = [sys.executable, __file__, "--worker", str(folder), family]
    subprocess.run(command, env=os.environ | environment, check=True)
    with np.load(folder / "numbers.npz") as found:
        return {k: found[k] for k in found.files}


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        folder = Path(sys.argv[2])
        np.savez(folder / "numbers.npz", **numbers(folder, sys.argv[3]))
    else:
        try:
            sys.exit(main(*sys.argv[1:4]))
        except LicError as error:
            sys.exit(str(error))
