"""``lic models``: list, verify, export and import weights; codebooks of all sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["models"]


@click.group()
def models() -> None:
    """List, verify, export and import weights; make codebooks."""


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
    from lic.codecs.prior import FAMILY as PRIOR
    from lic.codecs.prior import verify_prior
    from lic.codecs.registry import LEARNED, learned_codec
    from lic.errors import WeightsError
    from lic.weights.store import list_cards

    cards = [c for c in list_cards() if not names or c.name in names]
    unknown = set(names) - {c.name for c in cards}
    if unknown or not cards:
        raise WeightsError(f"no weights named {', '.join(sorted(unknown)) or 'anything'}")
    for card in cards:
        if card.family not in (*LEARNED, PRIOR):
            click.echo(f"{card.name}: decides nothing about symbols, nothing to verify")
            continue
        codec: Any = None if card.family == PRIOR else learned_codec(card)
        found, says = verify_prior(card) if codec is None else codec.verify()
        if found != card.loop_checksum:
            raise WeightsError(
                f"'{card.name}': checksum {found[:16]}, its card has {card.loop_checksum[:16]}; "
                "files of this machine and others would not agree"
            )
        click.echo(f"{card.name}: {found[:16]} as in the card; {says}")


@models.command()
@click.argument("source", type=click.Path(exists=True))
@click.option("--name", help="File name without suffix. [default: the family, or as it was]")
@click.option("-o", "--output", default=".", show_default=True, help="Folder for both files.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def export(source: str, name: str | None, output: str, force: bool) -> None:
    """Write the weights of a run: transforms in int8, fixed-point loop, tables and card.

    SOURCE is the folder of a training run, or a file of weights in half precision, which is made
    smaller: its files decode as before, pixels differ in rounding.
    """
    from lic.training.weights import export_run, pack_weights

    write = export_run if Path(source).is_dir() else pack_weights
    card = write(source, output, name=name, force=force)
    click.echo(f"{card.path}: {card.path.stat().st_size} bytes, fingerprint {card.prefix().hex()}")


@models.command("import-vqgan")
@click.argument("checkpoint", type=click.Path(dir_okay=False, exists=True))
@click.option("--codebook-size", type=int, default=1024, show_default=True, help="Power of two.")
@click.option("--data", multiple=True, metavar="DIR", help="Pictures to count codewords on.")
@click.option("--name", default="vqgan-imported", show_default=True, help="File name.")
@click.option("-o", "--output", default=".", show_default=True, help="Folder for both files.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def import_vqgan(checkpoint: str, codebook_size: int, **given: Any) -> None:
    """Turn a CHECKPOINT of taming-transformers' VQGAN into weights.

    The architecture follows from the tensors; no code of the file is run. With --data codewords
    are weighted by their use and the index coder learns from the same pictures.
    """
    from lic.training.importing import import_checkpoint

    card, told = import_checkpoint(checkpoint, codebook_size, **given)
    click.echo(f"{card.path}: {card.path.stat().st_size} bytes, fingerprint {card.prefix().hex()}")
    click.echo(told)


@models.command()
@click.argument("weights")
@click.option("--data", multiple=True, required=True, metavar="DIR", help="Training pictures.")
@click.option(
    "--sizes",
    default="8,16,32,64,128,256,512,1024",
    show_default=True,
    metavar="LIST",
    help="Codewords of each rung, doubling.",
)
@click.option("--finest", type=int, help="Split up to so many codewords behind the last size.")
@click.option("--compare", is_flag=True, help="Also fit each size alone, and tell the errors.")
@click.option("--name", default="vqgan", show_default=True, help="File name.")
@click.option("-o", "--output", default=".", show_default=True, help="Folder for both files.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def kmeans(weights: str, sizes: str, **given: Any) -> None:
    """Make the nested codebooks of vqgan WEIGHTS anew, by k-means at the largest of the sizes.

    Files of the old codebooks need the old weights.
    """
    from lic.errors import UsageProblem
    from lic.training.ladder import make_ladder

    try:
        numbers = [int(s) for s in sizes.split(",")]
    except ValueError as error:
        raise UsageProblem(f"--sizes {sizes}: numbers with commas between are expected") from error
    card, told = make_ladder(weights, numbers, **given)
    click.echo(f"{card.path}: {card.path.stat().st_size} bytes, fingerprint {card.prefix().hex()}")
    click.echo(told)
