"""Import a VQGAN that taming-transformers trained: tensors out of a checkpoint, nothing else.

The file is a pickle, read by torch's loader for tensors alone; three classes that Lightning leaves
in it become empty stand-ins, any other is refused by name. The architecture follows from the shapes
of the tensors, so no configuration file is needed. What only training had (``loss.*``, optimiser)
is not kept.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic.codecs.vqgan import VqganCodec
from lic.container import parse_stream
from lic.errors import InputError, LicError
from lic.evaluation.metrics import lpips, psnr
from lic.networks.taming import TamingShape, TamingVqgan
from lic.pictures import Picture
from lic.training.codebook import build_ladder
from lic.training.data import load_pictures, picture_files
from lic.training.export import export_vqgan
from lic.training.ladder import fit_start, middle, rung_of, uses_of
from lic.weights.store import Card, check_target, save_weights

__all__ = ["build_imported", "import_checkpoint", "read_checkpoint", "shape_of_checkpoint"]

_STAND_INS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "argparse.Namespace",
)
_USED = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize.")
_FOREIGN = {
    "encoder.conv_blocks.": "LlamaGen or IBQ",
    "quantize.codebook_used": "LlamaGen",
    "encoder.block_in.": "MAGE",
}
_LARGEST_EMBED = 4096
_EMBEDDING = "quantize.embedding.weight"
_PICTURES = 64
_TRIED = 8


class _StandIn:
    """Takes the place of a class in a checkpoint; holds nothing and does nothing."""

    def __setstate__(self, state: Any) -> None:
        """Drop what the pickle would set."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that belong to the autoencoder and its codebook.

    No code of the file is run.

    Raises:
        InputError: It cannot be read, is cut or damaged, asks for anything but tensors, or holds no
            VQGAN of taming-transformers.
    """
    allowed: list[Any] = [(_StandIn, name) for name in _STAND_INS]
    try:
        with torch.serialization.safe_globals(allowed):
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", str(path)) from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        wanted = f"asks for {named[1]}, which is no tensor" if named else "is no checkpoint"
        raise InputError(f"{wanted}; nothing of it was run", str(path)) from error
    except Exception as error:
        raise InputError(f"is damaged or no checkpoint ({type(error).__name__})", str(path)) from (
            error
        )
    state = saved.get("state_dict", saved) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping):
        raise InputError("holds no state_dict", str(path))
    tensors = {
        k: v
        for k, v in state.items()
        if isinstance(k, str) and isinstance(v, Tensor) and k.startswith(_USED)
    }
    for prefix, origin in _FOREIGN.items():
        if any(k.startswith(prefix) for k in tensors):
            raise InputError(f"is a tokenizer of {origin}, not of taming-transformers", str(path))
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"tensor '{name}' has values that are not finite", str(path))
    return tensors


def shape_of_checkpoint(tensors: dict[str, Tensor], top: int, path: str = "") -> TamingShape:
    """Derive the architecture from the shapes of tensors.

    Args:
        tensors: From :func:`read_checkpoint`.
        top: Bits of the finest rung wanted.
        path: For messages.

    Raises:
        InputError: A tensor is missing, or the shapes fit no VQGAN of taming-transformers.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise InputError(f"lacks tensor '{name}': no VQGAN of taming-transformers", path)
        return tuple(tensors[name].shape)

    first = shape("encoder.conv_in.weight")
    if len(first) != 4 or first[1] != 3:
        raise InputError(f"takes {first[1:2]} channels instead of 3", path)
    channels = first[0]
    levels = 1 + max(_numbers(tensors, r"encoder\.down\.(\d+)\."), default=-1)
    if not 1 <= levels <= 8:
        raise InputError(f"has {levels} levels", path)
    widths = [shape(f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(levels)]
    if any(w % channels for w in widths) or channels % 32:
        raise InputError(f"has {channels} channels and levels of {widths}", path)
    z_channels = shape("decoder.conv_in.weight")[1]
    gumbel = shape("quantize.embed.weight")[0] if "quantize.embed.weight" in tensors else 0
    count, embed = shape("quantize.embed.weight" if gumbel else _EMBEDDING)
    if count < 2**top:
        raise InputError(f"has {count} codewords, fewer than a codebook of {2**top}", path)
    if embed > _LARGEST_EMBED:
        raise InputError(f"has codewords of {embed} channels", path)
    return TamingShape(
        ch=channels,
        ch_mult=tuple(w // channels for w in widths),
        num_res_blocks=len(set(_numbers(tensors, r"encoder\.down\.0\.block\.(\d+)\."))),
        attention=tuple(sorted(set(_numbers(tensors, r"encoder\.down\.(\d+)\.attn\.")))),
        resamp_with_conv=levels == 1 or "encoder.down.0.downsample.conv.weight" in tensors,
        z_channels=z_channels,
        double_z=shape("encoder.conv_out.weight")[0] == 2 * z_channels,
        embed=embed,
        top=top,
        bottom=min(3, top),
        gumbel=gumbel,
    )


def _numbers(tensors: dict[str, Tensor], pattern: str) -> list[int]:
    found = (re.match(pattern, name) for name in tensors)
    return [int(match[1]) for match in found if match]


def build_imported(
    tensors: dict[str, Tensor], top: int, use: np.ndarray | None = None, path: str = ""
) -> TamingVqgan:
    """Return the networks of a checkpoint, with the ladder of its codebook.

    Args:
        tensors: From :func:`read_checkpoint`.
        top: Bits of the finest rung, at most those of the codebook.
        use: How often each codeword is used; all alike when ``None``.
        path: For messages.

    Raises:
        InputError: The tensors do not fit the architecture that their shapes tell.
    """
    shape = shape_of_checkpoint(tensors, top, path)
    try:
        model = TamingVqgan(shape)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise InputError(f"has an architecture that cannot be built: {error}", path) from error
    state = {}
    for name, value in tensors.items():
        if name.startswith(("encoder.", "quant_conv.")):
            state[f"encoder.{name}"] = value.float()
        elif name.startswith(("decoder.", "post_quant_conv.")):
            state[f"decoder.{name}"] = value.float()
    if shape.gumbel:
        state["encoder.proj.weight"] = tensors["quantize.proj.weight"].float()
        state["encoder.proj.bias"] = tensors["quantize.proj.bias"].float()
        state["encoder.embed.weight"] = tensors["quantize.embed.weight"].float()
    name = "quantize.embed.weight" if shape.gumbel else _EMBEDDING
    state["ladder.vectors"] = _ladder(tensors[name].float().numpy(), shape, use)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"does not fit its own architecture: {text}", path) from error
    return model.eval().requires_grad_(False)


def _ladder(codewords: np.ndarray, shape: TamingShape, use: np.ndarray | None) -> Tensor:
    """Return the heap of nested codebooks of a codebook of any size."""
    weights = np.ones(len(codewords)) if use is None else np.maximum(use, 1e-3)
    count = 2**shape.top
    if len(codewords) > count:
        from sklearn.cluster import KMeans

        found = KMeans(count, n_init=1, random_state=0).fit(codewords, sample_weight=weights)
        weights = np.bincount(found.labels_, weights=weights, minlength=count)
        codewords = found.cluster_centers_.astype(np.float32)
    heap, _ = build_ladder(codewords, weights, shape.bottom, unit=False)
    return torch.from_numpy(heap)


def import_checkpoint(
    path: str,
    codebook_size: int,
    *,
    data: Sequence[str] = (),
    name: str = "vqgan-imported",
    output: str = ".",
    force: bool = False,
) -> tuple[Card, str]:
    """Write weights of a checkpoint and try them on pictures.

    Args:
        path: Of the checkpoint.
        codebook_size: Codewords of the finest rung, a power of two.
        data: Folders of pictures that tell which codewords are used; none are needed.
        name: File name without suffix.
        output: Folder for both files.
        force: Replace existing files.

    Returns:
        The card, and what a round trip through a real file showed.

    Raises:
        UsageProblem: The size is no power of two, or the files exist.
        InputError: The checkpoint or the pictures cannot be used.
    """
    top = rung_of(codebook_size)
    target = check_target(output, name, force=force)
    tensors = read_checkpoint(path)
    pictures = load_pictures(picture_files(data))[:_PICTURES] if data else []
    use = _use_of_codewords(tensors, pictures, path) if pictures else None
    model = build_imported(tensors, top, use, path)
    start = fit_start(model, pictures) if pictures else None
    training = {"imported": {"from": Path(path).name, "pictures": len(pictures)}}
    card = save_weights(target, *export_vqgan(model, name, training, start))
    return card, _try(card, pictures)


def _use_of_codewords(tensors: dict[str, Tensor], pictures: list[Tensor], path: str) -> np.ndarray:
    """Return how often each codeword of the checkpoint is nearest."""
    name = "quantize.embed.weight" if "quantize.embed.weight" in tensors else _EMBEDDING
    if name not in tensors:
        raise InputError(f"lacks tensor '{_EMBEDDING}': no VQGAN of taming-transformers", path)
    codewords = tensors[name].float()
    return uses_of(build_imported(tensors, 1, None, path), pictures, codewords)


def _try(card: Card, pictures: list[Tensor]) -> str:
    """Send pictures through files of the finest rung; returns a line of figures."""
    codec = VqganCodec(card)
    plan_side = codec.step * 8
    shown = [middle(p) for p in pictures[:_TRIED]] or [_gradient(plan_side)]
    errors, used, distances = [], set(), []
    for pixels in shown:
        picture = Picture(np.ascontiguousarray(pixels.numpy().transpose(1, 2, 0)))
        encoded = codec.encode(picture, 100, reconstruct=True)
        stream = parse_stream(encoded.data)
        if encoded.reconstruction != codec.decode_stream(stream):
            raise LicError("internal error: the imported model does not decode what it encoded")
        used |= set(codec.read_indices(stream)[0].ravel().tolist())
        errors.append(psnr(picture.pixels, encoded.reconstruction.pixels))
        try:
            distances.append(lpips(picture.pixels, encoded.reconstruction.pixels))
        except InputError:
            distances.append(None)
    known = [d for d in distances if d is not None]
    perceptual = f"LPIPS {np.mean(known):.4f}" if known else "LPIPS not measured (make perceptual)"
    where = f"{len(shown)} pictures" if pictures else "a gradient; give --data for real pictures"
    return (
        f"round trip of {where}: PSNR {np.mean(errors):.2f} dB, {perceptual}, "
        f"{len(used)} of {2**codec.top} codewords used"
    )


def _gradient(side: int) -> Tensor:
    ramp = torch.linspace(0, 255, side).to(torch.uint8)
    return torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)] * 2)[:3]
