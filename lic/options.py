"""Settings of an encoding, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lic.errors import UsageProblem
from lic.pictures import DEFAULT_MAX_PIXELS
from lic.weights import DEFAULT_TUNE

__all__ = ["DEFAULT_QUALITY", "DEFAULT_ROI_GAIN", "LOOKS", "DecodeOptions", "EncodeOptions"]

DEFAULT_QUALITY = 50.0
DEFAULT_ROI_GAIN = 25.0
MOST_ROI_GAIN = 49.0
MOST_EFFORT = 9
LOOKS = ("faithful", "natural")
"""What decoding makes of a file: what is nearest to the original, or what looks most like one."""
_METADATA = ("none", "icc", "all")


@dataclass(frozen=True)
class EncodeOptions:
    """Settings of an encoding; at most one of quality and the targets may be given.

    Attributes:
        codec: Family.
        tune: What the weights must be trained for: ``eyes``, for files that look better at the same
            size, or ``psnr``. When ``None``, ``eyes`` where the family has such weights, but
            ``psnr`` with ``target_psnr``.
        quality: 0..100, 50 when nothing else is given.
        target_bpp: Bits per pixel of the whole file, not exceeded.
        target_size: Bytes of the whole file, not exceeded.
        target_psnr: dB on 8-bit RGB, reached or exceeded.
        target_ssimulacra2: Score up to 100, reached or exceeded: about 90 where no difference is
            seen side by side, 70 high, 50 medium and 30 low quality.
        metadata: ``none``, ``icc`` or ``all`` (EXIF and XMP too).
        max_pixels: Larger pictures are refused; 0 for no limit.
        weights: File or folder of weights instead of those found.
        threads: Strips or pictures at once; changes no byte.
        check: Decode what was encoded and compare before returning.
        effort: 1..9, time for a smaller file of the same quality, 5 when ``None``; not for
            ``vqgan``. 1 and 2 round symbols to nearest, 3 to 6 choose them by price, 7, 8 and 9
            also refine the latents, in 8, 24 and 72 passes.
        codebook_size: Codewords of ``vqgan``, a power of two, instead of a quality.
        index_coder: Of ``vqgan``: ``tree``, ``static``, ``uniform``, or ``transformer``, which
            needs a network of its own; ``tree`` when ``None``.
        packets: Of ``vqgan``: write datagrams that survive losses instead of a file.
        payload: Bytes of a datagram's payload at most, with ``packets``.
        parity: Datagrams that replace lost ones, with ``packets``; needs zfec.
        roi: Region of interest, for families with gains: a path, the bytes of a picture file, or
            uint8 ``(H, W)``, as large as the picture; white is of interest, grey in part.
        roi_gain: Quality points that white gets beyond the rest, -49 to 49.
    """

    codec: str = "hyperprior"
    tune: str | None = None
    quality: float | None = None
    target_bpp: float | None = None
    target_size: int | None = None
    target_psnr: float | None = None
    target_ssimulacra2: float | None = None
    metadata: str = "icc"
    max_pixels: int = DEFAULT_MAX_PIXELS
    weights: str | None = None
    threads: int = 1
    check: bool = False
    effort: int | None = None
    codebook_size: int | None = None
    index_coder: str | None = None
    packets: bool = False
    payload: int | None = None
    parity: int = 0
    roi: Any = field(default=None, compare=False)
    roi_gain: float = DEFAULT_ROI_GAIN

    def __post_init__(self) -> None:
        goals = [
            self.quality,
            self.target_bpp,
            self.target_size,
            self.target_psnr,
            self.target_ssimulacra2,
            self.codebook_size,
        ]
        if sum(g is not None for g in goals) > 1:
            raise UsageProblem(
                "give one of quality, target-bpp, target-size, target-psnr, target-ssimulacra2, "
                "codebook-size"
            )
        self._check_types()
        self._check_vqgan()
        self._check_tuning()
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise UsageProblem(f"quality {self.quality:g} is outside 0..100")
        self._check_targets()
        if not abs(self.roi_gain) <= MOST_ROI_GAIN:
            raise UsageProblem(f"roi-gain {self.roi_gain:g} is outside -49..49")
        if self.roi is None and self.roi_gain != DEFAULT_ROI_GAIN:
            raise UsageProblem("roi-gain goes with roi")
        if self.metadata not in _METADATA:
            raise UsageProblem(f"metadata '{self.metadata}' is not one of {', '.join(_METADATA)}")

    @property
    def preferred_tune(self) -> str:
        """What weights should be tuned for, where the family leaves a choice."""
        return "psnr" if self.target_psnr is not None else DEFAULT_TUNE

    def _check_targets(self) -> None:
        for name in ("target_bpp", "target_size", "target_psnr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageProblem(f"{name.replace('_', '-')} must be above 0")
        score = self.target_ssimulacra2
        if score is not None and not 0 < score <= 100:
            raise UsageProblem(f"target-ssimulacra2 {score:g} is outside 0..100")

    def _check_types(self) -> None:
        for name in ("codebook_size", "effort", "payload", "parity"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{name} must be a whole number, not {value!r}")
        targets = ("target_bpp", "target_size", "target_psnr", "target_ssimulacra2")
        for name in ("quality", *targets, "roi_gain"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise TypeError(f"{name} must be a number, not {value!r}")

    def _check_tuning(self) -> None:
        if self.codec == "vqgan" and self.tune is not None:
            raise UsageProblem("'vqgan' has one tune only; leave tune out")
        if self.effort is None:
            return
        if not 1 <= self.effort <= MOST_EFFORT:
            raise UsageProblem(f"effort {self.effort} is outside 1..{MOST_EFFORT}")
        if self.codec == "vqgan":
            raise UsageProblem("'vqgan' has one effort only; leave effort out")

    def _check_vqgan(self) -> None:
        for name in ("codebook_size", "index_coder", "packets"):
            if getattr(self, name) not in (None, False) and self.codec != "vqgan":
                raise UsageProblem(f"{name.replace('_', '-')} needs the codec vqgan")
        size = self.codebook_size
        if size is not None and (size < 1 or size & (size - 1)):
            raise UsageProblem(f"codebook-size {size} is not a power of two")
        if self.roi is not None and self.codec == "vqgan":
            raise UsageProblem(f"'{self.codec}' has one quality a picture; roi needs another codec")
        if self.packets and self.index_coder is not None:
            raise UsageProblem("packets have an index coder of their own; leave index-coder out")
        if self.packets and self.metadata == "all":
            raise UsageProblem("metadata does not travel in packets; leave 'all' out")
        if not self.packets and (self.payload is not None or self.parity):
            raise UsageProblem("payload and parity go with packets")
        if self.parity < 0:
            raise UsageProblem(f"parity {self.parity}: a number of datagrams, 0 or more")
        if self.payload is not None and self.payload < 1:
            raise UsageProblem(f"payload {self.payload}: bytes of a datagram, 1 or more")


@dataclass(frozen=True)
class DecodeOptions:
    """Settings of decoding files and packet streams.

    Attributes:
        weights: File or folder of weights; ``$LIC_WEIGHTS`` and the package when ``None``.
        max_pixels: Larger pictures are refused; 0 for no limit.
        threads: Strips at once; changes no pixel.
        conceal: Of ``lic.codecs.conceal.CONCEALERS``, for packet streams; the best that there is
            when ``None``.
        fast: Show files of ``hyperprior`` by a small synthesis, not quite as near to the original.
        look: ``faithful``, as near to the original as the file tells; or ``natural``, where what
            the file does not tell is invented, so that surfaces have a texture (``hyperprior``).
        realism: How far to go from ``faithful``, 0, to ``natural``, 1 (the default with it).

    Raises:
        UsageProblem: An unknown look, ``fast`` with another look than ``faithful``, or ``realism``
            without ``natural`` or outside of 0..1.
    """

    weights: str | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    threads: int = 1
    conceal: str | None = None
    fast: bool = False
    look: str = LOOKS[0]
    realism: float | None = None

    def __post_init__(self) -> None:
        natural = self.look != LOOKS[0]
        if self.look not in LOOKS:
            raise UsageProblem(f"look '{self.look}' is not one of {', '.join(LOOKS)}")
        if self.fast and natural:
            raise UsageProblem(f"no fast synthesis has the look '{self.look}'; leave one out")
        if self.realism is not None and not natural:
            raise UsageProblem("realism goes with the look 'natural'")
        if self.realism is not None and not 0 <= self.realism <= 1:
            raise UsageProblem(f"realism {self.realism:g} is outside 0..1")

    @property
    def synthesis(self) -> str | None:
        """Name of the synthesis that shows files, ``None`` for that of their codec."""
        return "fast" if self.fast else None if self.look == LOOKS[0] else self.look

    def check_packets(self) -> None:
        """Raise ``UsageProblem`` for what packet streams do not have."""
        if self.synthesis is not None:
            raise UsageProblem("packets have one synthesis; leave 'fast' and 'look' out")

    def check_file(self) -> None:
        """Raise ``UsageProblem`` for what only packet streams have."""
        if self.conceal is not None:
            raise UsageProblem("is a file; 'conceal' is for packets")
