"""ROIAlign (He et al. 2017, arXiv 1703.06870): features of fixed size for each box.

A box is divided into out x out bins, each bin is sampled at n x n points spread evenly,
bilinear interpolation reads the features there, and a bin is the mean of its points.
A point more than one cell outside the map counts as 0, one less outside reads the
border: torchvision's `roi_align`, to the bit of float32's rounding.

Both the test and the interpolation treat rows and columns apart, so the mean over a
bin is a product of two small matrices, and a box's features are R f C^T with R
(out, H) and C (out, W) made of hat functions max(0, 1 - |x - i|). That makes
ROIAlign two matrix products, which is what TPUs and GPUs do best, and its gradient
two more. Reading 4 n^2 points a bin instead is a gather of 4 x 28 x 28 x K rows
at 14 x 14 bins and n = 2, and its gradient a scatter with collisions. The price is
reading the whole map: for 128 boxes on gluon-cv's 38 x 63 x 1024 that is 5.4 GMAC an
image, a tenth of its backbone's, and 279 MB (float32) between the two products. The
gradient keeps none of that, as boxes have no gradient.

In the wild: `aligned` moves boxes by half a cell, so that a cell's value belongs to its
centre. Detectron2 and torchvision's option do; torchvision's own Faster R-CNN and
gluon-cv (MXNet) do not, and widen boxes of less than one cell to one. gluon-cv and
torchvision's detectors take n = 2.
"""

import jax
import jax.numpy as jnp

from rtj.errors import ConfigError


def roi_align(
    features: jax.Array,
    boxes: jax.Array,
    *,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
    max_samples: int = 0,
) -> jax.Array:
    """Features of boxes on one image; `jax.vmap` it over images.

    Args:
        features: (H, W, C), any float dtype. Differentiable.
        boxes: (K, 4) float32 in the image's pixels; no gradient reaches them. Whatever
            they hold, the result is finite where the features are.
        output_size: bins a side.
        spatial_scale: cells of the map a pixel, 1 / stride.
        sampling_ratio: points a bin and side; 0: as many as the bin has cells, rounded
            up, which differs from box to box.
        aligned: see above.
        max_samples: with sampling_ratio=0 the most points a bin and side, a static
            bound that must be given. Up to max_samples * output_size cells a side of a
            box the result is exact; larger boxes are sampled max_samples times, evenly.
            ceil(max(H, W) / output_size) is exact for all boxes inside the image.

    Returns:
        (K, output_size, output_size, C) in the features' dtype, which the weights and
        what stands between the two products have too.
    """
    if (sampling_ratio == 0) != (max_samples > 0) or sampling_ratio < 0:
        raise ConfigError(
            f"roi_align: sampling_ratio={sampling_ratio}, max_samples={max_samples}; "
            "allowed: one of them positive and the other 0"
        )
    boxes = jax.lax.stop_gradient(boxes) * spatial_scale - (0.5 if aligned else 0.0)
    height, width, _ = features.shape
    rows, columns = (
        _bin_weights(
            boxes[:, axis],
            boxes[:, axis + 2],
            cells,
            output_size,
            sampling_ratio,
            max_samples,
            min_size=None if aligned else 1.0,
        ).astype(features.dtype)
        for axis, cells in ((1, height), (0, width))
    )
    # Default precision would round float32 to bfloat16 on TPUs and to TF32 on GPUs.
    return jnp.einsum(
        "kph,kqw,hwc->kpqc",
        rows,
        columns,
        features,
        precision=jax.lax.Precision.HIGHEST,
    )


def _bin_weights(
    start: jax.Array,
    end: jax.Array,
    cells: int,
    bins: int,
    sampling_ratio: int,
    max_samples: int,
    min_size: float | None,
) -> jax.Array:
    """(K, bins, cells) float32: weight of each cell in each bin, along one axis.

    `start` and `end` (K,) are in cells. A box turned inside out has no adaptive points,
    and its weights are 0.
    """
    size = end - start if min_size is None else jnp.maximum(end - start, min_size)
    size = size[:, None, None]
    number = jnp.float32(sampling_ratio)
    if sampling_ratio == 0:
        number = jnp.clip(jnp.ceil(size / bins), 0, max_samples)
    divisor = jnp.where(number > 1, number, 1)  # 1 for NaN
    sample = jnp.arange(sampling_ratio or max_samples, dtype=jnp.float32)
    place = jnp.arange(bins, dtype=jnp.float32)[:, None] + (sample + 0.5) / divisor
    point = start[:, None, None] + place * (size / bins)
    counts = (sample < number) & (point >= -1) & (point <= cells)
    point = jnp.clip(jnp.where(counts, point, 0), 0, cells - 1)[..., None]
    hat = jnp.maximum(1 - jnp.abs(point - jnp.arange(cells, dtype=jnp.float32)), 0)
    total = jnp.where(counts[..., None], hat, 0).sum(axis=2)
    return total / divisor
