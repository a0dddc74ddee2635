"""Shared pieces of the tests: small pictures, and where the real ones are."""

from __future__ import annotations

import json
import os
from pathlib import Path

# Threads that wait for each other make small operations slow on a busy machine; set before torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

WEIGHTS = Path(__file__).parent / "weights"

SMALL = json.loads(Path(__file__).with_name("shapes.json").read_text())
"""Networks of tests, by family; those of scripts/make_test_weights.py."""

FAMILIES = tuple(SMALL)
"""Every family has tiny test weights; suites run over all of them."""


def tiny_codec(family: str):
    """Return the codec of a family with its test weights."""
    from lic.codecs.registry import get_codec

    return get_codec(family, weights=WEIGHTS)


def untrained_card(family: str, folder: Path):
    """Write small weights of a family whose contexts predict something, and return their card."""
    import torch

    from lic.training.config import Recipe
    from lic.training.tasks import task_of
    from lic.weights.store import save_weights

    task = task_of(Recipe(family=family, network=SMALL[family]))
    pictures = [torch.from_numpy(photo(160, 192, s).transpose(2, 0, 1).copy()) for s in range(3)]
    model = task.build(pictures).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.context.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=random))
    return save_weights(folder, *task.export(model, family, {}, None))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth shapes with some texture, uint8 ``(height, width, 3)``."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [
        random.uniform(20, 60) * np.sin(x * random.uniform(0, 0.2) + y * random.uniform(0, 0.2) + p)
        for p in random.uniform(0, 6, 3)
    ]
    colour = np.stack([sum(random.uniform(0.5, 1) * w for w in waves) for _ in range(3)], axis=2)
    noise = random.normal(0, 4, colour.shape)
    edge = 50.0 * ((x > width / 3) & (y > height / 2))[..., None]
    return np.clip(110 + colour + noise + edge, 0, 255).astype(np.uint8)


@pytest.fixture
def picture():
    """A 96x80 RGB picture."""
    from lic.pictures import Picture

    return Picture(photo(80, 96))
