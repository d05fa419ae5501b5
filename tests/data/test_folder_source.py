"""`folder:PATH`: what is read from a tree of images, and what is said about others."""

import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from rtj.data import sources
from rtj.data.folder_source import FolderSource
from rtj.data.pipeline import eval_batches
from rtj.data.subset import Subset
from rtj.errors import DataError


def encoded(value, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (value, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path):
    """Makes PATH from {relative path: bytes}; without any, two classes, two splits."""
    two = {
        "train/cat/b.JPEG": encoded(1, "JPEG"),
        "train/cat/a.png": encoded(2),
        "train/ant/c.jpg": encoded(3, "JPEG"),
        "train/ant/notes.txt": b"not an image",
        "train/ant/.hidden.png": b"not an image",
        "train/ant/deeper/z.png": encoded(9),
        "val/cat/d.WebP": encoded(4, "WEBP"),
        "val/cat/e.bmp": encoded(5, "BMP"),
        "README.md": b"",
    }

    def make(files=None):
        for name, data in (two if files is None else files).items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return f"folder:{tmp_path}/images", tmp_path / "images"

    return make


def examples(name, split):
    source = sources.open_source(name, split)
    return [(source[i]["id"], source[i]["label"]) for i in range(len(source))]


def test_classes_are_sorted_folders_and_examples_sorted_files(tree):
    name, root = tree()
    assert examples(name, "train") == [
        ("train/ant/c.jpg", 0),
        ("train/cat/a.png", 1),
        ("train/cat/b.JPEG", 1),
    ]
    assert examples(name, "val") == [("val/cat/d.WebP", 1), ("val/cat/e.bmp", 1)]
    source = FolderSource(str(root), "val", name)
    assert isinstance(source, sources.Source)
    assert (source.num_classes, source.class_names) == (2, ["ant", "cat"])
    for i in range(2):
        assert source[i]["image"] == (root / source[i]["id"]).read_bytes()
    assert source[-1]["id"] == source[1]["id"]
    with pytest.raises(IndexError):
        source[2]


def test_the_order_is_not_the_file_systems(tree, monkeypatch):
    name, _ = tree()
    expected = examples(name, "train")
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert examples(name, "train") == expected


def test_links_and_names_that_are_no_unicode_are_read(tree):
    name, root = tree()
    (root / "store").mkdir()
    (root / "store" / "x").write_bytes(b"linked")
    (root / "train" / "dog").symlink_to(root / "store")
    (root / "store" / "l.jpg").symlink_to(root / "store" / "x")
    odd = os.fsdecode(b"\xff\xe9.png")
    (root / "store" / odd).write_bytes(b"odd")
    source = sources.open_source(name, "train")
    found = {source[i]["id"]: source[i]["image"] for i in range(len(source))}
    assert found["train/dog/l.jpg"] == b"linked"
    assert found[f"train/dog/{odd}"] == b"odd"


FLAT = {
    "train/n01/x.JPEG": b"x",
    "train/n02/y.JPEG": b"y",
    "val/ILSVRC2012_val_00000001.JPEG": b"1",
    "val/ILSVRC2012_val_00000002.JPEG": b"2",
    "val.txt": b"n02\nn01\n",
}


def test_imagenets_own_layout_has_a_flat_val(tree):
    name, _ = tree(FLAT)
    assert examples(name, sources.eval_split(name)) == [
        ("val/ILSVRC2012_val_00000001.JPEG", 1),
        ("val/ILSVRC2012_val_00000002.JPEG", 0),
    ]


@pytest.mark.parametrize("there", ["val", "validation"])
def test_val_and_validation_are_one_split(tree, there):
    name, root = tree()
    (root / "val").rename(root / there)
    assert sources.eval_split(name) == there
    for split in ("val", "validation"):
        assert len(sources.open_source(name, split)) == 2
    assert sources.open_source(name, "val")[0]["id"] == f"{there}/cat/d.WebP"


def test_the_held_out_split_is_validation_then_val_then_test(tree):
    name, root = tree()
    (root / "test").mkdir()
    assert sources.eval_split(name) == "val"
    (root / "validation").mkdir()
    assert sources.eval_split(name) == "validation"
    (root / "validation").rmdir()
    (root / "val").rename(root / "other")
    assert sources.eval_split(name) == "test"
    (root / "test").rmdir()
    with pytest.raises(DataError, match="no split validation, val, test among"):
        sources.eval_split(name)


def test_what_lies_beside_the_splits_is_none_but_opens_by_name(tree):
    name, root = tree()
    (root / "ILSVRC2012_devkit_t12" / "data").mkdir(parents=True)
    (root / "val").rename(root / "mine")
    assert sources.splits(name) == ["train"]
    assert len(sources.open_source(name, "mine")) == 2


def changed(files, remove=(), **add):
    kept = {k: v for k, v in files.items() if not k.startswith(tuple(remove) or "-")}
    return kept | add


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (FLAT, "vla", r"no split 'vla' under .*nearest first: val, train; "),
        ({"train/a/x.png": b""}, "val", r"no split 'val' under .*: train; "),
        (changed(FLAT, ["train"]), "val", r"no split 'train' under .*: val; "),
        ({"x.png": b""}, "train", r"no split 'train' under .*; none is; "),
        (
            FLAT | {"train/n03/x.txt": b""},
            "train",
            r"class folder .*train/n03 holds no images; ",
        ),
        (
            FLAT | {"test/n04/x.png": b""},
            "test",
            r"test has a class folder 'n04' that train lacks; nearest there: n02, n01",
        ),
        ({"train/x.png": b""}, "train", r"train holds no class folders"),
        (FLAT | {"test/notes.txt": b""}, "test", r"test holds no images"),
        (FLAT | {"val/n01/x.png": b""}, "val", r"val holds class folders such as n01,"),
        (changed(FLAT, ["val.txt"]), "val", r"nothing says their classes: put one of"),
        (FLAT | {"val.txt": b"n02\n"}, "val", r"val\.txt has 1 labels for 2 images"),
        (FLAT | {"val.txt": b"n02\nn03\n"}, "val", r"neither FILENAME LABEL"),
    ],
)
def test_what_is_wrong_is_one_line(tree, files, split, message):
    name, _ = tree(files)
    with pytest.raises(DataError, match=message) as caught:
        sources.open_source(name, split)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 5


