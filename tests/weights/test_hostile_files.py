"""Weight files made to hurt: nested pickles, lying sizes, metadata, mutations."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtj.errors import CheckpointError, RtjError
from rtj.serving import open_network
from rtj.weights import read_weights
from rtj.weights.metadata import parse
from rtj.weights.pickle_reader import PickleError, read_pickle
from rtj.weights.safetensors_file import write_safetensors
from tests.data.hostile_images import MUTATIONS
from tests.weights import torch_files as tf

ARRAYS: dict[str, np.ndarray] = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.ones(3, np.float16),
}


def doubled(times: int) -> bytes:
    """A pickled tuple of two of a tuple of two of ...: 2^times numbers if written."""
    put_and_get_twice = b"".join(
        b"q" + bytes([k]) + b"h" + bytes([k]) + b"\x86" for k in range(times)
    )
    return b"K\x01" + put_and_get_twice


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n("
STORAGE = b"(" + tf.text("storage") + b"ctorch\nFloatStorage\n"


@pytest.mark.parametrize(
    "body",
    [
        REBUILD + b"N" + tf.number(0) + doubled(60) + doubled(60) + b"tR",
        STORAGE + doubled(60) + tf.text("cpu") + tf.number(1) + b"tQ",
        STORAGE + tf.text("0") + tf.text("cpu") + doubled(60) + b"tQ",
        doubled(60) + tf.text("name") + b"\x93",
        tf.text("builtins") + doubled(60) + b"\x93",
        b"}" + doubled(60) + b"K\x01s",
        b"(" + doubled(60) + b"t" + b"K\x01K\x01tR",
    ],
    ids=["shape", "key", "size", "module", "name", "dict key", "call"],
)
def test_a_value_that_stands_for_2_to_the_60_is_never_written_out(body: bytes):
    with pytest.raises(PickleError) as caught:
        read_pickle(io.BytesIO(b"\x80\x02" + body + b"."))
    assert len(str(caught.value)) < 1000


def test_the_storages_of_an_old_file_are_named_by_text(tmp_path: Path):
    end = b"."
    parts = [
        b"\x80\x02\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + end,
        b"\x80\x02M\xe9\x03" + end,
        b"\x80\x02}" + tf.text("little_endian") + b"\x88s" + end,
        b"\x80\x02" + tf.state_dict_pickle(ARRAYS) + end,
        b"\x80\x02](" + doubled(60) + b"e" + end,
    ]
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(parts))
    with pytest.raises(CheckpointError, match="lists a storage that no tensor has"):
        read_weights(path)


def offsets(*pairs: tuple[int, int]) -> str:
    return json.dumps(
        {
            f"t{k}": {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]}
            for k, (a, b) in enumerate(pairs)
        }
    )


@pytest.mark.parametrize(
    "header",
    [
        offsets((-8, 0)),
        offsets((0, 8), (4, 8)),
        offsets((0, 4), (2, 8)),
        offsets((4, 8)),
        offsets((8, 0)),
        offsets((0, 2**63)),
        offsets((0, 2**70)),
        '{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], '
        '"data_offsets": [0, 8]}}',
        '{"__metadata__": {"a": 1}}',
        '{"__metadata__": []}',
    ],
)
def test_offsets_that_leave_or_share_the_data_are_refused(tmp_path: Path, header: str):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(8))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(path)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 200_000_000, 17])
def test_a_header_longer_than_the_file_takes_no_memory(tmp_path: Path, size: int):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", size) + b"{}" + bytes(8))
    with pytest.raises(CheckpointError, match="do not hold its header"):
        read_weights(path)


def test_a_zip_that_claims_terabytes_is_refused_by_its_contents(tmp_path: Path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("a.npy")
        archive.writestr(info, bytes(100))
        info.file_size = 2**42
    with pytest.raises(CheckpointError, match=r"unpacks to 4,398,046,511,104 bytes"):
        read_weights(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": float("inf")}, "is wrong"),
        ({"num_classes": "[" * 100_000}, "is wrong"),
        ({"input_size": [3, 10**9, 10**9]}, "size 1 to 4096"),
        ({"input_size": [3, float("nan"), float("nan")]}, "is wrong"),
        ({"rtj_options": [1]}, "names and values"),
        ({"mean": [float("nan")] * 3}, "three numbers in"),
        ({"rtj_model": "resnet50", "rtj_options": "{"}, "names and values"),
    ],
)
def test_metadata_that_makes_no_sense_is_one_error(changes: dict, message: str):
    whole: dict[str, Any] = {
        "input_size": [3, 224, 224],
        "mean": [0.4] * 3,
        "std": [0.2] * 3,
    }
    with pytest.raises(CheckpointError, match=message):
        parse(whole | changes, "w.safetensors")


@pytest.mark.parametrize(
    "options",
    [
        *('{"nope": 1}', '{"width": "x"}', '{"width": -1}', '{"dtype": "x"}', '"x"'),
        *('{"stage_sizes": "abc"}', '{"name": "x"}'),
    ],
)
def test_options_of_a_network_that_does_not_exist_are_one_error(
    tmp_path: Path, options: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rtj.serving._class_count", lambda *_: 1000)
    path = tmp_path / "w.safetensors"
    write_safetensors(path, ARRAYS, {"rtj_model": "resnet14", "rtj_options": options})
    with pytest.raises(RtjError, match=r"metadata of .* wrong|'nope' is unknown"):
        open_network(weights=str(path))


def seeds(folder: Path, fixtures: Path) -> dict[str, bytes]:
    write_safetensors(folder / "w.safetensors", ARRAYS, {"architecture": "resnet50"})
    arrays: dict[str, Any] = ARRAYS
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **arrays)
    tf.save(folder / "made.pth", ARRAYS)
    paths = [*folder.iterdir(), *fixtures.glob("torch_*.pth")]
    return {path.name: path.read_bytes() for path in sorted(paths)}


def test_every_mutated_weight_file_gives_tensors_or_one_error(
    tmp_path: Path, repo_root: Path
):
    (tmp_path / "seeds").mkdir()
    files = seeds(tmp_path / "seeds", repo_root / "tests" / "fixtures" / "weights")
    mutations: list[Callable[[bytearray, random.Random], bytes]] = list(MUTATIONS[:5])
    refused = 0
    for number in range(200):
        rng = random.Random(number)
        name = sorted(files)[number % len(files)]
        data = rng.choice(mutations)(bytearray(files[name]), rng)
        path = tmp_path / f"w{Path(name).suffix}"
        path.write_bytes(data)
        try:
            read_weights(path, max_bytes=2**26)
        except CheckpointError:
            refused += 1
    assert 100 < refused < 200
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["seeds", "w", "w", "w"]
