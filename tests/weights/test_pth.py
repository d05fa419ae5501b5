"""Files of torch.save: real ones, made ones, damaged ones, hostile ones."""

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rtj.errors import CheckpointError
from rtj.weights import read_weights
from rtj.weights.pickle_reader import PickleError, read_pickle
from tests.weights import torch_files as tf

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.arange(2, dtype=np.float32),
}


def eighths(count: int, dtype: type = np.float32) -> np.ndarray:
    return (np.arange(count) / 8).astype(dtype)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_that_torch_itself_saved_are_read(repo_root: Path, form: str):
    path = repo_root / "tests" / "fixtures" / "weights" / f"torch_{form}.pth"
    found = read_weights(path).tensors
    thirds = np.arange(3, dtype=np.float32)
    expected: dict[str, Any] = {
        "0.weight": eighths(12).reshape(3, 2, 1, 2),
        "1.weight": thirds + 1,
        "1.bias": -thirds,
        "1.running_mean": thirds / 4,
        "1.running_var": thirds / 4 + 1,
        "1.num_batches_tracked": np.int64(0),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "tail": np.array([4, 5], np.float32),
        "half": eighths(4, np.float16),
        "bfloat16": eighths(4, ml_dtypes.bfloat16),
        "double": eighths(4, np.float64),
        "parameter": np.ones(2, np.float32),
        "scalar": np.float32(2.5),
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, name)


def wrap(*outer: str) -> bytes:
    body = tf.state_dict_pickle(ARRAYS)
    for key in reversed(outer):
        body = tf.dictionary([(tf.text("epoch"), tf.number(3)), (tf.text(key), body)])
    return body


@pytest.mark.parametrize(
    "keys",
    [(), ("state_dict",), ("model",), ("model_state_dict",), ("model", "state_dict")],
)
def test_the_state_dict_is_found_in_what_people_wrap_it_in(tmp_path: Path, keys):
    path = tf.write_zip(tmp_path / "w.pth", wrap(*keys), tf.storages_of(ARRAYS))
    found = read_weights(path).tensors
    assert list(found) == list(ARRAYS)
    np.testing.assert_array_equal(found["a.weight"], ARRAYS["a.weight"])


def test_averaged_weights_come_before_the_others_and_the_choice_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    average = {"a": np.array([1, 2], np.float32)}
    body = tf.dictionary(
        [
            (tf.text("state_dict"), tf.dictionary([])),
            (tf.text("state_dict_ema"), tf.state_dict_pickle(average)),
        ]
    )
    path = tf.write_zip(tmp_path / "w.pth", body, tf.storages_of(average))
    np.testing.assert_array_equal(read_weights(path).tensors["a"], average["a"])
    assert "state_dict_ema is loaded" in caplog.text


def test_every_dtype_of_weights_keeps_its_bits(tmp_path: Path):
    values = np.array([0.1, -2.5, 3e-5])
    dtypes = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)
    arrays: dict[str, np.ndarray] = {np.dtype(t).name: values.astype(t) for t in dtypes}
    found = read_weights(tf.save(tmp_path / "w.pth", arrays)).tensors
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_files_of_big_endian_machines_are_read(tmp_path: Path):
    array = ARRAYS["a.weight"]
    path = tf.write_zip(
        tmp_path / "w.pth",
        tf.state_dict_pickle({"a": array}),
        {"0": array.astype(">f4").tobytes()},
        byteorder="big",
    )
    np.testing.assert_array_equal(read_weights(path).tensors["a"], array)


class Payload:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_hostile_pickle_is_refused_by_name_and_not_run(
    tmp_path: Path, protocol: int, form: str
):
    marker = tmp_path / "ran"
    hostile = pickle.dumps({"state_dict": Payload(marker)}, protocol)
    path = tmp_path / "w.pth"
    if form == "zip":
        tf.write_zip(path, hostile[2:-1], {})
    else:
        path.write_bytes(hostile)
    with pytest.raises(CheckpointError, match=r"wants to call \w+\.system"):
        read_weights(path)
    assert not marker.exists()
    pickle.loads(hostile)  # the payload is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cbuiltins\neval\n(X\x01\x00\x00\x001tR",
        b"c__builtin__\ngetattr\n",
        b"ctorch\nload\n",
        b"ctorch.storage\n_load_from_bytes\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"(ios\nsystem\n",
        b"cposix\nsystem\n(X\x01\x00\x00\x001o",
        b"ccollections\nOrderedDict\n)\x81",
        b"P0\n",
        b"\x82\x01",
        b"\x97",
    ],
)
def test_names_and_instructions_beyond_those_of_torch_save_are_refused(body: bytes):
    with pytest.raises(PickleError, match=r"refused|not allowed"):
        read_pickle(io.BytesIO(b"\x80\x02" + body + b"."))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"R",
        b"t",
        b"h\x05",
        b"}(X\x01\x00\x00\x00au",
        b"]}b",
        b"}]}s",
        b"X\xff\xff\xff\xffab",
        b"\x8d" + b"\xff" * 8 + b"ab",
        b"r\xff\xff\xff\xff",
        b"K\x01Q",
        b"ctorch\nFloatStorage\n)R",
        b"N" * 3,
    ],
)
def test_a_damaged_pickle_is_an_error_and_takes_no_memory(body: bytes):
    with pytest.raises(PickleError):
        read_pickle(io.BytesIO(b"\x80\x02" + body + b"."))


