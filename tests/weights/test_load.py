"""Files into variables: round trips, heads, and everything that must not load."""

import shutil
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import rtj.models
from rtj.errors import CheckpointError, ConfigError
from rtj.preprocess import Preprocess
from rtj.weights import load_weights
from rtj.weights.metadata import describe
from rtj.weights.names import to_torch
from rtj.weights.safetensors_file import write_safetensors
from tests.weights import torch_files
from tests.weights.networks import (
    NAME,
    equal,
    make_run,
    random_variables,
    tiny_model,
)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model()


@pytest.fixture(scope="module")
def variables(model: Any) -> Any:
    return random_variables(model)


@pytest.fixture(scope="module")
def tensors(variables: Any) -> dict[str, np.ndarray]:
    return to_torch(NAME, variables)


def as_safetensors(path: Path, tensors: Any, metadata: dict[str, str] | None = None):
    write_safetensors(path, tensors, metadata or {})
    return path


def as_npz(path: Path, tensors: Any):
    with path.open("wb") as file:
        np.savez(file, **tensors)
    return path


WRITERS: dict[str, Any] = {
    "safetensors": as_safetensors,
    "pth": torch_files.save,
    "npz": as_npz,
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_back_the_same_bits(
    tmp_path: Path, model: Any, variables: Any, tensors: Any, form: str
):
    path = WRITERS[form](tmp_path / "weights", tensors)
    assert equal(load_weights(model, path), variables)


def test_our_own_flattened_names_in_npz_give_back_the_same_bits(
    tmp_path: Path, model: Any, variables: Any
):
    path = as_npz(tmp_path / "weights", flatten_dict(variables, sep="/"))
    assert equal(load_weights(model, path), variables)


def test_a_name_stands_for_the_model_of_1000_classes(tmp_path: Path):
    full = rtj.models.create_model(NAME)
    variables = random_variables(full)
    path = as_safetensors(tmp_path / "w", to_torch(NAME, variables))
    assert equal(load_weights(NAME, path), variables)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_dtypes_become_float32_exactly(
    tmp_path: Path, model: Any, variables: Any, tensors: Any, dtype: Any
):
    low = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    loaded = load_weights(model, torch_files.save(tmp_path / "w.pth", low))
    expected = jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), variables)
    assert equal(loaded, expected)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(
    tmp_path: Path, model: Any, variables: Any, tensors: Any, prefix: str
):
    wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
    wrapped[prefix + "bn1.num_batches_tracked"] = np.array(7)
    assert equal(load_weights(model, as_npz(tmp_path / "w", wrapped)), variables)


@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_all_missing_extra_and_misshaped_tensors_are_in_one_error(
    tmp_path: Path, model: Any, variables: Any, tensors: Any, layout: str
):
    flat = flatten_dict(variables, sep="/")
    wrong = dict(tensors if layout == "torch" else flat)
    gone = [name for name in wrong if "layer2" in name][:2]
    bent = [name for name in wrong if "layer3" in name][:2]
    for name in gone:
        del wrong[name]
    for name in bent:
        wrong[name] = np.zeros((1, *wrong[name].shape), np.float32)
    wrong |= {"new": np.zeros(1), "more": np.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        load_weights(model, as_npz(tmp_path / "w.npz", wrong))
    said = (
        *gone,
        *bent,
        "new",
        "more",
        "2 missing",
        "2 extra",
        "2 mis-shaped",
        "w.npz",
    )
    for text in said:
        assert text in str(error.value), text


def test_weights_of_another_network_are_refused(tmp_path: Path, tensors: Any):
    path = as_npz(tmp_path / "w", tensors)
    with pytest.raises(CheckpointError, match="do not fit resnet18"):
        load_weights(tiny_model(name="resnet18"), path)


def test_a_network_of_the_same_tensors_is_refused_by_what_the_file_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    plain, b = tiny_model(name="resnet14"), tiny_model(name="resnet14b")
    tensors = to_torch("resnet14b", random_variables(b))
    named = as_safetensors(tmp_path / "n", tensors, describe(b, Preprocess()))
    with pytest.raises(CheckpointError, match=r"'resnet14' .timm's name.*'resnet14a'"):
        load_weights(plain, named)
    load_weights(b, named)
    assert not caplog.records
    load_weights(plain, as_npz(tmp_path / "w", tensors))
    assert "resnet14 strides in the first 1x1" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["layer1.0.conv2.weight", "bn1.running_var"])
def test_nan_and_infinity_are_refused_by_name(
    tmp_path: Path, model: Any, tensors: Any, name: str, value: float
):
    bad = dict(tensors) | {name: tensors[name].copy()}
    bad[name].flat[1] = value
    with pytest.raises(CheckpointError, match=rf"NaN or infinity.*{name} \(1\)"):
        load_weights(model, as_npz(tmp_path / "w", bad))


def test_float64_beyond_float32_is_refused(tmp_path: Path, model: Any, tensors: Any):
    big = dict(tensors) | {"fc.bias": np.full(10, 1e300)}
    with pytest.raises(CheckpointError, match=r"infinity.*fc\.bias \(10\)"):
        load_weights(model, as_npz(tmp_path / "w", big))


def test_a_bomb_is_refused_by_the_size_of_the_model(tmp_path: Path, model: Any):
    path = tmp_path / "w.npz"
    np.savez_compressed(path, a=np.zeros(2**26, np.float32))
    with pytest.raises(CheckpointError, match="unpacks to 268,435,"):
        load_weights(model, path)


