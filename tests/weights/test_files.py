"""safetensors, npz, hub names and folders: whole, damaged, hostile, unknown."""

import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rtj.errors import CheckpointError, ConfigError, RtjError
from rtj.weights import hub, read_weights
from rtj.weights.safetensors_file import write_safetensors

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1.5, -2]).astype(ml_dtypes.bfloat16),
    "c": np.array([0.25], np.float16),
    "d": np.array(3.5),
}


def raw_safetensors(path: Path, header: str, data: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data)
    return path


def entry(dtype: str = "F32", shape: list[int] | None = None, end: int = 8) -> str:
    shape = [2] if shape is None else shape
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [0, end]})


def test_safetensors_keep_names_shapes_dtypes_bits_and_metadata(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, ARRAYS, {"note": "1.0", "list": "[1]"})
    found = read_weights(path)
    assert dict(found.metadata) == {"note": "1.0", "list": "[1]"}
    assert set(found.tensors) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.tensors[name].dtype == array.dtype
        assert found.tensors[name].shape == array.shape
        assert found.tensors[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f'{{"a": {entry()}, "a": {entry()}}}', "holds a name twice: a"),
        (f'{{"a": {entry(shape=[3])}}}', "cannot be read"),
        (f'{{"a": {entry(end=16)}}}', "cannot be read"),
        (f'{{"a": {entry("F8_E4M3", [8])}}}', "has dtype F8_E4M3; allowed: BF16"),
        ('{"a": ', "not the JSON"),
        ("[]" + " " * 10, "cannot be read|not the JSON"),
        ("{" + '"a":{' * 50_000, "not the JSON"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(
    tmp_path: Path, header: str, message: str
):
    path = raw_safetensors(tmp_path / "w.safetensors", header, bytes(8))
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)


def test_a_safetensors_header_longer_than_the_file_is_refused(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(CheckpointError, match="cut off"):
        read_weights(path)


def save_npz(path: Path, compressed: bool = False) -> Path:
    arrays: dict[str, Any] = {n: a for n, a in ARRAYS.items() if n != "b"}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_keeps_names_shapes_and_dtypes(tmp_path: Path, compressed: bool):
    found = read_weights(save_npz(tmp_path / "w.npz", compressed))
    assert found.layout == "torch"
    for name, array in found.tensors.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_pickled_objects_in_npz_are_refused(tmp_path: Path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.array([print], object))
    with pytest.raises(CheckpointError, match=r"dtype object.*allowed: floats"):
        read_weights(path)


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "w.npz"
    np.savez_compressed(path, a=np.zeros(2**24, np.float32))
    assert path.stat().st_size < 2**18
    with pytest.raises(CheckpointError, match=r"unpacks to 67,10.* at most 1,048,576"):
        read_weights(path, max_bytes=2**20)


def test_an_npz_header_that_asks_for_more_than_the_entry_is_refused(tmp_path: Path):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)}
    )
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", file.getvalue() + bytes(8))
    with pytest.raises(CheckpointError, match="does not fit the 8 bytes"):
        read_weights(path)


def test_a_name_twice_in_npz_is_refused(tmp_path: Path):
    path = save_npz(tmp_path / "w.npz")
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("c.npy", archive.read("c.npy"))
    with pytest.raises(CheckpointError, match=r"holds a name twice: c.npy"):
        read_weights(path)


def save_safetensors(path: Path) -> Path:
    write_safetensors(path, ARRAYS, {"note": "x"})
    return path


@pytest.mark.parametrize("save", [save_npz, save_safetensors])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.4, 0.8, 0.999])
def test_a_truncated_file_is_one_error(
    tmp_path: Path, save: Callable[[Path], Path], part: float
):
    suffix = ".npz" if save is save_npz else ".safetensors"
    path = save(tmp_path / f"w{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(path)


@pytest.mark.parametrize("save", [save_npz, save_safetensors])
def test_any_flipped_byte_gives_tensors_or_one_error(
    tmp_path: Path, save: Callable[[Path], Path]
):
    suffix = ".npz" if save is save_npz else ".safetensors"
    path = save(tmp_path / f"w{suffix}")
    data = path.read_bytes()
    errors = 0
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            read_weights(path)
        except CheckpointError:
            errors += 1
    assert errors > 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(20), "format is not known; allowed"),
        ("w.pth", b"hello, world, hello", "no .pth file"),
        ("w.npz", b"", "no .npz file"),
    ],
)
def test_other_files_are_refused_with_what_is_allowed(
    tmp_path: Path, name: str, content: bytes, message: str
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"neither .npz nor one of torch.save"):
        read_weights(path)


@pytest.mark.parametrize("name", ["nothing.pth", "."])
def test_a_missing_file_and_an_unknown_folder_are_said(tmp_path: Path, name: str):
    with pytest.raises(CheckpointError, match=r"no such file|nothing in this folder"):
        read_weights(tmp_path / name)


def test_the_content_decides_and_not_the_suffix(tmp_path: Path):
    path = save_safetensors(tmp_path / "w.pth")
    assert set(read_weights(path).tensors) == set(ARRAYS)


def test_a_hub_folder_gives_tensors_and_timms_config(tmp_path: Path):
    write_safetensors(tmp_path / "model.safetensors", ARRAYS, {"format": "pt"})
    config = {"architecture": "resnet50d", "pretrained_cfg": {"crop_pct": 0.95}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        metadata = read_weights(path).metadata
        assert (metadata["architecture"], metadata["crop_pct"]) == ("resnet50d", 0.95)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("timm:resnet50d.gluon_in1k", "timm/resnet50d.gluon_in1k"),
        ("timm:resnet50d", "timm/resnet50d.ra2_in1k"),
        ("torchvision:resnet50", "timm/resnet50.tv_in1k"),
        ("torchvision:resnet50.IMAGENET1K_V2", "timm/resnet50.tv2_in1k"),
    ],
)
def test_hub_names_mean_timms_repositories(name: str, repository: str):
    assert hub.repository(name) == repository


@pytest.mark.parametrize("name", ["timm:resnet9000", "torchvision:resnet50.V3"])
def test_hub_names_without_a_known_meaning_are_refused(name: str):
    with pytest.raises(ConfigError, match=r"needs a tag|allowed is torchvision"):
        read_weights(name)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of the test's own, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("offline")
def test_without_network_and_cache_a_hub_name_is_one_error():
    with pytest.raises(CheckpointError, match="neither in the local cache nor reach"):
        read_weights("timm:resnet50d")


def test_the_hubs_cache_is_used_without_a_network(offline: Path):
    folder = offline / "models--timm--resnet50d.ra2_in1k"
    snapshot = folder / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    write_safetensors(snapshot / "model.safetensors", ARRAYS, {"format": "pt"})
    (snapshot / "config.json").write_text('{"architecture": "resnet50d"}')
    found = read_weights("timm:resnet50d")
    assert set(found.tensors) == set(ARRAYS)
    assert found.metadata["architecture"] == "resnet50d"


@pytest.mark.parametrize("package", ["safetensors", "huggingface_hub"])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
):
    path = save_safetensors(tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RtjError, match=rf"{package}, which .* rtj\[weights\]"):
        read_weights(path if package == "safetensors" else "timm:resnet50d")
