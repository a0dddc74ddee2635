"""Time the default codec beside CompressAI's mbt2018-mean and AVIF on the same pictures.

Usage: python scripts/speed.py PICTURES [--out FILE.json] [--threads 2] [--runs 5]

PICTURES is a folder or the name of a set.

Prints a Markdown table. "Process" is a whole command on one picture, from the start of Python to
its end, median of the runs; "batch" is the mean over all pictures in one process that has its
networks loaded. Peak memory is what the operating system counted for a process. mbt2018-mean runs
with random weights: its files mean nothing, its seconds do.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lic.errors import LicError
from lic.evaluation.datasets import find_dataset

CODECS = {
    "hyperprior": 50.0,
    "compressai:mbt2018-mean@bf16:5": 50.0,
    "compressai:mbt2018-mean:5": 50.0,
    "avif": 50.0,
}
LARGE = (4000, 3000)

_ONE = """
import sys
from pathlib import Path
from lic.codecs.registry import get_codec
from lic.pictures import read_picture, write_picture
what, codec, source, target, quality, threads = sys.argv[1:]
if not codec.startswith("avif"):
    import torch
    torch.set_num_threads(int(threads))
codec = get_codec(codec, threads=int(threads))
data = Path(source).read_bytes()
if what == "encode":
    done = codec.encode(read_picture(data, name=source), float(quality)).data
else:
    done = write_picture(codec.decode(data), format="PNG")
Path(target).write_bytes(done)
"""


def process(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall seconds and its peak memory in MB."""
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def whole(codec: str, picture: Path, folder: Path, threads: int, runs: int) -> dict[str, float]:
    """Time encode and decode of one picture as processes of their own."""
    coded, shown = folder / "coded", folder / "shown.png"
    if codec == "hyperprior":
        lic = [sys.executable, "-m", "lic"]
        options = ["--force", "--quiet", "--threads", str(threads)]
        encode = [*lic, "encode", str(picture), "-o", str(coded), *options]
        decode = [*lic, "decode", str(coded), "-o", str(shown), *options]
    else:
        one = [sys.executable, "-c", _ONE]
        rest = [str(CODECS[codec]), str(threads)]
        encode = [*one, "encode", codec, str(picture), str(coded), *rest]
        decode = [*one, "decode", codec, str(coded), str(shown), *rest]
    found = {}
    for name, command in (("encode", encode), ("decode", decode)):
        if runs > 1:
            process(command)
        pairs = [process(command) for _ in range(runs)]
        found[f"{name}_s"] = statistics.median(p[0] for p in pairs)
        found[f"{name}_mb"] = max(p[1] for p in pairs)
    return found


def batch(name: str, files: list[Path], threads: int) -> dict[str, float]:
    """Time one process that codes all pictures; transforms and coder apart where they are known."""
    import torch

    from lic.codecs.registry import get_codec
    from lic.pictures import read_picture

    torch.set_num_threads(threads)
    codec: Any = get_codec(name, threads=threads)
    pictures = [read_picture(f.read_bytes(), name=f.name) for f in files]
    codec.decode(codec.encode(pictures[0], CODECS[name]).data)
    coded, encode_s = _timed(lambda: [e.data for e in codec.encode_many(pictures, CODECS[name])])
    _, decode_s = _timed(lambda: list(codec.decode_many(coded)))
    pixels = sum(p.width * p.height for p in pictures)
    found = {
        "encode_s": encode_s / len(files),
        "decode_s": decode_s / len(files),
        "encode_mp_s": pixels / encode_s / 1e6,
        "decode_mp_s": pixels / decode_s / 1e6,
        "bpp": 8 * sum(map(len, coded)) / pixels,
    }
    if hasattr(codec, "decode_timed"):
        parts = [codec.decode_timed(data)[1] for data in coded]
        for key in ("transform_s", "coder_s"):
            found[key] = statistics.mean(p[key] for p in parts)
    return found


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    value = function()
    return value, time.perf_counter() - begun


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own.

    The peak memory of a child counts what it shared with its parent when it began, so this process
    has to stay small.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def large_picture(source: Path, target: Path) -> None:
    """Write a picture of 12 megapixels, an enlarged one with the grain of a photograph."""
    import numpy as np
    from PIL import Image

    with Image.open(source) as picture:
        pixels = np.asarray(picture.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).normal(0, 3, pixels.shape)
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    files = find_dataset(given.pictures)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = folder / "large.png"
        apart(large_picture, files[0], large)
        for codec in CODECS:
            print(codec, file=sys.stderr)
            found[codec] = {
                "process": whole(codec, files[0], folder, given.threads, given.runs),
                "large": whole(codec, large, folder, given.threads, 1),
                "batch": apart(batch, codec, files, given.threads),
            }
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found, given.threads))


def table(found: dict[str, dict[str, Any]], threads: int) -> str:
    """Return all figures as Markdown."""
    rows = {
        "process, encode s": ("process", "encode_s", "{:.2f}"),
        "process, decode s": ("process", "decode_s", "{:.2f}"),
        "process, encode peak MB": ("process", "encode_mb", "{:.0f}"),
        "process, decode peak MB": ("process", "decode_mb", "{:.0f}"),
        "batch, encode s": ("batch", "encode_s", "{:.3f}"),
        "batch, decode s": ("batch", "decode_s", "{:.3f}"),
        "batch, encode MP/s": ("batch", "encode_mp_s", "{:.2f}"),
        "batch, decode MP/s": ("batch", "decode_mp_s", "{:.2f}"),
        "decoding alone: transforms s": ("batch", "transform_s", "{:.3f}"),
        "decoding alone: coder and loop s": ("batch", "coder_s", "{:.3f}"),
        "12 MP, encode s": ("large", "encode_s", "{:.1f}"),
        "12 MP, decode s": ("large", "decode_s", "{:.1f}"),
        "12 MP, encode peak MB": ("large", "encode_mb", "{:.0f}"),
        "12 MP, decode peak MB": ("large", "decode_mb", "{:.0f}"),
    }
    names = list(found)
    lines = [f"| {threads} threads | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, (group, key, form) in rows.items():
        cells = [found[n][group].get(key) for n in names]
        shown = ["-" if c is None else form.format(c) for c in cells]
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except LicError as error:
        sys.exit(str(error))
