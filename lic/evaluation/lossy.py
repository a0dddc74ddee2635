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

from lic.channel.channel import Channel
from lic.codecs.plan import in_order
from lic.evaluation.extras import optional
from lic.evaluation.metrics import METRICS
from lic.evaluation.senders import Sender
from lic.evaluation.tables import GrowingCsv
from lic.pictures import Picture, read_picture

__all__ = ["Case", "LossRow", "Mean", "mean_of", "sweep_losses"]

_GREY = 128
_RESAMPLES = 1000
_COLUMNS = (
    "sender",
    "conceal",
    "loss",
    "burst",
    "seed",
    "image",
    "packets",
    "wire_bytes",
    "bpp",
    "lost",
    "distance",
    "shown",
)


@dataclass(frozen=True, order=True)
class Case:
    """A kind of channel.

    Attributes:
        loss: Share of datagrams lost, 0..1.
        burst: Mean number lost in a row; 0 loses them independently.
    """

    loss: float
    burst: float = 0.0

    def channel(self) -> Channel:
        """Return it."""
        return Channel(loss=self.loss, burst=self.burst if self.burst and self.loss else None)

    def __str__(self) -> str:
        kind = f"bursts of {self.burst:g}" if self.burst else "independent"
        return f"{100 * self.loss:g} % {kind}"


@dataclass(frozen=True)
class LossRow:
    """One picture over one channel once, shown by one concealer.

    Attributes:
        sender, conceal: Names.
        case, seed: The channel.
        image: File name.
        packets, wire_bytes: Datagrams sent and their bytes, headers included.
        bpp: Of these bytes.
        lost: Share of indices or bytes that did not arrive.
        distance: See :class:`lic.evaluation.senders.Shown`.
        shown: Whether there was anything to show.
        metrics: By name of ``METRICS``.
    """

    sender: str
    conceal: str
    case: Case
    seed: int
    image: str
    packets: int
    wire_bytes: int
    bpp: float
    lost: float
    distance: float | None
    shown: bool
    metrics: dict[str, float | None]

    def line(self) -> dict[str, object]:
        """Return the line of ``per_loss.csv``."""
        own = {c: getattr(self, c) for c in _COLUMNS if c not in ("loss", "burst")}
        distance = "" if self.distance is None else round(self.distance, 5)
        rounded = {"bpp": round(self.bpp, 5), "lost": round(self.lost, 5), "distance": distance}
        values = {k: "" if v is None else round(v, 5) for k, v in self.metrics.items()}
        case = {"loss": self.case.loss, "burst": self.case.burst, "shown": int(self.shown)}
        return own | rounded | case | values


def sweep_losses(
    senders: Sequence[Sender],
    cases: Sequence[Case],
    seeds: int,
    files: Sequence[Path],
    metrics: Sequence[str],
    out: Path,
    say: Callable[[str], None],
    threads: int = 1,
) -> list[LossRow]:
    """Send every picture over every channel, ``seeds`` times, and measure what is shown.

    Args:
        senders: Each with its concealers.
        cases: Kinds of channel; a loss of 0 is run once.
        seeds: Repetitions.
        files: Pictures.
        metrics: Keys of ``METRICS``.
        out: Folder, gets ``per_loss.csv``, a picture at a time.
        say: Gets a line a picture.
        threads: Pictures at once.
    """
    rows: list[LossRow] = []
    table = GrowingCsv(out / "per_loss.csv", (*_COLUMNS, *metrics))
    table.replace([])

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
    found = in_order(one, list(enumerate(files)), threads)
    for file, fresh in zip(files, found, strict=True):
        table.append(row.line() for row in fresh)
        rows += fresh
        say(f"{file.name}: decoded {len(fresh)} times")
    return rows


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
    show = sender.receiver(picture, sent)
    wire = sum(map(len, sent))
    for case, seed in ((c, s) for c in cases for s in range(seeds if c.loss else 1)):
        arrived = case.channel().send(sent, _seed(number, seed)).datagrams
        for conceal in sender.concealers if case.loss else sender.concealers[:1]:
            found = show(arrived, conceal)
            shown = (found.picture or _grey(picture)).pixels
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
                shown=found.picture is not None,
                metrics={m: METRICS[m].measure(picture.pixels, shown) for m in metrics},
            )


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
        own = [getattr(r, metric) if metric in _COLUMNS else r.metrics[metric] for r in group]
        known = [v for v in own if v is not None]
        if known:
            grouped[image] = known
    return {image: float(np.mean(values)) for image, values in grouped.items()}
