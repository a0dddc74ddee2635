"""Pictures over lossy channels: what arrives, how it looks, and how sure the figures are.

Every concealer shows the same losses, so differences between them are paired. A picture of which
nothing can be shown counts as a grey one, and its share is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lic.codecs.plan import in_order
from lic.evaluation.extras import optional
from lic.evaluation.identity import file_digest
from lic.evaluation.lossy_rows import COLUMNS, Case, LossRow, LossStore
from lic.evaluation.metrics import METRICS
from lic.evaluation.senders import Sender
from lic.pictures import Picture, read_picture

__all__ = ["Mean", "mean_of", "sweep_losses"]

_GREY = 128
_RESAMPLES = 1000


def sweep_losses(
    senders: Sequence[Sender],
    cases: Sequence[Case],
    seeds: int,
    files: Sequence[Path],
    metrics: Sequence[str],
    out: Path,
    say: Callable[[str], None],
    threads: int = 1,
    *,
    fresh: bool = False,
) -> list[LossRow]:
    """Send every picture over every channel, ``seeds`` times, and measure what is shown.

    Args:
        senders: Each with its concealers.
        cases: Kinds of channel; a loss of 0 is run once.
        seeds: Repetitions.
        files: Pictures.
        metrics: Keys of ``METRICS``.
        out: Folder, gets ``per_loss.csv``, a picture at a time; pictures that an earlier run with
            the same settings finished there are not sent again.
        say: Gets a line a picture.
        threads: Pictures at once.
        fresh: Keep no row of an earlier run.
    """

    def one(task: tuple[int, Path]) -> list[LossRow]:
        torch.set_num_threads(1)  # of this thread
        number, file = task
        picture = read_picture(file.read_bytes(), name=str(file), max_pixels=0)
        return [
            row
            for sender in senders
            for row in _rows_of(sender, picture, file.name, number, cases, seeds, metrics)
        ]

    torch = optional("torch")
    settings = [[s.name, s.identity, s.concealers] for s in senders]
    state = repr((settings, [str(c) for c in cases], seeds, list(metrics)))
    pictures = {f.name: f"{number} {file_digest(f)}" for number, f in enumerate(files)}
    store = LossStore(out, metrics, state, pictures, fresh=fresh)
    left = [(n, f) for n, f in enumerate(files) if f.name not in store.rows]
    if len(left) < len(files):
        say(f"{len(files) - len(left)} pictures are there from an earlier run")
    for (_, file), found in zip(left, in_order(one, left, threads), strict=True):
        store.add(file.name, found)
        say(f"{file.name}: decoded {len(found)} times")
    return [row for file in files for row in store.rows[file.name]]


def _rows_of(
    sender: Sender,
    picture: Picture,
    name: str,
    number: int,
    cases: Sequence[Case],
    seeds: int,
    metrics: Sequence[str],
) -> Iterator[LossRow]:
    sent = sender.send(picture)
    result = _results(sender, picture, sent, metrics)
    wire = sum(map(len, sent))
    for case, seed in ((c, s) for c in cases for s in range(seeds if c.loss else 1)):
        arrived = case.channel().send(sent, _seed(number, seed)).datagrams
        for conceal in sender.concealers if case.loss else sender.concealers[:1]:
            found = result(arrived, conceal)
            yield LossRow(
                sender=sender.name,
                conceal=conceal if case.loss else "",
                case=case,
                seed=seed,
                image=name,
                packets=len(sent),
                wire_bytes=wire,
                bpp=8 * wire / picture.width / picture.height,
                lost=found.lost,
                distance=found.distance,
                shown=found.shown,
                metrics=found.metrics,
            )


@dataclass(frozen=True)
class _Result:
    lost: float
    distance: float | None
    shown: bool
    metrics: dict[str, float | None]


def _results(
    sender: Sender, picture: Picture, sent: list[bytes], metrics: Sequence[str]
) -> Callable[[list[bytes], str], _Result]:
    """Return what shows and measures; where the same arrives again, that is not done again."""
    show = sender.receiver(picture, sent)
    seen: dict[tuple[tuple[bytes, ...], str], _Result] = {}

    def result(arrived: list[bytes], conceal: str) -> _Result:
        key = tuple(arrived), conceal if len(arrived) < len(sent) else ""
        if key not in seen:
            found = show(arrived, conceal)
            pixels = (found.picture or _grey(picture)).pixels
            measured = {m: METRICS[m].measure(picture.pixels, pixels) for m in metrics}
            seen[key] = _Result(found.lost, found.distance, found.picture is not None, measured)
        return seen[key]

    return result


def _seed(picture: int, repetition: int) -> int:
    """Return a seed that no two pictures share."""
    return picture + 1_000_003 * repetition


def _grey(like: Picture) -> Picture:
    return Picture(np.full_like(like.pixels, _GREY))


@dataclass(frozen=True)
class Mean:
    """A mean over pictures of their means over seeds.

    Attributes:
        value: The mean.
        low, high: Of 95 % of bootstrap resamples of the pictures.
    """

    value: float
    low: float
    high: float


def mean_of(
    rows: Sequence[LossRow], metric: str, minus: Sequence[LossRow] | None = None
) -> Mean | None:
    """Return the mean of a metric, or of paired differences; ``None`` where a picture has none.

    Args:
        rows: Of one sender, concealer and case.
        metric: A key of ``METRICS``, ``distance`` or ``lost``.
        minus: Rows of another concealer or case to subtract, picture by picture.
    """
    found = _by_picture(rows, metric)
    if minus is not None:
        others = _by_picture(minus, metric)
        found = {k: v - others[k] for k, v in found.items() if k in others}
    values = np.array(list(found.values()))
    if not values.size or not np.isfinite(values).all():
        return None
    random = np.random.default_rng(0)
    resampled = values[random.integers(0, values.size, (_RESAMPLES, values.size))].mean(1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Mean(float(values.mean()), float(low), float(high))


def _by_picture(rows: Sequence[LossRow], metric: str) -> dict[str, float]:
    grouped: dict[str, list[float]] = {}
    for image, group in itertools.groupby(sorted(rows, key=lambda r: r.image), lambda r: r.image):
        own = [getattr(r, metric) if metric in COLUMNS else r.metrics[metric] for r in group]
        known = [v for v in own if v is not None]
        if known:
            grouped[image] = known
    return {image: float(np.mean(values)) for image, values in grouped.items()}
