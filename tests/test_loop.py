"""The loop: stop and resume bit-equal, finished runs, evaluation on time."""

import json
import os
import re
import resource
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtj
from rtj.checkpoint import restore_newest
from rtj.classification import Classification
from rtj.config import set_field
from rtj.data import order
from rtj.errors import CheckpointError, ConfigError, Diverged, Stopped
from rtj.experiment import build
from rtj.metrics import read_metrics
from rtj.skipped import read_skipped


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_gradients_that_stay_non_finite_end_the_run_as_diverged(
    tiny_config, tmp_path, capsys
):
    config = tiny_config(
        **{
            "tricks.base_lr": 1e30,
            "train.max_skipped_steps": 3,
            "train.save_every": 0.008,  # each step
        }
    )
    with pytest.raises(Diverged) as caught:
        rtj.train(config, tmp_path)
    rows = read_metrics(tmp_path)
    assert [row["skipped"] for row in rows[-4:]] == [1, 1, 1, 1]
    last, lr = rows[-1]["step"], rows[-1]["lr"]
    skips = read_skipped(tmp_path)
    assert [skip["step"] for skip in skips] == list(range(last - 3, last + 1))
    for skip, row in zip(skips, rows[-4:], strict=True):
        ids = order.example_ids(config.seed, 32, 4000, skip["step"] - 1)
        np.testing.assert_array_equal(skip["index"], ids)
        assert (skip["lr"], skip["reason"]) == (row["lr"], "not finite")
    data = build(config).train_source
    assert skips[0]["names"] == [data[i]["id"] for i in skips[0]["index"]]
    first = skips[-1]["index"][0]
    message = (
        rf"step {last}: 4 steps in a row .*max_skipped_steps=3\. .*gradient norm "
        rf"(nan|inf), learning rate {re.escape(f'{lr:g}')}; examples {first} \('.*"
        rf"newest checkpoint: step {last - 1}"
    )
    assert re.search(message, str(caught.value))
    assert f"step {last - 3} skipped: loss" in capsys.readouterr().out
    log = (tmp_path / "log.txt").read_text().splitlines()
    assert log[-1].endswith(f"Z rtj: {caught.value}")


@pytest.mark.slow
def test_a_loss_that_jumps_ends_the_run_before_it_is_saved(
    tiny_config, tmp_path, monkeypatch
):
    real = Classification.__call__

    def jumping(self, params, state, *rest):
        loss, (stats, sums) = real(self, params, state, *rest)
        factor = jnp.where(state.step == 24, 1e3, 1)
        return loss * factor, (stats, sums | {"loss": sums["loss"] * factor})

    monkeypatch.setattr(Classification, "__call__", jumping)
    config = tiny_config(**{"train.steps": 50, "train.save_every": 0.04})
    set_field(config, "train.max_loss_ratio", 50.0)
    with pytest.raises(Diverged, match=r"step 25: .*=50\. .*checkpoint: step 20"):
        rtj.train(config, tmp_path)  # saves every 5 steps
    assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == 20
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, 26))
    (skip,) = read_skipped(tmp_path)
    assert (skip["step"], skip["reason"], skip["checkpoint"]) == (25, "loss ratio", 20)


def test_the_log_has_what_the_console_had(tiny_config, tmp_path, capsys):
    config = tiny_config(**{"train.steps": 2})
    result = rtj.train(config, tmp_path)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    shown = [line.split("Z ", maxsplit=1)[1] for line in lines]
    assert shown[:-1] == capsys.readouterr().out.splitlines()
    assert shown[-1] == f"finished: {json.dumps(result)}"


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_loses_no_checkpoint(
    tiny_config, tmp_path
):
    config = tiny_config(**{"train.steps": 6, "train.save_every": 0.016})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, _):
        if step == 5:
            end = time.monotonic() + 60
            while not (tmp_path / "checkpoints/4").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            size = (tmp_path / "metrics.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))

    try:
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl' cannot be written"):
            rtj.train(config, tmp_path, callbacks=[fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert rtj.train(config, tmp_path)["step"] == 6
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6, 6]
    log = (tmp_path / "log.txt").read_text()
    assert re.search(r"step 5/6(.*\n)+.*Z resuming at step 4\n.*step 5/6", log)


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


@pytest.mark.slow
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
