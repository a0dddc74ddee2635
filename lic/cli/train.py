"""``lic train``: train a family's networks within a budget of time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

__all__ = ["train"]


@click.command()
@click.argument("recipe", type=click.Path(dir_okay=False, exists=True), required=False)
@click.option("--data", multiple=True, metavar="DIR", help="Training pictures; may be repeated.")
@click.option("--valid", multiple=True, metavar="DIR", help="Held-out pictures; may be repeated.")
@click.option(
    "--budget",
    default="25m",
    show_default=True,
    help="Time to train, such as 90s or 2h; tables and validation come on top.",
)
@click.option("--resume", metavar="RUN", help="Continue the run in this folder.")
@click.option("--init", metavar="WEIGHTS", help="Start from exported weights.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override the recipe.")
@click.option("--out", metavar="RUN", help="Folder of the run. [default: runs/NAME-TIME]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--compile",
    is_flag=True,
    help="Compile blocks and likelihood, to try in long runs on a GPU; slower on a CPU.",
)
@click.option("--threads", type=click.IntRange(0), default=0, help="0 for all cores.")
def train(recipe: str | None, **given: Any) -> None:
    """Train networks by a RECIPE (TOML), and stop when the budget is spent.

    Data is looked for in $LIC_DATA/train and $LIC_DATA/valid where no option names it.
    An interrupted run is continued with --resume RUN; its curve is in RUN/rd.png.
    Recipes are in configs/; --set overrides any of their numbers, as in --set data.batch=8
    or --set loss=ms-ssim.
    """
    import torch

    from lic.errors import UsageProblem
    from lic.training.config import load_recipe, parse_duration
    from lic.training.loop import train as run_training
    from lic.training.plot import plot_run
    from lic.training.run import RunFolder
    from lic.training.weights import initial_state, recipe_for

    torch.set_num_threads(given["threads"] or os.cpu_count() or 1)
    if (recipe is None) == (given["resume"] is None):
        raise UsageProblem("give a RECIPE for a new run, or --resume RUN for an old one")
    if given["resume"] and (given["init"] or given["overrides"]):
        raise UsageProblem("--resume continues a run as it is; --init and --set start a new one")
    settings = (
        RunFolder(given["resume"]).recipe()
        if given["resume"]
        else load_recipe(str(recipe), given["overrides"])
    )
    start = initial_state(given["init"], settings) if given["init"] else None
    settings = recipe_for(start, settings) if start else settings
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = given["resume"] or given["out"] or f"runs/{Path(str(recipe)).stem}-{stamp}"
    run = run_training(
        settings,
        folder,
        list(given["data"]) or [_from_environment("train", "--data")],
        list(given["valid"]) or [_from_environment("valid", "--valid")],
        parse_duration(given["budget"]),
        resume=given["resume"] is not None,
        initial=start,
        device=given["device"],
        compile=given["compile"],
    )
    plot_run(run)
    click.echo(str(run.path))


def _from_environment(name: str, option: str) -> str:
    from lic.errors import UsageProblem

    root = os.environ.get("LIC_DATA")
    if not root:
        raise UsageProblem(f"give {option} DIR, or set LIC_DATA to a folder that holds {name}/")
    return str(Path(root) / name)
