"""Find, check, load and save weights: ``NAME.safetensors`` with its card ``NAME.json`` beside it.

The search order is an explicit path, ``$LIC_WEIGHTS`` (a file or a folder), the package. Pickles
are never read here. A card carries the SHA-256 of the whole file and the fingerprint of its stream
tensors, those that a ``.lic`` file depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic.errors import OutputError, UsageProblem, WeightsError
from lic.weights.quantised import check_scales, unpack_state

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DEFAULT_TUNE",
    "Card",
    "cards_at",
    "check_target",
    "companions",
    "find_weights",
    "fingerprint",
    "list_cards",
    "load_tensors",
    "network_state",
    "save_weights",
]

DEFAULT_TUNE = "eyes"
"""What weights are tuned for that are used where nobody says, if a family has such."""

FINGERPRINT_BYTES = 3
_PACKAGE = Path(__file__).parent
_HEADER_LIMIT = 10_000_000


@dataclass(frozen=True)
class Card:
    """What is known about a file of weights.

    Attributes:
        name: File name without suffix.
        family: Codec family.
        tune: What the family's networks were trained for: ``psnr``, ``ms-ssim`` or ``eyes``.
        fingerprint: Hex SHA-256 over the stream tensors; files carry its first 3 bytes.
        sha256: Of the safetensors file.
        loop_checksum: Result of the coding loop on its stored input, see ``lic models verify``.
        network: The family's shape, enough to rebuild the networks.
        training: Recipe, data, steps, seconds, machine, log.
        metrics: Measurements, each with the command that made it.
        licence: Of the weights.
        path: Where the safetensors file is; not stored.
    """

    name: str
    family: str
    fingerprint: str
    sha256: str
    loop_checksum: str
    network: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = "CC0-1.0"
    tune: str = "psnr"
    path: Path = field(default=Path(), compare=False)

    def shape(self) -> dict[str, Any]:
        """Return ``network`` with tuples where JSON has lists, for the family's shape class."""
        return {k: tuple(v) if isinstance(v, list) else v for k, v in self.network.items()}

    def prefix(self) -> bytes:
        """Return the bytes that a ``.lic`` header carries."""
        return bytes.fromhex(self.fingerprint)[:FINGERPRINT_BYTES]


def _read_card(path: Path) -> Card:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Card(**values, path=path.with_suffix(".safetensors"))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"is not a card of weights: {error}", str(path)) from error


def _folders() -> list[Path]:
    chosen = os.environ.get("LIC_WEIGHTS")
    return ([Path(chosen)] if chosen else []) + [_PACKAGE]


def cards_at(place: Path) -> list[Card]:
    """Return the cards in a folder, or the one beside or at a file of weights."""
    if place.is_dir():
        return [_read_card(p) for p in sorted(place.glob("*.json"))]
    card = place.with_suffix(".json")
    return [_read_card(card)] if card.exists() else []


def list_cards() -> list[Card]:
    """Return the cards of all weights that can be found, earlier places first."""
    return [card for place in _folders() for card in cards_at(place)]


