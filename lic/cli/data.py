"""``lic data``: test sets, and masks of training pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

__all__ = ["data"]


@click.group()
def data() -> None:
    """Fetch and check test pictures; segment training pictures."""


@data.command()
@click.argument("name")
@click.option(
    "--data-root", "--to", "root", metavar="DIR", help="Folder of the sets. [default: $LIC_DATA]"
)
@click.option("--from", "base", metavar="URL", help="Another address that has the same files.")
def fetch(name: str, root: str | None, base: str | None) -> None:
    """Download a test set into DIR/NAME and check every file's SHA-256; what is right is kept."""
    from lic.errors import UsageProblem
    from lic.evaluation.datasets import NAMED, data_root
    from lic.evaluation.fetch import fetch as download

    if name not in NAMED:
        raise UsageProblem(f"no data set '{name}'; there is {', '.join(NAMED)}")
    folder = data_root(root, name) / name
    new = download(name, folder, base, lambda line: print(line, file=sys.stderr))
    click.echo(f"{folder}: complete, every SHA-256 as it should be, {new} downloaded")


@data.command("list")
@click.option("--data-root", "root", metavar="DIR", help="Folder of the sets. [default: $LIC_DATA]")
def list_(root: str | None) -> None:
    """List the test sets that have a name, and which of their files are there."""
    from lic.evaluation.datasets import NAMED, ROOT_VARIABLE, known_hashes, missing_files

    base = root or os.environ.get(ROOT_VARIABLE)
    for name in NAMED:
        count = len(known_hashes(name))
        if not base:
            click.echo(f"{name}  {count} pictures  {ROOT_VARIABLE} is not set")
            continue
        folder = Path(base) / name
        absent, changed = missing_files(name, folder)
        state = f"{count - len(absent) - len(changed)} of {count} pictures as they should be"
        if changed:
            state += f", changed: {', '.join(changed)}"
        click.echo(f"{name}  {state}  {folder}")


@data.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--scale", type=float, default=200, show_default=True, help="Higher: larger regions.")
@click.option(
    "--least", type=int, default=250, show_default=True, help="Fewest mask pixels of a region."
)
@click.option("-f", "--force", is_flag=True, help="Make masks that are there anew.")
@click.option("--quiet", is_flag=True, help="Print the last line only.")
def masks(folders: tuple[str, ...], scale: float, least: int, *, force: bool, quiet: bool) -> None:
    """Segment the pictures below each DIR, for training segpic.

    Masks go to DIR/.masks/NAME.png: grey, a quarter of the size, a number for each region. Masks of
    other tools can be put there instead, in any size, a colour for each region.
    """
    from lic.training.data import picture_files
    from lic.training.regions import write_masks

    made, kept, regions = 0, 0, 0
    for picture, count in write_masks(picture_files(folders), scale, least, force=force):
        made, kept = made + (count is not None), kept + (count is None)
        regions += count or 0
        if count is not None and not quiet:
            print(f"{picture}: {count} regions", file=sys.stderr)
    mean = f", {regions / made:.1f} regions a picture" if made else ""
    click.echo(f"{made} masks made, {kept} kept{mean}")
