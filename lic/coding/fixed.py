"""Fixed-point arithmetic for the coding loop: the same integers on every machine.

Everything between symbols and probability tables is built from the operations of this module.
They run in two modes, told apart by the type of their input:

* **training**: float32 or bfloat16 tensors pass through ordinary layers, nothing is rounded;
* **exact**: float64 tensors hold multiples of 2^-8 within +-2^11 ("the grid"), every result is
  rounded back to it, and layers hold weights that are multiples of 2^-k.

In exact mode each partial sum is a multiple of 2^-(k+8) below 2^(53-k-8) and hence a float64
without rounding, so the order of summation, thread count, fused multiply-add, instruction set and
device cannot change a result. ``FixedConv2d.proven_bound`` is the proof, evaluated on real weights.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.errors import WeightsError

__all__ = [
    "FRACTION_BITS",
    "LIMIT",
    "FixedConv2d",
    "FixedLeakyReLU",
    "exact_modules",
    "is_exact",
    "scaled",
    "to_grid",
]

FRACTION_BITS = 8
"""Fraction bits of every value in the loop."""

LIMIT = 2.0**11
"""Largest magnitude of a value in the loop."""

_LEAST_WEIGHT_BITS, _MOST_WEIGHT_BITS = 8, 18
_SIGNIFICAND = 53
_STORED_MAX = 2**15 - 1


def is_exact(x: Tensor) -> bool:
    """Tell whether ``x`` belongs to the exact mode: float64 is used nowhere else."""
    return x.dtype == torch.float64


def to_grid(x: Tensor) -> Tensor:
    """Round to multiples of 2^-8, half up, and clamp to +-2^11; the identity while training."""
    if not is_exact(x):
        return x
    return (x * 2.0**FRACTION_BITS + 0.5).floor_().mul_(2.0**-FRACTION_BITS).clamp_(-LIMIT, LIMIT)


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply by a factor that is a multiple of 2^-12 below 2^12 and return to the grid.

    19 bits of grid value by 24 bits of factor: the product is exact before it is rounded.
    """
    return to_grid(x * factor)


class FixedLeakyReLU(nn.Module):
    """Leaky ReLU with slope 1/8, a power of two, so that both branches stay exact."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_exact(x):
            return F.leaky_relu(x, 0.125)  # the same, in one operation
        return to_grid(torch.maximum(x, x * 0.125))


class FixedConv2d(nn.Conv2d):
    """A convolution with "same" zero padding that can be frozen to fixed point.

    Before :meth:`freeze` it is an ordinary convolution. After it, ``weight`` and ``bias`` are
    float64 tensors whose entries are multiples of 2^-k and 2^-(k+8), and the output is rounded to
    the grid.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel.
        groups: Groups of channels that do not see each other.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, groups: int = 1):
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups
        )
        self.bias: nn.Parameter  # never None here
        self.weight_bits: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if is_exact(x) and x.is_cuda:
            return to_grid(self._as_products(x))
        return to_grid(super().forward(x))

    def _as_products(self, x: Tensor) -> Tensor:
        # Libraries for GPUs may pick FFT or Winograd kernels, whose intermediate values are not on
        # the grid; a matrix product over unfolded patches has no such freedom.
        n, _, height, width = x.shape
        patches = F.unfold(x, self.kernel_size, padding=self.kernel_size[0] // 2)
        patches = patches.view(n, self.groups, -1, height * width)
        weight = self.weight.view(self.groups, self.out_channels // self.groups, -1)
        y = torch.einsum("goi,ngip->ngop", weight, patches)
        return y.reshape(n, -1, height, width) + self.bias.view(1, -1, 1, 1)

    def to_integers(self) -> tuple[int, Tensor, Tensor]:
        """Return k, weights * 2^k as int16 and biases * 2^(k+8) as int32, both rounded."""
        weight, bias = self.weight.detach().double(), self.bias.detach().double()
        largest = max(weight.abs().max().item(), 2.0**-30)
        k = math.floor(math.log2(_STORED_MAX / largest))
        k = max(_LEAST_WEIGHT_BITS, min(_MOST_WEIGHT_BITS, k))
        integers = (weight * 2.0**k).round().clamp(-_STORED_MAX, _STORED_MAX)
        biases = (bias * 2.0 ** (k + FRACTION_BITS)).round().clamp(-(2**31) + 1, 2**31 - 1)
        return k, integers.to(torch.int16), biases.to(torch.int32)

    def freeze(self, k: int, weight: Tensor, bias: Tensor) -> None:
        """Take stored integers over and switch to exact arithmetic.

        Raises:
            WeightsError: k, a shape or the bound of the exactness proof is violated.
        """
        if not _LEAST_WEIGHT_BITS <= k <= _MOST_WEIGHT_BITS:
            raise WeightsError(f"a fixed-point layer has {k} fraction bits, 8 to 18 are allowed")
        if weight.shape != self.weight.shape or bias.shape != self.bias.shape:
            raise WeightsError("a fixed-point layer has another shape than its architecture")
        self.weight = nn.Parameter(weight.double() * 2.0**-k, requires_grad=False)
        self.bias = nn.Parameter(bias.double() * 2.0 ** -(k + FRACTION_BITS), requires_grad=False)
        self.weight_bits = k
        if self.proven_bound() >= 1.0:
            raise WeightsError("the weights of a fixed-point layer are too large to stay exact")

    def proven_bound(self) -> float:
        """Return max over outputs of (sum|w| * 2^11 + |b|) / 2^(53-k-8); exact below 1."""
        if self.weight_bits is None:
            raise WeightsError("the layer is not frozen")
        reach = self.weight.abs().sum(dim=(1, 2, 3)) * LIMIT + self.bias.abs()
        return float(reach.max()) / 2.0 ** (_SIGNIFICAND - self.weight_bits - FRACTION_BITS)


def exact_modules(module: nn.Module) -> dict[str, FixedConv2d]:
    """Return the fixed-point layers below ``module`` by their dotted names, in a fixed order."""
    return {n: m for n, m in sorted(module.named_modules()) if isinstance(m, FixedConv2d)}
