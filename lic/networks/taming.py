"""The one place that imports taming-transformers: its discriminator and its autoencoder.

Only ``taming.modules`` is used, which needs torch and numpy alone; the package's models would want
a training framework.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lic.errors import InputError

__all__ = ["autoencoder", "discriminator"]


def _missing(error: ImportError) -> InputError:
    return InputError(f"taming-transformers is not installed ({error.name}): run 'make setup'")


def discriminator(width: int = 32, layers: int = 3) -> nn.Module:
    """Return a PatchGAN (Isola et al. 2017): ``(N, 3, H, W)`` to a map of logits.

    Raises:
        InputError: taming-transformers is not installed.
    """
    try:
        from taming.modules.discriminator.model import NLayerDiscriminator, weights_init
    except ImportError as error:
        raise _missing(error) from error
    return NLayerDiscriminator(input_nc=3, ndf=width, n_layers=layers).apply(weights_init)


def autoencoder(settings: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Return VQGAN's ``Encoder`` and ``Decoder`` for a ``ddconfig``.

    Raises:
        InputError: taming-transformers is not installed.
    """
    try:
        from taming.modules.diffusionmodules.model import Decoder, Encoder
    except ImportError as error:
        raise _missing(error) from error
    return Encoder(**settings), Decoder(**settings)
