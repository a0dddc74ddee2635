"""Importing VQGAN checkpoints: real ones work, broken and hostile ones are refused."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from conftest import photo

from lic.codecs.vqgan import VqganCodec
from lic.errors import InputError, UsageProblem
from lic.networks.taming import TamingShape
from lic.pictures import Picture
from lic.training.importing import (
    build_imported,
    import_checkpoint,
    read_checkpoint,
    shape_of_checkpoint,
)

SHAPE = TamingShape(
    ch=32,
    ch_mult=(1, 1, 2, 2, 2),
    num_res_blocks=1,
    attention=(4,),
    resamp_with_conv=True,
    z_channels=16,
    double_z=False,
    embed=12,
    top=4,
)


def taming_state(shape: TamingShape = SHAPE, codewords: int = 32) -> dict[str, torch.Tensor]:
    """Return the state dict that taming's own classes have, with the loss beside it."""
    torch.manual_seed(0)
    encoder, decoder = shape.autoencoder()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"decoder.{k}": v for k, v in decoder.state_dict().items()}
    quant = torch.nn.Conv2d(shape.z_channels, shape.embed, 1)
    post = torch.nn.Conv2d(shape.embed, shape.z_channels, 1)
    state |= {f"quant_conv.{k}": v for k, v in quant.state_dict().items()}
    state |= {f"post_quant_conv.{k}": v for k, v in post.state_dict().items()}
    state["loss.discriminator.main.0.weight"] = torch.zeros(4, 3, 4, 4)
    if shape.gumbel:
        proj = torch.nn.Conv2d(shape.embed, codewords, 1)
        state |= {f"quantize.proj.{k}": v for k, v in proj.state_dict().items()}
        state["quantize.embed.weight"] = torch.randn(codewords, shape.embed)
    else:
        state["quantize.embedding.weight"] = torch.randn(codewords, shape.embed)
    return state