def test_a_missing_path_and_a_file_are_named(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/none does not exist; give the fo"):
        sources.open_source(f"folder:{tmp_path}/none", "train")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        sources.open_source(f"folder:{tmp_path}/file", "train")


def test_an_image_that_cannot_be_read_is_named_when_it_is_read(tree):
    name, root = tree()
    source = sources.open_source(name, "train")
    (root / "train/cat/a.png").unlink()
    assert source[0]["id"] == "train/ant/c.jpg"
    with pytest.raises(DataError, match=r"train/cat/a\.png cannot be read: No such fi"):
        source[1]


def test_a_link_to_nothing_is_not_left_out(tree):
    name, root = tree()
    (root / "train/cat/c.png").symlink_to(root / "gone.png")
    source = sources.open_source(name, "train")
    with pytest.raises(DataError, match=r"train/cat/c\.png cannot be read"):
        source[3]


def test_an_image_that_cannot_be_decoded_is_named(tree):
    name, root = tree()
    (root / "val/cat/e.bmp").write_bytes(b"")
    source = sources.open_source(name, "val")
    batches = eval_batches(source, batch_size=2, image_size=4, eval_resize=4)
    with pytest.raises(DataError, match=r"val/cat/e\.bmp: the image cannot be decoded"):
        next(batches)


def test_eight_threads_read_what_one_does(tree):
    rng = np.random.default_rng(0)
    files = {f"train/c{i % 5}/{i}.jpg": rng.bytes(2000) for i in range(200)}
    name, _ = tree(files)
    source = sources.open_source(name, "train")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(source.__getitem__, [*range(200)] * 8))
    assert all(e["image"] == files[e["id"]] for e in found)
    assert {e["id"] for e in found} == files.keys()
    before = len(os.listdir("/proc/self/fd"))
    for i in range(200):
        source[i]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_costs_12_bytes_and_its_name(tree):
    files = {f"train/n01440764/n01440764_{i:05d}.JPEG": b"" for i in range(1000)}
    name, root = tree(files)
    source = FolderSource(str(root), "train", name)
    names = source._files
    size = source._labels.nbytes + sys.getsizeof(names._bytes)
    size += sys.getsizeof(names._ends)
    text = len("n01440764_00000.JPEG")
    assert 12 + text <= size / 1000 < 1.15 * (12 + text)  # buffers grow by an eighth


def test_parts_of_a_split_are_disjoint_and_hold_every_class(tree):
    files = {f"train/c{i % 10}/{i:03d}.png": b"" for i in range(300)}
    name, _ = tree(files)
    first, second = examples(name, "train[:90%]"), examples(name, "train[90%:]")
    assert (len(first), len(second)) == (270, 30)
    assert sorted(first + second) == examples(name, "train")
    assert {label for _, label in first} == set(range(10))
    assert len({label for _, label in second}) > 5  # of the sorted order it were one
    assert examples(name, "train[-10%:]") == second
    assert examples(name, "train[:-30]") == first
    assert len(examples(name, "train[100:-150]")) == 50
    assert first == examples(name, "train[:90%]")
    assert first == sorted(first, key=lambda e: (e[1], e[0]))
    part = sources.open_source(name, "train[:10%]")
    assert isinstance(part, sources.Source)
    assert (part.num_classes, part.name) == (10, name)
    assert isinstance(part, Subset)
    assert part.class_names == [f"c{i}" for i in range(10)]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train[:101%]", "not allowed; allowed are a name and a part"),
        ("train[:4]", r"the part \[:4\] of 3 examples is \[0:4\]; allowed: 0 <="),
        ("train[2:2]", r"is \[2:2\]; allowed"),
        ("train[-4:]", r"is \[-1:3\]; allowed"),
        ("train[:10%", "not allowed; allowed are a name and a part"),
        ("train+val", "not allowed; allowed are a name and a part"),
        ("train[1]", "not allowed; allowed are a name and a part"),
    ],
)
def test_a_part_beyond_the_split_is_an_error(tree, split, message):
    name, _ = tree()
    with pytest.raises(DataError, match=message):
        sources.open_source(name, split)


def test_prepared_is_a_path_with_train(tree):
    name, _ = tree()
    assert sources.is_prepared(name)
    assert not sources.is_prepared(f"{name}/train")
    assert not sources.is_prepared("folder:/nowhere")


def test_a_relative_path_starts_at_the_working_directory(tree, monkeypatch):
    name, root = tree()
    monkeypatch.chdir(root.parent)
    assert examples("folder:images", "train") == examples(name, "train")
    monkeypatch.setenv("HOME", str(root.parent))
    assert examples("folder:~/images", "train") == examples(name, "train")
