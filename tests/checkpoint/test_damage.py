"""Whatever happens to the files, what is restored is what was saved, and the newest."""

import json
import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.checkpoint import (
    Checkpointer,
    newest_step,
    newest_variables,
    restore_newest,
    restore_variables,
)
from rtj.checkpoint.record import _hash
from rtj.checkpoint.step_folders import remove_leftovers
from rtj.errors import CheckpointError
from tests.checkpoint.states import (
    EVALUATION,
    assert_is_step,
    make_state,
    save_steps,
)

LIKE = make_state(0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    save_steps(directory)
    return directory


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "checkpoints")


def files(step_folder):
    return sorted(p for p in step_folder.rglob("*") if p.is_file())


def restored_step(directory):
    """Which step is restored; it is that, to the last bit."""
    restored = restore_newest(directory, LIKE)
    step = int(restored.state.step)
    assert_is_step(restored.state, step)
    assert restored.evaluation == EVALUATION
    assert len(restored.passed_over) == (0 if step == 20 else 1)
    return step


def test_the_newest_of_two_whole_ones_is_restored(whole):
    assert restored_step(whole) == 20


def test_one_flipped_bit_in_any_file_never_gives_other_numbers(copy):
    fell_back = set()
    for path in files(copy / "20"):
        original = path.read_bytes()
        rng = np.random.default_rng(len(original))
        for place in rng.integers(0, 8 * len(original), 4).tolist():
            damaged = bytearray(original)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(damaged)
            if restored_step(copy) == 10:
                fell_back.add(path.parent.name)
        path.write_bytes(original)
    # Numbers and names of arrays, and our own record.
    assert fell_back >= {"d", "metadata"}
    assert restored_step(copy) == 20