def save_lightning(path, state, monkeypatch) -> None:
    """Save as Lightning of that time did: a class of its own as a key."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    checkpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = checkpoint
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save(
        {
            "epoch": 3,
            "global_step": 1000,
            "pytorch-lightning_version": "1.0.8",
            "state_dict": state,
            "callbacks": {checkpoint: {"best_model_score": torch.tensor(1.0)}},
            "optimizer_states": [{"state": {}, "param_groups": []}],
            "lr_schedulers": [],
            "hyper_parameters": argparse.Namespace(lr=1.0),
        },
        path,
    )
    for name in list(sys.modules):
        if name.startswith("pytorch_lightning"):
            monkeypatch.delitem(sys.modules, name)


def test_the_architecture_follows_from_the_tensors():
    assert shape_of_checkpoint(taming_state(), 4) == SHAPE


def test_a_lightning_checkpoint_becomes_weights_that_code(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    save_lightning(path, taming_state(), monkeypatch)
    card, told = import_checkpoint(str(path), 16, output=str(tmp_path))
    assert "round trip" in told
    codec = VqganCodec(card)
    picture = Picture(photo(50, 70))
    encoded = codec.encode(picture, 100, reconstruct=True)
    assert codec.decode(encoded.data) == encoded.reconstruction
    assert encoded.reconstruction.pixels.shape == (50, 70, 3)


def test_imported_networks_compute_what_taming_computes():
    state = taming_state()
    model = build_imported(state, 4)
    encoder, decoder = SHAPE.autoencoder()
    for part, net in (("encoder.", encoder), ("decoder.", decoder)):
        net.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith(part)})
    x = torch.from_numpy(photo(64, 64).transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    with torch.no_grad():
        h = encoder.eval()(x)
        z = torch.nn.functional.conv2d(h, state["quant_conv.weight"], state["quant_conv.bias"])
        assert torch.allclose(model.encoder(x), z, atol=1e-5)
        c = model.ladder.look_up(model.ladder.nearest(z, 4), 4)
        post = torch.nn.functional.conv2d(
            c, state["post_quant_conv.weight"], state["post_quant_conv.bias"]
        )
        shown = model.decoder(c, torch.ones_like(c[:, :1]), torch.tensor([4.0]))
        assert torch.allclose(shown, decoder.eval()(post), atol=1e-5)


def test_the_gumbel_variant_takes_the_largest_logit(tmp_path):
    from dataclasses import replace

    shape = replace(SHAPE, gumbel=16)
    state = taming_state(shape, codewords=16)
    model = build_imported(state, 4)
    x = torch.from_numpy(photo(64, 64).transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    with torch.no_grad():
        z = model.encoder(x)
        # Each vector is a codeword, so the nearest one is that very codeword.
        found = model.ladder.look_up(model.ladder.nearest(z, 4), 4)
    assert torch.allclose(found, z, atol=1e-5)
    torch.save({"state_dict": state}, tmp_path / "gumbel.ckpt")
    assert (
        "round trip"
        in import_checkpoint(str(tmp_path / "gumbel.ckpt"), 16, output=str(tmp_path))[1]
    )


def test_codewords_are_weighted_by_their_use_on_pictures(tmp_path):
    from PIL import Image

    (tmp_path / "data").mkdir()
    for seed in range(2):
        Image.fromarray(photo(96, 96, seed)).save(tmp_path / "data" / f"{seed}.png")
    torch.save({"state_dict": taming_state()}, tmp_path / "m.ckpt")
    _, told = import_checkpoint(
        str(tmp_path / "m.ckpt"), 8, data=[str(tmp_path / "data")], output=str(tmp_path)
    )
    assert "2 pictures" in told


class _Evil:
    def __reduce__(self):
        return os.system, ("touch evil-was-here",)


def _without_codebook(state):
    del state["quantize.embedding.weight"]
    return {"state_dict": state}


def _with(**tensors):
    return lambda state: {
        "state_dict": state | {k.replace("__", "."): v for k, v in tensors.items()}
    }


SAVED = {
    "malicious": lambda state: {"state_dict": state, "callbacks": _Evil()},
    "list": lambda state: [1, 2],
    "other model": lambda state: {"state_dict": {"layer.weight": torch.zeros(3)}},
    "no codebook": _without_codebook,
    "wrong shape": _with(decoder__mid__attn_1__q__weight=torch.zeros(5, 5, 1, 1)),
    "not finite": _with(decoder__conv_in__bias=torch.full((64,), float("nan"))),
    "small codebook": _with(quantize__embedding__weight=torch.zeros(4, 12)),
    "four channels": _with(encoder__conv_in__weight=torch.zeros(32, 4, 3, 3)),
    "another family": _with(encoder__conv_blocks__0=torch.zeros(1)),
}
WRITTEN = {
    "empty": b"",
    "text": b"this is no checkpoint",
    "malicious legacy": pickle.dumps({"state_dict": {}, "x": _Evil()}),
}


def _broken(kind: str, path) -> None:
    if kind in WRITTEN:
        path.write_bytes(WRITTEN[kind])
    elif kind == "truncated":
        torch.save({"state_dict": taming_state()}, path)
        path.write_bytes(path.read_bytes()[:-5000])
    else:
        torch.save(SAVED[kind](taming_state()), path)


@pytest.mark.parametrize("kind", ["truncated", *WRITTEN, *SAVED])
def test_what_is_no_vqgan_is_refused_without_running_it(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    _broken(kind, path)
    with pytest.raises(InputError, match=r"last\.ckpt"):
        import_checkpoint(str(path), 16, output=str(tmp_path))
    assert not (tmp_path / "evil-was-here").exists()
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_refusal_names_what_was_asked_for(tmp_path):
    _broken("malicious", tmp_path / "m.ckpt")
    with pytest.raises(InputError, match="system"):
        read_checkpoint(tmp_path / "m.ckpt")


def test_a_size_that_is_no_power_of_two_is_a_usage_problem(tmp_path):
    with pytest.raises(UsageProblem, match="power of two"):
        import_checkpoint("x.ckpt", 1000, output=str(tmp_path))


def test_existing_weights_are_not_replaced(tmp_path):
    (tmp_path / "vqgan-imported.safetensors").write_bytes(b"precious")
    with pytest.raises(UsageProblem, match="--force"):
        import_checkpoint("x.ckpt", 16, output=str(tmp_path))
    assert np.array_equal(
        list((tmp_path / "vqgan-imported.safetensors").read_bytes()), list(b"precious")
    )
