"""Recipes: a TOML file read into frozen dataclasses, every number overridable from outside."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lic.errors import InputError, UsageProblem
from lic.networks.prices import LAMBDAS

__all__ = [
    "DataConfig",
    "EyesConfig",
    "OptimiserConfig",
    "Recipe",
    "VqganConfig",
    "load_recipe",
    "parse_duration",
    "to_dict",
]


def _at_least(section: str, config: Any, **least: float) -> None:
    for key, bound in least.items():
        if not getattr(config, key) >= bound:
            raise UsageProblem(f"{section}.{key} is {getattr(config, key)}, less than {bound}")


def _shares(section: str, config: Any, *keys: str) -> None:
    for key in keys:
        if not 0 <= getattr(config, key) <= 1:
            raise UsageProblem(f"{section}.{key} is {getattr(config, key)}, a share is 0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """Crops.

    Attributes:
        crop: Side of the square crops in pixels, a multiple of 64.
        batch: Crops a step.
        late_crop: Side of the crops in the last part of the budget; the batch shrinks to keep the
            number of pixels.
        late_part: The part of the budget that uses them.
        valid_pictures: Pictures used by validation, at most.
        masks: Part of the crops that are told regions by masks (``segpic``).
        grain: Part of the crops that get Gaussian grain, see :mod:`lic.training.augmentation`.
        grain_levels: Largest standard deviation of the grain, in levels.
        inversion: Part of the crops that are inverted, 255 - x.
    """

    crop: int = 128
    batch: int = 16
    late_crop: int = 256
    late_part: float = 0.15
    valid_pictures: int = 24
    masks: float = 0.0
    grain: float = 0.0
    grain_levels: float = 4.0
    inversion: float = 0.0

    def __post_init__(self) -> None:
        _at_least("data", self, crop=1, batch=1, late_crop=1, valid_pictures=1)
        _at_least("data", self, grain_levels=0)
        _shares("data", self, "late_part", "masks", "grain", "inversion")


@dataclass(frozen=True)
class OptimiserConfig:
    """Optimiser and schedule.

    Attributes:
        name: ``adamw`` or ``muon`` (Muon for convolutions, AdamW for the rest).
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon.
        linear_lr: Factor on ``lr`` for the linear paths that start as principal components.
        warmup: Steps of linear warm-up.
        constant: Part of the budget in which the learning rate stays at its peak; it falls in a
            line after it. 0 for a cosine over the whole budget.
        final: Learning rate at the end, as a part of the peak.
        clip: Bound on the norm of the gradient.
        weight_decay: Of AdamW.
        ema: Decay of the running average of the weights, per step.
    """

    name: str = "adamw"
    lr: float = 6e-4
    muon_lr: float = 5e-3
    linear_lr: float = 0.05
    warmup: int = 200
    constant: float = 0.0
    final: float = 0.02
    clip: float = 1.0
    weight_decay: float = 0.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        numbers = (f.name for f in dataclasses.fields(self) if f.name != "name")
        _at_least("optimiser", self, **dict.fromkeys(numbers, 0))
        _shares("optimiser", self, "constant", "final", "ema")


@dataclass(frozen=True)
class SegpicConfig:
    """What only ``segpic`` has.

    Attributes:
        consistency: Weight of the squared difference, relative to the features, that it makes
            whether regions are told by a mask or by a grid.
    """

    consistency: float = 0.05


@dataclass(frozen=True)
class VqganConfig:
    """What only ``vqgan`` has.

    Attributes:
        stage: ``codebook`` trains everything at the finest rung; ``decoder`` freezes encoder and
            codebook and trains the decoder at random rungs, so that old files stay valid; ``rung``
            tunes the codebook and 1x1 convolutions of an imported model.
        bits: Of an index in stages ``codebook`` and ``rung``; others are made of it at the end.
        pixel: Weight of the distance of pixels in [-1, 1].
        perceptual: Weight of LPIPS.
        backbone: Of LPIPS, ``alex``, ``vgg`` or ``alex+vgg`` for the mean of both; needs
            ``make perceptual``. VGG sees patterns that AlexNet leaves, and takes ten times as long.
        dists: Weight of DISTS over a whole crop, which asks for the texture and not for the place
            of each grain. Half of the crops are measured, since it takes longest.
        commitment: Weight of the squared distance between a vector and its codeword.
        continuous: Steps before the codebook starts from k-means of the encoder's vectors.
        lost: Part of the crops whose indices are partly lost or wrong (stage ``decoder``).
        restorer: Weights of ``restorer-transformer``, by path, made for the same codebook: what it
            guesses stands in for the lost indices of half of these crops (stage ``decoder``).
        adversarial: Weight of the hinge loss of a PatchGAN (not in stage ``codebook``), relative to
            the gradient of the others.
        adversarial_from: Part of the budget after which it acts; it learns a little earlier.
    """

    stage: str = "codebook"
    bits: int = 10
    pixel: float = 1.0
    perceptual: float = 1.0
    backbone: str = "alex"
    dists: float = 0.0
    commitment: float = 0.25
    continuous: int = 100
    lost: float = 0.25
    restorer: str = ""
    adversarial: float = 0.0
    adversarial_from: float = 0.5


@dataclass(frozen=True)
class RestorerConfig:
    """What only restorers have.

    Attributes:
        codec: Weights of ``vqgan`` that make the indices, by path; those found when empty.
        bits: Of an index in half of the batches and in validation; any in the others.
        softness: Temperature at which the codewords near the true vector share its probability.
        squared: Weight of the squared distance of the expected codeword.
        wrong: Share of wrong indices in a fifth of the grids.
        picture: Weight of how far the picture is from the original that the decoder makes of the
            guesses, in the distances that the section ``vqgan`` weighs.
    """

    codec: str = ""
    bits: int = 10
    softness: float = 0.03
    squared: float = 1.0
    wrong: float = 0.03
    picture: float = 0.0


@dataclass(frozen=True)
class SynthesisConfig:
    """What only another synthesis for the streams of trained weights has.

    Attributes:
        codec: Weights of ``hyperprior`` that make the streams, by path; when empty those found that
            are tuned for what the loss says.
        distillation: Part of the distortion that is measured to the picture of their own synthesis
            instead of to the original (loss ``mse``).
        adversarial: Weight of the hinge loss of a PatchGAN, relative to the gradient of the others.
        adversarial_from: Part of the budget after which it acts; it learns a little earlier.
    """

    codec: str = ""
    distillation: float = 0.0
    adversarial: float = 0.0
    adversarial_from: float = 0.3


@dataclass(frozen=True)
class EyesConfig:
    """What only the loss ``eyes`` has; see :mod:`lic.training.appearance`.

    Attributes:
        squared, ssimulacra2, lpips, dists: Shares of the distortion; together 1 for files of about
            the size that ``mse`` makes.
        focus: What gains are shifted by where the run starts from other weights: they are
            multiplied by (median f / f) ** focus, f the mean frequency of a latent's linear
            component, so that fine detail gets coarser steps. 0 leaves them as they are.
    """

    squared: float = 0.4
    ssimulacra2: float = 0.6
    lpips: float = 0.0
    dists: float = 0.0
    focus: float = 0.0

    def __post_init__(self) -> None:
        _at_least("eyes", self, squared=0, ssimulacra2=0, lpips=0, dists=0, focus=0)


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        family: Codec family.
        loss: Distortion; the family says which it knows.
        lambdas: Distortion weight at quality 0 and 100; log-linear between.
        tilt: The loss of a sample is divided by lambda ** tilt.
        rdo_weight: Bits that a squared quantiser step of error is worth when symbols are chosen, as
            in :func:`lic.codecs.quantise.choose_symbols`; 0 rounds to nearest.
        hard_rate: Scales learn from the chosen symbols instead of from noisy latents.
        train: ``all``; ``context`` for hyper-analysis and coding loop alone: faster steps for a
            new context behind trained transforms; ``gains`` for quantiser steps alone; ``stream``
            for all but the synthesis.
        seed: Of crops, rates and starts.
        validate_every: Seconds between validations.
        network: Overrides of the family's shape.
        data, optimiser, segpic, vqgan, restorer, synthesis, eyes: See there.
    """

    family: str
    loss: str = "mse"
    lambdas: tuple[float, float] = LAMBDAS
    tilt: float = 0.5
    rdo_weight: float = 0.0
    hard_rate: bool = False
    train: str = "all"
    seed: int = 1
    validate_every: float = 300.0
    network: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    segpic: SegpicConfig = field(default_factory=SegpicConfig)
    vqgan: VqganConfig = field(default_factory=VqganConfig)
    restorer: RestorerConfig = field(default_factory=RestorerConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    eyes: EyesConfig = field(default_factory=EyesConfig)


def load_recipe(path: str | Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``section.key=value`` with values in TOML's notation.

    Raises:
        InputError: The file cannot be read or is not TOML.
        UsageProblem: An unknown key (the nearest known one is named) or a value of a wrong type.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not TOML: {error}", str(path)) from error
    for override in overrides:
        _set(values, override)
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain values, as stored in a run or a card."""
    return _build(Recipe, values, "")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return plain values for JSON; :func:`from_dict` undoes it."""
    return dataclasses.asdict(recipe)


def _set(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise UsageProblem(f"--set {override}: expected section.key=value")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = name.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[key] = value


def _build(kind: type, values: dict[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else ""
            raise UsageProblem(f"unknown recipe key '{prefix}{key}'{hint}")
        built[key] = _convert(hints[key], value, prefix + key)
    try:
        return kind(**built)
    except TypeError as error:
        raise UsageProblem(f"incomplete recipe: {error}") from error


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(type, hint), value, name + ".")
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = typing.get_origin(hint) or hint
    if isinstance(plain, types.UnionType) or isinstance(value, plain):
        return value
    raise UsageProblem(f"recipe key '{name}' takes {plain.__name__}, not {value!r}")


def parse_duration(text: str) -> float:
    """Return seconds for ``90``, ``90s``, ``25m``, ``1.5h`` or ``1h30m``."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[smh])+", text):
        raise UsageProblem(f"'{text}' is not a duration such as 90s, 25m or 1h30m")
    return sum(float(n) * units[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)([smh])", text))