class TestHeads:
    """Files of 10 classes into a model of 7, unless said otherwise."""

    @pytest.fixture(params=["torch", "flax"])
    def path(self, request: Any, tmp_path: Path, variables: Any, tensors: Any) -> Path:
        flat = flatten_dict(variables, sep="/")
        return as_npz(tmp_path / "w", tensors if request.param == "torch" else flat)

    @pytest.mark.parametrize("head", [None, "keep"])
    def test_another_class_count_is_refused_with_the_ways_out(self, path, head):
        with pytest.raises(CheckpointError, match=r"10 classes.*has 7.*head='reset'"):
            load_weights(tiny_model(7), path, head=head)

    @pytest.mark.parametrize("classes", [7, 10])
    def test_reset_gives_what_init_gives_and_the_files_body(
        self, path: Path, variables: Any, classes: int
    ):
        model = tiny_model(classes)
        loaded = load_weights(model, path, head="reset")
        image = np.zeros((1, 32, 32, 3), np.float32)
        fresh = jax.jit(lambda key: model.init(key, image)["params"]["fc"])(
            jax.random.key(0)
        )
        assert equal(loaded["params"].pop("fc"), fresh)
        body = {k: v for k, v in variables["params"].items() if k != "fc"}
        assert equal(loaded, variables | {"params": body})

    def test_drop_gives_the_body_alone(self, path: Path, variables: Any):
        loaded = load_weights(tiny_model(7), path, head="drop")
        body = {k: v for k, v in variables["params"].items() if k != "fc"}
        assert equal(loaded, variables | {"params": body})

    def test_keep_gives_the_files_head_if_the_counts_are_equal(self, path, variables):
        assert equal(load_weights(tiny_model(10), path, head="keep"), variables)

    def test_an_unknown_head_is_refused_before_the_file_is_opened(self):
        with pytest.raises(ConfigError, match=r"head 'rset' is unknown.*: reset"):
            load_weights(tiny_model(), "nothing", head="rset")  # type: ignore[arg-type]

    def test_a_wrong_body_is_said_rather_than_the_count(self, path: Path):
        with pytest.raises(CheckpointError, match="do not fit resnet18"):
            load_weights(tiny_model(7, name="resnet18"), path)


def test_headless_weights_load_with_reset_and_drop_only(
    tmp_path: Path, model: Any, tensors: Any
):
    body = {name: t for name, t in tensors.items() if not name.startswith("fc.")}
    path = as_npz(tmp_path / "w", body)
    with pytest.raises(CheckpointError, match="no classifier, the model has 10"):
        load_weights(model, path)
    assert load_weights(model, path, head="reset")["params"]["fc"]["bias"].shape == (
        10,
    )
    assert "fc" not in load_weights(model, path, head="drop")["params"]


def test_class_0_of_1001_is_the_background_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tensors = to_torch(NAME, random_variables(tiny_model(1001)))
    path = as_npz(tmp_path / "w", tensors)
    loaded = load_weights(tiny_model(1000), path)
    head = loaded["params"]["fc"]
    np.testing.assert_array_equal(head["kernel"], tensors["fc.weight"][1:].T)
    np.testing.assert_array_equal(head["bias"], tensors["fc.bias"][1:])
    assert "class 0, the background, is left out" in caplog.text
    with pytest.raises(CheckpointError, match="1001 classes, the model has 1000"):
        load_weights(tiny_model(1000), path, head="keep")
    kept = load_weights(tiny_model(1001), path)["params"]["fc"]["bias"]
    np.testing.assert_array_equal(kept, tensors["fc.bias"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any, tiny_config: Any) -> tuple[Path, Any, Any]:
    """(workdir, model, variables): a run's folder with the checkpoints of steps 3 and
    5, the second with all parameters doubled."""
    folder = tmp_path_factory.mktemp("run") / "workdir"
    model, variables = make_run(folder, tiny_config())
    return folder, model, variables


@pytest.mark.parametrize(
    ("inside", "step"),
    [(".", 5), ("checkpoints", 5), ("checkpoints/3", 3)],
)
def test_a_run_gives_its_newest_or_the_named_checkpoint(run, inside, step):
    folder, model, variables = run
    loaded = load_weights(model, folder / inside)
    params = jax.tree.map(lambda x: x * (step == 5) + x, variables["params"])
    assert equal(loaded, variables | {"params": params})


def test_a_run_of_another_network_is_refused(run):
    with pytest.raises(CheckpointError, match="are of the network"):
        load_weights(tiny_model(name="resnet18"), run[0])


def test_a_damaged_checkpoint_of_a_run_is_passed_over_or_an_error(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    original, model, variables = run
    folder = shutil.copytree(original, tmp_path / "copy")
    shutil.rmtree(folder / "checkpoints" / "5" / "state")
    assert equal(load_weights(model, folder), variables)  # step 3
    assert "checkpoint of step 5 is damaged and passed over" in caplog.text
    with pytest.raises(CheckpointError, match="cannot restore"):
        load_weights(model, folder / "checkpoints/5")
    shutil.rmtree(folder / "checkpoints" / "3" / "state")
    with pytest.raises(CheckpointError, match=r"no checkpoint under .* is whole"):
        load_weights(model, folder)


def test_an_option_that_changes_the_logits_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    model = rtj.models.create_model("mobilenet_025", num_classes=3)
    tensors = to_torch("mobilenet_025", random_variables(model))
    path = as_safetensors(tmp_path / "w", tensors, {"architecture": "mobilenetv1_025"})
    load_weights(model, path)
    assert "activation='relu6', not 'relu'" in caplog.text
