"""``lic eval``: rate-distortion curves over a set of pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["eval_"]

_LIC_QUALITIES = (4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 60.0, 68.0, 76.0, 84.0, 92.0, 98.0)


@click.command("eval")
@click.option("--dataset", required=True, help="kodak, or a folder of pictures.")
@click.option("--data-root", metavar="DIR", help="Folder of named sets. [default: $LIC_DATA]")
@click.option("--codec", "codecs", multiple=True, help="Codecs; repeat, or separate by commas.")
@click.option("-q", "--quality", "qualities", help="Qualities separated by commas, for all codecs.")
@click.option("--anchor", default="jpeg", show_default=True, help="Codec that BD-rates refer to.")
@click.option("--metric", type=click.Choice(["psnr", "ms_ssim"]), default="psnr", show_default=True)
@click.option("--out", default="eval-out", show_default=True, metavar="DIR", help="Results.")
@click.option("--published", metavar="FILE", help="JSON file of published curves.")
@click.option("--published-curve", "curves", multiple=True, help="Curves of it to use.")
@click.option("--limit", type=click.IntRange(1), help="Use only the first pictures.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--weights", metavar="PATH", help="Weights instead of those found.")
@click.option("--fresh", is_flag=True, help="Measure again what is in --out already.")
def eval_(**given: Any) -> None:
    """Measure codecs on pictures: real bytes, PSNR, MS-SSIM, seconds, BD-rate, plot.

    An interrupted run continues where it was; rows that are finished are reused.
    """
    from lic.codecs.registry import get_codec
    from lic.errors import OutputError
    from lic.evaluation import report
    from lic.evaluation.datasets import find_dataset
    from lic.evaluation.plots import plot_curves
    from lic.evaluation.published import read_published
    from lic.evaluation.sweep import RowFile, sweep

    files = find_dataset(given["dataset"], given["data_root"])[: given["limit"]]
    names = [n for text in given["codecs"] or ("hyperprior,jpeg",) for n in text.split(",") if n]
    codecs = {n: get_codec(n, weights=given["weights"], threads=given["threads"]) for n in names}
    chosen = {n: _qualities(given["qualities"], codec) for n, codec in codecs.items()}
    published = {}
    if given["published"]:
        published = read_published(given["published"], list(given["curves"]))
    out = Path(given["out"])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or "cannot be made", str(out)) from error
    store = RowFile(out / "per_image.csv", fresh=given["fresh"])
    rows = sweep(codecs, chosen, files, store, lambda line: print(line, file=sys.stderr))

    metric = given["metric"]
    means = report.summarise(rows)
    meta = report.environment() | {
        "dataset": given["dataset"],
        "pictures": [f.name for f in files],
        "threads": given["threads"],
    }
    report.write_json(out / "summary.json", report.compressai_summary(means, meta))
    measured = {n: report.curve(p, metric) for n, p in means.items()}
    click.echo(report.table(means))
    if given["anchor"] in measured:
        every = measured | {f"{n} (published)": p for n, p in published.items()}
        found = report.compare(every, given["anchor"], metric)
        report.write_json(out / "bd_rate.json", report.bd_summary(given["anchor"], metric, found))
        click.echo(report.bd_table(given["anchor"], metric, found))
    label = "PSNR RGB, dB, mean over pictures" if metric == "psnr" else "MS-SSIM"
    plot_curves(out / "rd.png", measured, published, label)
    click.echo(f"results in {out}")


def _qualities(text: str | None, codec: Any) -> tuple[float, ...]:
    from lic.errors import UsageProblem

    if text is None:
        return tuple(getattr(codec, "qualities", _LIC_QUALITIES))
    try:
        return tuple(float(q) for q in text.split(",") if q)
    except ValueError as error:
        raise UsageProblem(f"--quality {text}: numbers separated by commas are expected") from error
