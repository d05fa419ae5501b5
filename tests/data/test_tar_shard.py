"""What is said of shards, samples and labels that are not as they should be."""

import gzip
import tarfile

import pytest

from rtj.data import sources
from rtj.data.tar_shard import read_shard
from rtj.errors import DataError
from tests.data.tars import BLOCK, SAMPLE, cut, examples, overwrite, sample, split


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: cut(p, 0), "empty file"),
        (lambda p: cut(p, SAMPLE + 100), "truncated header"),
        (lambda p: cut(p, SAMPLE + BLOCK + 1), "it is cut off"),
        (lambda p: cut(p, 2 * SAMPLE - BLOCK), "it is cut off"),
        (lambda p: cut(p, 2 * SAMPLE), "it is cut off"),
        (lambda p: cut(p, 2 * SAMPLE + 100), "it is cut off"),
        (lambda p: overwrite(p, SAMPLE + 200, b"\xff"), "bad checksum"),
        (lambda p: overwrite(p, 0, b"not a tar" * 50), "invalid header|bad checksum"),
        (lambda p: overwrite(p, 2 * SAMPLE + 2 * BLOCK, b"x"), "data after its end"),
        (lambda p: p.unlink() or p.symlink_to("gone"), "No such file"),
    ],
)
def test_a_damaged_shard_is_named_and_never_read_in_part(shards, damage, message):
    name, root = shards(split("train", 2, 2))
    damage(root / "train-000001.tar")
    with pytest.raises(DataError, match=f"train-000001.tar cannot be read.*{message}"):
        sources.open_source(name, "train")
    assert not list(root.glob("*.npz"))


def test_no_single_wrong_byte_in_a_header_loses_a_sample(shards):
    members = sample("a" * 120, 0) + sample("b", 1)
    refused = 0
    for file_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        _, root = shards({"train.tar": members}, format=file_format)
        whole = (root / "train.tar").read_bytes()
        for offset in range(0, 9 * BLOCK, 7):
            damaged = bytearray(whole)
            damaged[offset] ^= 0x11
            (root / "train.tar").write_bytes(damaged)
            try:
                found = read_shard(root / "train.tar", "x")
            except DataError:
                refused += 1
                continue
            # In data or in the unused rest of a block: other bytes, not fewer.
            assert len(found) == 2
    assert refused > 300  # a header has 500 bytes under its checksum


SMALL = sample("a", 0)


@pytest.mark.parametrize(
    ("files", "asked", "message"),
    [
        ({"train.tar": SMALL}, "val", r"no split 'val' under .*nearest first: train; "),
        (
            {"0.tar": SMALL},
            "train",
            r"no split 'train' under .*; none is; .*its shards",
        ),
        ({"val/0.tar": SMALL}, "train", r"no split 'train' .*nearest first: val; "),
        ({"val/0.tar": SMALL}, "val", r"no split 'train' .*nearest first: val; "),
        ({"train-val-0.tar": SMALL}, "val", "names 2 splits, train and val; rename it"),
        (
            {"train-0.tar": SMALL, "train/0.tar": SMALL},
            "train",
            "shards of train are in .*/train and beside it, such as train-0.tar; put",
        ),
        ({"train.tar": []}, "train", "the shards of train hold no samples"),
        (
            {"train.tar": [*SMALL, ("b.cls", b"0")]},
            "train",
            r"sample 'b' of .*/train\.tar has no image, a file that ends in \.jpg",
        ),
        (
            {"train.tar": [*SMALL, ("d/b.jpg", b"")]},
            "train",
            r"sample 'd/b' of .*/train\.tar has no label, a file .* \.cls, \.json",
        ),
        (
            {"train.tar": [*SMALL, *sample("b", 0), *SMALL]},
            "train",
            r"two files for the cls of the key 'a', the second 'a\.cls'; pack",
        ),
        (
            {"train.tar": [*SMALL, ("a.png", b"")]},
            "train",
            r"two files for the image of the key 'a', the second 'a\.png'; pack",
        ),
        (
            {"train.tar": sample("a", 0) + sample("b", 1), "val.tar": sample("c", 2)},
            "val",
            r"val\.tar:c has label 2, but train's labels are 0 to 1; ",
        ),
    ],
)
def test_what_is_wrong_is_one_line(shards, files, asked, message):
    name, _ = shards(files)
    with pytest.raises(DataError, match=message) as caught:
        sources.open_source(name, asked)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 5


@pytest.mark.parametrize(
    "text", [b"-1", b"1.5", b"cat", b"", b"1 2", b"1_0", b"3000000000", b"\xff"]
)
def test_a_label_that_is_no_integer_from_0_on_is_shown(shards, text):
    name, _ = shards({"train.tar": [("a.jpg", b""), ("a.cls", text)]})
    shown = text.decode(errors="replace")
    with pytest.raises(DataError, match=f"sample 'a' of .*, '{shown}' in .cls, is not"):
        sources.open_source(name, "train")


@pytest.mark.parametrize(
    "text",
    [b'{"label": -1}', b'{"label": true}', b'{"label": 1.0}', b"[1]", b"{}", b"{"],
)
def test_a_json_without_an_integer_label_is_shown(shards, text):
    name, _ = shards({"train.tar": [("a.jpg", b""), ("a.json", text)]})
    with pytest.raises(
        DataError, match=r"in \.json, is not .* as label, cls, class_id"
    ):
        sources.open_source(name, "train")


@pytest.mark.parametrize("compressed_name", ["train-1.tar.gz", "train-1.tar"])
def test_a_compressed_shard_gets_the_advice_to_unpack_it(shards, compressed_name):
    name, root = shards({"train-0.tar": SMALL})
    packed = gzip.compress((root / "train-0.tar").read_bytes())
    (root / compressed_name).write_bytes(packed)
    with pytest.raises(
        DataError, match=f"{compressed_name} is compressed, .*unpack it"
    ):
        sources.open_source(name, "train")


def test_a_shard_that_was_unpacked_beside_its_archive_is_read_once(shards):
    name, root = shards({"train-0.tar": SMALL})
    (root / "train-0.tar.gz").write_bytes(b"")
    assert len(examples(name)) == 1
