"""``lic models``: list, verify and export weights."""

from __future__ import annotations

import json
from typing import Any

import click

__all__ = ["models"]


@click.group()
def models() -> None:
    """List, verify and export weights."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the cards as JSON.")
def list_(as_json: bool) -> None:
    """List the weights that can be found."""
    from lic.weights.store import list_cards

    cards = list_cards()
    if as_json:
        click.echo(json.dumps([_plain(c) for c in cards], indent=1))
        return
    rows = [("name", "family", "fingerprint", "bytes", "licence", "file")]
    for card in cards:
        size = str(card.path.stat().st_size) if card.path.exists() else "MISSING"
        prefix = card.prefix().hex()
        rows.append((card.name, card.family, prefix, size, card.licence, str(card.path)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _plain(card: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(card) | {"path": str(card.path), "present": card.path.exists()}


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Run the exact part of each model on a stored input and compare checksums with the card's.

    Equal checksums mean that this machine derives the same tables and symbols as every other.
    """
    from lic.codecs.registry import learned_codec
    from lic.errors import WeightsError
    from lic.weights.store import list_cards

    cards = [c for c in list_cards() if not names or c.name in names]
    unknown = set(names) - {c.name for c in cards}
    if unknown or not cards:
        raise WeightsError(f"no weights named {', '.join(sorted(unknown)) or 'anything'}")
    for card in cards:
        codec: Any = learned_codec(card)
        found, says = codec.verify()
        if found != card.loop_checksum:
            raise WeightsError(
                f"'{card.name}': checksum {found[:16]}, its card has {card.loop_checksum[:16]}; "
                "files of this machine and others would not agree"
            )
        click.echo(f"{card.name}: {found[:16]} as in the card; {says}")


@models.command()
@click.argument("run", type=click.Path(file_okay=False, exists=True))
@click.option("--name", help="File name without suffix. [default: the family]")
@click.option("-o", "--output", default=".", show_default=True, help="Folder for both files.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def export(run: str, name: str | None, output: str, force: bool) -> None:
    """Write the weights of a training RUN: halves, fixed-point loop, tables and card."""
    from lic.training.weights import export_run

    card = export_run(run, output, name=name, force=force)
    click.echo(f"{card.path}: {card.path.stat().st_size} bytes, fingerprint {card.prefix().hex()}")
