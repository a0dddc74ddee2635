"""Binary decisions to bytes and back, each with a probability of its own.

The words, the short ending and the check for damage are those of :mod:`lic.coding.range_coder`.
"""

from __future__ import annotations

import numpy as np

from lic.coding.range_coder import (
    Backend,
    backend,
    damage_reported,
    shortest_payload,
    words_of_payload,
)
from lic.coding.tables import TOTAL
from lic.errors import StreamError

__all__ = ["BitDecoder", "BitEncoder"]


def _rows(ones: np.ndarray) -> np.ndarray:
    """Return probabilities of zero and one; exact in float64, as they are multiples of 2^-16."""
    rows = np.empty((len(ones), 2))
    rows[:, 1] = ones / float(TOTAL)
    rows[:, 0] = 1.0 - rows[:, 1]
    return rows


class BitEncoder:
    """Collects bits and turns them into a payload.

    Args:
        coder: See :func:`lic.coding.range_coder.backend`; the payload does not depend on it.
    """

    def __init__(self, coder: Backend | None = None):
        self._backend = coder or backend()
        self._coder = self._backend.encoder()

    def encode(self, bits: np.ndarray, ones: np.ndarray) -> None:
        """Append bits.

        Args:
            bits: Integers 0 and 1, shape ``(n,)``.
            ones: Probability of a one in units of 2^-16, integers in 1..65535, shape ``(n,)``.
        """
        if len(bits):
            self._coder.encode(bits.astype(np.int32), self._backend.bits, _rows(ones))

    def finish(self) -> bytes:
        """Return the payload of all bits so far; empty if there are none."""
        return shortest_payload(self._coder)


class BitDecoder:
    """Reads back the bits of a payload; provisional until :meth:`finish` has returned.

    Args:
        data: What :meth:`BitEncoder.finish` returned.
        coder: See :func:`lic.coding.range_coder.backend`.
    """

    def __init__(self, data: bytes, coder: Backend | None = None):
        self._data = bytes(data)
        self._backend = coder or backend()
        self._coder = self._backend.decoder(words_of_payload(self._data))
        self._bits: list[np.ndarray] = []
        self._ones: list[np.ndarray] = []

    def decode(self, ones: np.ndarray) -> np.ndarray:
        """Return the next bits, int32 ``(n,)``, for probabilities as in :meth:`BitEncoder.encode`.

        Raises:
            StreamError: The bytes are not those of an encoder.
        """
        if not len(ones):
            return np.zeros(0, np.int32)
        with damage_reported():
            bits: np.ndarray = self._coder.decode(self._backend.bits, _rows(ones))
        self._bits.append(bits)
        self._ones.append(ones)
        return bits

    def finish(self) -> None:
        """Check that the payload is exactly that of the bits decoded from it.

        Raises:
            StreamError: Bytes are missing, left over, or such as no encoder writes.
        """
        again = BitEncoder(self._backend)
        if self._bits:
            again.encode(np.concatenate(self._bits), np.concatenate(self._ones))
        expected = again.finish()
        if expected != self._data:
            raise StreamError(
                f"{len(self._data)} coded bytes are not what their symbols encode to"
                f" ({len(expected)} bytes)"
            )
