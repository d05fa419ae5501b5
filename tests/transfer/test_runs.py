"""Both tasks in the loop: a stop changes no bit, devices change no score."""

import numpy as np
import pytest

import rtj
from rtj.checkpoint import restore_newest
from rtj.errors import Stopped
from rtj.inputs import training_batches
from rtj.metrics import read_metrics
from rtj.sharding import device_batches
from tests.test_loop import assert_same_state, stop_at
from tests.transfer.runs import SCORES, TASKS, tiny

TOGETHER = "transfer runs"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_three_steps_a_stop_and_three_more_are_six_bit_for_bit(
    task, whole_run, built, tmp_path
):
    config, (workdir, first) = tiny(task), whole_run(task)
    with pytest.raises(Stopped, match="SIGTERM: saved step 3 of 6"):
        rtj.train(config, tmp_path, callbacks=[stop_at(3)])
    result = rtj.train(config, tmp_path)
    like, states = built(config).init_state(), []
    for folder in (workdir, tmp_path):
        states.append(restore_newest(folder / "checkpoints", like).state)
    assert int(states[0].step) == 6
    assert_same_state(*states)
    lines = read_metrics(workdir)
    assert [(line["step"], line["kind"]) for line in lines] == [
        *((step, "train") for step in range(1, 7)),
        (6, "eval"),
    ]
    assert lines == read_metrics(tmp_path)
    for name in (*SCORES[task], "examples"):
        assert result[name] == first[name]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_one_and_four_devices_see_the_same_examples_and_losses(task, whole_run, built):
    one, four = (built(tiny(task, **{"mesh.devices": n})) for n in (1, 4))
    lines = read_metrics(whole_run(task)[0], ["train"])
    state = four.init_state()
    batches = device_batches(training_batches(four, 0), four.mesh)
    same = training_batches(one, 0)
    for line, batch, alone in zip(lines[:4], batches, same, strict=False):
        np.testing.assert_array_equal(batch["index"], alone["index"])
        state, metrics = four.train_step(state, batch)
        assert float(metrics["loss"]) == pytest.approx(line["loss"], abs=1e-5)
    assert int(state.step) == 4


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_five_examples_in_batches_of_four_score_the_same_on_1_2_and_4_devices(
    task, whole_run
):
    workdir, trained = whole_run(task)
    for devices in (1, 2, 4):
        result = rtj.evaluate(tiny(task, **{"mesh.devices": devices}), workdir)
        assert result["examples"] == 5
        for name in SCORES[task]:
            # A pixel whose two best logits differ by rounding may change its class.
            assert result[name] == pytest.approx(trained[name], abs=1e-4)
            assert result[name] > 0
        loss = trained.get("loss", 0.0)  # detection has none
        assert result.get("loss", 0.0) == pytest.approx(loss, rel=1e-6)
