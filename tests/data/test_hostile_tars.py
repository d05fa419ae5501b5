"""Tar files made to hurt: links, paths, lying sizes, endless headers, mutations."""

import io
import json
import os
import random
import tarfile

import numpy as np
import pytest

from rtj.data import image_limits, sources, tar_source
from rtj.data.prepare import tfds_info
from rtj.data.tar_shard import read_shard
from rtj.errors import DataError
from tests.data.hostile_images import MUTATIONS
from tests.data.tars import BLOCK, sample, write_tar


def header(name, size=0, kind=tarfile.REGTYPE, form=tarfile.GNU_FORMAT, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size if 0 <= size < 2**40 else 0
    for field, value in fields.items():
        setattr(info, field, value)
    block = bytearray(info.tobuf(form, "utf-8", "surrogateescape"))
    if size != info.size:
        block[124:136] = (size % 256**12).to_bytes(12, "big")
        block[124] |= 0x80
        block = checked(block)
    return bytes(block)


def checked(block):
    """A header with its checksum made right."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:BLOCK])
    return block


def whole(*members):
    return b"".join(members) + bytes(2 * BLOCK)


def padded(data):
    return data + bytes(-len(data) % BLOCK)


GOOD = b"".join(
    header(name, len(data)) + padded(data) for name, data in sample("good", 0)
)


@pytest.fixture
def shard(tmp_path):
    def make(data):
        path = tmp_path / "train.tar"
        path.write_bytes(data)
        return path

    return make


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
        *(tarfile.FIFOTYPE, tarfile.DIRTYPE),
    ],
)
def test_a_link_or_device_is_no_image_and_is_never_followed(shard, tmp_path, kind):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    link = header("a.jpg", kind=kind, linkname=str(tmp_path / "secret.jpg"))
    label = header("a.cls", 1) + padded(b"0")
    with pytest.raises(DataError, match=r"sample 'a' of .* has no image"):
        read_shard(shard(whole(GOOD, link, label)), "x")


@pytest.mark.parametrize(
    "name", ["../../a", "/etc/a", "..//a", "b/../../a", "\udcff/a"]
)
def test_a_members_path_is_a_key_and_nothing_is_written(
    shard, tmp_path, name, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    members = [header(f"{name}.{end}", 1) + padded(b"0") for end in ("jpg", "cls")]
    path = shard(whole(*members))
    source = sources.open_source(f"tar:{tmp_path}", "train")
    example = source[0]
    assert example["id"] == f"train.tar:{name}" and example["image"] == b"0"
    left = sorted(p.name for p in tmp_path.rglob("*"))
    assert left == ["rtj_index_train.npz", path.name]


@pytest.mark.parametrize("size", [-512, -1024, -1, -(2**62)])
def test_a_negative_size_does_not_go_round_in_circles(shard, size):
    with pytest.raises(DataError, match="cannot be read"):
        read_shard(shard(whole(GOOD, header("a.jpg", size))), "x")


@pytest.mark.parametrize("size", [2**62, 2**63, 2**90, 10**7])
def test_a_size_beyond_the_file_is_refused_and_takes_no_memory(shard, size):
    with pytest.raises(DataError, match="cannot be read"):
        read_shard(shard(whole(GOOD, header("a.jpg", size))), "x")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
def test_the_header_of_a_long_name_takes_no_more_than_a_name(shard, kind):
    path = shard(whole(GOOD, header("a", 2**33, kind), header("a.jpg")))
    os.truncate(path, 2**34)  # sparse: the bytes are there, all of them zeros
    with pytest.raises(DataError, match=r"claims 8589934592 bytes for a name"):
        read_shard(path, "x")


def test_headers_of_headers_without_end_are_one_error(shard):
    link = header("a", 1, b"L") + padded(b"a")
    with pytest.raises(DataError, match=r"cannot be read.*recursion"):
        read_shard(shard(whole(link * 3000, header("a.jpg"))), "x")


def test_a_sparse_member_is_refused(shard):
    sparse = header("a.jpg", 0, tarfile.GNUTYPE_SPARSE)
    with pytest.raises(DataError, match=r"cannot be read.*sparse"):
        read_shard(shard(whole(GOOD, sparse)), "x")


def test_a_label_is_not_a_gigabyte(shard):
    path = shard(whole(header("a.jpg"), header("a.cls", 2**32)))
    os.truncate(path, 2**32 + 8 * BLOCK)
    with pytest.raises(DataError, match=r"\.cls of .* has 4,294,967,296 bytes"):
        read_shard(path, "x")


def test_a_json_nested_without_end_is_no_label(shard):
    text = b"[" * 200_000
    path = shard(whole(header("a.jpg"), header("a.json", len(text)) + padded(text)))
    with pytest.raises(DataError, match=r"in \.json, is not allowed"):
        read_shard(path, "x")


def test_an_image_is_read_to_the_limit_and_then_counted(shard, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (image_limits, tar_source):
        monkeypatch.setattr(module, "MAX_BYTES", 10)
    write_tar(tmp_path / "train.tar", sample("a", 0, bytes(100)))
    source = sources.open_source(f"tar:{tmp_path}", "train")
    assert source[0]["image"] == bytes(11)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", 7),
        ("shard", -1),
        ("offset", -1),
        ("offset", 2**62),
        ("size", 2**62),
        ("size", -1),
        ("label", -1),
        ("key_ends", 2**40),
        ("key_ends", -1),
    ],
)
def test_an_index_that_points_elsewhere_is_made_anew(shards, column, value):
    name, root = shards({"train.tar": sample("a", 0) + sample("b", 1)})
    wanted = [dict(sources.open_source(name, "train")[i]) for i in range(2)]
    path = root / "rtj_index_train.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays[column][1] = value
    np.savez(path, **arrays)
    source = sources.open_source(name, "train")
    assert [dict(source[i]) for i in range(2)] == wanted
    with np.load(path) as file:
        assert file[column][1] != value


@pytest.mark.parametrize("kind", ["pickle", "huge", "text"])
def test_an_index_with_something_else_in_it_is_made_anew(shards, kind, tmp_path):
    name, root = shards({"train.tar": sample("a", 0)})
    sources.open_source(name, "train")
    path = root / "rtj_index_train.npz"
    with np.load(path) as file:
        arrays = dict(file)
    if kind == "huge":
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "<i8", "fortran_order": False, "shape": (2**58,)}
        )
        arrays["size"] = np.frombuffer(buffer.getvalue(), np.uint8)
    else:
        arrays["size"] = np.array([print if kind == "pickle" else "x"], object)
    np.savez(path, **arrays)
    assert len(sources.open_source(name, "train")) == 1


def test_every_mutated_tar_gives_its_samples_or_one_error(tmp_path):
    seeds = [
        write_tar(
            tmp_path / "seed.tar", sample("a" * 90, 0) + sample("b", 1), format=form
        ).read_bytes()
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)
    ]
    read = 0
    for number in range(150):
        rng = random.Random(number)
        data = bytearray(rng.choice(MUTATIONS[:5])(bytearray(seeds[number % 3]), rng))
        for at in range(0, len(data) - BLOCK + 1, BLOCK):
            if data[at + 257 : at + 262] == b"ustar" and number % 2:
                data[at : at + BLOCK] = checked(data[at : at + BLOCK])
        path = tmp_path / "train.tar"
        path.write_bytes(data)
        try:
            read_shard(path, "x")
            read += 1
        except DataError:
            pass
    assert 20 < read < 130


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "../../elsewhere"},
        {"version": 1},
        {"name": "../x"},
        {"name": None},
        {"name": ["x"]},
    ],
)
def test_the_name_and_version_of_a_data_set_are_no_paths(tmp_path, changes):
    info = {"name": "pets", "version": "1.0.0", "splits": []}
    (tmp_path / tfds_info.FILE).write_text(json.dumps(info))
    assert tfds_info.read_info(tmp_path) == info
    (tmp_path / tfds_info.FILE).write_text(json.dumps(info | changes))
    with pytest.raises(DataError, match="is not a prepared TFDS data set"):
        tfds_info.read_info(tmp_path)
