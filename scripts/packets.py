"""What it costs to send vqgan pictures in packets instead of files, and to restore them.

Usage: python scripts/packets.py PICTURES [--codebook-size K] [--limit N] [--threads 2]

PICTURES is a folder or the name of a set. Prints two Markdown tables. Means over the pictures:
files of the default coder, then 8, 16 and 32 datagrams that decode alone; bytes are all bytes of a
file, and all bytes of the datagrams. Then seconds from datagrams to pixels, a fifth of them lost,
one picture after the other in one process, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lic.channel.channel import Channel
from lic.codecs.conceal import available_concealers
from lic.codecs.packeted import PacketCodec
from lic.codecs.plan import Plan
from lic.codecs.registry import get_codec, packet_codec
from lic.container.packets import read_packets, write_packets
from lic.container.received import receive
from lic.errors import LicError
from lic.evaluation.datasets import find_dataset
from lic.pictures import Picture, read_picture

COUNTS = (8, 16, 32)


def in_packets(codec: PacketCodec, picture: Picture, size: int) -> list[dict[str, float]]:
    """Return the details of the smallest payloads that make at most ``COUNTS`` datagrams."""
    bits = size.bit_length() - 1
    plan = Plan(picture.height, picture.width, codec.codec.step)
    indices = codec.codec.encode_latents(picture, bits, plan)
    whole = codec.pack(indices, picture, bits, 65_000, 0)[1]["index_bits"]
    found = []
    for count in COUNTS:
        payload = int(whole) // 8 // count
        while (details := codec.pack(indices, picture, bits, payload, 0)[1])["packets"] > count:
            payload += max(1, payload // 50)
        found.append(details)
    return found


def with_losses(codec: PacketCodec, picture: Picture, size: int, seed: int) -> bytes:
    """Return what arrives of a picture's datagrams when a fifth of them is lost."""
    sent = read_packets(codec.encode(picture, 0, codebook_size=size).data)
    return write_packets(Channel(loss=0.2).send(sent, seed).datagrams)


def seconds(codec: PacketCodec, arrived: Sequence[bytes], name: str) -> list[float]:
    """Return how long each picture takes a concealer, after one that loads its network."""
    found = []
    for data in [arrived[0], *arrived]:
        begun = time.perf_counter()
        codec.mend(receive(data), name)
        found.append(time.perf_counter() - begun)
    return found[1:]


def row(name: str, bytes_: Sequence[float], files: Sequence[float], share: float) -> str:
    """Return a line: bytes, bytes against files, share of headers."""
    mean = statistics.mean(bytes_)
    more = 100 * (mean / statistics.mean(files) - 1)
    return f"| {name} | {mean:.0f} | {more:+.1f} % | {100 * share:.1f} % |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures")
    parser.add_argument("--codebook-size", type=int, default=1024)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    try:
        files = find_dataset(given.pictures)[: given.limit]
        pictures = [read_picture(Path(f).read_bytes(), name=str(f)) for f in files]
        codec, packets, size = get_codec("vqgan"), packet_codec(), given.codebook_size
        plain = [codec.encode(p, 0, codebook_size=size) for p in pictures]
        sizes = [float(len(e.data)) for e in plain]
        payloads = sum(e.details["payload_bytes"] for e in plain)
        print("| | bytes | against files | headers |\n|---|---:|---:|---:|")
        print(row("file", sizes, sizes, 1 - payloads / sum(sizes)))
        for sent in zip(*(in_packets(packets, p, size) for p in pictures), strict=True):
            wire = [float(d["wire_bytes"]) for d in sent]
            share = 1 - sum(d["index_bits"] for d in sent) / 8 / sum(wire)
            made = statistics.mean(d["packets"] for d in sent)
            print(row(f"{made:.1f} packets", wire, sizes, share), flush=True)
        print(f"\n| {given.threads} threads, 20 % lost | seconds |\n|---|---:|")
        torch.set_num_threads(given.threads)
        arrived = [with_losses(packets, p, size, seed) for seed, p in enumerate(pictures, 1)]
        for name in available_concealers(packets.codec.card):
            taken = statistics.median(seconds(packets, arrived, name))
            print(f"| {name} | {taken:.3f} |", flush=True)
    except LicError as error:
        raise SystemExit(f"packets: {error}") from error


if __name__ == "__main__":
    main()
