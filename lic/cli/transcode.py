"""``lic transcode``: a smaller ``.lic`` file from one, without the picture."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from lic.cli._inputs import Direction, Size, each_file, pair_files

__all__ = ["transcode"]


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", required=True, metavar="OUT", help="File or folder; - for stdout.")
@click.option("--codebook-size", type=int, help="Codewords, a power of two from 8 to 4096.")
@click.option("--target-size", type=Size(), help="Or at most so many bytes; 1kB works.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Files at once.")
@click.option(
    "--max-pixels", type=click.IntRange(0), help="Refuse larger pictures, 0 for no limit."
)
@click.option(
    "--weights", metavar="PATH", help="Weights; else $LIC_WEIGHTS and the package are searched."
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def transcode(ctx: click.Context, /, inputs: tuple[str, ...], output: str, **given: Any) -> None:
    """Make smaller files of vqgan files: each index loses its last bits.

    No network runs, and packet streams are not read. A file that is encoded from the picture with
    the smaller codebook looks better at the same size.
    """
    from lic import api
    from lic.files import atomic_write, check_output, read_input
    from lic.pictures import DEFAULT_MAX_PIXELS

    limit = DEFAULT_MAX_PIXELS if given["max_pixels"] is None else given["max_pixels"]
    force = given["force"]
    way = Direction(frozenset([".lic"]), ".lic", frozenset([".lic"]))
    pairs = pair_files(inputs, output, way, force=force)

    def work(source: str, target: str) -> None:
        data = read_input(source)
        smaller = api.transcode(
            data,
            given["codebook_size"],
            target_size=given["target_size"],
            weights=given["weights"],
            max_pixels=limit,
            threads=os.cpu_count() or 1,
        )
        check_output(target, inputs=[source], force=force)
        atomic_write(target, smaller, force=force)
        if not given["quiet"]:
            name = "standard input" if source == "-" else Path(source).name
            told = f"{len(data)} -> {len(smaller)} bytes"
            told += ", as it was" if smaller == data else ""
            print(f"{name} -> {target}: {told}", file=sys.stderr)

    ctx.exit(each_file(pairs, work, force=force, jobs=given["jobs"]))
