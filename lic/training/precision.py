"""The precision that networks train in."""

from __future__ import annotations

import torch

from lic.codecs import plan

__all__ = ["has_fast_bfloat16", "mixed_precision"]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 itself.

    A CPU without such instructions emulates them, and takes nine times as long as for float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return plan.has_fast_bfloat16()


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context in which a loss is computed: bfloat16 where it is fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))
