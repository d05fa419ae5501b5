"""TFRecord files without TensorFlow: read, checked and turned into ArrayRecord."""

import json
import shlex
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rtj.data import sources
from rtj.data.prepare import __main__ as prepare
from rtj.data.prepare import tfrecord
from rtj.data.prepare.crc32c import crc32c, masked
from rtj.errors import DataError

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "tfrecord"
VERSION = Path("tiny_shapes", "1.2.0")


def slow_crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_mask(crc):
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def framed(data):
    length = struct.pack("<Q", len(data))
    checks = [
        struct.pack("<I", slow_mask(slow_crc32c(part))) for part in (length, data)
    ]
    return length + checks[0] + data + checks[1]


def unframed(path):
    """The records of a sound file."""
    content, records = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        records.append(content[12 : 12 + length])
        content = content[16 + length :]
    return records


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def data_dir(tmp_path):
    """A TFDS data dir with the data set that TensorFlow wrote."""
    return shutil.copytree(FIXTURE, tmp_path / "tfds")


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_is_that_of_the_rfc(data, crc):
    assert crc32c(data) == slow_crc32c(data) == crc


def test_the_checksum_is_right_at_any_length():
    data = np.random.default_rng(0).bytes(5000)
    for size in [*range(70), 1023, 1024, 1025, 5000]:
        assert crc32c(data[:size]) == slow_crc32c(data[:size])


def test_the_mask_undone_is_the_checksum():
    for crc in (0, 1, 0x12345678, 0xFFFFFFFF):
        turned = (masked(crc) - 0xA282EAD8) % 2**32
        assert (turned >> 17 | turned << 15) % 2**32 == crc


def test_records_come_back_in_order(tmp_path):
    records = [b"first", b"", bytes(range(256)) * 5, b"last"]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(map(framed, records)))
    assert list(tfrecord.read_records(path)) == records
    path.write_bytes(b"")
    assert list(tfrecord.read_records(path)) == []


def test_a_file_of_tensorflow_reads():
    for path in sorted((FIXTURE / VERSION).glob("*tfrecord*")):
        assert list(tfrecord.read_records(path)) == unframed(path)


def test_a_file_that_is_cut_off_names_the_record(tmp_path):
    path = tmp_path / "a.tfrecord"
    first, second = framed(b"abc"), framed(b"defgh")
    whole = first + second
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        if size == len(first):
            assert list(tfrecord.read_records(path)) == [b"abc"]
            continue
        offset = 0 if size < len(first) else len(first)
        with pytest.raises(DataError, match=f"a.tfrecord: .* byte {offset} is cut off"):
            list(tfrecord.read_records(path))


def test_every_damaged_byte_is_found(tmp_path):
    path = tmp_path / "a.tfrecord"
    first, second = framed(b"abc"), framed(b"defgh")
    for position in range(len(first), len(first + second)):
        content = bytearray(first + second)
        content[position] ^= 0x10
        path.write_bytes(content)
        records = tfrecord.read_records(path)
        assert next(records) == b"abc"
        with pytest.raises(DataError, match=f"byte {len(first)} has a wrong checksum"):
            next(records)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.tfrecord cannot be read"):
        list(tfrecord.read_records(tmp_path / "none.tfrecord"))


def check_tiny_shapes(name, data_dir):
    """All examples of the fixture, each with its known pixels."""
    seen = set()
    for split, count in {"train": 9, "test": 3}.items():
        source = sources.open_source(f"tfds:{name}", split, data_dir=str(data_dir))
        assert (len(source), source.num_classes) == (count, 2)
        for example in (source[i] for i in range(count)):
            number = int(example["id"].removeprefix("square"))
            pixels = tfds.features.Image().decode_example_np(example["image"])
            colour = (20 * number, 10, 255 - 20 * number)
            np.testing.assert_array_equal(pixels, np.full((3, 4 + number, 3), colour))
            assert example["label"] == int(number >= 6)
            seen.add((split, number))
    assert seen == {("train" if n < 9 else "test", n) for n in range(12)}


def test_the_error_of_a_tfrecord_copy_is_a_command_that_helps(data_dir, capsys):
    with pytest.raises(DataError, match="no ArrayRecord files") as caught:
        sources.open_source("tfds:tiny_shapes", "train", data_dir=str(data_dir))
    words = shlex.split(str(caught.value))
    start = words.index("rtj.data.prepare")
    assert words[start - 2 : start] == ["python", "-m"]
    before = contents(data_dir)
    assert prepare.run([*words[start + 1 :], "--json"]) == 0
    check_tiny_shapes("tiny_shapes", data_dir)
    info = data_dir / VERSION / "dataset_info.json"
    assert contents(data_dir).items() >= before.items() - {(info, before[info])}
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["data_set"] == "tfds:tiny_shapes"
    assert (report["splits"], report["shards"]) == ({"train": 9, "test": 3}, 6)


