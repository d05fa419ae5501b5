"""Which example stands where in the endless training stream.

Position p = step * batch_size + row belongs to epoch p // N and holds the dataset
index permutation(seed, epoch)[p % N]. Every example comes exactly once an epoch;
batches straddle epochs, so nothing is dropped; and any position costs O(1), so a
run starts at any step at once. The data position of a checkpoint is its step.

The permutation is Grain's `index_shuffle` (a cipher on [0, N)), the one behind
`grain.MapDataset.shuffle`. It is called here with a hash of (seed, epoch):
`MapDataset.shuffle` itself uses seed + epoch, which gives seed 1 the same orders
as seed 0, one epoch earlier.
"""

import numpy as np
from grain.experimental import index_shuffle

from rtj.data import hashing

# Grain's own choice in MapDataset.shuffle; 3 us an index, as with more rounds.
_ROUNDS = 4
_ORDER_STREAM = 0x0DE7


def _epoch_seed(seed: int, epoch: int) -> int:
    """The 32-bit cipher key of one epoch."""
    return int(hashing.make_key(_ORDER_STREAM, seed, epoch)[0] >> np.uint64(32))


def stream_indices(seed: int, num_examples: int, start: int, stop: int) -> np.ndarray:
    """Dataset indices at the stream positions [start, stop), int32."""
    indices = np.empty(stop - start, np.int32)
    epoch, key = -1, 0
    for row, position in enumerate(range(start, stop)):
        if position // num_examples != epoch:
            epoch = position // num_examples
            key = _epoch_seed(seed, epoch)
        indices[row] = index_shuffle(
            position % num_examples,
            max_index=num_examples - 1,
            seed=key,
            rounds=_ROUNDS,
        )
    return indices


def example_ids(seed: int, batch_size: int, num_examples: int, step: int) -> np.ndarray:
    """Dataset indices of the global batch of `step` (0-based): (batch_size,) int32."""
    start = step * batch_size
    return stream_indices(seed, num_examples, start, start + batch_size)
