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
    """Decode .lic files to pictures.

    IN are files, folders (searched for .lic files), or - for standard input. Family and weights
    follow from each file; without -o a PNG goes beside it, and folders get PNG files.
    """
    from lic import api
    from lic.files import atomic_write, check_output, read_input
    from lic.pictures import (
        DEFAULT_MAX_PIXELS,
        PICTURE_SUFFIXES,
        format_of_suffix,
        write_picture,
    )

    limit = DEFAULT_MAX_PIXELS if given["max_pixels"] is None else given["max_pixels"]
    threads = given["threads"] or os.cpu_count() or 1
    force = given["force"]
    way = Direction(frozenset([".lic"]), ".png", PICTURE_SUFFIXES)
    pairs = pair_files(inputs, output, way, force=force)
    formats = {target: "PNG" if target == "-" else format_of_suffix(target) for _, target in pairs}

    def work(source: str, target: str) -> None:
        data = read_input(source)
        name = "standard input" if source == "-" else source
        codec, stream = api.open_stream(
            data, weights=given["weights"], max_pixels=limit, threads=threads, name=name
        )
        begun = time.perf_counter()
        picture = codec.decode_stream(stream)
        seconds = time.perf_counter() - begun
        check_output(target, inputs=[source], force=force)
        atomic_write(target, write_picture(picture, format=formats[target]), force=force)
        if not given["quiet"]:
            size = f"{picture.width}x{picture.height}"
            print(f"{Path(name).name} -> {target}: {size}, {seconds:.2f} s", file=sys.stderr)

    ctx.exit(each_file(pairs, work, force=force, jobs=given["jobs"]))