def test_records_keep_their_bytes_and_their_shards(data_dir):
    folder = data_dir / VERSION
    assert prepare.run(["convert", "tfds:tiny_shapes", f"--data_dir={data_dir}"]) == 0
    builder = tfds.builder_from_directory(folder)
    raw = builder.as_data_source(
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    for split in ("train", "test"):
        paths = sorted(folder.glob(f"tiny_shapes-{split}.tfrecord*"))
        written = [unframed(path) for path in paths]
        assert list(raw[split]) == [record for shard in written for record in shard]
        assert builder.info.splits[split].shard_lengths == list(map(len, written))
    info = json.loads((folder / "dataset_info.json").read_text())
    was = json.loads((FIXTURE / VERSION / "dataset_info.json").read_text())
    assert info == was | {"alternativeFileFormats": ["array_record"]}


def test_a_copy_under_another_name_leaves_the_first_alone(data_dir, tmp_path):
    before = contents(data_dir)
    source = f"tfrecord:{data_dir / VERSION}"
    other = tmp_path / "other"
    arguments = ["convert", source, "--name=squares", f"--data_dir={other}"]
    assert prepare.run(arguments) == 0
    check_tiny_shapes("squares", other)
    assert contents(data_dir) == before
    folder = other / "squares" / "1.2.0"
    assert not list(folder.glob("*tfrecord*"))
    assert tfds.builder_from_directory(folder).info.features["label"].names == [
        "dark",
        "light",
    ]
    assert prepare.run(arguments) == 2  # there now


def test_a_damaged_shard_stops_it_and_the_same_command_goes_on(data_dir, capsys):
    folder = data_dir / VERSION
    damaged = folder / "tiny_shapes-test.tfrecord-00001-of-00003"
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:-20] + b"x" + sound[-19:])
    arguments = ["convert", f"tfrecord:{folder}", "--workers=1"]
    assert prepare.run(arguments) == 5
    assert f"{damaged}: the record at byte 0 has a wrong checksum" in (
        capsys.readouterr().err
    )
    finished = {path: path.stat() for path in folder.glob("*-train.array_record*")}
    assert len(finished) == 3
    with pytest.raises(DataError, match="no ArrayRecord files"):
        sources.open_source("tfds:tiny_shapes", "train", data_dir=str(data_dir))
    assert prepare.run(["show", f"--data_dir={data_dir}", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["prepared"][0]["formats"] == ["tfrecord"]
    assert "4 of 6 shards done" in shown["leftovers"][0]["what"]

    damaged.write_bytes(sound)
    assert prepare.run(arguments) == 0
    check_tiny_shapes("tiny_shapes", data_dir)
    for path, stat in finished.items():
        assert path.stat().st_mtime_ns == stat.st_mtime_ns


def test_a_shard_with_too_few_records_is_an_error(data_dir, capsys):
    path = data_dir / VERSION / "tiny_shapes-train.tfrecord-00000-of-00003"
    path.write_bytes(b"".join(map(framed, unframed(path)[:2])))
    assert prepare.run(["convert", f"tfrecord:{path.parent}"]) == 5
    assert "would hold 2 examples instead of 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tfrecord:{}/nowhere"], 5, "is not a prepared TFDS data set"),
        (["tfds:tiny_shapes", "--short_side=64"], 2, "records are copied as they are"),
        (["tfds:tiny_shapes", "--name=Tiny"], 2, "--name=Tiny is not allowed"),
        (["tfds:tiny_shapes", "--name=imagenet2012"], 5, "it must be 5.1.0"),
        (["tfds:tiny_shapes", "--name=tiny_shapes"], 2, "is already there"),
        (["tfds:tiny_shape"], 2, "--name is missing"),
    ],
)
def test_bad_requests_are_refused(data_dir, capsys, arguments, code, message):
    words = [word.format(data_dir) for word in arguments]
    assert prepare.run(["convert", *words, f"--data_dir={data_dir}"]) == code
    assert message in capsys.readouterr().err
    assert not list(data_dir.rglob("*array_record*"))


def test_a_missing_shard_is_named(data_dir, capsys):
    path = data_dir / VERSION / "tiny_shapes-train.tfrecord-00002-of-00003"
    path.unlink()
    assert prepare.run(["convert", f"tfrecord:{path.parent}"]) == 5
    assert f"{path} is missing" in capsys.readouterr().err


def test_names_without_a_format_need_a_folder_of_their_own(data_dir, capsys):
    folder = data_dir / VERSION
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["filepathTemplate"] = "{SPLIT}-{SHARD_X_OF_Y}"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for path in folder.glob("*tfrecord*"):
        name = path.name.replace("tiny_shapes-", "").replace(".tfrecord", "")
        path.rename(folder / name)
    before = contents(folder)
    assert prepare.run(["convert", f"tfrecord:{folder}"]) == 5
    assert "with --name=NAME" in capsys.readouterr().err
    assert contents(folder) == before
    arguments = [f"tfrecord:{folder}", "--name=squares", f"--data_dir={data_dir}"]
    assert prepare.run(["convert", *arguments]) == 0
    check_tiny_shapes("squares", data_dir)
