"""``lic eval``: rate-distortion curves over a set of pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["eval_"]

_DEFAULT_CODECS = ("hyperprior", "jpeg")
_OF_CHANNELS = {
    "bursts": "burst",
    "concealers": "conceal",
    "seeds": "seeds",
    "parity": "parity",
    "payload": "payload",
    "codebook_size": "codebook-size",
}
"""Options that only lossy channels have."""


@click.command("eval")
@click.option("--dataset", required=True, metavar="NAME|DIR", help="kodak, or a folder.")
@click.option("--data-root", metavar="DIR", help="Folder of named sets. [default: $LIC_DATA]")
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    metavar="LIST",
    help="Codecs with commas between; may be repeated. "
    f"[default: {','.join(_DEFAULT_CODECS)}; names: see below]",
)
@click.option(
    "-q",
    "--quality",
    "qualities",
    multiple=True,
    metavar="LIST",
    help="Qualities 0..100 with commas between; may be repeated. [default: each codec's own]",
)
@click.option(
    "--anchor",
    metavar="NAME",
    help="Curve that BD-rates refer to. [default: jpeg, or else the first codec]",
)
@click.option(
    "--metric",
    type=click.Choice(["psnr", "ms-ssim", "ssimulacra2", "lpips", "dists"]),
    default="psnr",
    show_default=True,
    help="Of BD-rate and plot. ssimulacra2 follows human ratings: 100 = equal, 90 no visible "
    "difference, 50 medium, negative possible; its BD-rate covers 10 to 85.",
)
@click.option(
    "--out", default="eval-out", show_default=True, metavar="DIR", help="Folder of the results."
)
@click.option("--published", metavar="FILE", help="JSON file of published curves.")
@click.option(
    "--published-curve", "curves", multiple=True, metavar="NAME", help="One of them; repeatable."
)
@click.option(
    "--between",
    type=(float, float),
    metavar="LOW HIGH",
    help="Take BD-rates over this range of the metric at most, as in --between 26.1 37.3.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N pictures.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, metavar="N")
@click.option("--weights", metavar="PATH", help="Weights of families, a file or a folder.")
@click.option("--fresh", is_flag=True, help="Measure again what --out has already.")
@click.option(
    "--perceptual", is_flag=True, help="Measure SSIMULACRA 2, LPIPS and DISTS, too; slow."
)
@click.option("--at", "at_bpp", type=float, metavar="BPP", help="Tell every metric at this rate.")
@click.option(
    "--sheet",
    type=click.IntRange(1),
    metavar="N",
    help="Draw N pictures into sheet.png, decoded at the rates nearest to --at.",
)
@click.option("--log", is_flag=True, help="Logarithmic rate in the plot.")
@click.option(
    "--channel",
    "losses",
    multiple=True,
    metavar="LIST",
    help="Instead: send packets over channels that lose such shares of them, 0..1, and over one "
    "that loses none. [default codec: vqgan]",
)
@click.option(
    "--burst",
    "bursts",
    multiple=True,
    metavar="LIST",
    help="With --channel: mean numbers lost in a row, 0 for independent losses. [default: 0]",
)
@click.option(
    "--conceal",
    "concealers",
    multiple=True,
    metavar="LIST",
    help="With --channel: none, nearest, mean, conv, transformer. [default: all there are]",
)
@click.option("--seeds", type=click.IntRange(1), help="With --channel: repetitions. [default: 10]")
@click.option(
    "--parity",
    multiple=True,
    metavar="LIST",
    help="With --channel: parity packets at equal bytes, beside 0. [default: none]",
)
@click.option("--payload", type=click.IntRange(1), help="With --channel: bytes of a payload.")
@click.option(
    "--codebook-size", type=click.IntRange(2), help="With --channel: of vqgan. [default: 1024]"
)
def eval_(**given: Any) -> None:
    """Measure codecs on pictures: real bytes, PSNR, MS-SSIM, seconds, BD-rate.

    --out gets per_image.csv, summary.json, bd_rate.json and rd.png. A run that was interrupted
    goes on where it was. per_image.csv keeps the rows of earlier runs; the others are about the
    codecs of this one.

    Codecs: hyperprior, acgc, segpic, each with what it is tuned for (hyperprior-psnr), an effort
    (hyperprior@7) or another synthesis (hyperprior:natural) if you like; vqgan; jpeg,
    jpeg-progressive, webp, avif, avif-iq, avif-444, jpeg2000, jxl, heic;
    compressai:NAME[@bf16][:LEVEL[:CHECKPOINT]], which has random weights without CHECKPOINT, good
    for timing alone.

    With --channel, --out gets per_loss.csv, losses.json and losses.png; pictures finished by an
    earlier run with the same settings are kept. vqgan sends packets; files
    of other codecs are cut into pieces. A picture of which nothing can be shown counts as grey.
    """
    from lic.codecs.registry import get_codec
    from lic.errors import UsageProblem
    from lic.evaluation.run import EvalSettings, evaluate

    if given["losses"]:
        click.echo(_over_channels(given))
        click.echo(f"\nresults in {given['out']}")
        return
    for name in _OF_CHANNELS:
        if given[name]:
            raise UsageProblem(f"--{_OF_CHANNELS[name]} goes with --channel")
    settings = EvalSettings(
        dataset=given["dataset"],
        out=Path(given["out"]),
        data_root=given["data_root"],
        qualities=_numbers(given["qualities"]),
        anchor=given["anchor"],
        metric=given["metric"].replace("-", "_"),
        between=_range(given["between"]),
        limit=given["limit"],
        threads=given["threads"],
        published=given["published"],
        published_curves=given["curves"],
        fresh=given["fresh"],
        log=given["log"],
        perceptual=given["perceptual"] or given["metric"] in ("lpips", "dists"),
        at_bpp=given["at_bpp"],
        sheet=given["sheet"] or 0,
    )
    names = dict.fromkeys(_items(given["codecs"]) or _DEFAULT_CODECS)
    codecs = {n: get_codec(n, weights=given["weights"], threads=given["threads"]) for n in names}
    click.echo(evaluate(codecs, settings, lambda line: print(line, file=sys.stderr)))
    click.echo(f"\nresults in {given['out']}")


def _over_channels(given: dict[str, Any]) -> str:
    from lic.codecs.conceal import available_concealers
    from lic.codecs.registry import get_codec, packet_codec
    from lic.errors import UsageProblem
    from lic.evaluation.metrics import PERCEPTUAL
    from lic.evaluation.run_lossy import LossSettings, evaluate_losses

    for name in ("published", "at_bpp", "sheet", "log", "anchor", "curves", "between"):
        if given[name]:
            raise UsageProblem(f"--{name.replace('_bpp', '')} does not go with --channel")
    qualities = _numbers(given["qualities"])
    if len(qualities) > 1:
        raise UsageProblem("one quality goes with --channel")
    names = dict.fromkeys(_items(given["codecs"]) or ("vqgan",))
    if qualities and set(names) <= {"vqgan"}:
        raise UsageProblem("--quality is for the files of other codecs; vqgan has --codebook-size")
    options: dict[str, Any] = {"weights": given["weights"], "threads": 1}
    codecs: dict[str, Any] = {
        n: packet_codec(**options) if n == "vqgan" else get_codec(n, **options) for n in names
    }
    available: tuple[str, ...] = ("none",)
    if "vqgan" in codecs:
        available = available_concealers(codecs["vqgan"].codec.card)
    metric = given["metric"].replace("-", "_")
    wanted = (metric, "psnr", *(PERCEPTUAL if given["perceptual"] else ()))
    settings = LossSettings(
        dataset=given["dataset"],
        out=Path(given["out"]),
        losses=_numbers(given["losses"], "channel"),
        bursts=_numbers(given["bursts"], "burst") or (0.0,),
        concealers=tuple(_items(given["concealers"])) or available,
        seeds=given["seeds"] or 10,
        parity=(0, *(int(n) for n in _numbers(given["parity"], "parity"))),
        codebook_size=given["codebook_size"] or 1024,
        quality=qualities[0] if qualities else 0.0,
        payload=given["payload"],
        metrics=tuple(dict.fromkeys(wanted)),
        data_root=given["data_root"],
        limit=given["limit"],
        threads=given["threads"],
        fresh=given["fresh"],
    )
    return evaluate_losses(codecs, settings, lambda line: print(line, file=sys.stderr))


def _range(given: tuple[float, float] | None) -> tuple[float, float] | None:
    from lic.errors import UsageProblem

    if given is not None and not given[0] < given[1]:
        raise UsageProblem(f"--between {given[0]:g} {given[1]:g}: the first must be the lower one")
    return given


def _items(texts: tuple[str, ...]) -> list[str]:
    return [item.strip() for text in texts for item in text.split(",") if item.strip()]


def _numbers(texts: tuple[str, ...], option: str = "quality") -> tuple[float, ...]:
    from lic.errors import UsageProblem

    items = _items(texts)
    if items == ["default"]:
        return ()
    try:
        return tuple(float(item) for item in items)
    except ValueError as error:
        raise UsageProblem(f"--{option} {','.join(items)}: numbers are expected") from error
