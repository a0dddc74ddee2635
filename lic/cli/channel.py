"""``lic channel``: what a channel leaves of a packet stream."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["channel"]


@click.command()
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help="File; - for stdout.")
@click.option("--loss", type=float, default=0.0, help="Share of datagrams lost, 0..1.")
@click.option("--burst", type=float, help="Mean number lost in a row (Gilbert-Elliott).")
@click.option("--trace", metavar="FILE", help="0 or 1 for each datagram, 1 for lost; repeats.")
@click.option("--drop", metavar="LIST", default="", help="Numbers that are lost, such as 0,3,7-9.")
@click.option("--truncate", type=float, default=0.0, help="Share of which a part arrives.")
@click.option("--flip", type=float, default=0.0, help="Share of bits that arrive inverted.")
@click.option("--duplicate", type=float, default=0.0, help="Share that arrives twice.")
@click.option("--reorder", type=int, default=0, help="Places by which order may change.")
@click.option("--reverse", is_flag=True, help="The last comes first.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all chance.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def channel(source: str, output: str, **given: Any) -> None:
    """Send packets over a channel that loses and damages some.

    IN and OUT are packet streams of lic encode --packets; - is standard input or output. The
    lengths between datagrams stand for the transport and stay whole.
    """
    from lic.channel.channel import Channel, read_trace
    from lic.container.packets import read_packets, write_packets
    from lic.errors import StreamError
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
    check_output(output, inputs=[source], force=given["force"])
    try:
        datagrams = read_packets(read_input(source))
    except StreamError as error:
        raise error.about("standard input" if source == "-" else source) from None
    passed = way.send(datagrams, given["seed"])
    atomic_write(output, write_packets(passed.datagrams), force=given["force"])
    if not given["quiet"]:
        name = "standard input" if source == "-" else Path(source).name
        happened = ", ".join(
            f"{count} {what}"
            for count, what in (
                (passed.lost, "lost"),
                (passed.cut, "cut"),
                (passed.flipped, "with wrong bits"),
                (passed.doubled, "doubled"),
            )
            if count or what == "lost"
        )
        print(f"{name} -> {output}: {passed.sent} datagrams, {happened}", file=sys.stderr)


def _numbers(text: str) -> frozenset[int]:
    from lic.errors import UsageProblem

    numbers: set[int] = set()
    for item in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = item.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageProblem(f"--drop {text}: numbers and ranges such as 0,3,7-9 are expected")
        numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)
