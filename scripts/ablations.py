"""Train variants of a family for the same short time each and compare them on held-out pictures.

Usage: python scripts/ablations.py {acgc,segpic} OUT --data DIR --valid DIR
           [--budget 10m] [--seeds 1,2,3] [--jobs 2]

Each variant is the family's recipe with one part changed: contexts of acgc behind the trained
transforms of hyperprior, small networks of segpic from scratch; `lic train` with one thread, JOBS
at a time on cores of their own. OUT keeps the runs, and those that are done are not
trained again. Prints a Markdown table: change of rate against JPEG at equal PSNR, percent, from
whole files of the held-out pictures, for each seed, and the difference of means to the whole.
segpic needs masks beside the training pictures (`lic data masks DIR`).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import queue
import statistics
import subprocess
import sys
from pathlib import Path

SETTINGS = {
    # The contexts are compared behind the same trained transforms, which stay as they are.
    "acgc": [
        "train=context",
        "data.crop=256",
        "data.late_crop=256",
        "data.batch=4",
        "data.valid_pictures=12",
    ],
    "segpic": [
        "network.latents=128",
        "network.fine=64",
        "network.coarse=96",
        "network.analysis=[1, 1]",
        "network.synthesis=[1, 2]",
        "network.hyper=64",
        "network.width=64",
        "network.hidden=96",
        "data.batch=12",
        "data.late_crop=128",
        "data.valid_pictures=12",
    ],
}
COMMON = ["validate_every=1e9"]
START = {"acgc": ["--init", "hyperprior"], "segpic": []}
VARIANTS = {
    "acgc": {
        "all contexts": [],
        "without global-inter attention": ["network.inter=0"],
        "without channel context": ["network.channel=0"],
        "without anchors for the others": ["network.anchors=0"],
        # Widths other than the trained ones, so that nothing of the trained context is taken over.
        "four steps as in hyperprior, from scratch": [
            "family=segpic",
            "network.latents=320",
            "network.prototypes=0",
            "network.affine=false",
            "network.width=136",
            "network.hidden=200",
        ],
    },
    "segpic": {
        "masks and grid": [],
        "grid alone": ["data.masks=0"],
        "without region-adaptive transform": ["data.masks=0", "network.prototypes=0"],
        "without it and scale affine layers": [
            "data.masks=0",
            "network.prototypes=0",
            "network.affine=false",
        ],
    },
}


def run(command: list[str], folder: Path, cores: queue.Queue[int]) -> None:
    """Train unless it has been done; holds a core while it runs."""
    if (folder / "done").exists():
        return
    core = cores.get()
    try:
        log = folder.with_suffix(".log").open("w")
        pinned = ["taskset", "-c", str(core), *command]
        if subprocess.run(pinned, stdout=log, stderr=log, check=False).returncode:
            raise SystemExit(f"{folder}: see {log.name}")
        (folder / "done").touch()
    finally:
        cores.put(core)


def result(folder: Path) -> float:
    """Return the last measurement of a run, percent against JPEG."""
    with (folder / "valid.csv").open() as rows:
        return float(list(csv.DictReader(rows))[-1]["bd"])


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=sorted(VARIANTS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--valid", required=True)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    recipe = Path(__file__).parent.parent / "configs" / f"{given.family}.toml"
    seeds = given.seeds.split(",")
    cores: queue.Queue[int] = queue.Queue()
    for core in range(given.jobs):
        cores.put(core)
    tasks = []
    # Seeds outside, so that a comparison of all variants exists as early as possible.
    for seed in seeds:
        for number, overrides in enumerate(VARIANTS[given.family].values()):
            folder = given.out / f"{given.family}-{number}-{seed}"
            command = [sys.executable, "-m", "lic", "train", str(recipe), "--threads", "1"]
            command += ["--data", given.data, "--valid", given.valid]
            command += ["--budget", given.budget, "--out", str(folder)]
            command += START[given.family]
            for value in [*SETTINGS[given.family], *COMMON, f"seed={seed}", *overrides]:
                command += ["--set", value]
            tasks.append((command, folder))
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda t: run(*t, cores), tasks))
    print(f"| {given.family}, {given.budget} a run | {' | '.join(seeds)} | mean | difference |")
    print("|---" + "|---:" * (len(seeds) + 2) + "|")
    whole = None
    for number, label in enumerate(VARIANTS[given.family]):
        found = [result(given.out / f"{given.family}-{number}-{seed}") for seed in seeds]
        mean = statistics.mean(found)
        whole = mean if whole is None else whole
        cells = " | ".join(f"{v:.2f}" for v in found)
        print(f"| {label} | {cells} | {mean:.2f} | {mean - whole:+.2f} |")


if __name__ == "__main__":
    main()
