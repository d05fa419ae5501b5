"""NVIDIA DALI on the CPU, with its fused decoding of a slice."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rtj.bench.crops import BATCH, SIZE, Work
from rtj.bench.peer_tf import MEAN, STD


def batches(work: Work, antialias: bool, full: bool) -> Iterator[np.ndarray]:
    """Endless batches: uint8, or float32 when `full`."""
    from nvidia.dali import fn, pipeline_def, types

    stream = work.endless()

    def rows() -> Iterator[tuple[list[np.ndarray], ...]]:
        while True:
            picked = [next(stream) for _ in range(BATCH)]
            data = [np.fromfile(name, np.uint8) for name, _ in picked]
            starts = [box[[1, 0]] for _, box in picked]
            shapes = [box[[3, 2]] - box[[1, 0]] for _, box in picked]
            yield data, starts, shapes

    @pipeline_def(batch_size=BATCH, num_threads=work.cores, device_id=None)
    def pipe() -> Any:
        data, starts, shapes = fn.external_source(rows(), num_outputs=3)
        pixels = fn.decoders.image_slice(
            data, start=starts, shape=shapes, output_type=types.RGB, axes=[0, 1]
        )
        pixels = fn.resize(
            pixels, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR,
            antialias=antialias,
        )  # fmt: skip
        return _augment(fn, types, pixels) if full else pixels

    running = pipe()
    running.build()
    while True:
        (output,) = running.run()
        yield output.as_array()


def _augment(fn: Any, types: Any, pixels: Any) -> Any:
    """Flip, brightness, contrast, saturation and normalisation; no PCA noise, which
    DALI has no operator for."""
    pixels = fn.color_twist(
        pixels,
        brightness=fn.random.uniform(range=[0.6, 1.4]),
        contrast=fn.random.uniform(range=[0.6, 1.4]),
        saturation=fn.random.uniform(range=[0.6, 1.4]),
    )
    return fn.crop_mirror_normalize(
        pixels,
        dtype=types.FLOAT,
        mean=list(MEAN),
        std=list(STD),
        mirror=fn.random.coin_flip(),
        output_layout="HWC",
    )
