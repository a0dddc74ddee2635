r"""The ``vqgan`` networks: a picture to a grid of unit vectors, a codebook, and back.

::

    x --unshuffle4--> blocks 1/4 --> blocks 1/8 --> blocks 1/16 --> unit vectors z (8 channels)
                                                                        |
                                              index = nearest of 2^r codewords (Ladder)
                                                                        |
    x_hat <-shuffle4- blocks 1/4 <-- blocks 1/8 <-- blocks 1/16 <-- codewords, trust, rung

Everything runs at a quarter of the resolution or below, where dense convolutions are cheap. Beside
the networks of both sides run linear maps of 16x16 blocks that start as principal components.
Sources: VQGAN, Esser et al. 2021 (arXiv 2012.09841); low-dimensional codes of unit length, Yu et
al. 2022 (arXiv 2110.04627); sub-codebooks, Mao et al. 2024 (arXiv 2307.08265).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.networks.layers import Downsample, ResidualBlock, Upsample, zero_bias

__all__ = ["DOWNSAMPLING", "Ladder", "VqDecoder", "VqEncoder", "Vqgan", "VqganShape"]

DOWNSAMPLING = 16
"""Pixels a side of one index."""

_PATCH = 4
_RUNG_SCALE = 10.0


@dataclass(frozen=True)
class VqganShape:
    """Widths and depths; stored in the weights' card, so that a file rebuilds its network.

    Attributes:
        embed: Channels of a codeword.
        top: Bits of an index at the finest rung; it has 2^top codewords.
        bottom: Bits at the coarsest rung.
        encoder, decoder: Channels at 1/4, 1/8 and 1/16.
        encoder_blocks, decoder_blocks: Residual blocks there.
    """

    embed: int = 8
    top: int = 12
    bottom: int = 3
    encoder: tuple[int, int, int] = (48, 96, 192)
    decoder: tuple[int, int, int] = (64, 128, 256)
    encoder_blocks: tuple[int, int, int] = (1, 1, 2)
    decoder_blocks: tuple[int, int, int] = (2, 2, 4)

    @property
    def downsampling(self) -> int:
        """Pixels a side of one index."""
        return DOWNSAMPLING


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, count) for _ in range(count)))


class VqEncoder(nn.Module):
    """Pixels in [-1, 1] to unit vectors."""

    def __init__(self, shape: VqganShape):
        super().__init__()
        fine, middle, coarse = shape.encoder
        blocks = shape.encoder_blocks
        self.stem = nn.Conv2d(3 * _PATCH**2, fine, 3, padding=1)
        self.fine = _blocks(fine, blocks[0])
        self.down1 = Downsample(fine, middle)
        self.middle = _blocks(middle, blocks[1])
        self.down2 = Downsample(middle, coarse)
        self.coarse = _blocks(coarse, blocks[2])
        self.out = nn.Conv2d(coarse, shape.embed, 1)
        self.linear = nn.Conv2d(3 * DOWNSAMPLING**2, shape.embed, 1)
        nn.init.normal_(self.out.weight, std=1e-2)
        zero_bias(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, embed, H / 16, W / 16)`` float32 for ``(N, 3, H, W)``."""
        u = F.pixel_unshuffle(x, _PATCH).to(self.stem.weight.dtype)
        u = self.fine(self.stem(u))
        u = self.coarse(self.down2(self.middle(self.down1(u))))
        with torch.autocast(x.device.type, enabled=False):
            u = self.out(u.to(self.out.weight.dtype))
            return F.normalize(u + self.linear(F.pixel_unshuffle(x.float(), DOWNSAMPLING)), dim=1)


