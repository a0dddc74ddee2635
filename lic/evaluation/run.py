"""One evaluation from settings to the folder of results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lic.codecs.base import Codec
from lic.errors import OutputError, UsageProblem
from lic.evaluation import report
from lic.evaluation.datasets import find_dataset
from lic.evaluation.environment import environment
from lic.evaluation.extras import optional
from lic.evaluation.identity import codec_identity, file_digest
from lic.evaluation.metrics import METRICS, PERCEPTUAL, STANDARD
from lic.evaluation.plots import plot_curves
from lic.evaluation.published import read_published
from lic.evaluation.rows import RowStore
from lic.evaluation.sheet import draw_sheet
from lic.evaluation.sweep import sweep

__all__ = ["EvalSettings", "evaluate"]

DEFAULT_QUALITIES = (4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 60.0, 68.0, 76.0, 84.0, 92.0, 98.0)
"""For codecs that do not name their own."""

Curves = dict[str, list[tuple[float, float]]]

_PUBLISHED = " (published)"


@dataclass(frozen=True)
class EvalSettings:
    """What to measure and where to put it.

    Attributes:
        dataset: ``kodak`` or a folder.
        out: Folder of the results, made if missing.
        data_root: Folder of named sets; ``$LIC_DATA`` when ``None``.
        qualities: For every codec; its own default when empty.
        anchor: Measured codec or published curve that BD-rates refer to; the ``jpeg`` or else the
            first codec measured when ``None``.
        metric: A key of ``METRICS``.
        between: BD-rates are taken over this range of the metric, as it is plotted, at most; the
            metric's own limits when ``None``.
        limit: Use only so many pictures.
        threads: Of torch and of codecs that have them.
        published: JSON file of curves.
        published_curves: Which of them; all when empty.
        fresh: Keep no row of an earlier run.
        log: Logarithmic rate in the plot.
        perceptual: Measure SSIMULACRA 2, LPIPS and DISTS too.
        at_bpp: Also tell every metric at this rate.
        sheet: Draw so many of the pictures into ``sheet.png``, decoded by every codec at its
            quality nearest to ``at_bpp``.
    """

    dataset: str
    out: Path
    data_root: str | None = None
    qualities: tuple[float, ...] = ()
    anchor: str | None = None
    metric: str = "psnr"
    between: tuple[float, float] | None = None
    limit: int | None = None
    threads: int = 1
    published: str | None = None
    published_curves: tuple[str, ...] = ()
    fresh: bool = False
    log: bool = False
    perceptual: bool = False
    at_bpp: float | None = None
    sheet: int = 0


def evaluate(codecs: dict[str, Codec], settings: EvalSettings, say: Callable[[str], None]) -> str:
    """Measure codecs, write ``per_image.csv``, ``summary.json``, ``bd_rate.json`` and ``rd.png``.

    All that can be wrong with the settings is found before the first picture is coded.

    Args:
        codecs: By the name that results carry.
        settings: What and where.
        say: Gets progress, line by line.

    Returns:
        The tables to print.

    Raises:
        UsageProblem: A quality outside 0..100, or an anchor that is neither measured nor published.
        InputError: No data set, a broken file of curves, an optional package that is missing.
        OutputError: The folder cannot be made or written to.
    """
    files = find_dataset(settings.dataset, settings.data_root)[: settings.limit]
    quoted = _quoted(settings)
    if settings.at_bpp is not None and not settings.at_bpp > 0:
        raise UsageProblem("a rate must be above 0 bpp")
    notes = {n: str(getattr(codec, "note", "")) for n, codec in codecs.items()}
    comparable = [n for n, note in notes.items() if not note]
    anchor = _anchor(settings.anchor, comparable, list(quoted))
    qualities = {n: _qualities(settings.qualities, codec) for n, codec in codecs.items()}
    for module in ("pytorch_msssim", "bjontegaard", "matplotlib"):
        optional(module)
    optional("torch").set_num_threads(settings.threads)
    identities = {n: codec_identity(codec, settings.threads) for n, codec in codecs.items()}
    pictures = {file.name: file_digest(file) for file in files}
    _make_folder(settings.out)
    if quoted:
        say(f"note: published curves stand for whole sets; this run has {len(files)} pictures")
    store = RowStore(settings.out, identities, pictures, fresh=settings.fresh)
    asked = PERCEPTUAL if settings.perceptual else (settings.metric,)
    metrics = tuple(dict.fromkeys(STANDARD + asked))
    means = report.mean_points(sweep(codecs, qualities, files, store, say, metrics))

    meta = _meta(settings, pictures)
    meta["codecs"] = {
        n: report.codec_meta(points, identities[n], notes[n]) for n, points in means.items()
    }
    report.write_json(settings.out / "summary.json", report.summary(means, meta))
    measured = {n: report.curve(means[n], settings.metric) for n in comparable}
    compared = _compare(settings, measured, quoted, anchor)
    axis = METRICS[settings.metric].axis
    title = f"{Path(settings.dataset).name}, mean over {len(files)} pictures"
    plot_curves(settings.out / "rd.png", measured, quoted, axis=axis, title=title, log=settings.log)
    tables = [report.table(means, {n: t for n, t in notes.items() if t}), *compared]
    if settings.at_bpp is not None:
        tables.append(report.rate_table(means, settings.at_bpp))
    if settings.sheet:
        chosen = {n: _nearest(points, settings.at_bpp) for n, points in means.items()}
        draw_sheet(settings.out / "sheet.png", codecs, chosen, files[: settings.sheet])
    return "\n\n".join(tables)


def _nearest(points: list[report.Point], bpp: float | None) -> float:
    """Return the quality whose rate is nearest in proportion; the lowest without a rate."""
    if bpp is None:
        return points[0].quality
    return min(points, key=lambda p: abs(math.log(p.bpp / bpp))).quality


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or "cannot be made", str(path)) from error


def _compare(settings: EvalSettings, measured: Curves, quoted: Curves, anchor: str) -> list[str]:
    """Write ``bd_rate.json`` and return its table, if there is anything to compare."""
    every = measured | quoted
    metric, between = settings.metric, settings.between
    found = report.compare(every, anchor, metric, between) if anchor in every else {}
    values = report.bd_summary(anchor or None, metric, found)
    report.write_json(settings.out / "bd_rate.json", values)
    return [report.bd_table(anchor, metric, found, between)] if found else []


def _quoted(settings: EvalSettings) -> Curves:
    if not settings.published:
        return {}
    names = list(settings.published_curves)
    curves = read_published(settings.published, names, settings.metric)
    return {name + _PUBLISHED: points for name, points in curves.items()}


def _anchor(wanted: str | None, measured: list[str], quoted: list[str]) -> str:
    if wanted is None:
        return "jpeg" if "jpeg" in measured else next(iter([*measured, *quoted]), "")
    for name in (wanted, wanted + _PUBLISHED):
        if name in measured or name in quoted:
            return name
    known = ", ".join([*measured, *quoted]) or "none"
    raise UsageProblem(f"anchor '{wanted}' is not among the curves of this run: {known}")


def _qualities(wanted: tuple[float, ...], codec: Codec) -> tuple[float, ...]:
    given = wanted or tuple(getattr(codec, "default_qualities", DEFAULT_QUALITIES))
    wrong = [q for q in given if not 0 <= q <= 100]
    if wrong:
        raise UsageProblem(f"quality {wrong[0]:g} is outside 0..100")
    # Two decimals are what the name of a row keeps; more would never match it again.
    return tuple(dict.fromkeys(sorted(round(float(q), 2) for q in given)))


def _meta(settings: EvalSettings, pictures: dict[str, str]) -> dict[str, Any]:
    return environment() | {
        "dataset": settings.dataset,
        "pictures": pictures,
        "threads": settings.threads,
        "seed": None,
        "bpp": "bits of whole files, headers and checksums included",
        "psnr": "mean over pictures of the PSNR of 8-bit RGB",
        "seconds": "wall clock a picture, after one unmeasured picture a codec",
    }
