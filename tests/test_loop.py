"""The coding loop gives the same integers whatever computes it, and the controls do not."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import untrained_card

from lic.codecs.latent import LatentCodec
from lic.codecs.loop import CodingLoop
from lic.codecs.registry import load_codec
from lic.coding.fixed import exact_modules
from lic.errors import WeightsError
from lic.networks.steps import checkerboard, latin_square, merge, split
from lic.weights import find_weights, load_tensors

TINY = Path(__file__).parent / "weights" / "tiny-hyperprior.safetensors"


@pytest.fixture(scope="module", params=["hyperprior", "acgc", "segpic"])
def codec(request, tmp_path_factory) -> LatentCodec:
    if request.param == "hyperprior":
        return load_codec(find_weights("hyperprior", path=TINY))
    return load_codec(untrained_card(request.param, tmp_path_factory.mktemp(request.param)))


def random_symbols(seed: int):
    random = np.random.default_rng(seed)

    def symbols(_step, index, _means, _valid):
        return random.integers(-3, 4, index.size).astype(np.int32)

    return symbols


def trace_of(loop: CodingLoop, size=(9, 14), byte: int = 120):
    z_size = (-(-size[0] // 4), -(-size[1] // 4))
    z = np.random.default_rng(5).integers(-4, 5, (8, *z_size)).astype(np.int32)
    return loop._run(z, size, torch.full(size, byte), random_symbols(7))


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.indexes, b.indexes, strict=True)) and all(
        np.array_equal(x, y) for x, y in zip(a.checked, b.checked, strict=True)
    )


def test_split_and_merge_are_inverse():
    y = torch.randn(2, 8, 4, 6)
    assert torch.equal(merge(split(y)), y)


@pytest.mark.parametrize("order", [latin_square(8), checkerboard((1, 2, 5))])
def test_steps_cover_every_value_once(order):
    parts = split(torch.rand(1, 8, 4, 6))
    values = [order.take(parts, step) for step in range(len(order))]
    assert torch.equal(order.assemble(values), parts)
    partly = order.assemble(values[:1])
    assert torch.equal(order.take(partly, 0), values[0])
    assert partly.count_nonzero() == values[0].numel()


def test_anchors_are_the_white_squares_of_a_checkerboard():
    anchors = merge(checkerboard((2,)).assemble([torch.ones(1, 2, 2, 2, 2)]))
    assert anchors[0, 0].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]] * 2


def test_each_step_codes_each_position_once_and_each_group_at_one_phase():
    order = latin_square(8)
    for step in range(4):
        values = [torch.full((1, 4, 2, 1, 1), float(k == step)) for k in range(4)]
        filled = order.assemble(values)[0, ::2, :, 0, 0]
        assert torch.equal(filled.sum(0), torch.ones(4))
        assert torch.equal(filled.sum(1), torch.ones(4))


def test_a_step_does_not_see_values_that_are_not_decoded_yet(codec):
    """Changing a step's symbols changes no prediction of that step or an earlier one."""
    size = (8, 8)
    z = np.zeros((8, 2, 2), np.int32)
    rate = torch.full(size, 200)

    def run(changed: int):
        def symbols(step, index, _means, _valid):
            return np.full(index.size, 3 if step == changed else 0, np.int32)

        return codec.loop._run(z, size, rate, symbols)

    base = run(-1)
    for changed in range(len(codec.loop.context.order)):
        other = run(changed)
        for step in range(changed + 1):
            assert np.array_equal(base.indexes[step], other.indexes[step])


@pytest.mark.parametrize("threads", [1, 2])
def test_thread_count_changes_nothing(codec, threads):
    expected = trace_of(codec.loop)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert same(trace_of(codec.loop), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_mkldnn_changes_nothing(codec):
    expected = trace_of(codec.loop)
    with torch.backends.mkldnn.flags(enabled=False):
        assert same(trace_of(codec.loop), expected)


def test_channels_last_changes_nothing(codec):
    other = CodingLoop(fresh_context(codec), load_tensors(codec.card))
    other.context.to(memory_format=torch.channels_last)
    assert same(trace_of(other), trace_of(codec.loop))


def fresh_context(codec: LatentCodec):
    return codec.networks(codec.card.shape()).context


def test_a_gain_map_of_one_value_equals_that_rate(codec):
    size = (8, 12)
    z = np.zeros((8, 2, 3), np.int32)
    per_position = torch.full(size, 99)
    row = codec.loop.rates(per_position)
    mixed = per_position.clone()
    mixed[0, 0] = 98
    full = codec.loop.rates(mixed)
    assert torch.equal(full.mean_factor[0, :, 3, 3], row.mean_factor[0, :, 0, 0])
    assert trace_of(codec.loop, size).y_hat.shape[-2:] == size
    assert z.shape[0] == codec.model.shape.hyper_latents


def test_unrounded_weights_are_noticed_as_different(codec):
    """A control: with weights off the grid the loop is no longer the stored one."""
    loop = copy.copy(codec.loop)
    loop.context = copy.deepcopy(codec.loop.context)
    for layer in exact_modules(loop.context).values():
        with torch.no_grad():
            layer.weight.mul_(1 + 1e-3)
    assert not same(trace_of(loop), trace_of(codec.loop))


def test_checksum_equals_the_card(codec):
    assert codec.loop.checksum() == codec.card.loop_checksum


def test_proven_bound_leaves_room(codec):
    assert 0 < codec.loop.proven_bound() < 1


def test_missing_tensor_is_a_weights_error(codec):
    tensors = load_tensors(codec.card)
    del tensors["tables.offset"]
    with pytest.raises(WeightsError, match="missing"):
        CodingLoop(fresh_context(codec), tensors)