def test_a_dictionary_that_holds_a_name_twice_is_refused(tmp_path: Path):
    one = tf.array_pickle("0", np.ones(2, np.float32))
    body = tf.dictionary([(tf.text("a"), one), (tf.text("a"), one)])
    path = tf.write_zip(tmp_path / "w.pth", body, {"0": bytes(8)})
    with pytest.raises(CheckpointError, match="the name 'a' twice"):
        read_weights(path)


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "size", "message"),
    [
        ((3,), (1,), 0, 2, "reaches beyond its storage"),
        ((2,), (1,), 1, 2, "reaches beyond its storage"),
        ((2, 2), (2, 1), 0, 3, "reaches beyond its storage"),
        ((2,), (-1,), 0, 2, "strides"),
        ((2, 2), (1,), 0, 4, "of two ranks"),
        ((30000, 30000), (0, 0), 0, 1, "unpacks to 3,600,000,000 bytes"),
        ((2,), (1,), 0, 4, "should hold 4 elements"),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(
    tmp_path: Path, shape, strides, offset, size, message
):
    body = tf.tensor("0", "float32", size, shape, strides, offset)
    data = bytes(4 * size) if "should" not in message else bytes(8)
    path = tf.write_zip(
        tmp_path / "w.pth", tf.dictionary([(tf.text("a"), body)]), {"0": data}
    )
    with pytest.raises(CheckpointError, match=message):
        read_weights(path, max_bytes=2**30)


def test_a_missing_storage_is_named(tmp_path: Path):
    path = tf.write_zip(
        tmp_path / "w.pth", tf.state_dict_pickle(ARRAYS), {"0": bytes(24)}
    )
    with pytest.raises(CheckpointError, match="'archive/data/1' is missing"):
        read_weights(path)


def test_compressed_entries_are_refused_so_no_file_unpacks_beyond_its_size(
    tmp_path: Path,
):
    bomb = {"a": np.zeros(2**22, np.float32)}
    path = tf.save(tmp_path / "w.pth", bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    with pytest.raises(CheckpointError, match="are compressed"):
        read_weights(path)


def test_a_zip_whose_sizes_lie_is_refused(tmp_path: Path):
    path = tf.save(tmp_path / "w.pth", ARRAYS)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02", data.index(b"archive/data/0"))
    # Uncompressed size in the table of contents: 24 bytes become 2 GB.
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    data[at + 24 : at + 28] = struct.pack("<I", 2**31 - 1)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="declared as 2147483647 bytes"):
        read_weights(path)
    with pytest.raises(CheckpointError, match="at most 1,000 are allowed"):
        read_weights(path, max_bytes=1000)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_one_error(
    tmp_path: Path, repo_root: Path, form: str, part: float
):
    whole = repo_root / "tests" / "fixtures" / "weights" / f"torch_{form}.pth"
    data = whole.read_bytes()
    path = tmp_path / "w.pth"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_any_flipped_byte_gives_tensors_or_one_error(
    tmp_path: Path, repo_root: Path, form: str
):
    whole = repo_root / "tests" / "fixtures" / "weights" / f"torch_{form}.pth"
    data = whole.read_bytes()
    path = tmp_path / "w.pth"
    errors = 0
    for at in range(0, len(data), max(1, len(data) // 400)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            read_weights(path)
        except CheckpointError:
            errors += 1
    assert errors > 50


@pytest.mark.parametrize(
    ("extra", "body", "message"),
    [
        ({"constants.pkl": b"x"}, None, "TorchScript"),
        ({}, tf.number(3), "holds a int, not a state dict"),
        ({}, tf.dictionary([(tf.text("epoch"), tf.number(3))]), "epoch are no tensors"),
        ({}, b"}q\x00X\x05\x00\x00\x00modelh\x00s", "are no tensors"),
    ],
)
def test_what_is_no_state_dict_is_said(tmp_path: Path, extra, body, message):
    body = tf.state_dict_pickle(ARRAYS) if body is None else body
    path = tf.write_zip(tmp_path / "w.pth", body, tf.storages_of(ARRAYS), extra=extra)
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)
