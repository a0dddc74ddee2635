"""``lic eval``: rate-distortion curves over a set of pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["eval_"]

_DEFAULT_CODECS = ("hyperprior", "jpeg")


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
    type=click.Choice(["psnr", "ms-ssim", "lpips", "dists"]),
    default="psnr",
    show_default=True,
    help="Of BD-rate and plot.",
)
@click.option(
    "--out", default="eval-out", show_default=True, metavar="DIR", help="Folder of the results."
)
@click.option("--published", metavar="FILE", help="JSON file of published curves.")
@click.option(
    "--published-curve", "curves", multiple=True, metavar="NAME", help="One of them; repeatable."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N pictures.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, metavar="N")
@click.option("--weights", metavar="PATH", help="Weights of families, a file or a folder.")
@click.option("--fresh", is_flag=True, help="Measure again what --out has already.")
@click.option("--perceptual", is_flag=True, help="Measure LPIPS and DISTS, too; slow.")
@click.option("--at", "at_bpp", type=float, metavar="BPP", help="Tell every metric at this rate.")
@click.option(
    "--sheet",
    type=click.IntRange(1),
    metavar="N",
    help="Draw N pictures into sheet.png, decoded at the rates nearest to --at.",
)
@click.option("--log", is_flag=True, help="Logarithmic rate in the plot.")
def eval_(**given: Any) -> None:
    """Measure codecs on pictures: real bytes, PSNR, MS-SSIM, seconds, BD-rate.

    --out gets per_image.csv, summary.json, bd_rate.json and rd.png. A run that was interrupted
    goes on where it was. per_image.csv keeps the rows of earlier runs; the others are about the
    codecs of this one.

    Codecs: hyperprior, vqgan; jpeg, jpeg-progressive, webp, avif, avif-444, jpeg2000, jxl, heic;
    compressai:NAME[@bf16][:LEVEL[:CHECKPOINT]], which has random weights without CHECKPOINT, good
    for timing alone.
    """
    from lic.codecs.registry import get_codec
    from lic.evaluation.run import EvalSettings, evaluate

    settings = EvalSettings(
        dataset=given["dataset"],
        out=Path(given["out"]),
        data_root=given["data_root"],
        qualities=_numbers(given["qualities"]),
        anchor=given["anchor"],
        metric=given["metric"].replace("-", "_"),
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


def _items(texts: tuple[str, ...]) -> list[str]:
    return [item.strip() for text in texts for item in text.split(",") if item.strip()]


def _numbers(texts: tuple[str, ...]) -> tuple[float, ...]:
    from lic.errors import UsageProblem

    items = _items(texts)
    if items == ["default"]:
        return ()
    try:
        return tuple(float(item) for item in items)
    except ValueError as error:
        raise UsageProblem(f"--quality {','.join(items)}: numbers are expected") from error
