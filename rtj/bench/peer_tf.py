"""tf.data with the fused `decode_and_crop_jpeg`, as TensorFlow's guides advise."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from rtj.bench.crops import BATCH, SIZE, Work
from rtj.data.augment import PCA_EIGENVALUES, PCA_EIGENVECTORS

MEAN, STD = (123.68, 116.779, 103.939), (58.393, 57.12, 57.375)


def batches(work: Work, antialias: bool, full: bool) -> Iterator[np.ndarray]:
    """Endless batches: uint8, or float32 when `full`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(work.cores)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    indices, boxes = work.stream(2 * len(work.files))
    windows = np.stack(
        [
            boxes[:, 1],
            boxes[:, 0],
            boxes[:, 3] - boxes[:, 1],
            boxes[:, 2] - boxes[:, 0],
        ],
        axis=1,
    )
    names = np.array(work.files)[indices]

    def load(name: Any, window: Any) -> Any:
        pixels = tf.io.decode_and_crop_jpeg(tf.io.read_file(name), window, channels=3)
        pixels = tf.image.resize(pixels, (SIZE, SIZE), antialias=antialias)
        return _augment(tf, pixels) if full else tf.cast(pixels, tf.uint8)

    data = tf.data.Dataset.from_tensor_slices((names, windows)).repeat()
    options = tf.data.Options()
    options.threading.private_threadpool_size = work.cores
    data = data.map(load, num_parallel_calls=work.cores).batch(BATCH).prefetch(2)
    yield from data.with_options(options).as_numpy_iterator()


def _augment(tf: Any, image: Any) -> Any:
    """Flip, brightness, contrast, saturation, PCA noise, normalisation."""
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_brightness(image / 255, 0.4)
    image = tf.image.random_contrast(image, 0.6, 1.4)
    image = tf.clip_by_value(tf.image.random_saturation(image, 0.6, 1.4), 0, 1) * 255
    alpha = tf.random.normal((3,), stddev=0.1) * tf.constant(PCA_EIGENVALUES)
    noise = tf.linalg.matvec(tf.constant(PCA_EIGENVECTORS), alpha)
    return (image + noise - tf.constant(MEAN)) / tf.constant(STD)
