"""`python -m rtj.export`: what comes out, that it runs elsewhere, that it is whole."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rtj.export
from rtj.export import export_network
from rtj.preprocess import Preprocess, normalize
from rtj.serving import Network, open_network
from rtj.weights import load_weights, read_weights
from rtj.weights.names import to_torch
from tests.weights import torch_files
from tests.weights.networks import NAME, equal, make_run, random_variables, tiny_model

HOW = Preprocess(33, 38, "bicubic", (120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
LABELS = tuple(f"label {i}" for i in range(10))

# Runs a program where importing rtj or flax is an error.
RUN_ELSEWHERE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("rtj", "flax"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
from jax import export

program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
np.save(sys.argv[3], program.call(np.load(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def network() -> Network:
    model = tiny_model()
    return Network(NAME, model, random_variables(model), HOW, "", LABELS, "")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (3, HOW.size, HOW.size, 3), np.uint8)


@pytest.fixture(scope="module")
def logits(network: Network, images: np.ndarray) -> np.ndarray:
    found: Any = network.model.apply(network.variables, normalize(images, HOW))
    return np.asarray(found)


def test_safetensors_hold_timms_names_and_all_that_is_needed(
    tmp_path: Path, network: Network
):
    path = tmp_path / "w.safetensors"
    export_network(network, path, format="safetensors")
    file = read_weights(path)
    assert file.tensors["layer1.0.downsample.1.weight"].shape == (16, 4, 1, 1)
    about = file.metadata
    assert about["architecture"] == NAME
    assert about["interpolation"] == "bicubic"
    assert json.loads(about["input_size"]) == [3, 33, 33]
    assert json.loads(about["num_classes"]) == 10
    assert json.loads(about["label_names"]) == list(LABELS)
    np.testing.assert_allclose(json.loads(about["mean"])[0], 120 / 255)
    assert about["rtj_version"]


def test_a_safetensors_file_alone_rebuilds_the_network_bit_by_bit(
    tmp_path: Path, network: Network
):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    export_network(network, first, format="safetensors")
    again = open_network(weights=str(first))
    assert (again.name, again.model) == (network.name, network.model)
    assert equal(again.variables, network.variables)
    assert (again.preprocess.size, again.preprocess.resize) == (33, 38)
    np.testing.assert_allclose(again.preprocess.mean, HOW.mean, rtol=1e-12)
    assert again.class_names == LABELS
    export_network(again, second, format="safetensors")
    assert equal(load_weights(again.model, second), network.variables)


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (299, 342), (32, 36), (7, 7)])
def test_crop_pct_gives_back_the_resize(size: int, resize: int):
    assert int(size / Preprocess(size, resize).crop_pct) == resize


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_stablehlo_gives_the_same_logits_where_rtj_cannot_be_imported(
    tmp_path: Path, network, images, logits, input_type
):
    path, given, got = (tmp_path / name for name in ("p.stablehlo", "x.npy", "y.npy"))
    export_network(network, path, format="stablehlo", input_type=input_type)
    np.save(given, images if input_type == "uint8" else normalize(images, HOW))
    subprocess.run(
        [sys.executable, "-c", RUN_ELSEWHERE, str(path), str(given), str(got)],
        check=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        timeout=120,
    )
    found = np.load(got)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5 * abs(logits).max())


def test_stablehlo_is_for_any_batch_and_every_platform(tmp_path: Path, network):
    from jax import export

    path = tmp_path / "p"
    export_network(network, path, format="stablehlo")
    program = export.deserialize(bytearray(path.read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    for count in (1, 5):
        images = np.zeros((count, 33, 33, 3), np.uint8)
        assert program.call(images).shape == (count, 10)


@pytest.mark.skipif(
    importlib.util.find_spec("jax2onnx") is None, reason="jax2onnx is not installed"
)
@pytest.mark.parametrize("name", [NAME, "seresnet50", "resnext50d_32x4d"])
def test_onnx_runtime_gives_the_same_logits(tmp_path: Path, images, name: str):
    import onnxruntime

    model = tiny_model(name=name, width=32)
    network = Network(name, model, random_variables(model), HOW, "", (), "")
    path = tmp_path / "p.onnx"
    export_network(network, path, format="onnx")
    session = onnxruntime.InferenceSession(str(path))
    found = session.run(["logits"], {"images": images})[0]
    wanted: Any = model.apply(network.variables, normalize(images, HOW))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())


def test_without_its_converter_onnx_is_one_clear_error(
    tmp_path: Path, weights: Path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    code = command(weights, tmp_path / "o", "--format=onnx")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "ONNX needs the package jax2onnx" in capsys.readouterr().err


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    export_network(network, path, format="safetensors")
    return path


def command(weights: Path, out: Path, *flags: str) -> int:
    return rtj.export.run([f"--weights={weights}", *flags, str(out)])


def test_the_command_writes_the_file_and_nothing_else(
    tmp_path: Path, weights: Path, network: Network, capsys
):
    out = tmp_path / "o"
    assert command(weights, out, "--format=safetensors") == 0
    assert list(tmp_path.iterdir()) == [out]
    assert equal(load_weights(network.model, out), network.variables)
    assert "the weights' metadata" in capsys.readouterr().out


def test_a_file_that_exists_is_kept_without_force(tmp_path, weights, network, capsys):
    out = tmp_path / "o"
    out.write_text("precious")
    assert command(weights, out, "--format=safetensors") == 2
    assert out.read_text() == "precious"
    assert "exists; --force overwrites it" in capsys.readouterr().err
    assert command(weights, out, "--format=safetensors", "--force") == 0
    assert equal(load_weights(network.model, out), network.variables)


def test_a_write_that_fails_leaves_the_old_file_and_no_part_of_the_new(
    tmp_path: Path, weights: Path, monkeypatch, capsys
):
    def fail(path: Path, *_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(rtj.export, "write_safetensors", fail)
    out = tmp_path / "o"
    out.write_text("old")
    assert command(weights, out, "--format=safetensors", "--force") == 6
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=safetensors"], "exactly one of --weights and --checkpoint"),
        (["--format=tflite", "--weights=w"], "invalid choice: 'tflite'"),
        (["--weights=w"], "required: --format"),
        (["--format=onnx", "--weight=w"], "unrecognized arguments: --weight=w"),
    ],
)
def test_bad_flags_are_one_line_and_exit_2(tmp_path: Path, flags, message, capsys):
    assert rtj.export.run([*flags, str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("rtj: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_damaged_weights_exit_6_and_write_nothing(tmp_path: Path, weights, capsys):
    cut, out = tmp_path / "cut", tmp_path / "o"
    cut.write_bytes(weights.read_bytes()[:-10])
    assert command(cut, out, "--format=safetensors", f"--model={NAME}") == 6
    assert not out.exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_that_do_not_say_what_they_are_need_a_model(tmp_path, network, capsys):
    tensors = to_torch("resnet14d", network.variables)
    path = torch_files.save(tmp_path / "w.pth", tensors)
    assert command(path, tmp_path / "o", "--format=safetensors") == 2
    assert "--model is missing" in capsys.readouterr().err
    assert command(path, tmp_path / "o", "--format=safetensors", "--model=resnt") == 2
    assert "allowed, nearest first: resnet" in capsys.readouterr().err


def test_a_run_is_exported_with_its_own_images_and_model(
    tmp_path: Path, tiny_config, capsys
):
    workdir, out = tmp_path / "run", tmp_path / "o"
    _, variables = make_run(workdir, tiny_config())
    flags = [f"--checkpoint={workdir}", "--format=safetensors", str(out)]
    assert rtj.export.run(flags) == 0
    found = open_network(weights=str(out))
    doubled = {k: v["kernel"] * 2 for k, v in variables["params"].items() if k == "fc"}
    np.testing.assert_array_equal(
        found.variables["params"]["fc"]["kernel"], doubled["fc"]
    )
    assert (found.preprocess.size, found.preprocess.resize) == (14, 14)
    assert "the run's config" in capsys.readouterr().out
    assert rtj.export.run([*flags, "--model=resnet18", "--force"]) == 2


def test_a_folder_that_is_no_run_exits_6(tmp_path: Path, capsys):
    flags = [f"--checkpoint={tmp_path}", "--format=safetensors", str(tmp_path / "o")]
    assert rtj.export.run(flags) == 6
    assert "holds no checkpoint of an rtj run" in capsys.readouterr().err
