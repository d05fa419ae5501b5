"""Many short strings in little memory."""

from array import array
from typing import Self

import numpy as np

_CODEC = ("utf-8", "surrogateescape")  # as Python decodes file names


class PackedNames:
    """Strings in one buffer: 8 bytes each beside their text; a list of str takes 57.

    Any name of a file comes back as it was, undecodable bytes in it too.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, name: str) -> None:
        self._bytes += name.encode(*_CODEC)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int, /) -> str:
        """The string at 0 <= index < len."""
        packed = self._bytes[self._ends[index] : self._ends[index + 1]]
        return packed.decode(*_CODEC)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The buffer, uint8 (bytes,), and where strings end in it, int64 (n + 1,)."""
        return np.array(self._bytes, np.uint8), np.array(self._ends, np.int64)

    @classmethod
    def from_arrays(cls, packed: np.ndarray, ends: np.ndarray) -> Self:
        """What `arrays` came from."""
        names = cls()
        names._bytes = bytearray(packed.tobytes())
        names._ends = array("q", ends.tobytes())
        return names
