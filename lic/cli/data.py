"""``lic data``: test sets."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["data"]


@click.group()
def data() -> None:
    """Fetch and check test pictures."""


@data.command()
@click.argument("name", type=click.Choice(["kodak"]))
@click.option("--to", "root", metavar="DIR", help="Folder of the sets. [default: $LIC_DATA]")
@click.option("--from", "base", metavar="URL", help="Another place that has the same files.")
def fetch(name: str, root: str | None, base: str | None) -> None:
    """Download a test set and check every file's SHA-256; what is there is kept."""
    from lic.errors import UsageProblem
    from lic.evaluation.fetch import fetch_kodak

    place = root or os.environ.get("LIC_DATA")
    if not place:
        raise UsageProblem("give --to DIR, or set LIC_DATA")
    new = fetch_kodak(Path(place) / name, base)
    click.echo(f"{place}/{name}: 24 pictures as they should be, {new} of them new")
