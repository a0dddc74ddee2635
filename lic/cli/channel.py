"""``lic channel``: what a channel leaves of packet streams."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lic.cli._inputs import Direction, each_file, pair_files

__all__ = ["channel"]

_LAST_NUMBER = 65535


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="File; folder (made if missing) for several IN or with a / at the end; - for stdout.",
)
@click.option("--loss", type=float, default=0.0, help="Share of datagrams lost, 0..1.")
@click.option("--burst", type=float, help="Mean number lost in a row (Gilbert-Elliott).")
@click.option(
    "--trace",
    metavar="FILE",
    help="Instead of --loss: 0 (arrives) or 1 (lost) for each datagram, white space between; it "
    "starts again where it ends.",
)
@click.option(
    "--drop",
    metavar="LIST",
    default="",
    help="Datagrams lost in any case, such as 0,3,7-9: from 0 as they are sent, parity too.",
)
@click.option("--truncate", type=float, default=0.0, help="Share of which a part arrives, 0..1.")
@click.option("--flip", type=float, default=0.0, help="Share of bits that arrive inverted, 0..1.")
@click.option("--duplicate", type=float, default=0.0, help="Share that arrives twice, 0..1.")
@click.option("--reorder", type=click.IntRange(0), default=0, help="Places by which order changes.")
@click.option("--reverse", is_flag=True, help="The last comes first.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all chance.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def channel(ctx: click.Context, /, inputs: tuple[str, ...], output: str, **given: Any) -> None:
    """Send packets over a channel that loses and damages some.

    IN are packet streams of lic encode --packets, folders of them (.pkt), or - for standard input.
    The lengths between datagrams stand for the transport and stay whole.
    """
    from lic.channel.channel import Channel, read_trace
    from lic.container.packets import read_packets, write_packets
    from lic.files import atomic_write, check_output, read_input

    trace = None
    if given["trace"]:
        text = read_input(given["trace"]).decode("utf-8", "replace")
        trace = read_trace(text, given["trace"])
    way = Channel(
        loss=given["loss"],
        burst=given["burst"],
        trace=trace,
        drop=_numbers(given["drop"]),
        truncate=given["truncate"],
        flip=given["flip"],
        duplicate=given["duplicate"],
        reorder=given["reorder"],
        reverse=given["reverse"],
    )
    force = given["force"]
    suffixes = frozenset([".pkt"])
    pairs = pair_files(inputs, output, Direction(suffixes, ".pkt", suffixes), force=force)

    def work(source: str, target: str) -> None:
        passed = way.send(read_packets(read_input(source)), given["seed"])
        check_output(target, inputs=[source], force=force)
        atomic_write(target, write_packets(passed.datagrams), force=force)
        if not given["quiet"]:
            name = "standard input" if source == "-" else Path(source).name
            print(f"{name} -> {target}: {_happened(passed)}", file=sys.stderr)

    ctx.exit(each_file(pairs, work, force=force))


def _happened(passed: Any) -> str:
    told = [
        f"{count} {what}"
        for count, what in (
            (passed.lost, "lost"),
            (passed.cut, "cut"),
            (passed.flipped, "with wrong bits"),
            (passed.doubled, "doubled"),
            (passed.moved, "moved"),
        )
        if count or what == "lost"
    ]
    return f"{passed.sent} datagrams, {', '.join(told)}"


def _numbers(text: str) -> frozenset[int]:
    from lic.errors import UsageProblem

    numbers: set[int] = set()
    for item in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = item.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) < int(first):
            raise UsageProblem(f"--drop {text}: numbers and ranges such as 0,3,7-9 are expected")
        if int(last or first) > _LAST_NUMBER:
            raise UsageProblem(f"--drop {text}: datagrams are numbered from 0 to {_LAST_NUMBER}")
        numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
