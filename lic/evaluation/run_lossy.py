"""One evaluation over lossy channels, from settings to the folder of results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lic.codecs.base import Codec
from lic.codecs.conceal import CONCEALERS
from lic.codecs.packeted import PacketCodec
from lic.errors import OutputError, UsageProblem
from lic.evaluation import report
from lic.evaluation.datasets import find_dataset
from lic.evaluation.environment import environment
from lic.evaluation.extras import optional
from lic.evaluation.lossy import sweep_losses
from lic.evaluation.lossy_report import concealer_table, loss_summary, loss_table, plot_losses
from lic.evaluation.lossy_rows import Case
from lic.evaluation.senders import FileSender, PacketSender, Sender

__all__ = ["LossSettings", "evaluate_losses"]


@dataclass(frozen=True)
class LossSettings:
    """What to send over which channels.

    Attributes:
        dataset: ``kodak`` or a folder.
        out: Folder of the results, made if missing.
        losses: Shares of datagrams lost, 0..1; 0 is added.
        bursts: Mean numbers lost in a row; 0 for independent losses.
        concealers: Of ``CONCEALERS``.
        seeds: Repetitions of each channel.
        parity: Numbers of parity packets; 0 for none.
        codebook_size: Of ``vqgan``.
        quality: Of other codecs, whose files are cut into pieces.
        payload: Bytes of a datagram's payload; ``vqgan``'s own choice and 128 when ``None``.
        metrics: Keys of ``METRICS``; the first is drawn.
        data_root: Folder of named sets; ``$LIC_DATA`` when ``None``.
        limit: Use only so many pictures.
        threads: Pictures at once.
        fresh: Keep no row of an earlier run.
    """

    dataset: str
    out: Path
    losses: tuple[float, ...]
    bursts: tuple[float, ...] = (0.0,)
    concealers: tuple[str, ...] = CONCEALERS
    seeds: int = 10
    parity: tuple[int, ...] = (0,)
    codebook_size: int = 1024
    quality: float = 0.0
    payload: int | None = None
    metrics: tuple[str, ...] = ("lpips", "psnr")
    data_root: str | None = None
    limit: int | None = None
    threads: int = 1
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in self.concealers:
            if name not in CONCEALERS:
                raise UsageProblem(f"no concealer '{name}'; known: {', '.join(CONCEALERS)}")
        for case in self.cases():
            case.channel().send([], 0)  # refuses what cannot be

    def cases(self) -> list[Case]:
        """Return the channels, the one without loss first."""
        lossy = [Case(x, b) for x in sorted(set(self.losses) - {0.0}) for b in self.bursts]
        return [Case(0.0), *lossy]


def evaluate_losses(
    codecs: dict[str, Codec], settings: LossSettings, say: Callable[[str], None]
) -> str:
    """Write ``per_loss.csv``, ``losses.json`` and ``losses.png``; returns the table to print.

    Args:
        codecs: By name; of ``vqgan`` the packet codec.
        settings: What and where.
        say: Gets progress, line by line.

    Raises:
        InputError: No data set, or an optional package that is missing.
        WeightsError: A concealer has no network for these weights.
        OutputError: The folder cannot be made or written to.
    """
    files = find_dataset(settings.dataset, settings.data_root)[: settings.limit]
    optional("matplotlib")
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or "cannot be made", str(settings.out)) from error
    senders = [s for name, codec in codecs.items() for s in _senders(name, codec, settings)]
    metrics, out = settings.metrics, settings.out
    rows = sweep_losses(
        senders,
        settings.cases(),
        settings.seeds,
        files,
        metrics,
        out,
        say,
        settings.threads,
        fresh=settings.fresh,
    )
    meta = environment() | {
        "dataset": settings.dataset,
        "pictures": len(files),
        "seeds": settings.seeds,
        "interval": "95 % of bootstrap resamples of the pictures, each a mean over seeds",
        "undecodable": "share of which nothing can be shown; a grey picture stands for those",
    }
    summary = {"meta": meta, "results": loss_summary(rows, metrics)}
    report.write_json(out / "losses.json", summary)
    title = f"{Path(settings.dataset).name}, {len(files)} pictures, {settings.seeds} seeds"
    plot_losses(out / "losses.png", rows, metrics[0], title)
    tables = loss_table(rows, metrics), concealer_table(rows, metrics)
    return "\n\n".join(t for t in tables if t)


def _senders(name: str, codec: Codec, settings: LossSettings) -> list[Sender]:
    if not isinstance(codec, PacketCodec):
        return [FileSender(name, codec, settings.quality, settings.payload or 128)]
    size, payload = settings.codebook_size, settings.payload
    # Parity is compared with the best concealer: the last of those asked for.
    return [
        PacketSender(
            codec, size, settings.concealers[-1:] if p else settings.concealers, payload, p
        )
        for p in dict.fromkeys(settings.parity)
    ]
