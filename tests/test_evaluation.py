"""Evaluation counts every example once, on any number of devices."""

import dataclasses

import jax
import numpy as np
import pytest

import rtj
from rtj.data.memory import ArraySource
from rtj.errors import CheckpointError, ConfigError, Stopped
from rtj.evaluation import run_evaluation
from rtj.experiment import build


def thirty_seven():
    images = np.random.RandomState(0).randint(0, 256, (37, 14, 14, 3), np.uint8)
    return ArraySource(images, np.arange(37) % 10, num_classes=10)


def evaluate_on(config):
    experiment = dataclasses.replace(build(config), eval_source=thirty_seven())
    rows: list[np.ndarray] = []
    result = run_evaluation(
        experiment, experiment.init_state().variables, keep_rows=rows.append
    )
    return experiment, result, np.concatenate(rows)


@pytest.mark.slow
def test_37_examples_in_batches_of_8_count_37_on_1_2_and_4_devices(tiny_config):
    results = []
    for devices in (1, 2, 4):
        config = tiny_config(**{"mesh.devices": devices, "train.batch_size": 8})
        experiment, result, rows = evaluate_on(config)
        assert result["examples"] == 37
        assert rows[:, 0].tolist() == list(range(37))
        results.append(result)
    one = results[0]
    state = experiment.init_state()
    images = thirty_seven()
    pixels = np.stack([images[i]["image"] for i in range(37)]).astype(np.float32)
    data = experiment.config.data
    logits = np.asarray(
        experiment.model.apply(state.variables, (pixels - data.mean) / data.std)
    )
    labels = np.arange(37) % 10
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    best = np.argsort(-logits, axis=-1, kind="stable")
    np.testing.assert_array_equal(rows[:, 1], labels)
    np.testing.assert_array_equal(rows[:, 2], best[:, 0])
    assert one["top1"] == (best[:, 0] == labels).mean()
    assert one["top5"] == (best[:, :5] == labels[:, None]).any(-1).mean()
    assert one["loss"] == pytest.approx(-log_p[np.arange(37), labels].mean(), rel=1e-5)
    for other in results[1:]:
        assert other["top1"] == one["top1"]
        assert other["top5"] == one["top5"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)


def test_a_network_of_constant_logits_scores_the_share_of_class_zero(tiny_config):
    config = tiny_config(**{"train.batch_size": 8})
    experiment = dataclasses.replace(build(config), eval_source=thirty_seven())
    variables = experiment.init_state().variables
    zeros = jax.tree.map(np.zeros_like, variables["params"])
    result = run_evaluation(experiment, {**variables, "params": zeros})
    assert result["top1"] == 4 / 37
    assert result["top5"] == 20 / 37
    assert result["loss"] == pytest.approx(np.log(10), rel=1e-6)


def test_a_request_to_stop_is_heard_between_batches(tiny_config):
    experiment = build(tiny_config())
    variables = experiment.init_state().variables
    with pytest.raises(Stopped):
        run_evaluation(experiment, variables, lambda: True)


@pytest.mark.slow
def test_evaluating_a_workdir_gives_what_training_reported(tiny_config, tmp_path):
    config = tiny_config(**{"train.steps": 2})
    trained = rtj.train(config, tmp_path)
    result = rtj.evaluate(config, tmp_path)
    assert result == {k: v for k, v in trained.items() if k != "images_per_s"}
    with np.load(tmp_path / "predictions.npz") as rows:
        assert rows["index"].tolist() == list(range(100))
        assert (rows["label"] == rows["prediction"]).mean() == trained["top1"]
    folder = tmp_path / "checkpoints"
    assert rtj.evaluate(config, "", folder)["top1"] == trained["top1"]


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_an_error_that_names_the_folder(
    tiny_config, tmp_path
):
    rtj.train(tiny_config(**{"train.steps": 1}), tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"cannot restore step 1 from .*checkpoints: batch_stats.* is float32",
    ):
        rtj.evaluate(tiny_config(**{"model.width": 6}), tmp_path)


def test_a_missing_checkpoint_is_an_error_and_no_folder_is_made(tiny_config, tmp_path):
    with pytest.raises(CheckpointError, match="nothing"):
        rtj.evaluate(tiny_config(), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_batch_that_the_devices_cannot_share_is_a_config_error(tiny_config):
    with pytest.raises(ConfigError, match=r"batch_size=12 .* 8 devices; .* multiple"):
        build(
            tiny_config(
                **{"mesh.devices": 8, "train.batch_size": 12, "model.bn_group_size": 0}
            )
        )
