r"""The coding loop of ``acgc``: uneven channel slices, each as a checkerboard, with three contexts.

::

    slices so far --+-- AdaptiveChannelContext ("AC") --+
                    +-- GlobalInterContext ("AG") ------+
    z_hat ---------- hyper-synthesis -------------------+-- anchors of the slice --+
                                                        +--------------------------+-- the others

Each pass also predicts what rounding took away (latent residual prediction) before the next one
sees its values. After S2LIC (its figures; the project's notes say where its code departs from
them): here the non-anchor pass sees the anchors, as the paper says. Everything is fixed point.
Sigmoids are clamp(x / 4 + 1/2, 0, 1), and "global" means all of a tile.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.fixed import FixedConv2d, FixedLeakyReLU, is_exact, scaled, to_grid
from lic.coding.fixed_attention import fixed_softmax
from lic.coding.sampling import sample_bilinear, to_sixteenths
from lic.networks.context import (
    LOG_STEPS_PER_NAT,
    HyperSynthesis,
    LoopRates,
    Quantise,
    round_mean,
)
from lic.networks.steps import PHASES, checkerboard, merge

__all__ = ["AcgcContext"]

_KEY_STRIDE = 4
"""Positions a side that share a key of the global attention."""

_FARTHEST = 2.0
"""Key strides that a key may move."""

_MOST_RESIDUAL = 0.5


def _sigmoid(x: Tensor) -> Tensor:
    return to_grid((x * 0.25 + 0.5).clamp(0, 1))


def _mean(x: Tensor) -> Tensor:
    """Return the mean over all positions: an exact sum, one correctly rounded division."""
    return to_grid(x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3]))


class _SpaceMap(nn.Module):
    """How much each position counts, ``(N, 1, h, w)`` in 0..1."""

    def __init__(self, channels: int):
        super().__init__()
        self.act = FixedLeakyReLU()
        self.inner = FixedConv2d(channels, channels // 4)
        self.outer = FixedConv2d(channels // 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _sigmoid(self.outer(self.act(self.inner(x))))


class _ChannelMap(nn.Module):
    """How much each channel counts, ``(N, C, 1, 1)`` in 0..1."""

    def __init__(self, channels: int):
        super().__init__()
        self.act = FixedLeakyReLU()
        self.inner = FixedConv2d(channels, channels // 4)
        self.outer = FixedConv2d(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        return _sigmoid(self.outer(self.act(self.inner(_mean(x)))))


class AdaptiveChannelContext(nn.Module):
    """AC: what the slices so far say about the next, channel by channel.

    Two convolutions beside a depthwise one; each branch is gated by a map of the other, in space
    the first, over channels the second.

    Args:
        known: Channels of the slices so far.
        width: Channels that come out.
    """

    def __init__(self, known: int, width: int):
        super().__init__()
        self.act = FixedLeakyReLU()
        self.reduce = FixedConv2d(known, width)
        self.first = FixedConv2d(width, width, 3)
        self.second = FixedConv2d(width, width, 3)
        self.depthwise = FixedConv2d(width, width, 3, groups=width)
        self.in_space, self.over_channels = _SpaceMap(width), _ChannelMap(width)

    def forward(self, known: Tensor) -> Tensor:
        """Return ``(N, width, h, w)``."""
        x = self.reduce(known)
        rich = self.act(self.second(self.act(self.first(x))))
        plain = self.depthwise(x)
        rich, plain = rich * self.in_space(plain), plain * self.over_channels(rich)
        return to_grid(to_grid(rich) + to_grid(plain))


class GlobalInterContext(nn.Module):
    """AG: attention of every position to the slices so far, wherever in the tile.

    Keys and values lie on a grid that is four times coarser; where exactly follows from the queries
    (deformable attention, Xia et al. 2022, arXiv 2201.00520). Beside it a depthwise convolution,
    with the gates the other way round than in AC.

    Args:
        known: Channels of the slices so far.
        hyper: Channels of the hyper features, which stand in the queries for the slice to come.
        width: Channels that come out.
        heads: Number of attention heads.
    """

    def __init__(self, known: int, hyper: int, width: int, heads: int = 2):
        super().__init__()
        self.heads = heads
        self.act = FixedLeakyReLU()
        self.reduce = FixedConv2d(known, width)
        self.query = FixedConv2d(hyper + width, width)
        self.near = FixedConv2d(width, width, 5, groups=width)
        self.offset = FixedConv2d(width, 2)
        self.key, self.value = FixedConv2d(width, width), FixedConv2d(width, width)
        self.out = FixedConv2d(width, width)
        self.depthwise = FixedConv2d(width, width, 3, groups=width)
        self.in_space, self.over_channels = _SpaceMap(width), _ChannelMap(width)
        # A power of two next to the usual 1 / sqrt(channels of a head).
        self.scale = 2.0 ** -round(torch.tensor(width / heads).log2().item() / 2)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, known: Tensor, hyper: Tensor) -> Tensor:
        """Return ``(N, width, h, w)``."""
        x = self.reduce(known)
        query = self.query(torch.cat([hyper, x], dim=1))
        sampled = self._sampled(x, query)
        far = self.out(self._attend(query, self.key(sampled), self.value(sampled)))
        near = self.depthwise(x)
        far, near = far * self.over_channels(near), near * self.in_space(far)
        return to_grid(to_grid(far) + to_grid(near))

    def _sampled(self, x: Tensor, query: Tensor) -> Tensor:
        """Return what is known at the keys' places, ``(N, width, 1, keys)``."""
        stride, (h, w) = _KEY_STRIDE, x.shape[2:]
        coarse = to_grid(F.avg_pool2d(query, stride))
        moved = self.offset(self.act(self.near(coarse))).clamp(-_FARTHEST, _FARTHEST)
        moved = to_sixteenths(moved * stride)
        middle = (stride - 1) / 2
        # Places need more bits than bfloat16 has.
        moved = moved if is_exact(x) else moved.float()
        rows = torch.arange(h // stride, device=x.device).to(moved.dtype) * stride + middle
        columns = torch.arange(w // stride, device=x.device).to(moved.dtype) * stride + middle
        return sample_bilinear(
            x,
            (rows[None, :, None] + moved[:, 0]).flatten(1),
            (columns[None, None, :] + moved[:, 1]).flatten(1),
        ).unsqueeze(2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        n, width, h, w = query.shape
        q, k, v = (
            t.flatten(2).view(n, self.heads, width // self.heads, -1).transpose(2, 3)
            for t in (query, key, value)
        )
        scores = to_grid(q @ k.transpose(2, 3) * self.scale)
        mixed = to_grid(fixed_softmax(scores).to(v.dtype) @ v)
        return mixed.transpose(2, 3).reshape(n, width, h, w)


class _Pass(nn.Module):
    """One half of a slice's checkerboard: means, log scales, and the residual of rounding."""

    def __init__(self, features: int, hidden: int, width: int):
        super().__init__()
        self.act = FixedLeakyReLU()
        self.mix = FixedConv2d(features, hidden)
        self.heads = FixedConv2d(hidden, 2 * width)
        self.residual = FixedConv2d(hidden + width, width)
        for last in (self.heads, self.residual):
            nn.init.normal_(last.weight, std=1e-3)
            nn.init.zeros_(last.bias)

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log scale ``(N, width, n, w)`` and the hidden features."""
        hidden = self.act(self.mix(features))
        mean, log_scale = self.heads(hidden).chunk(2, dim=1)
        return mean, log_scale, hidden

    def refine(self, hidden: Tensor, normalised: Tensor) -> Tensor:
        """Return what to add to decoded values, in quantiser steps."""
        residual = self.residual(torch.cat([hidden, normalised.to(hidden.dtype)], dim=1))
        return residual.clamp(-_MOST_RESIDUAL, _MOST_RESIDUAL)


class AcgcContext(HyperSynthesis):
    """Predict all latents, slice by slice, anchors before the others.

    Args:
        slices: Channels of each slice; their sum is M.
        hyper_latents: Channels of z.
        hyper: Channels of the hyper features.
        channel, inter, anchors: Channels of AC, AG and of what non-anchors see of anchors; 0 leaves
            that context out.
        hidden: Channels before the heads.
    """

    def __init__(
        self,
        slices: tuple[int, ...],
        hyper_latents: int,
        hyper: int = 128,
        channel: int = 48,
        inter: int = 32,
        anchors: int = 48,
        hidden: int = 192,
    ):
        super().__init__(sum(slices), hyper_latents, hyper, checkerboard(slices))
        self.slices = slices
        firsts = [sum(slices[:i]) for i in range(len(slices))]
        later = [(i, first) for i, first in enumerate(firsts) if i]
        self.channel_context = nn.ModuleDict(
            {str(i): AdaptiveChannelContext(c, channel) for i, c in later if channel}
        )
        self.inter_context = nn.ModuleDict(
            {str(i): GlobalInterContext(c, hyper, inter) for i, c in later if inter}
        )
        self.anchor_context = nn.ModuleList(
            FixedConv2d(width, anchors, 5) for width in slices if anchors
        )
        self.passes = nn.ModuleList()
        for i, width in enumerate(slices):
            features = hyper + (channel + inter if i else 0)
            self.passes.append(_Pass(features, hidden, width))
            self.passes.append(_Pass(features + anchors, hidden, width))

    def forward(self, z_hat: Tensor, rates: LoopRates, quantise: Quantise) -> Tensor:
        """Run all steps; arguments and result as of :class:`lic.networks.context.LatinContext`."""
        hyper = self.hyper_synthesis(z_hat, rates.plane)
        offset, factor, reciprocal = self.split_rates(rates, hyper)
        known: list[Tensor] = []
        y_hat: list[Tensor] = []
        for number in range(len(self.slices)):
            features = self._features(number, hyper, torch.cat(known, dim=1) if known else None)
            shown: dict[int, Tensor] = {}
            normalised: dict[int, Tensor] = {}
            for half in (0, 1):
                k = 2 * number + half
                if half and len(self.anchor_context):
                    anchors = _on_grid(normalised).to(features.dtype)
                    seen = self.act(self.anchor_context[number](anchors))
                    features = torch.cat([features, seen], dim=1)
                step: Any = self.passes[k]
                spread, back = self.order.take(factor, k), self.order.take(reciprocal, k)
                n, parts, width = spread.shape[:3]
                shape = (n, parts, width, hyper.shape[2] // 2, hyper.shape[3] // 2)
                mean, log_scale, hidden = step.predict(self._at(features, k))
                means = round_mean(_apart(mean, shape).to(spread.dtype) * spread)
                raised = LOG_STEPS_PER_NAT * _apart(log_scale, shape).to(offset.dtype)
                positions = self.order.take(offset, k) + raised
                values = quantise(k, means, positions)
                deviations = scaled(values, back)
                residual = step.refine(hidden, _together(deviations))
                values = to_grid(values + _apart(residual, shape).to(values.dtype))
                deviations = scaled(values, back)
                for at, part in enumerate(self.order.parts[k]):
                    shown[part.phase], normalised[part.phase] = values[:, at], deviations[:, at]
            known.append(_on_grid(normalised))
            y_hat.append(_on_grid(shown))
        return torch.cat(y_hat, dim=1)

    def _features(self, number: int, hyper: Tensor, known: Tensor | None) -> Tensor:
        """Return hyper features and the contexts of the slices so far."""
        found = [hyper]
        if known is not None:
            known = known.to(hyper.dtype)
            if str(number) in self.channel_context:
                found.append(self.channel_context[str(number)](known))
            if str(number) in self.inter_context:
                found.append(self.inter_context[str(number)](known, hyper))
        return torch.cat(found, dim=1)

    def _at(self, features: Tensor, step: int) -> Tensor:
        """Return features at the phases of a step, one below the other."""
        phases = [divmod(p.phase, 2) for p in self.order.parts[step]]
        return torch.cat([features[:, :, row::2, column::2] for row, column in phases], dim=2)


def _on_grid(by_phase: dict[int, Tensor]) -> Tensor:
    """Merge phases ``(N, width, h/2, w/2)``, zeros for missing ones, to ``(N, width, h, w)``."""
    nothing = torch.zeros_like(next(iter(by_phase.values())))
    return merge(torch.stack([by_phase.get(p, nothing) for p in range(PHASES)], dim=2))


def _together(values: Tensor) -> Tensor:
    """Return a step's values with the parts one below the other, ``(N, width, rows, w/2)``."""
    return values.transpose(1, 2).flatten(2, 3)


def _apart(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo :func:`_together`; ``shape`` is that of the step's values."""
    n, parts, width, h, w = shape
    return values.reshape(n, width, parts, h, w).transpose(1, 2)
