"""`tar:PATH`: samples, splits, and reading them from several threads."""

import io
import json
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from rtj.data import sources
from rtj.data.file_pool import FilePool
from rtj.data.tar_source import TarSource
from rtj.errors import DataError
from tests.data.tars import SAMPLE, cut, examples, sample, split


def test_samples_come_in_the_order_of_shards_and_members(shards):
    name, root = shards(split("train", 2, 3) | split("val", 1, 2))
    assert examples(name) == [
        (b"train0_0", 0, "train-000000.tar:train0_0"),
        (b"train0_1", 1, "train-000000.tar:train0_1"),
        (b"train0_2", 2, "train-000000.tar:train0_2"),
        (b"train1_0", 1, "train-000001.tar:train1_0"),
        (b"train1_1", 2, "train-000001.tar:train1_1"),
        (b"train1_2", 0, "train-000001.tar:train1_2"),
    ]
    val = TarSource(str(root), sources.eval_split(name), name)
    assert isinstance(val, sources.Source)
    assert (len(val), val.num_classes) == (2, 3)  # val has two of train's three
    assert val[-1]["id"] == "val-000000.tar:val0_1"
    with pytest.raises(IndexError):
        val[2]
    assert len(sources.open_source(name, "train[:50%]")) == 3


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/0.tar", "val/0.tar"),
        ("train/anything-val.tar", "validation/x.TAR"),
        ("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"),
        ("imagenet_train_0.tar", "val0000.tar"),
        ("Train.tar", "test/a.tar"),
    ],
)
def test_splits_are_folders_or_words_in_the_names_of_shards(shards, train, val):
    name, _ = shards({train: sample("a", 0), val: sample("b", 0)})
    assert [image for image, _, _ in examples(name)] == [b"a"]
    held_out = sources.eval_split(name)
    assert [image for image, _, _ in examples(name, held_out)] == [b"b"]
    assert sources.is_prepared(name)
    if "val" in held_out:
        for alias in ("val", "validation"):
            assert len(sources.open_source(name, alias)) == 1


@pytest.mark.parametrize("file_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_links_folders_and_other_files_are_no_trouble(shards, file_format):
    long = "n01440764/" + "long" * 40 + "/" + "ä" * 60
    name, root = shards(
        {
            "train-0.tar": [
                ("README", b""),
                ("._a.jpg", b"hidden"),
                ("./dir.d/a.jpg", b"A"),
                (f"{long}.JPEG", b"long"),
                ("./dir.d/a.txt", b"caption"),
                ("./dir.d/a.cls", b" 1\n"),
                ("b.seg.png", b"not the image"),
                (f"{long}.cls", b"2"),
                ("b.webp", b""),
                ("b.cls", b"0"),
                ("c.tif", b"neither"),
            ]
        },
        format=file_format,
    )
    with tarfile.open(root / "train-0.tar", "a") as archive:
        for kind, member in ((tarfile.DIRTYPE, "x.jpg"), (tarfile.SYMTYPE, "y.jpg")):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = kind, "README"
            archive.addfile(info)
    assert examples(name) == [
        (b"A", 1, "train-0.tar:./dir.d/a"),
        (b"long", 2, f"train-0.tar:{long}"),
        (b"", 0, "train-0.tar:b"),
    ]


def test_labels_come_from_json_where_there_is_no_cls(shards):
    fields = [
        {"label": 3},
        {"cls": 0},
        {"class_id": 2, "label": "tench"},
        {"label": 1, "class_id": "n01440764"},
    ]
    members = [
        member
        for i, field in enumerate(fields)
        for member in ((f"{i}.jpg", b"x"), (f"{i}.json", json.dumps(field).encode()))
    ]
    members += [("4.json", b'{"label": 9}'), ("4.jpg", b"x"), ("4.cls", b"4")]
    name, _ = shards({"train.tar": members})
    assert [label for _, label, _ in examples(name)] == [3, 0, 2, 1, 4]
    assert sources.open_source(name, "train").num_classes == 5


def test_images_are_the_bytes_that_tarfile_reads(shards):
    rng = np.random.default_rng(0)
    members = []
    for i in range(20):
        buffer = io.BytesIO()
        image = Image.fromarray(rng.integers(0, 256, (9 + i, 12, 3), np.uint8))
        image.save(buffer, "JPEG")
        members += sample(f"x{i}", i % 4, buffer.getvalue())
    name, root = shards({"train-0.tar": members[:20], "train-1.tar": members[20:]})
    found = {key.rsplit(":", 1)[1]: image for image, _, key in examples(name)}
    expected = {}
    for path in root.glob("*.tar"):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".jpg"):
                    file = archive.extractfile(member)
                    assert file is not None
                    expected[member.name.removesuffix(".jpg")] = file.read()
    assert found == expected and len(found) == 20
    assert Image.open(io.BytesIO(found["x3"])).size == (12, 12)


def bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().removeprefix("rchar:"))


def test_indexing_reads_headers_and_labels_not_images(shards):
    name, root = shards(
        {
            "train.tar": [
                m for i in range(8) for m in sample(f"k{i}", i, bytes(2_000_000))
            ]
        }
    )
    before = bytes_read()
    sources.open_source(name, "train")
    # A header costs one buffer of io.DEFAULT_BUFFER_SIZE or a block of the disk.
    assert bytes_read() - before < 500_000 < (root / "train.tar").stat().st_size / 30


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_eight_threads_read_what_one_does_with_few_files_open(shards):
    name, root = shards(split("train", 30, 10))
    expected = examples(name)
    source = TarSource(str(root), "train", name)
    source._files = FilePool(limit=4)
    before = open_files()
    order = np.random.default_rng(0).permutation(np.tile(np.arange(300), 20)).tolist()
    most, done = [], threading.Event()

    def watch():
        while not done.is_set():
            most.append(open_files())

    with ThreadPoolExecutor(9) as pool:
        watching = pool.submit(watch)
        found = list(pool.map(source.__getitem__, order))
        done.set()
        watching.result()
    assert all(
        tuple(e.values()) == expected[i] for e, i in zip(found, order, strict=True)
    )
    # Four kept, one in use or just opened by each thread; one more lists them.
    assert max(most) <= before + 4 + 2 * 8 + 1
    assert open_files() <= before + 4
    source.close()
    assert open_files() == before
    assert source[0]["image"] == expected[0][0]  # opened again


def test_a_source_that_is_dropped_closes_its_files(shards):
    name, _ = shards(split("train", 30, 2))
    before = open_files()
    for _ in range(3):
        source = sources.open_source(name, "train")
        images = [source[i]["image"] for i in range(len(source))]
        assert len(images) == 60 and open_files() == before + 30
        del source
        assert open_files() == before


def test_files_that_are_open_when_python_ends_say_nothing(shards, run_python):
    name, _ = shards(split("train", 3, 1))
    code = (
        "from rtj.data import sources\n"
        f"source = sources.open_source({name!r}, 'train')\n"
        "print([source[i]['label'] for i in range(3)])"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("[0, 1, 2]\n", "")


def test_a_file_that_leaves_the_pool_is_closed_after_its_reads(tmp_path):
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 10)
    pool = FilePool(limit=1)
    in_use = pool._descriptor(str(tmp_path / "0"))
    assert pool.read(str(tmp_path / "1"), 2, 3) == b"\1\1\1"
    assert os.pread(in_use.number, 4, 0) == b"\0\0\0\0"
    number = in_use.number
    del in_use
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    with pytest.raises(FileNotFoundError):
        pool.read(str(tmp_path / "none"), 0, 1)


def test_a_shard_that_shrinks_or_goes_is_named_when_it_is_read(shards):
    name, root = shards(split("train", 2, 2))
    source = sources.open_source(name, "train")
    cut(root / "train-000000.tar", SAMPLE)
    (root / "train-000001.tar").unlink()
    assert source[0]["image"] == b"train0_0"
    with pytest.raises(DataError, match=r"train-000000\.tar ends before train-000000"):
        source[1]
    with pytest.raises(DataError, match=r"train-000001\.tar cannot be read: No such"):
        source[2]
