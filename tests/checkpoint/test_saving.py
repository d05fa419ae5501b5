"""Saves: what stays, what a failure does, what an older rtj wrote."""

import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import rtj
from rtj.checkpoint import Checkpointer, Retention, restore_newest
from rtj.checkpoint.files import write_listing
from rtj.checkpoint.leaves import checksums
from rtj.checkpoint.step_folders import list_steps
from rtj.errors import CheckpointError, Stopped
from rtj.parts import make_model
from rtj.saving import Saver
from rtj.sharding import make_mesh
from rtj.weights.run_folder import read_config
from tests.checkpoint.states import assert_is_step, make_state, save_steps
from tests.test_loop import stop_at

FORMAT_1 = Path(__file__).parents[1] / "fixtures/checkpoint_v1"


def test_a_checksum_is_sha256_of_the_bytes_row_by_row():
    array = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    want = hashlib.sha256(b"".join(row.tobytes() for row in array)).hexdigest()
    for given in (array, jnp.asarray(array), np.asfortranarray(array)):
        assert checksums({"a": {"b": given}}) == {"a.b": want}


def test_a_checksum_does_not_depend_on_how_devices_share_a_leaf():
    array, mesh = np.arange(64.0, dtype=np.float32).reshape(8, 8), make_mesh(8)
    axis = mesh.axis_names[0]
    sums = {
        checksums([jax.device_put(array, NamedSharding(mesh, spec))])["0"]
        for spec in (PartitionSpec(), PartitionSpec(axis), PartitionSpec(None, axis))
    }
    assert sums == {checksums([array])["0"]}


def test_training_may_change_the_state_while_it_is_saved(tmp_path):
    state = make_state(20)
    change = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(state)
        change(state)
    assert_is_step(restore_newest(tmp_path, make_state(0)).state, 20)


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(last=1), {60}),
        (Retention(last=3), {40, 50, 60}),
        (Retention(last=1, best=1), {20, 60}),
        (Retention(last=1, best=2), {20, 50, 60}),  # 50 as good as 10, and newer
        (Retention(last=1, every=20), {20, 40, 60}),
        (Retention(last=2, best=1, every=30), {20, 30, 50, 60}),
    ],
)
def test_the_newest_the_best_and_every_nth_stay(retention, kept):
    scores = {10: 0.5, 20: 0.9, 30: float("nan"), 50: 0.5, 70: 1.0}
    steps = [10, 20, 30, 40, 50, 60]
    assert set(steps) - set(retention.superfluous(steps, scores)) == kept


def test_old_checkpoints_go_when_the_newer_one_is_on_disk(tmp_path):
    retention = Retention(last=1, best=1)
    with Checkpointer(
        tmp_path, retention=retention, scores=lambda: {10: 0.3, 20: 0.9, 30: 0.5}
    ) as checkpoints:
        for step in (10, 20, 30, 40):
            checkpoints.save(make_state(step))
            checkpoints.wait()
    assert list_steps(tmp_path) == [20, 40]
    assert {p.name for p in tmp_path.iterdir()} == {"20", "40"}


def test_without_room_nothing_is_begun_and_the_error_says_how_much(
    tmp_path, monkeypatch
):
    save_steps(tmp_path, [10])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9e9, 9e9, 2e6))
    with (
        Checkpointer(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=r"step 20 .* needs 4 MB and 2 MB of disk"),
    ):
        checkpoints.save(make_state(20))
    assert {p.name for p in tmp_path.iterdir()} == {"10"}


def fail_commits(checkpoints, times):
    """Makes so many saves fail in the background."""
    real, left = checkpoints._orbax._make_on_commit_callback, [times]

    def make(*args):
        commit = real(*args)

        def fail():
            if left[0] > 0:
                left[0] -= 1
                raise OSError(28, "No space left on device")
            commit()

        return fail

    checkpoints._orbax._make_on_commit_callback = make


def test_a_failure_in_the_background_shows_and_leaves_no_half(tmp_path):
    save_steps(tmp_path, [10])
    with Checkpointer(tmp_path) as checkpoints:
        fail_commits(checkpoints, 1)
        checkpoints.save(make_state(20))
        checkpoints._orbax._async_manager._thread.join()
        with pytest.raises(CheckpointError, match=r"cannot save step 20 .*No space"):
            checkpoints.check()
        checkpoints.check()
        assert {p.name for p in tmp_path.iterdir()} == {"10"}
        checkpoints.save(make_state(20))
    assert list_steps(tmp_path) == [10, 20]


