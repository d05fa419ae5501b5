"""The loop: stop and resume bit-equal, finished runs, evaluation on time."""

import json
import os
import signal

import jax
import numpy as np
import pytest

import rtj
from rtj.checkpoint import restore_newest
from rtj.data import order
from rtj.errors import ConfigError, Diverged, Stopped
from rtj.experiment import build
from rtj.metrics import read_metrics


def final_state(config, workdir):
    return restore_newest(workdir / "checkpoints", build(config).init_state()).state


def stop_at(step):
    """A callback that asks the run to end as soon as `step` has been dispatched."""

    def callback(done, _):
        if done == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    return callback


def assert_same_state(a, b):
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    )
    for (path, x), y in leaves:
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def evaluate_nothing(experiment, variables, should_stop, keep_rows):
    keep_rows(np.zeros((1, 3), np.int32))
    return {"top1": 0.5}


@pytest.fixture
def seen_ids(monkeypatch):
    """Every index that the loop's batches held, in order."""
    import rtj.loop

    seen = []
    real = rtj.loop.sharding.device_batches

    def spy(batches, mesh):
        for batch in real(batches, mesh):
            seen.append(np.asarray(batch["index"]))
            yield batch

    monkeypatch.setattr(rtj.loop.sharding, "device_batches", spy)
    monkeypatch.setattr("rtj.loop.run_evaluation", evaluate_nothing)
    return seen


ROWS = ("label_smoothing", "label_smoothing,precision=fp16")


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_twenty_steps_a_stop_and_twenty_more_are_forty_bit_for_bit(
    tiny_config, tmp_path, seen_ids, row
):
    config = tiny_config(row, **{"train.steps": 40, "train.save_every": 0.1})
    rtj.train(config, tmp_path / "whole")
    ids = [seen_ids.copy(), seen_ids.clear()][0]
    with pytest.raises(Stopped, match="SIGTERM: saved step 20 of 40"):
        rtj.train(config, tmp_path / "parts", callbacks=[stop_at(20)])
    first = [seen_ids.copy(), seen_ids.clear()][0][:20]  # one more was fetched ahead
    rtj.train(config, tmp_path / "parts")
    np.testing.assert_array_equal(first + seen_ids, ids)
    want = [order.example_ids(config.seed, 32, 4000, step) for step in range(40)]
    np.testing.assert_array_equal(ids, want)
    assert_same_state(
        final_state(config, tmp_path / "whole"), final_state(config, tmp_path / "parts")
    )
    whole, parts = (read_metrics(tmp_path / name) for name in ("whole", "parts"))
    assert len(whole) == 41
    assert whole == parts


def test_a_finished_workdir_is_reported_without_training(tiny_config, tmp_path, capsys):
    config = tiny_config(**{"train.steps": 2})
    first = rtj.train(config, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    steps = []
    again = rtj.train(config, tmp_path, callbacks=[lambda step, _: steps.append(step)])
    assert again == first
    assert steps == []
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert "finished" in capsys.readouterr().out


def test_a_result_says_what_the_evaluation_counted(tiny_config, tmp_path):
    result = rtj.train(tiny_config(**{"train.steps": 3}), tmp_path)
    keys = "step epoch top1 top5 loss examples images_per_s workdir"
    assert set(result) == set(keys.split())
    assert result["step"] == 3
    assert result["epoch"] == pytest.approx(3 * 32 / 4000)
    assert result["examples"] == 100
    assert 0 <= result["top1"] <= result["top5"] <= 1
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_evaluation_and_saving_happen_every_so_many_epochs(tiny_config, tmp_path):
    config = tiny_config(
        **{"train.steps": 7, "train.eval_every": 0.016, "train.save_every": 0.024}
    )
    rtj.train(config, tmp_path)  # 125 steps an epoch: every 2 and every 3 steps
    rows = read_metrics(tmp_path)
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [2, 4, 6, 7]
    saved = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert saved == [6, 7]  # the newest two are kept


def test_a_stop_during_evaluation_saves_and_the_rerun_evaluates(
    tiny_config, tmp_path, monkeypatch
):
    config = tiny_config(**{"train.steps": 4, "train.eval_every": 0.016})

    def stop_first(experiment, variables, should_stop, keep_rows):
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        raise Stopped("stopped during evaluation")

    with monkeypatch.context() as patch:
        patch.setattr("rtj.loop.run_evaluation", stop_first)
        with pytest.raises(Stopped, match="SIGINT: saved step 2 of 4"):
            rtj.train(config, tmp_path)
    rtj.train(config, tmp_path)
    rows = [(r["step"], r["kind"]) for r in read_metrics(tmp_path)]
    assert rows == [
        (1, "train"),
        (2, "train"),
        (2, "eval"),
        (3, "train"),
        (4, "train"),
        (4, "eval"),
    ]


def test_the_callers_signal_handlers_are_back_after_training(tiny_config, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    rtj.train(tiny_config(**{"train.steps": 1}), tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_gradients_that_stay_non_finite_end_the_run_as_diverged(tiny_config, tmp_path):
    config = tiny_config(**{"tricks.base_lr": 1e30, "train.max_skipped_steps": 3})
    with pytest.raises(Diverged, match=r"4 steps in a row .*max_skipped_steps=3"):
        rtj.train(config, tmp_path)
    skipped = [row["skipped"] for row in read_metrics(tmp_path)]
    assert skipped[-4:] == [1, 1, 1, 1]


def test_a_workdir_of_another_config_is_refused_and_left_alone(tiny_config, tmp_path):
    rtj.train(tiny_config(**{"train.steps": 1}), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=r"train\.steps: 1 -> 2"):
        rtj.train(tiny_config(**{"train.steps": 2}), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_fields_that_change_no_result_may_differ_on_resume(tiny_config, tmp_path):
    rtj.train(tiny_config(**{"train.steps": 1}), tmp_path)
    again = tiny_config(**{"train.steps": 1, "mesh.devices": 2, "data.workers": 2})
    assert rtj.train(again, tmp_path)["step"] == 1


def test_what_ran_is_written_beside_the_metrics(tiny_config, tmp_path):
    config = tiny_config(**{"train.steps": 1})
    rtj.train(config, tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["tricks.zero_gamma"] is True
    assert stored["data.name"] == "digits"
    start = json.loads((tmp_path / "starts.jsonl").read_text())
    assert start["process_count"] == 1
    assert start["device_count"] == 8
    assert start["versions"]["jax"] == jax.__version__
    assert len(start["git_commit"].rstrip("+")) == 40
