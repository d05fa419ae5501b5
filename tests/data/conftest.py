"""Shared set-up: the digits data set, and small sources that know their index."""

import json
import shutil
import threading

import numpy as np
import pytest

from rtj.data import digits
from rtj.data.memory import ArraySource
from tests.data.conversions import make_tree
from tests.data.tars import write_tar


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A TFDS data dir with rtj_digits prepared in it."""
    path = tmp_path_factory.mktemp("tfds")
    digits.prepare(str(path))
    return path


@pytest.fixture
def fake_imagenet(digits_dir, tmp_path):
    """Builds a TFDS data dir whose imagenet2012 holds digits, in a given format."""

    def build(file_format):
        source = digits_dir / "rtj_digits" / "1.0.0"
        target = tmp_path / "imagenet2012" / "5.1.0"
        shutil.copytree(source, target)
        for shard in target.glob("rtj_digits-*"):
            name = shard.name.replace("rtj_digits", "imagenet2012")
            shard.rename(target / name.replace("-test", "-validation"))
        info = json.loads((target / "dataset_info.json").read_text())
        info |= {"name": "imagenet2012", "version": "5.1.0", "fileFormat": file_format}
        for split in info["splits"]:
            split["name"] = split["name"].replace("test", "validation")
            split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        (target / "dataset_info.json").write_text(json.dumps(info))
        return str(tmp_path)

    return build


@pytest.fixture
def indexed_source():
    """37 flat images; every pixel of example i is 5 i, its label i mod 7."""
    images = np.arange(37, dtype=np.uint8)[:, None, None, None] * np.full(
        (1, 12, 16, 3), 5, np.uint8
    )
    return ArraySource(images, np.arange(37) % 7, 7, name="indexed")


@pytest.fixture
def textured_source():
    """12 images of random pixels, so that any other crop gives other pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 20, 24, 3), dtype=np.uint8)
    return ArraySource(images, np.zeros(12, int), 1, name="textured")


@pytest.fixture
def no_new_threads():
    """Fails the test if it leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Makes PATH from {shard's path: members} and gives `tar:PATH` and the folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "shards"

    def make(files, **options):
        for name, members in files.items():
            write_tar(root / name, members, **options)
        return f"tar:{root}", root

    return make


@pytest.fixture
def tree(tmp_path):
    """A `folder:` of three pets; see `tests.data.conversions`."""
    return make_tree(tmp_path / "images")
