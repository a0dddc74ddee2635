"""From a trained run to weights that ship: networks in int8, exact integers, tables, card."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lic.codecs.indices import coder_checksum
from lic.codecs.loop import FACTOR_BITS, OFFSET_BITS, CodingLoop
from lic.coding.fixed import exact_modules
from lic.coding.mixing import TreeStart
from lic.coding.tables import ProbabilityTables, gaussian_tables
from lic.networks.gains import GainModel
from lic.networks.vqgan import Vqgan
from lic.weights.quantised import halves, stored_state
from lic.weights.store import Card, fingerprint, network_state

if TYPE_CHECKING:
    from lic.networks.taming import TamingVqgan

__all__ = ["export_companion", "export_latent", "export_vqgan", "import_latent", "stream_tensors"]

_RATES = 256


def stream_tensors(model: GainModel, tables: ProbabilityTables) -> dict[str, Tensor]:
    """Return all tensors that a ``.lic`` file depends on, rounded to what will be stored."""
    stream: dict[str, Tensor] = {}
    for name, layer in exact_modules(model.context).items():
        bits, weight, bias = layer.to_integers()
        key = f"loop.{name}"
        stream |= {key + ".weight": weight, key + ".bias": bias, key + ".bits": torch.tensor(bits)}
    rate = torch.arange(_RATES, dtype=torch.float64) / (_RATES - 1)
    double = copy.deepcopy(model).double()
    with torch.no_grad():
        rates = double.loop_rates(rate, 1, 1)
        gains = double.log_gains(rate).exp()
        z = double.z_positions(rate)
        more = double.rate_tables(rate)
    last = len(tables.frequencies) - 1
    stream["tables.gain"] = gains[..., 0, 0].float()
    stream["tables.offset"] = _integers(rates.scale_offset, OFFSET_BITS, torch.int16)
    stream["tables.factor"] = _integers(rates.mean_factor, FACTOR_BITS, torch.int32)
    stream["tables.reciprocal"] = _integers(rates.reciprocal, FACTOR_BITS, torch.int16)
    stream["tables.z_index"] = z[..., 0, 0].round().clamp(0, last).to(torch.uint8)
    for name, positions in more.items():
        stream[f"tables.{name}"] = positions.round().clamp(0, last).to(torch.uint8)
    for name, array in tables.to_arrays().items():
        stream[f"tables.coder.{name}"] = torch.from_numpy(array)
    return stream


def _integers(values: Tensor, bits: int, kind: torch.dtype) -> Tensor:
    limit = min(torch.iinfo(kind).max, 2**24 - 1)
    return (values[..., 0, 0] * 2.0**bits).round().clamp(-limit, limit).to(kind)


def export_latent(
    model: GainModel,
    family: str,
    name: str,
    training: dict[str, Any],
    tables: ProbabilityTables | None = None,
    tune: str = "psnr",
) -> tuple[Card, dict[str, Tensor]]:
    """Return card and tensors of trained networks.

    Args:
        model: Averaged weights.
        family: Of the card.
        name: File name without suffix.
        training: Recipe and history, for the card.
        tables: Measured probability tables; Gaussian ones when ``None``.
        tune: What they were trained for, see :class:`lic.weights.Card`.
    """
    tables = tables or gaussian_tables()
    stream = stream_tensors(model, tables)
    loop = CodingLoop(copy.deepcopy(model.context), stream)
    training_only = ("context.", *model.only_training)
    network = stored_state(
        {k: v for k, v in model.state_dict().items() if not k.startswith(training_only)}
    )
    # What training continues from; the loop itself needs only the tables made of them.
    network |= {
        f"train.{k}": v for k, v in model.state_dict().items() if k.startswith(model.only_training)
    }
    card = Card(
        name=name,
        family=family,
        fingerprint=fingerprint(stream),
        sha256="",
        loop_checksum=loop.checksum(),
        network=asdict(model.shape),
        training=training | {"proven_bound": loop.proven_bound()},
        tune=tune,
    )
    return card, stream | network


def export_companion(
    model: nn.Module, shape: Any, family: str, codec: Card, name: str, training: dict[str, Any]
) -> tuple[Card, dict[str, Tensor]]:
    """Return card and tensors of networks that go with the weights of a codec.

    Args:
        model: Trained networks.
        shape: Their shape, a dataclass.
        family: Family of the networks.
        codec: Card of the codec, whose fingerprint theirs carries.
        name: File name without suffix.
        training: Recipe and history, for the card.
    """
    card = Card(
        name=name,
        family=family,
        fingerprint=codec.fingerprint,
        sha256="",
        loop_checksum="",
        network=asdict(shape),
        training=training,
    )
    return card, stored_state(model.state_dict())


def import_latent(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict to continue training from exported tensors."""
    state = network_state(tensors)
    state |= {k[6:]: v.float() for k, v in tensors.items() if k.startswith("train.")}
    for key in [k for k in tensors if k.startswith("loop.") and k.endswith(".bits")]:
        base = key.removesuffix(".bits")
        bits = int(tensors[key])
        target = "context." + base.removeprefix("loop.")
        state[target + ".weight"] = tensors[base + ".weight"].float() * 2.0**-bits
        state[target + ".bias"] = tensors[base + ".bias"].float() * 2.0 ** -(bits + 8)
    return state


def export_vqgan(
    model: Vqgan | TamingVqgan,
    name: str,
    training: dict[str, Any],
    start: TreeStart | None = None,
) -> tuple[Card, dict[str, Tensor]]:
    """Return card and tensors of a codebook model: networks, ladder, start of the index coder.

    Args:
        model: With its ladder. Networks of taming-transformers stay halves, since nobody has
            measured them in int8.
        name: File name without suffix.
        training: Recipe and history, for the card.
        start: What the index coder knows at first; nothing, in no bytes, when ``None``.
    """
    none = torch.zeros(0, dtype=torch.uint8)
    checksum = coder_checksum(start or TreeStart.empty(), model.shape.bottom, model.shape.top)
    kept = {} if start is None else start.arrays()
    stream = {
        "codebook.counts": none,
        "codebook.weights": none.int(),
        **{f"codebook.{k}": torch.from_numpy(v) for k, v in kept.items()},
        "codebook.ladder": model.ladder.vectors.half(),
    }
    store = stored_state if isinstance(model, Vqgan) else halves
    network = store({k: v for k, v in model.state_dict().items() if not k.startswith("ladder.")})
    card = Card(
        name=name,
        family="vqgan",
        fingerprint=fingerprint(stream),
        sha256="",
        loop_checksum=checksum,
        network=asdict(model.shape),
        training=training,
    )
    return card, stream | network