class VqDecoder(nn.Module):
    """Codewords to pixels in [-1, 1], the mirror of :class:`VqEncoder`."""

    def __init__(self, shape: VqganShape):
        super().__init__()
        fine, middle, coarse = shape.decoder
        blocks = shape.decoder_blocks
        self.stem = nn.Conv2d(shape.embed + 2, coarse, 3, padding=1)
        self.coarse = _blocks(coarse, blocks[2])
        self.up1 = Upsample(coarse, middle)
        self.middle = _blocks(middle, blocks[1])
        self.up2 = Upsample(middle, fine)
        self.fine = _blocks(fine, blocks[0])
        self.out = nn.Conv2d(fine, 3 * _PATCH**2, 3, padding=1)
        self.linear = nn.Conv2d(shape.embed, 3 * DOWNSAMPLING**2, 1)
        nn.init.normal_(self.out.weight, std=1e-3)
        zero_bias(self.out)

    def forward(self, codewords: Tensor, trust: Tensor, rung: Tensor) -> Tensor:
        """Return ``(N, 3, 16 h, 16 w)`` float32.

        Args:
            codewords: ``(N, embed, h, w)``.
            trust: ``(N, 1, h, w)``, 1 where the index was received, less where it was guessed.
            rung: ``(N,)`` bits of the indices.
        """
        plane = (rung.to(codewords) / _RUNG_SCALE)[:, None, None, None].expand_as(trust)
        codewords = codewords * trust
        u = torch.cat([codewords, 1 - trust, plane], dim=1)
        u = self.coarse(self.stem(u.to(self.stem.weight.dtype)))
        u = self.fine(self.up2(self.middle(self.up1(u))))
        with torch.autocast(codewords.device.type, enabled=False):
            linear = F.pixel_shuffle(self.linear(codewords), DOWNSAMPLING)
            return linear + F.pixel_shuffle(self.out(u.to(self.out.weight.dtype)).float(), _PATCH)


class Ladder(nn.Module):
    """Codebooks of 2^bottom to 2^top vectors, nested: the parent of an index is index >> 1.

    All rungs stand in one table, as in a heap: rung r has rows 2^r to 2^(r + 1).
    """

    def __init__(self, embed: int, bottom: int, top: int):
        super().__init__()
        self.bottom, self.top = bottom, top
        start = torch.randn(2 ** (top + 1), embed)
        self.vectors: Tensor
        self.register_buffer("vectors", F.normalize(start, dim=1))

    def rung(self, bits: int) -> Tensor:
        """Return the codebook ``(2^bits, embed)``."""
        return self.vectors[2**bits : 2 ** (bits + 1)]

    def nearest(self, z: Tensor, bits: int) -> Tensor:
        """Return indices ``(N, h, w)`` int64 of the nearest codewords to ``(N, embed, h, w)``."""
        n, _, h, w = z.shape
        flat = z.float().permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        codebook = self.rung(bits)
        # |z - c|^2 is smallest where z c - |c|^2 / 2 is largest.
        half = codebook.square().sum(1) / 2
        with torch.autocast(z.device.type, enabled=False):
            return (flat @ codebook.T - half).argmax(1).view(n, h, w)

    def look_up(self, indices: Tensor, bits: int) -> Tensor:
        """Return codewords ``(N, embed, h, w)`` of indices ``(N, h, w)``."""
        return self.rung(bits)[indices].permute(0, 3, 1, 2)


class Vqgan(nn.Module):
    """All networks of the family.

    Args:
        shape: Widths and depths.
    """

    def __init__(self, shape: VqganShape):
        super().__init__()
        self.shape = shape
        self.encoder = VqEncoder(shape)
        self.ladder = Ladder(shape.embed, shape.bottom, shape.top)
        self.decoder = VqDecoder(shape)

    def use_bfloat16(self) -> None:
        """Keep the layers between first and last in bfloat16; linear maps stay float32."""
        for part in (self.encoder, self.decoder):
            for name, layer in part.named_children():
                if name not in ("linear", "out"):
                    layer.to(torch.bfloat16)

    def start_from_components(self, components: Tensor, deviations: Tensor) -> None:
        """Start the linear maps at principal components of 16x16 blocks.

        A unit vector has no length to tell how strong a component is. So its last channel starts
        constant, and the others are small beside it.

        Args:
            components: ``(embed - 1, 768)`` orthonormal rows in the order of ``pixel_unshuffle``.
            deviations: ``(embed - 1,)`` standard deviations of the components, for pixels in
                [-1, 1].
        """
        with torch.no_grad():
            self.encoder.linear.weight.zero_()
            self.decoder.linear.weight.zero_()
            half = components / (2 * deviations[:, None])
            self.encoder.linear.weight[:-1, :, 0, 0] = half
            self.decoder.linear.weight[:, :-1, 0, 0] = components.T * 3 * deviations
            zero_bias(self.encoder.linear)
            zero_bias(self.decoder.linear)
            self.encoder.linear.bias[-1] = 1  # type: ignore[index]
