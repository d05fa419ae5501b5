"""rtj's own pipeline, files to uint8 batches, as a training run uses it.

The full contest is the same work: flip, jitter, noise and normalisation are part of
the compiled step and cost the host nothing.
"""

from collections.abc import Generator

import numpy as np

from rtj.bench.crops import BATCH, RULE, SEED, SIZE, Work
from rtj.data.decode import make_decoding
from rtj.data.pipeline import train_batches
from rtj.data.reading import Reading
from rtj.data.sources import open_source


def batches(
    work: Work, antialias: bool, decoder: str = "simplejpeg"
) -> Generator[np.ndarray, None, None]:
    """Endless batches, uint8 (64, 224, 224, 3)."""
    with train_batches(
        open_source(f"folder:{work.folder}", "train"),
        batch_size=BATCH,
        image_size=SIZE,
        seed=SEED,
        start_step=0,
        stop_step=10**9,
        crop_area=RULE.area,
        crop_ratio=RULE.ratio,
        reading=Reading(
            make_decoding(decoder, antialias=antialias), workers=work.cores
        ),
    ) as rows:
        for batch in rows:
            yield batch["image"]
