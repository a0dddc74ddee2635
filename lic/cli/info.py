"""``lic info``: what a ``.lic`` file says of itself, without torch."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

__all__ = ["info"]


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
@click.option(
    "--max-pixels", type=click.IntRange(0), help="Refuse larger pictures, 0 for no limit."
)
@click.pass_context
def info(
    ctx: click.Context, inputs: tuple[str, ...], as_json: bool, max_pixels: int | None
) -> None:
    """Check .lic files and packet streams, and print their headers.

    IN are files, folders (searched for .lic and .pkt files), or - for standard input.
    """
    from lic.api import read_info
    from lic.cli._inputs import about_input, expand_inputs
    from lic.errors import LicError
    from lic.files import read_input
    from lic.pictures import DEFAULT_MAX_PIXELS

    limit = DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels
    known = _known()
    worst = 0
    files = [f for f, _ in expand_inputs(inputs, frozenset([".lic", ".pkt"]))]
    for given in files:
        name = "standard input" if given == "-" else given
        try:
            values = {"file": name} | read_info(read_input(given), max_pixels=limit)
        except LicError as error:
            if len(files) == 1:
                raise about_input(error, given) from None
            print(f"lic: error: {about_input(error, given)}", file=sys.stderr)
            worst = max(worst, error.exit_code)
            continue
        values["weights_name"] = known.get((values["family"], values["weights"]))
        click.echo(json.dumps(values) if as_json else _lines(values))
    ctx.exit(worst)


def _lines(v: dict[str, Any]) -> str:
    kind = "grey" if v["grey"] else "RGB"
    head = f"{v['file']}: {v['width']}x{v['height']} {kind}, {v['bytes']} bytes, {v['bpp']:.4f} bpp"
    if "packets" in v:
        return "\n".join([head, *_packet_lines(v)])
    lines = [
        head,
        f"  family {v['family']}, {_quality(v)}, weights {v['weights']} ({_found(v)}), "
        f"format version {v['format_version']}",
        f"  payload {v['payload_bytes']} bytes, tiles {v['tiles']}, "
        f"gain map {'yes' if v['gain_map'] else 'no'}",
    ]
    kept = [f"{n.upper()} {v[n + '_bytes']}" for n in ("icc", "exif", "xmp") if v[n + "_bytes"]]
    lines += ["  metadata bytes: " + ", ".join(kept)] if kept else []
    if v["skipped_sections"]:
        lines.append(f"  unknown optional sections: {v['skipped_sections']}")
    return "\n".join(lines)


def _packet_lines(v: dict[str, Any]) -> list[str]:
    lines = [
        f"  family {v['family']}, {_quality(v)}, weights {v['weights']} ({_found(v)}), "
        f"format version {v['format_version']}",
        f"  packets {v['packets_received']} of {v['packets']}, "
        f"parity {v['parity_received']} of {v['parity']}",
    ]
    others = [f"{n} {v[n]}" for n in ("damaged", "doubled", "foreign") if v[n]]
    return [*lines, f"  datagrams {v['datagrams']}: " + ", ".join(others)] if others else lines


def _known() -> dict[tuple[str, str], str]:
    """Return names of the weights that are here, by family and fingerprint."""
    from lic.errors import LicError
    from lic.weights import list_cards

    try:
        return {(c.family, c.prefix().hex()): c.name for c in reversed(list_cards())}
    except LicError:  # a broken card says nothing about the file
        return {}


def _found(v: dict[str, Any]) -> str:
    return str(v["weights_name"] or "not here")


def _quality(v: dict[str, Any]) -> str:
    if "quality" in v:
        return f"quality {v['quality']:.0f}"
    coder = f", index coder {v['index_coder']}" if "index_coder" in v else ""
    return f"codebook {v['codebook_size']}{coder}"
