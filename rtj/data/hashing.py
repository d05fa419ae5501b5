"""Random numbers as a pure function of integers, stable across library versions.

NumPy promises no stable streams for `Generator` methods, and building a
`Generator` for each example costs more than decoding a small image. SplitMix64's
finaliser (Steele, Lea and Flood 2014) over a whole vector of examples has neither
problem.
"""

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, uint64 -> uint64, a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def fold(key: np.ndarray, value: int | np.ndarray) -> np.ndarray:
    """A new uint64 key from a key and an integer; both may be arrays."""
    if isinstance(value, int):
        value = np.array([value & _MASK], np.uint64)
    return _mix((key + _GAMMA) ^ _mix(value.astype(np.uint64) + _GAMMA))


def make_key(*values: int | np.ndarray) -> np.ndarray:
    """Folds the values, in this order, into uint64 keys of shape (n,) or (1,)."""
    key = np.zeros(1, np.uint64)
    for value in values:
        key = fold(key, value)
    return key


def uniforms(key: np.ndarray, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) for each key: (n,) uint64 -> (n, count) float64."""
    counter = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    bits = _mix(key[:, None] + counter[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
