"""CompressAI's architectures behind our interface, to compare rates and speed on equal terms.

Named ``compressai:NAME[@bf16][:LEVEL[:CHECKPOINT]]``. LEVEL is one of CompressAI's quality levels
from 1 or a range such as ``1-8`` (default: level 3). CHECKPOINT is a file of its weights with
``{level}`` in place of the number where the range has several. Without one the weights are random:
such files have a size and a PSNR that mean nothing, only the seconds do, and ``note`` says so.

A file, big-endian: level 1 byte, width 2, height 2, length of the first string 4, the strings,
CRC-32 4. CompressAI's coder reads past the end of damaged strings, so it never gets to see any.
"""

from __future__ import annotations

import hashlib
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lic.codecs._compressai import ARCHITECTURES, architecture_class, compressai_version
from lic.codecs.base import Encoded
from lic.errors import InputError, StreamError, UsageProblem, WeightsError
from lic.pictures import Picture, pad_to_multiple

__all__ = ["CompressaiCodec"]

RANDOM_WEIGHTS = "random weights: speed only"

_PADDING = 64
_HEADER = struct.Struct(">BHHI")
_CRC = struct.Struct(">I")
_LARGEST_SIDE = 0xFFFF
_SEED = 1
_DEFAULT_LEVEL = 3
_TRANSFORMS = ("g_s", "h_s")
_NAME = re.compile(r"(?P<name>[^:@]+)(@(?P<dtype>\w+))?(:(?P<levels>[^:]+)(:(?P<path>.+))?)?")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class CompressaiCodec:
    """One architecture at one or several of CompressAI's quality levels.

    Quality 0..100 is spread evenly over the levels; ``default_qualities`` hits each of them.

    Args:
        architecture: A name of ``ARCHITECTURES``.
        levels: Quality levels from 1, ascending.
        checkpoint: Path of a state dict, ``{level}`` standing for the level; random weights when
            ``None``.
        dtype: ``torch.bfloat16`` runs analysis and synthesis in bfloat16; hyperprior and context
            stay float32, since CompressAI's tables hold for that alone.

    Raises:
        UsageProblem: No such architecture or level.
        InputError: compressai is not installed.
        WeightsError: A checkpoint is missing or does not fit the architecture.
    """

    def __init__(
        self,
        architecture: str,
        levels: tuple[int, ...] = (_DEFAULT_LEVEL,),
        checkpoint: str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        if architecture not in ARCHITECTURES:
            raise UsageProblem(f"no '{architecture}' in compressai; {', '.join(ARCHITECTURES)}")
        self._widths = ARCHITECTURES[architecture][2]
        wrong = [level for level in levels if not 1 <= level <= len(self._widths)]
        if wrong or not levels:
            raise UsageProblem(f"{architecture} has levels 1 to {len(self._widths)}")
        if checkpoint and len(levels) > 1 and "{level}" not in checkpoint:
            raise UsageProblem("a checkpoint for several levels needs {level} in its path")
        self.name = f"compressai:{architecture}"
        self.note = "" if checkpoint else RANDOM_WEIGHTS
        self.default_qualities = tuple(
            round(100 * i / (len(levels) - 1), 2) if len(levels) > 1 else 50.0
            for i in range(len(levels))
        )
        self._class = architecture_class(architecture)
        self._levels = levels
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._loaded: tuple[int, Any] | None = None
        self._check_files()

    @classmethod
    def from_name(cls, name: str) -> CompressaiCodec:
        """Make a codec from ``compressai:NAME[@bf16][:LEVEL[:CHECKPOINT]]``.

        Raises:
            UsageProblem: The name has another form.
        """
        parts = _NAME.fullmatch(name.removeprefix("compressai:"))
        levels = _parse_levels(parts["levels"]) if parts else None
        if parts is None or levels is None or (parts["dtype"] or "fp32") not in _DTYPES:
            raise UsageProblem(f"'{name}' is not compressai:NAME[@bf16][:LEVEL[:CHECKPOINT]]")
        codec = cls(parts["name"], levels, parts["path"], _DTYPES[parts["dtype"] or "fp32"])
        codec.name = name
        return codec

    @property
    def identity(self) -> str:
        """Everything that the files and figures of this codec depend on, in one line."""
        weights = "random"
        if self._checkpoint:
            digest = hashlib.sha256()
            for level in self._levels:
                digest.update(Path(self._checkpoint.format(level=level)).read_bytes())
            weights = digest.hexdigest()
        versions = f"compressai {compressai_version()} torch {torch.__version__}"
        return f"{versions} {self._dtype} levels {self._levels} weights {weights}"

    # -- picture <-> bytes ------------------------------------------------------------------

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture; see :class:`lic.codecs.base.Codec`.

        ``details`` has the level, ``payload_bytes`` (the figure that CompressAI itself reports),
        and with ``reconstruct=True`` the decoder's ``transform_s`` and ``coder_s``.

        Raises:
            InputError: A side over 65535 pixels.
        """
        if max(picture.width, picture.height) > _LARGEST_SIDE:
            raise InputError(f"{self.name} takes sides up to {_LARGEST_SIDE} pixels")
        last = len(self._levels) - 1
        level = self._levels[round(min(100.0, max(0.0, quality)) / 100 * last)]
        padded = torch.from_numpy(pad_to_multiple(picture.pixels, _PADDING))
        with torch.inference_mode():
            strings = self._model(level).compress(_to_unit(padded))["strings"]
        payload = [s[0] for s in strings]
        body = _HEADER.pack(level, picture.width, picture.height, len(payload[0]))
        body += b"".join(payload)
        data = body + _CRC.pack(zlib.crc32(body))
        details: dict[str, Any] = {"level": level, "payload_bytes": sum(map(len, payload))}
        if not options.get("reconstruct"):
            return Encoded(data, details)
        shown, seconds = self.decode_timed(data)
        return Encoded(data, details | seconds, shown)

    def decode(self, data: bytes) -> Picture:
        """Decode one file; see :class:`lic.codecs.base.Codec`."""
        return self.decode_timed(data)[0]

    def decode_timed(self, data: bytes) -> tuple[Picture, dict[str, float]]:
        """Decode one file and say where the time went.

        Returns:
            The picture, and seconds: ``transform_s`` in synthesis and hyper-synthesis,
            ``coder_s`` in all the rest, which is entropy decoding and, for architectures with a
            context model, that model, since the two take turns.

        Raises:
            StreamError: The file is not whole.
        """
        level, width, height, payload = self._parse(data)
        model = self._model(level)
        factor = 64 if len(payload) > 1 else 16
        padded = [-(-side // _PADDING) * _PADDING for side in (height, width)]
        begun = time.perf_counter()
        with torch.inference_mode(), _Stopwatch(model) as watch:
            shape = [side // factor for side in padded]
            x_hat = model.decompress([[s] for s in payload], shape)["x_hat"]
            pixels = (x_hat[0] * 255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        total = time.perf_counter() - begun
        shown = Picture(pixels[:height, :width].contiguous().numpy())
        return shown, {"transform_s": watch.seconds, "coder_s": total - watch.seconds}

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode pictures in order."""
        return (self.encode(p, quality, **options) for p in pictures)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode files in order."""
        return map(self.decode, files)

    def _parse(self, data: bytes) -> tuple[int, int, int, list[bytes]]:
        """Return level, width, height and the strings of a file."""
        least = _HEADER.size + _CRC.size
        if len(data) < least or _CRC.unpack(data[-4:])[0] != zlib.crc32(data[:-4]):
            raise StreamError("is no whole file of this codec: its checksum differs")
        level, width, height, length = _HEADER.unpack_from(data)
        strings = data[_HEADER.size : -_CRC.size]
        if level not in self._levels or length > len(strings):
            raise StreamError(f"is not a file of {self.name}")
        single = self._class.__name__ == "FactorizedPrior"
        payload = [strings] if single else [strings[:length], strings[length:]]
        return level, width, height, payload

    # -- weights ----------------------------------------------------------------------------

    def _check_files(self) -> None:
        for level in self._levels if self._checkpoint else ():
            path = str(self._checkpoint).format(level=level)
            if not Path(path).is_file():
                raise WeightsError("no such checkpoint", path)

    def _model(self, level: int) -> Any:
        """Return the network of a level; the last one used stays loaded."""
        if self._loaded is None or self._loaded[0] != level:
            model = self._load(level) if self._checkpoint else self._random(level)
            model.update()
            model.eval().requires_grad_(False)
            if self._dtype != torch.float32:
                model.g_a, model.g_s = (_Cast(n, self._dtype) for n in (model.g_a, model.g_s))
            self._loaded = (level, model)
        return self._loaded[1]

    def _random(self, level: int) -> Any:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(_SEED)
            return self._class(*self._widths[level - 1])

    def _load(self, level: int) -> Any:
        path = str(self._checkpoint).format(level=level)
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            return self._class.from_state_dict(_state_dict(values))
        except OSError as error:
            raise WeightsError(error.strerror or "cannot be read", path) from error
        except Exception as error:  # a torch checkpoint can be wrong in too many ways to list
            kind = type(error).__name__
            raise WeightsError(f"is no checkpoint of {self.name} ({kind})", path) from error


class _Cast(nn.Module):
    """Run a transform under autocast and hand on float32."""

    def __init__(self, transform: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.transform = transform
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=self._dtype):
            y: Tensor = self.transform(x)
        return y.float()


class _Stopwatch:
    """Sum the seconds spent in the synthesis transforms of a model."""

    def __init__(self, model: nn.Module):
        self.seconds = 0.0
        self._began = 0.0
        self._modules = [getattr(model, n) for n in _TRANSFORMS if hasattr(model, n)]
        self._hooks: list[Any] = []

    def __enter__(self) -> _Stopwatch:
        for module in self._modules:
            self._hooks.append(module.register_forward_pre_hook(self._start))
            self._hooks.append(module.register_forward_hook(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _start(self, *_: object) -> None:
        self._began = time.perf_counter()

    def _stop(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


def _parse_levels(text: str | None) -> tuple[int, ...] | None:
    """Return the levels of ``3`` or ``1-8``; ``None`` for anything else."""
    if text is None:
        return (_DEFAULT_LEVEL,)
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        return None
    return tuple(range(int(first), int(last or first) + 1))


def _to_unit(pixels: Tensor) -> Tensor:
    """uint8 ``(H, W, 3)`` to float32 ``(1, 3, H, W)`` in [0, 1]."""
    return pixels.permute(2, 0, 1)[None].contiguous().float() / 255


def _state_dict(values: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint, whether of the model zoo or of a training run."""
    tensors = values.get("state_dict", values)
    # Wrapped by DataParallel; and the residual blocks' former name of their skip path.
    return {
        k.removeprefix("module.").replace(".downsample.", ".skip."): v for k, v in tensors.items()
    }