def check_target(folder: str | Path, name: str, *, force: bool) -> Path:
    """Return the folder for new weights, made if missing, before anything expensive is done.

    Raises:
        OutputError: The folder cannot be made.
        UsageProblem: The weights exist and ``force`` is not given.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder '{folder}' cannot be made: {error.strerror}") from error
    target = Path(folder) / f"{name}.safetensors"
    if target.exists() and not force:
        raise UsageProblem(f"'{target}' exists; pass --force to replace it")
    return Path(folder)


def find_weights(
    family: str,
    *,
    prefix: bytes | None = None,
    path: str | Path | None = None,
    tune: str | None = None,
    prefer: str = DEFAULT_TUNE,
) -> Card:
    """Return the card of the weights to use.

    Args:
        family: Codec family wanted.
        prefix: Fingerprint bytes that a file asks for; any weights of the family when ``None``.
        path: Weights named by the user, which then must fit.
        tune: What they must be tuned for.
        prefer: What they should be tuned for, where several in one place fit.

    Raises:
        UsageProblem: There are weights of the family, but none with this tune.
        WeightsError: Nothing fits; names what was wanted and where it was looked for.
    """
    places = [Path(path)] if path is not None else _folders()
    if path is not None and not Path(path).exists():
        raise WeightsError("no such weights", str(path))
    found = [[c for c in cards_at(place) if c.family == family] for place in places]
    fitting = [[c for c in there if prefix in (None, c.prefix())] for there in found]
    for there in filter(None, fitting):
        if tune is None:
            return next((c for c in there if c.tune == prefer), there[0])
        for card in there:
            if card.tune == tune:
                return card
    if any(fitting):
        known = ", ".join(sorted({c.tune for there in fitting for c in there}))
        raise UsageProblem(f"no weights of '{family}' are tuned for '{tune}'; there are: {known}")
    raise _not_found(family, prefix, path, [c for there in found for c in there])


def _not_found(
    family: str, prefix: bytes | None, path: str | Path | None, found: list[Card]
) -> WeightsError:
    searched = "--weights, LIC_WEIGHTS, the package" if path is None else str(path)
    if found:
        known = ", ".join(c.prefix().hex() for c in found)
        return WeightsError(
            f"the file needs weights with fingerprint {(prefix or b'').hex()}, "
            f"those of '{family}' found have {known}; searched {searched}"
        )
    wanted = f" ({prefix.hex()}..)" if prefix else ""
    if path is not None and (there := sorted({c.family for c in cards_at(Path(path))})):
        searched += f", which has {', '.join(there)}"
        # A file says itself which family it needs.
        searched += ": --codec names a family" if prefix is None else ""
    return WeightsError(f"weights '{family}'{wanted} not found; searched {searched}")


def companions(card: Card, family: str) -> list[Card]:
    """Return the cards of a family of networks that were made for the weights of ``card``.

    Those beside it come first, then those in the usual places.
    """
    places = [card.path.parent, *_folders()]
    cards = [c for place in dict.fromkeys(places) for c in cards_at(place)]
    return [c for c in cards if c.family == family and c.prefix() == card.prefix()]


def network_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the float32 state dict of the networks among a card's tensors."""
    return unpack_state(tensors)


def load_tensors(card: Card) -> dict[str, Tensor]:
    """Read and check the tensors of a card.

    Raises:
        WeightsError: The file is missing, changed, not safetensors, or lacks a scale.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = card.path.read_bytes()
    except OSError as error:
        raise WeightsError(error.strerror or "cannot be read", str(card.path)) from error
    if not 0 < int.from_bytes(data[:8], "little") < min(len(data), _HEADER_LIMIT):
        raise WeightsError("not a safetensors file", str(card.path))
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise WeightsError(
            "SHA-256 differs from its card; install the weights again", str(card.path)
        )
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError("not a safetensors file", str(card.path)) from error
    check_scales(tensors, str(card.path))
    return tensors


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """Return the hex SHA-256 over names, types, shapes and bytes of stream tensors, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        head = f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|"
        digest.update(head.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def save_weights(folder: str | Path, card: Card, tensors: dict[str, Tensor]) -> Card:
    """Write ``NAME.safetensors`` and ``NAME.json``; returns the card with hash and path filled in.

    Each file is replaced as a whole. The card goes last: a reader that meets the new weights with
    the old card reports a changed file instead of using a mixture.
    """
    from safetensors.torch import save

    data = save({k: v.contiguous() for k, v in tensors.items()})
    path = Path(folder) / f"{card.name}.safetensors"
    values = asdict(card) | {"sha256": hashlib.sha256(data).hexdigest()}
    del values["path"]
    try:
        _replace(path, data)
        _replace(path.with_suffix(".json"), (json.dumps(values, indent=1) + "\n").encode())
    except OSError as error:
        raise OutputError(error.strerror or "cannot be written", str(path)) from error
    return Card(**values, path=path)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
