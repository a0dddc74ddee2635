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

__all__ = ["loss_summary", "loss_table", "plot_losses"]

Groups = dict[tuple[str, str, Case], list[LossRow]]


def _groups(rows: Sequence[LossRow]) -> Groups:
    groups: Groups = {}
    for row in rows:
        groups.setdefault((row.sender, row.conceal, row.case), []).append(row)
    return groups


def loss_table(rows: Sequence[LossRow], metrics: Sequence[str]) -> str:
    """Return means with 95 % intervals as a text table, one line a sender, concealer and case."""
    heads = "".join(f"{m.upper().replace('_', '-'):>28}" for m in metrics)
    lines = [f"{'channel':24} {'sender':10} {'conceal':12} {'bytes':>6} {'lost':>6} grey{heads}"]
    for (sender, conceal, case), group in sorted(_groups(rows).items(), key=lambda g: g[0][::-1]):
        size = sum(r.wire_bytes for r in group) / len(group)
        lost = 100 * sum(r.lost for r in group) / len(group)
        nothing = 100 * sum(not r.shown for r in group) / len(group)
        told = "".join(f"{_interval(mean_of(group, m), m):>28}" for m in metrics)
        head = f"{case!s:24} {sender:10} {conceal or '-':12}"
        lines.append(f"{head} {size:6.0f} {lost:5.1f}% {nothing:3.0f}%{told}")
    return "\n".join(lines)


def _interval(mean: Mean | None, metric: str) -> str:
    if mean is None:
        return "-"
    digits = min(4, METRICS[metric].digits - 2)
    return f"{mean.value:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]"


def loss_summary(rows: Sequence[LossRow], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the same for JSON, with codeword distances and rises over a channel without loss."""
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
        }
        for (sender, conceal, case), group in groups.items()
    ]


def _plain(mean: Mean | None) -> list[float] | None:
    return None if mean is None else [mean.value, mean.low, mean.high]


def plot_losses(path: Path, rows: Sequence[LossRow], metric: str, title: str) -> None:
    """Draw a metric over the share lost, one panel a kind of burst, with 95 % intervals.

    Raises:
        InputError: matplotlib is not installed.
    """
    groups = _groups(rows)
    bursts = sorted({case.burst for _, _, case in groups if case.loss})
    figure = optional("matplotlib.figure").Figure(
        figsize=(1 + 4.5 * len(bursts), 5), layout="constrained"
    )
    panels = figure.subplots(1, len(bursts), sharey=True, squeeze=False)[0]
    for panel, burst in zip(panels, bursts, strict=True):
        for sender, conceal in dict.fromkeys((s, c) for s, c, case in groups if case.loss):
            points = [
                (case.loss, mean_of(group, metric))
                for (s, c, case), group in sorted(groups.items(), key=lambda g: g[0][2])
                if s == sender and (not case.loss or (c == conceal and case.burst == burst))
            ]
            known = [(100 * x, m) for x, m in points if m is not None]
            if known:
                panel.errorbar(
                    [x for x, _ in known],
                    [m.value for _, m in known],
                    yerr=[
                        [m.value - m.low for _, m in known],
                        [m.high - m.value for _, m in known],
                    ],
                    marker="o",
                    markersize=3.5,
                    linewidth=1.5,
                    capsize=2,
                    label=sender
                    if conceal == "none" and sender != "vqgan"
                    else f"{sender}, {conceal}",
                )
        kind = f"bursts of {burst:g}" if burst else "independent losses"
        panel.set(title=kind, xlabel="datagrams lost, %")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(METRICS[metric].axis.removesuffix(", negative"))
    panels[0].legend(fontsize=8)
    figure.suptitle(title)
    save_figure(path, figure)
