"""``lic decode``: ``.lic`` files to pictures."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from lic.cli._inputs import Direction, each_file, pair_files

__all__ = ["decode"]


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File (its suffix picks the format); folder (made if missing) for several IN or with a / "
    "at the end; - for PNG on stdout.",
)
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Pictures at once.")
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    envvar="LIC_THREADS",
    help="Strips of one picture at once, 0 for all cores; changes no pixel. [default: 0]",
)
@click.option(
    "--conceal",
    type=click.Choice(["none", "nearest", "mean", "conv", "transformer"]),
    help="What stands in for lost packets: nothing, the nearest index that arrived, the mean of "
    "those around, a network. [default: the best that there is for the weights]",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Small synthesis, for files of the hyperprior weights that ship: 0.1 to 0.25 dB less, a "
    "quarter sooner on CPUs without bfloat16, no sooner on others.",
)
@click.option(
    "--look",
    type=click.Choice(["faithful", "natural"]),
    default="faithful",
    show_default=True,
    help="faithful: as near to the original as the file tells. natural: texture is invented where "
    "the file tells too little, best below 0.3 bpp; not for evidence, text and faces that matter.",
)
@click.option(
    "--realism",
    type=click.FloatRange(0, 1),
    help="With --look natural: 0 is faithful, 1 all of it, between them a mixture. [default: 1]",
)
@click.option(
    "--max-pixels", type=click.IntRange(0), help="Refuse larger pictures, 0 for no limit."
)
@click.option(
    "--weights", metavar="PATH", help="Weights; else $LIC_WEIGHTS and the package are searched."
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def decode(
    ctx: click.Context, /, inputs: tuple[str, ...], output: str | None, **given: Any
) -> None:
    """Decode .lic files, and packets that arrived, to pictures.

    IN are files, folders (searched for .lic and .pkt files), or - for standard input. Family and
    weights follow from each file; without -o a PNG goes beside it, and folders get PNG files. Of
    packets of several pictures in one file, the picture with the most is decoded.
    """
    from lic.api import open_coded
    from lic.files import atomic_write, check_output, read_input
    from lic.options import DecodeOptions
    from lic.pictures import (
        DEFAULT_MAX_PIXELS,
        PICTURE_SUFFIXES,
        format_of_suffix,
        write_picture,
    )

    settings = DecodeOptions(
        weights=given["weights"],
        max_pixels=DEFAULT_MAX_PIXELS if given["max_pixels"] is None else given["max_pixels"],
        threads=given["threads"] or os.cpu_count() or 1,
        conceal=given["conceal"],
        fast=given["fast"],
        look=given["look"],
        realism=given["realism"],
    )
    force = given["force"]
    way = Direction(frozenset([".lic", ".pkt"]), ".png", PICTURE_SUFFIXES)
    pairs = pair_files(inputs, output, way, force=force)
    formats = {target: "PNG" if target == "-" else format_of_suffix(target) for _, target in pairs}

    def work(source: str, target: str) -> None:
        data = read_input(source)
        name = "standard input" if source == "-" else source
        decode = open_coded(data, settings, name)  # seconds below are without loading networks
        begun = time.perf_counter()
        decoded = decode()
        picture, missing = decoded.picture, _missing(decoded.mended) if decoded.mended else ""
        seconds = time.perf_counter() - begun
        check_output(target, inputs=[source], force=force)
        atomic_write(target, write_picture(picture, format=formats[target]), force=force)
        if not given["quiet"]:
            size = f"{picture.width}x{picture.height}"
            print(
                f"{Path(name).name} -> {target}: {size}, {seconds:.2f} s{missing}", file=sys.stderr
            )

    ctx.exit(each_file(pairs, work, force=force, jobs=given["jobs"]))


def _missing(mended: Any) -> str:
    """Return what a line about a picture from packets says of them."""
    received, header = mended.received, mended.received.header
    told = [f"{received.data} of {header.count} packets"]
    parity = len(received.payloads) - received.data
    if mended.recovered:
        told.append(f"{mended.recovered} more from parity")
    elif mended.lost and parity and not mended.parity_unused:
        told.append(f"{parity} of parity, too few")
    told += [
        f"{count} {what}"
        for count, what in (
            (received.damaged, "damaged"),
            (received.doubled, "doubled"),
            (received.foreign, "of other pictures"),
        )
        if count
    ]
    if mended.lost:
        share = 100 * mended.lost / mended.indices
        told.append(f"{mended.lost} of {mended.indices} indices lost ({share:.0f} %)")
        told.append("not concealed" if mended.conceal == "none" else f"by {mended.conceal}")
    if mended.parity_unused:
        told.append("parity not used, since zfec is not installed: pip install 'lic[parity]'")
    return "; " + ", ".join(told)
