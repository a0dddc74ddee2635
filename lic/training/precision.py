"""The precision that networks train in."""

from __future__ import annotations

import torch

from lic.codecs.plan import has_fast_bfloat16

__all__ = ["mixed_precision"]


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context in which a loss is computed.

    bfloat16 where the device multiplies it itself, otherwise float32: a CPU without such
    instructions emulates them, and takes nine times as long as for float32.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = has_fast_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
