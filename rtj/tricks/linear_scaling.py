"""Linear scaling of the learning rate (paper section 3.1).

A larger batch leaves the expectation of the gradient alone and lowers its
variance, so the learning rate may grow with it: 0.1 at a batch of 256, hence
0.1 * b / 256 at b. The batch is the global one, over all devices and accumulated
micro-batches (dmlc/gluon-cv#822: 0.4 on a single GPU never learns).
"""


def linear_scaling(base_lr: float, batch_size: int, base_batch: int = 256) -> float:
    """The learning rate for `batch_size`, given `base_lr` at `base_batch`."""
    return base_lr * batch_size / base_batch
