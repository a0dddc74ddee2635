"""``lic encode``: pictures to ``.lic`` files."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lic.cli._inputs import Direction, Size, each_file, pair_files

__all__ = ["encode"]


_FAR_BELOW = 0.8
"""Of a target, where it is worth saying that a codec has no more."""


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File; folder (made if missing) for several IN or with a / at the end; - for stdout.",
)
@click.option(
    "-q",
    "--quality",
    type=float,
    help="0..100, higher is better and larger: 0.02 to 1.5 bpp; vqgan takes the nearest of its "
    "ten codebooks. [default: 50]",
)
@click.option("--target-bpp", type=float, help="At most so many bits per pixel.")
@click.option("--target-size", type=Size(), help="At most so many bytes; 20kB and 1.5MB work.")
@click.option("--target-psnr", type=float, help="At least so many dB.")
@click.option(
    "--target-ssimulacra2",
    type=float,
    metavar="SCORE",
    help="At least this score, which follows what people see: about 90 where no difference is "
    "seen side by side, 70 high, 50 medium, 30 low quality.",
)
@click.option(
    "--codec",
    default="hyperprior",
    show_default=True,
    help="Family: hyperprior; acgc or segpic, to compare; vqgan for 0.008 to 0.04 bpp.",
)
@click.option(
    "--tune",
    type=click.Choice(["eyes", "psnr"]),
    help="What the networks are trained for: what people see, or the squared error that PSNR "
    "measures. -q means about the same size in both. [default: eyes where the family has it, "
    "which is hyperprior; psnr with --target-psnr]",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    help="Time for a smaller file of the same quality; decoding stays as fast. 1-2: symbols are "
    "rounded to nearest, hardly faster and larger, to compare; 3-6: chosen by price; 7, 8, 9: "
    "latents are refined before that, in 8, 24, 72 passes that each take about as long as "
    "decoding; 4 to 7 % less at equal PSNR, most of it as more PSNR at one -q. Targets are "
    "searched for with 5 and met with this. Not for vqgan. [default: 5]",
)
@click.option("--codebook-size", type=int, help="vqgan: a power of two from 8 to 4096.")
@click.option(
    "--index-coder",
    "--prior",
    "index_coder",
    type=click.Choice(["tree", "static", "uniform", "transformer"]),
    help="vqgan: what foresees indices. transformer is smaller than tree and slow; static and "
    "uniform are for comparison. [default: tree]",
)
@click.option(
    "--packets",
    is_flag=True,
    help="vqgan: write datagrams for a channel that loses some (.pkt); a third to a half larger.",
)
@click.option(
    "--payload",
    type=int,
    help="Most bytes of a datagram without its 18 of header. [default: ~128, at least 6 packets]",
)
@click.option(
    "--parity", type=int, default=0, help="Datagrams more, each of which replaces any lost one."
)
@click.option(
    "--roi",
    metavar="MASK",
    help="Spend more where this picture is white (not vqgan); a folder has a mask for each name.",
)
@click.option(
    "--roi-gain",
    type=float,
    default=25,
    show_default=True,
    help="Quality points that white gets beyond the rest, -49 to 49; below 0 it gets fewer. "
    "No place gets more than 100.",
)
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Pictures at once.")
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    envvar="LIC_THREADS",
    help="Strips of one picture at once, 0 for all cores; changes no byte. [default: 0]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Before writing, decode and fail unless the result is what was meant; print its PSNR.",
)
@click.option(
    "--metadata",
    type=click.Choice(["none", "icc", "all"]),
    default="icc",
    show_default=True,
    help="What to keep: nothing, the colour profile, or EXIF and XMP too.",
)
@click.option(
    "--max-pixels", type=click.IntRange(0), help="Refuse larger pictures, 0 for no limit."
)
@click.option(
    "--weights", metavar="PATH", help="Weights; else $LIC_WEIGHTS and the package are searched."
)
@click.option("-v", "--verbose", is_flag=True, help="Say where the bits went.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def encode(ctx: click.Context, /, inputs: tuple[str, ...], **given: Any) -> None:
    """Encode pictures to .lic files, or to packets for a channel that loses some.

    IN are picture files, folders (searched for picture suffixes, hidden files left out), or - for
    standard input. Without -o a file goes beside its input with the suffix .lic.
    """
    from lic.api import encode_picture, load_codec
    from lic.files import atomic_write, check_output, read_input
    from lic.options import EncodeOptions
    from lic.pictures import DEFAULT_MAX_PIXELS, PICTURE_SUFFIXES, read_picture

    limit = given["max_pixels"]
    settings = EncodeOptions(
        codec=given["codec"],
        tune=given["tune"],
        quality=given["quality"],
        target_bpp=given["target_bpp"],
        target_size=given["target_size"],
        target_psnr=given["target_psnr"],
        target_ssimulacra2=given["target_ssimulacra2"],
        metadata=given["metadata"],
        max_pixels=DEFAULT_MAX_PIXELS if limit is None else limit,
        weights=given["weights"],
        threads=given["threads"] or os.cpu_count() or 1,
        check=given["check"],
        effort=given["effort"],
        codebook_size=given["codebook_size"],
        index_coder=given["index_coder"],
        packets=given["packets"],
        payload=given["payload"],
        parity=given["parity"],
        roi=given["roi"],
        roi_gain=given["roi_gain"],
    )
    force = given["force"]
    suffix = ".pkt" if settings.packets else ".lic"
    others = PICTURE_SUFFIXES | {".lic", ".pkt"} - {suffix}
    way = Direction(PICTURE_SUFFIXES, suffix, frozenset([suffix]), refuses=others)
    pairs = pair_files(inputs, given["output"], way, force=force)

    def work(source: str, target: str) -> None:
        name = "standard input" if source == "-" else source
        picture = read_picture(read_input(source), name=name, max_pixels=settings.max_pixels)
        load_codec(settings)  # so that the seconds below are those of encoding
        begun = time.perf_counter()
        own = replace(settings, roi=_mask_for(given["roi"], source))
        encoded = encode_picture(picture, own)
        seconds = time.perf_counter() - begun
        check_output(target, inputs=[source], force=force)
        atomic_write(target, encoded.data, force=force)
        if not given["quiet"]:
            _report(name, target, picture, encoded, seconds, given)

    ctx.exit(each_file(pairs, work, force=force, jobs=given["jobs"]))


def _mask_for(roi: str | None, source: str) -> str | None:
    """Return the mask of a picture: the one that is named, or that of its name in a folder.

    Raises:
        InputError: The folder has none of that name.
    """
    from lic.errors import InputError
    from lic.pictures import PICTURE_SUFFIXES

    if roi is None or not Path(roi).is_dir():
        return roi
    for suffix in sorted(PICTURE_SUFFIXES):
        candidate = Path(roi) / (Path(source).stem + suffix)
        if candidate.exists():
            return str(candidate)
    raise InputError(f"no mask '{Path(source).stem}.*' in {roi}", source)


def _report(
    name: str, target: str, picture: Any, encoded: Any, seconds: float, given: dict[str, Any]
) -> None:
    size = len(encoded.data)
    pixels = picture.width * picture.height
    quality = encoded.details["quality"]
    line = (
        f"{Path(name).name} -> {target}: {picture.width}x{picture.height}, {size} bytes, "
        f"{8 * size / pixels:.4f} bpp, quality {quality:.0f}, {seconds:.2f} s"
    )
    if encoded.reconstruction is not None:
        from lic.evaluation.metrics import psnr

        line += f", {psnr(picture.pixels, encoded.reconstruction.pixels):.2f} dB"
    if "codebook_size" in encoded.details:
        line = line.replace(", quality", f", codebook {encoded.details['codebook_size']}, quality")
    if "packets" in encoded.details:
        line += f", {_packets(encoded.details, picture)}"
    target_bytes = given["target_size"] or (given["target_bpp"] or 0) * pixels / 8
    if quality > 99.9 and size < _FAR_BELOW * target_bytes:
        line += f", the best that {given['codec']} has"
    if given["verbose"]:
        parts = {k: round(v / 8) for k, v in encoded.details.items() if k.endswith("_bits")}
        line += "; bytes " + ", ".join(f"{k.removesuffix('_bits')} {v}" for k, v in parts.items())
    print(line, file=sys.stderr)


def _packets(details: dict[str, Any], picture: Any) -> str:
    """Return what a line about packets adds."""
    told = "1 packet" if details["packets"] == 1 else f"{details['packets']} packets"
    told += f" and {details['parity']} of parity" if details["parity"] else ""
    if details["packets"] + details["parity"] == 1:
        told += ": nothing is left if it gets lost; --parity adds one that stands in for it"
    return told + (", without its colour profile" if picture.icc else "")
