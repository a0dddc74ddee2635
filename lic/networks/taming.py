"""The one place that imports taming-transformers: its discriminator and its autoencoder.

Only ``taming.modules`` is used, which needs torch and numpy alone; the package's models would want
a training framework.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lic.errors import InputError
from lic.networks.vqgan import Ladder

__all__ = ["TamingShape", "TamingVqgan", "discriminator"]


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


@dataclass(frozen=True)
class TamingShape:
    """VQGAN of taming-transformers; field names are those of its ``ddconfig``.

    Attributes:
        ch: Channels at full resolution.
        ch_mult: Factors on ``ch``, one a level; each level but the first halves the sides.
        num_res_blocks: Residual blocks of the encoder at each level; the decoder has one more.
        attention: Levels with attention.
        resamp_with_conv: Sides are halved and doubled with a convolution.
        z_channels, double_z: Channels of the encoder's output, and whether it has twice as many.
        embed: Channels of a codeword.
        top, bottom: Bits of an index at the finest and coarsest rung.
        gumbel: Indices come from logits over so many codewords instead of from distances; 0: no.
    """

    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attention: tuple[int, ...]
    resamp_with_conv: bool
    z_channels: int
    double_z: bool
    embed: int
    top: int
    bottom: int = 3
    gumbel: int = 0

    @property
    def downsampling(self) -> int:
        """Pixels a side of one index."""
        return int(2 ** (len(self.ch_mult) - 1))

    def autoencoder(self) -> tuple[nn.Module, nn.Module]:
        """Return taming's ``Encoder`` and ``Decoder``.

        Raises:
            InputError: taming-transformers is not installed.
        """
        try:
            from taming.modules.diffusionmodules.model import Decoder, Encoder
        except ImportError as error:
            raise _missing(error) from error
        # Only the ratio of resolution and attn_resolutions counts.
        resolution = 256
        settings = {
            "ch": self.ch,
            "ch_mult": self.ch_mult,
            "num_res_blocks": self.num_res_blocks,
            "attn_resolutions": [resolution >> level for level in self.attention],
            "resamp_with_conv": self.resamp_with_conv,
            "z_channels": self.z_channels,
            "double_z": self.double_z,
            "in_channels": 3,
            "out_ch": 3,
            "resolution": resolution,
            "dropout": 0.0,
        }
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the shape of its input
            return Encoder(**settings), Decoder(**settings)


class _Encoder(nn.Module):
    def __init__(self, shape: TamingShape, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        width = shape.z_channels * (2 if shape.double_z else 1)
        self.quant_conv = nn.Conv2d(width, shape.embed, 1)
        if shape.gumbel:
            self.proj = nn.Conv2d(shape.embed, shape.gumbel, 1)
            self.embed = nn.Embedding(shape.gumbel, shape.embed)

    def forward(self, x: Tensor) -> Tensor:
        h = self.quant_conv(self.encoder(x.to(self.quant_conv.weight.dtype)))
        if not hasattr(self, "proj"):
            return h.float()
        return self.embed(self.proj(h).argmax(1)).permute(0, 3, 1, 2).float()


class _Decoder(nn.Module):
    def __init__(self, shape: TamingShape, decoder: nn.Module):
        super().__init__()
        self.post_quant_conv = nn.Conv2d(shape.embed, shape.z_channels, 1)
        self.decoder = decoder

    def forward(self, codewords: Tensor, trust: Tensor, rung: Tensor) -> Tensor:
        """Return pixels; this decoder knows neither trust nor rung."""
        codewords = (codewords * trust).to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(codewords)).float()


class TamingVqgan(nn.Module):
    """An imported VQGAN behind the interface of :class:`lic.networks.vqgan.Vqgan`."""

    def __init__(self, shape: TamingShape):
        super().__init__()
        self.shape = shape
        encoder, decoder = shape.autoencoder()
        self.encoder = _Encoder(shape, encoder)
        self.ladder = Ladder(shape.embed, shape.bottom, shape.top)
        self.decoder = _Decoder(shape, decoder)

    def use_bfloat16(self) -> None:
        """Compute in bfloat16."""
        self.encoder.to(torch.bfloat16)
        self.decoder.to(torch.bfloat16)
