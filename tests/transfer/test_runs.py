"""Both tasks in the loop: a stop changes no bit, devices change no score."""

import json

import jax
import numpy as np
import pytest

import rtj
from rtj.errors import Stopped
from rtj.evaluation import run_evaluation
from rtj.experiment import build
from rtj.metrics import read_metrics
from tests.test_loop import assert_same_state, final_state, stop_at
from tests.transfer.runs import SCORES, TASKS, run_steps, tiny

TOGETHER = True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdirs of runs of six steps without a stop, by task."""
    workdirs = {}
    for task in TASKS:
        workdirs[task] = tmp_path_factory.mktemp(task)
        rtj.train(tiny(task), workdirs[task])
    return workdirs


@pytest.mark.parametrize("task", TASKS)
def test_three_steps_a_stop_and_three_more_are_six_bit_for_bit(task, whole, tmp_path):
    config = tiny(task)
    with pytest.raises(Stopped, match="SIGTERM: saved step 3 of 6"):
        rtj.train(config, tmp_path, callbacks=[stop_at(3)])
    result = rtj.train(config, tmp_path)
    assert_same_state(final_state(config, whole[task]), final_state(config, tmp_path))
    lines, again = read_metrics(whole[task]), read_metrics(tmp_path)
    assert [(line["step"], line["kind"]) for line in lines] == [
        *((step, "train") for step in range(1, 7)),
        (6, "eval"),
    ]
    assert lines == again
    first = json.loads((whole[task] / "result.json").read_text())
    assert result["examples"] == 5
    for name in SCORES[task]:
        assert result[name] == first[name]


@pytest.mark.parametrize("task", TASKS)
def test_a_workdir_is_evaluated_to_what_training_reported(task, whole):
    trained = json.loads((whole[task] / "result.json").read_text())
    result = rtj.evaluate(tiny(task), whole[task])
    assert result == {k: v for k, v in trained.items() if k != "images_per_s"}


# At higher rates training itself multiplies a difference in the last bit.
CALM = {"tricks.base_lr": 1e-3, "tricks.warmup_epochs": 0.0, "train.steps": 3}


@pytest.mark.parametrize("task", TASKS)
def test_one_and_four_devices_see_the_same_examples_and_losses(task):
    (_, _, alone, ids), (_, _, shared, same_ids) = (
        run_steps(tiny(task, **CALM, **{"mesh.devices": n}))[:4] for n in (1, 4)
    )
    np.testing.assert_array_equal(ids, same_ids)
    np.testing.assert_allclose(alone, shared, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_five_examples_in_batches_of_four_score_the_same_on_1_2_and_4_devices(
    task, whole
):
    state = final_state(tiny(task), whole[task])
    variables = jax.device_get(state.variables)
    results = [
        run_evaluation(build(tiny(task, **{"mesh.devices": n})), variables)
        for n in (1, 2, 4)
    ]
    for result in results:
        assert result["examples"] == 5
        for name in SCORES[task]:
            assert result[name] == results[0][name]
