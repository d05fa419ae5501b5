"""Pixel accuracy and mean IoU, from a confusion matrix.

The matrix of a batch is counted on the device; matrices of batches and hosts are
added, and the two scores are taken once from the sum. A class's IoU is

    pixels of it predicted as it / pixels that are it, or predicted as it, or both.

A class that is neither in the truth nor in any prediction has no IoU and is left out
of the mean. In the wild: gluon-cv counts it as 0; torchvision's reference code lets
it make the mean NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rtj.errors import DataError


def confusion_matrix(
    predicted: jax.Array, masks: jax.Array, num_classes: int
) -> jax.Array:
    """Counts of pixels by true class (row) and predicted class (column), exact.

    A matrix product of one-hot vectors a row of pixels: no scatter, which TPUs do one
    element at a time, and never the one-hot vectors of a whole image. Counts of one
    image are float32, exact below 2^24 = 16.8 million pixels.

    Args:
        predicted: (N, H, W), any integer dtype: 0 to num_classes - 1.
        masks: (N, H, W), any integer dtype. A pixel whose label is no class (255, -1)
            does not count, whatever is predicted there.

    Returns:
        (num_classes, num_classes) int32; add matrices up as NumPy int64, since 2^31
        pixels are 9,000 images of 480 x 480.
    """
    classes = jnp.arange(num_classes)

    def add_row(total: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        truth, guess = (row[..., None] == classes).astype(jnp.float32)
        return total + jnp.einsum("nwt,nwp->ntp", truth, guess), None

    # (2, N, H, W) to H slices (2, N, W).
    rows = jnp.moveaxis(
        jnp.stack([masks.astype(jnp.int32), predicted.astype(jnp.int32)]), 2, 0
    )
    start = jnp.zeros((len(masks), num_classes, num_classes), jnp.float32)
    per_image, _ = jax.lax.scan(add_row, start, rows)
    return per_image.astype(jnp.int32).sum(axis=0)


def pixel_accuracy(confusion: np.ndarray) -> float:
    """The fraction of counted pixels that are predicted right.

    Raises:
        DataError: no pixel was counted.
    """
    counts = _checked(confusion)
    return float(np.trace(counts) / counts.sum())


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each class, (num_classes,) float64; NaN for one that is nowhere."""
    counts = _checked(confusion)
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that are in the truth or in a prediction.

    Raises:
        DataError: no pixel was counted.
    """
    return float(np.nanmean(class_iou(confusion)))


def _checked(confusion: np.ndarray) -> np.ndarray:
    counts = np.asarray(confusion, np.int64)
    if not counts.sum():
        raise DataError("no pixel has a label that is a class, so there is no score")
    return counts