@pytest.mark.parametrize("how", ["half", "empty", "gone"])
def test_a_file_cut_short_or_gone_never_gives_other_numbers(copy, how):
    fell_back = set()
    for path in files(copy / "20"):
        original = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(original[: len(original) // 2 if how == "half" else 0])
        if restored_step(copy) == 10:
            fell_back.add(path.parent.name)
        path.write_bytes(original)
    assert fell_back >= {"d", "metadata"}


def test_files_of_another_step_never_give_a_mixture(copy):
    """Numbers of step 10 in the place of those of 20, with all that belongs to them."""
    shutil.rmtree(copy / "20" / "state")
    shutil.copytree(copy / "10" / "state", copy / "20" / "state")
    assert restored_step(copy) == 10


def test_the_record_of_another_step_is_found_out(copy):
    shutil.copy(copy / "10/metadata/metadata", copy / "20/metadata/metadata")
    assert restored_step(copy) == 10


def test_a_step_under_the_name_of_a_later_one_is_found_out(copy):
    os.rename(copy / "20", copy / "30")
    restored = restore_newest(copy, LIKE)
    assert_is_step(restored.state, 10)
    assert "it holds step 20" in restored.passed_over[0]


def test_what_a_checksum_finds_is_named(copy):
    # One number, in a checkpoint whose files are all as they were written.
    state = make_state(20)
    shutil.rmtree(copy / "20")
    record = json.loads((copy / "10/metadata/metadata").read_text())
    bias = state.params["fc"]["bias"].at[3].add(1e-6)
    other = state.replace(params=state.params | {"fc": {"bias": bias}})
    with Checkpointer(copy) as checkpoints:
        checkpoints.save(other)
    path = copy / "20/metadata/metadata"
    changed = json.loads(path.read_text())
    changed["sha256"]["params.fc.bias"] = record["sha256"]["params.fc.bias"]
    del changed["own_sha256"]
    path.write_text(json.dumps(changed | {"own_sha256": _hash(changed)}))
    restored = restore_newest(copy, LIKE)
    assert_is_step(restored.state, 10)
    assert "params.fc.bias does not have its checksum" in restored.passed_over[0]


def test_a_damaged_one_is_set_aside_and_its_step_can_be_saved_again(copy):
    for path in files(copy / "20" / "state" / "d"):
        path.write_bytes(b"")
    restored = restore_newest(copy, LIKE, mend=True)
    assert_is_step(restored.state, 10)
    assert str(copy / "set-aside" / "20") in restored.passed_over[0]
    assert newest_step(copy) == 10
    save_steps(copy, [20])
    assert restored_step(copy) == 20
    (copy / "20/metadata/metadata").unlink()
    restore_newest(copy, LIKE, mend=True)
    assert {p.name for p in (copy / "set-aside").iterdir()} == {"20", "20.2"}


def test_without_mending_nothing_is_moved(copy):
    (copy / "20/metadata/metadata").unlink()
    assert restored_step(copy) == 10
    assert {p.name for p in copy.iterdir()} == {"10", "20"}


def test_if_none_is_whole_it_is_an_error_that_names_all_and_moves_none(copy):
    for step in ("10", "20"):
        (copy / step / "metadata/metadata").unlink()
    with pytest.raises(
        CheckpointError, match=r"whole \(step 20: its .+; step 10: its "
    ):
        restore_newest(copy, LIKE, mend=True)
    assert {p.name for p in copy.iterdir()} == {"10", "20"}


def test_without_any_it_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint under"):
        restore_newest(tmp_path / "none", LIKE)


def test_leftovers_of_a_kill_do_not_count_and_are_removed(copy):
    (copy / "30").mkdir()
    (copy / "40/state").mkdir(parents=True)
    (copy / "50.orbax-checkpoint-tmp").mkdir()
    (copy / "50.orbax-checkpoint-tmp/half").write_bytes(b"1")
    (copy / "5.deleting/state").mkdir(parents=True)
    assert newest_step(copy) == 20
    assert restored_step(copy) == 20
    names = ["30", "40", "5.deleting", "50.orbax-checkpoint-tmp"]
    assert remove_leftovers(copy) == names
    assert {p.name for p in copy.iterdir()} == {"10", "20"}


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            make_state(0, dtype=jnp.bfloat16),
            r"batch_stats\.bn is float32\[300\]; .* needs it to be bfloat16\[300\]",
        ),
        (make_state(0, width=301), r"batch_stats\.bn is float32\[300\]; .*\[301\]"),
        (LIKE.replace(opt_state=()), r"opt_state\.0\..* needs it to be absent"),
        (
            LIKE.replace(params=LIKE.params | {"new": jnp.zeros(2)}),
            r"params\.new is missing; this config needs it to be float32\[2\]",
        ),
    ],
    ids=["dtype", "shape", "absent", "missing"],
)
def test_another_config_is_an_error_that_names_the_leaf(copy, like, message):
    with pytest.raises(CheckpointError, match="cannot restore step 20 .*" + message):
        restore_newest(copy, like, mend=True)
    assert {p.name for p in copy.iterdir()} == {"10", "20"}


def test_a_format_to_come_is_an_error_and_no_damage(copy):
    path = copy / "20/metadata/metadata"
    record = json.loads(path.read_text()) | {"format_version": 3}
    del record["own_sha256"]
    path.write_text(json.dumps(record | {"own_sha256": _hash(record)}))
    for restore in (lambda: restore_newest(copy, LIKE), lambda: newest_variables(copy)):
        with pytest.raises(CheckpointError, match="format 3; this rtj reads 1 and 2"):
            restore()


def test_weights_alone_are_checked_too(copy, caplog):
    variables, want = newest_variables(copy), make_state(20)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], want.params)
    path = max(files(copy / "20/state/d"), key=lambda p: p.stat().st_size)
    original, wrong = path.read_bytes(), 0
    for place in range(7, len(original), len(original) // 8):
        damaged = bytearray(original)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        try:
            variables = restore_variables(copy / "20")
        except CheckpointError:
            wrong += 1
        else:  # a bit of the optimizer's
            jax.tree.map(
                np.testing.assert_array_equal, variables["params"], want.params
            )
    assert wrong > 0
    (copy / "20/metadata/metadata").unlink()
    with caplog.at_level(logging.WARNING):
        variables = newest_variables(copy)
    older = make_state(10)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], older.params)
    assert "its metadata cannot be read" in caplog.text
