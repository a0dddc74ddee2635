"""Tables, JSON and plot of a sweep over lossy channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lic.evaluation.extras import optional
from lic.evaluation.lossy import Mean, mean_of
from lic.evaluation.lossy_rows import Case, LossRow
from lic.evaluation.metrics import METRICS
from lic.evaluation.plots import save_figure

__all__ = ["concealer_table", "loss_summary", "loss_table", "plot_losses"]

Groups = dict[tuple[str, str, Case], list[LossRow]]


def _groups(rows: Sequence[LossRow]) -> Groups:
    groups: Groups = {}
    for row in rows:
        groups.setdefault((row.sender, row.conceal, row.case), []).append(row)
    return groups


def loss_table(rows: Sequence[LossRow], metrics: Sequence[str]) -> str:
    """Return means with 95 % intervals as a text table, one line a sender, concealer and case."""
    heads = _heads(metrics)
    lines = [f"{'channel':24} {'sender':10} {'conceal':12} {'bytes':>6} {'lost':>6} grey{heads}"]
    for (sender, conceal, case), group in sorted(_groups(rows).items(), key=lambda g: g[0][::-1]):
        size = sum(r.wire_bytes for r in group) / len(group)
        lost = 100 * sum(r.lost for r in group) / len(group)
        nothing = 100 * sum(not r.shown for r in group) / len(group)
        told = "".join(f"{_interval(mean_of(group, m), m):>28}" for m in metrics)
        head = f"{case!s:24} {sender:10} {conceal or '-':12}"
        lines.append(f"{head} {size:6.0f} {lost:5.1f}% {nothing:3.0f}%{told}")
    return "\n".join(lines)


def _heads(metrics: Sequence[str]) -> str:
    return "".join(f"{m.upper().replace('_', '-'):>28}" for m in metrics)


def _interval(mean: Mean | None, metric: str, sign: str = "") -> str:
    if mean is None:
        return "-"
    digits = METRICS[metric].digits - (1 if sign else 2)  # differences are small
    form = f"{sign}.{min(4, digits)}f"
    return f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


def concealer_table(rows: Sequence[LossRow], metrics: Sequence[str]) -> str:
    """Return what each concealer adds to no concealment, as a text table; empty without any.

    Differences are of the same datagrams of the same pictures, so their intervals are narrower than
    those of the means.
    """
    groups = _groups(rows)
    lines = [f"{'minus no concealment':24} {'sender':10} {'conceal':12}{_heads(metrics)}"]
    for (sender, conceal, case), group in sorted(groups.items(), key=lambda g: g[0][::-1]):
        if (bare := _bare(groups, sender, conceal, case)) is not None:
            told = "".join(f"{_interval(mean_of(group, m, bare), m, '+'):>28}" for m in metrics)
            lines.append(f"{case!s:24} {sender:10} {conceal:12}{told}")
    return "\n".join(lines) if lines[1:] else ""


def _bare(groups: Groups, sender: str, conceal: str, case: Case) -> list[LossRow] | None:
    """Return the same case without concealment, for a concealer that can be compared with it."""
    return None if conceal in ("", "none") else groups.get((sender, "none", case))


def loss_summary(rows: Sequence[LossRow], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the same for JSON, with codeword distances and differences.

    ``rise`` is that to a channel without loss, ``over_none`` that to no concealment.
    """
    groups = _groups(rows)
    whole = {sender: g for (sender, _, case), g in groups.items() if not case.loss}
    return [
        {
            "sender": sender,
            "conceal": conceal,
            "loss": case.loss,
            "burst": case.burst,
            "sent": len(group),
            "packets": sum(r.packets for r in group) / len(group),
            "wire_bytes": sum(r.wire_bytes for r in group) / len(group),
            "undecodable": sum(not r.shown for r in group) / len(group),
            "lost": _plain(mean_of(group, "lost")),
            "distance": _plain(mean_of(group, "distance")),
            "metrics": {m: _plain(mean_of(group, m)) for m in metrics},
            "rise": {
                m: _plain(mean_of(group, m, whole[sender])) for m in metrics if sender in whole
            },
            "over_none": {
                m: _plain(mean_of(group, m, bare))
                for m in metrics
                if (bare := _bare(groups, sender, conceal, case)) is not None
            },
        }
        for (sender, conceal, case), group in groups.items()
    ]


def _plain(mean: Mean | None) -> list[float] | None:
    return None if mean is None else [mean.value, mean.low, mean.high]


def plot_losses(path: Path, rows: Sequence[LossRow], metric: str, title: str) -> None:
    """Draw a metric over the share lost, one column a kind of burst, with 95 % intervals.

    Below, where concealers were compared, what each adds to no concealment.

    Raises:
        InputError: matplotlib is not installed.
    """
    groups = _groups(rows)
    bursts = sorted({case.burst for _, _, case in groups if case.loss})
    lines = list(dict.fromkeys((s, c) for s, c, case in groups if case.loss))
    compared = [line for line in lines if line[1] != "none" and (line[0], "none") in lines]
    height = 2 if compared else 1
    figure = optional("matplotlib.figure").Figure(
        figsize=(1 + 4.5 * len(bursts), 1 + 4 * height), layout="constrained"
    )
    panels = figure.subplots(height, len(bursts), sharex=True, sharey="row", squeeze=False)
    colours = {line: f"C{number}" for number, line in enumerate(lines)}
    axis = METRICS[metric].axis.removesuffix(", negative")
    for column, burst in enumerate(bursts):
        for line in lines:
            points = _points(groups, line, burst, metric)
            _draw(panels[0, column], points, colours[line], _label(*line))
        for line in compared:
            points = _points(groups, line, burst, metric, over_none=True)
            _draw(panels[1, column], points, colours[line], _label(*line))
        panels[0, column].set_title(f"bursts of {burst:g}" if burst else "independent losses")
        panels[-1, column].set_xlabel("datagrams lost, %")
    for panel in panels.flat:
        panel.grid(alpha=0.3)
    for row, name in zip(panels, (axis, f"{axis}, minus no concealment"), strict=False):
        row[0].set_ylabel(name)
        row[0].legend(fontsize=8)
    if compared:
        for panel in panels[1]:
            panel.axhline(0, color=colours[compared[0][0], "none"], linewidth=1.5)
    figure.suptitle(title)
    save_figure(path, figure)


Points = list[tuple[float, Mean]]


def _label(sender: str, conceal: str) -> str:
    return sender if conceal == "none" and sender != "vqgan" else f"{sender}, {conceal}"


def _points(
    groups: Groups, line: tuple[str, str], burst: float, metric: str, *, over_none: bool = False
) -> Points:
    """Return share lost in percent and mean of a metric, or of its difference to no concealment."""
    found = []
    for (sender, conceal, case), group in sorted(groups.items(), key=lambda g: g[0][2]):
        bare = _bare(groups, sender, conceal, case) if over_none else None
        here = (sender, conceal) == line and case.burst == burst
        without_loss = sender == line[0] and not case.loss and not over_none
        if here or without_loss:
            found.append((100 * case.loss, mean_of(group, metric, bare)))
    return [(x, m) for x, m in found if m is not None]


def _draw(panel: Any, points: Points, colour: str, label: str) -> None:
    if not points:
        return
    panel.errorbar(
        [x for x, _ in points],
        [m.value for _, m in points],
        yerr=[[m.value - m.low for _, m in points], [m.high - m.value for _, m in points]],
        color=colour,
        marker="o",
        markersize=3.5,
        linewidth=1.5,
        capsize=2,
        label=label,
    )