def test_one_failure_is_noted_and_the_next_state_saved(tmp_path):
    notes: list[str] = []
    with Checkpointer(tmp_path) as checkpoints:
        saver = Saver(checkpoints, notes.append, retries=True)
        saver.finish(make_state(10), None)
        fail_commits(checkpoints, 1)
        saver.save(make_state(20), None)
        checkpoints._orbax._async_manager._thread.join()
        assert saver.due()
        saver.finish(make_state(21), None)
        assert not saver.due()
    assert list_steps(tmp_path) == [10, 21]
    (note,) = notes
    assert "cannot save step 20" in note and "step 10 is on disk" in note


def test_a_second_failure_ends_with_the_last_good_step_named(tmp_path):
    with Checkpointer(tmp_path) as checkpoints:
        saver = Saver(checkpoints, lambda _: None, retries=True)
        saver.finish(make_state(10), None)
        fail_commits(checkpoints, 2)
        with pytest.raises(CheckpointError, match=r"step 20 .*; step 10 is on disk"):
            saver.finish(make_state(20), None)
    assert list_steps(tmp_path) == [10]


def test_a_failure_after_a_good_save_is_forgiven_again(tmp_path):
    notes: list[str] = []
    with Checkpointer(tmp_path) as checkpoints:
        saver = Saver(checkpoints, notes.append, retries=True)
        for step in (10, 20):
            fail_commits(checkpoints, 1)
            saver.finish(make_state(step), None)
    assert len(notes) == 2
    assert list_steps(tmp_path) == [10, 20]


def test_one_of_several_processes_does_not_try_again(tmp_path):
    with Checkpointer(tmp_path) as checkpoints:
        saver = Saver(checkpoints, lambda _: None, retries=False)
        fail_commits(checkpoints, 1)
        with pytest.raises(CheckpointError, match="no step is on disk"):
            saver.finish(make_state(10), None)


@pytest.mark.slow
def test_the_best_and_one_every_so_many_epochs_stay_after_a_stop_too(
    tiny_config, tmp_path, monkeypatch
):
    """Evaluated and saved every 2 of 125 steps, the one of every 6 to stay."""
    config = tiny_config(
        **{
            "train.steps": 11,
            "train.eval_every": 0.016,
            "train.save_every": 0.016,
            "checkpoint.keep": 1,
            "checkpoint.keep_best": 1,
            "checkpoint.keep_every": 0.048,
        }
    )
    # Of steps 2, 4, 6, once more 6, whose checkpoint is older than it, 8, 10, 11.
    top1 = iter([0.1, 0.9, 0.2, 0.2, 0.3, 0.4, 0.5])

    def evaluate(experiment, variables, should_stop, keep_rows):
        keep_rows(np.zeros((1, 3), np.int32))
        return {"top1": next(top1)}

    monkeypatch.setattr("rtj.loop.run_evaluation", evaluate)
    with pytest.raises(Stopped):
        rtj.train(config, tmp_path, callbacks=[stop_at(7)])
    rtj.train(config, tmp_path)
    saved = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert saved == [4, 6, 11]


@pytest.mark.slow
@pytest.mark.parametrize("failures", [1, 2])
def test_training_shows_a_failed_save_at_once_and_ends_at_the_second(
    failures, tiny_config, tmp_path, monkeypatch, capsys
):
    """The disk is full for so many saves, one every second step."""
    left = [failures]

    def fill_up(folder):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        return write_listing(folder)

    monkeypatch.setattr("rtj.checkpoint.writing.write_listing", fill_up)
    config = tiny_config(**{"train.steps": 8, "train.save_every": 0.016})
    if failures == 2:
        with pytest.raises(CheckpointError, match=r"No space .* no step is on disk"):
            rtj.train(config, tmp_path)
        assert list_steps(tmp_path / "checkpoints") == []
    else:
        assert rtj.train(config, tmp_path)["step"] == 8
        assert max(list_steps(tmp_path / "checkpoints")) == 8
    out = capsys.readouterr().out
    assert out.count("cannot save step 2 ") == 1
    assert out.count("trying once more") == 1


@pytest.mark.slow
def test_a_run_of_format_1_goes_on_and_gives_its_weights(tmp_path, tfds_data_dir):
    """Made by rtj before there were checksums: 4 steps, then top-1 12 of 100 and loss
    2.27869."""
    workdir = shutil.copytree(FORMAT_1, tmp_path / "run")
    record = json.loads((workdir / "checkpoints/4/metadata/metadata").read_text())
    assert record["format_version"] == 1
    config = read_config(workdir)
    result = rtj.train(config, workdir)
    assert (result["step"], result["top1"]) == (4, 0.12)
    assert result["loss"] == pytest.approx(2.27869, abs=1e-4)
    weights = rtj.load_weights(make_model(config, 10), workdir)
    assert set(weights) == {"params", "batch_stats"}
