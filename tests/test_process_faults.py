"""Real processes: faults that are named, at the start and later."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from rtj.data import order
from rtj.metrics import read_metrics
from rtj.skipped import read_skipped
from rtj.workdir_lock import locked
from tests.process_runs import (
    BATCH,
    EXAMPLES,
    assert_all_end,
    free_port,
    run_processes,
)

WAIT = "--config.mesh.wait_s=10"


@pytest.mark.slow
def test_a_process_with_another_config_is_named(tmp_path):
    steps = [f"--config.train.steps={n}" for n in (20, 21)]
    flags = [WAIT, steps, f"--workdir={tmp_path / 'run'}"]
    processes = run_processes(tmp_path, (2, 1), flags, timeout=60)
    message = r"process 1 \(.+\) has config train\.steps 21; process 0 \(.+\) has 20"
    assert_all_end(processes, 2, message)
    assert not (tmp_path / "run").exists()


def make_photos(folder: Path, per_class: int) -> Path:
    from PIL import Image

    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (folder / "photos" / split / label).mkdir(parents=True)
            for number in range(per_class):
                color = (number, 50, 200 if label == "cat" else 0)
                path = folder / "photos" / split / label / f"{number}.png"
                Image.new("RGB", (16, 16), color).save(path)
    return folder


@pytest.mark.slow
def test_a_process_with_other_images_is_named(tmp_path):
    # The same name, in the processes' own directories.
    folders = [make_photos(tmp_path / f"host{i}", 20 + i) for i in range(2)]
    flags = [
        WAIT,
        "--config.data.name=folder:photos",
        "--config.data.eval_split=val",
        f"--workdir={tmp_path / 'run'}",
    ]
    processes = run_processes(tmp_path, (2, 1), flags, folders=folders, timeout=60)
    message = (
        r"process 1 \(.+\) has train images 42; process 0 \(.+\) has 40; "
        r"process 1 .+ has train fingerprint \w+; process 0"
    )
    assert_all_end(processes, 5, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_workdir_that_one_process_has_for_itself_is_named(tmp_path):
    folders = [tmp_path / name for name in ("host0", "host1")]
    for folder in folders:
        folder.mkdir()
    processes = run_processes(
        tmp_path, (2, 1), [WAIT, "--workdir=run"], folders=folders, timeout=60
    )
    message = r"workdir='run' is not one folder .* not seen by process 1 \("
    assert_all_end(processes, 2, message)
    assert not (folders[0] / "run/checkpoints").exists()


@pytest.mark.slow
def test_all_processes_are_told_that_another_run_has_the_workdir(tmp_path):
    with locked(tmp_path / "run", 0.0):
        flags = [WAIT, f"--workdir={tmp_path / 'run'}"]
        processes = run_processes(tmp_path, (2, 1), flags, timeout=60)
        assert_all_end(processes, 2, rf"in use by process {os.getpid()} of ")


@pytest.mark.slow
def test_a_process_that_never_starts_is_named(tmp_path):
    flags = [WAIT, f"--workdir={tmp_path / 'run'}"]
    begun = time.monotonic()
    processes = run_processes(tmp_path, (3, 1), flags, started=2, timeout=60)
    message = r"process 2 of 3 not seen at the start within 10 s; there: 0 \(.+\), 1 \("
    assert_all_end(processes, 7, message)
    assert time.monotonic() - begun < 40


@pytest.mark.slow
def test_without_process_0_the_others_say_so(tmp_path):
    flags = [
        "--config.mesh.wait_s=3",
        f"--workdir={tmp_path / 'run'}",
        f"--coordinator=localhost:{free_port()}",
        "--processes=2",
        "--process=1",
    ]
    processes = run_processes(tmp_path, (1, 1), flags, timeout=60)
    assert_all_end(processes, 7, r"process 0 of 2 not seen at localhost:\d+ within 3 s")


@pytest.mark.slow
def test_a_process_about_to_run_another_program_is_named(tmp_path):
    flags = [WAIT, f"--workdir={tmp_path / 'run'}"]
    processes = run_processes(tmp_path, (2, 2), flags, faults={1: "program"})
    assert_all_end(processes, 2, r"process 1 .* has StableHLO of the train step \w+;")
    assert read_metrics(tmp_path / "run") == []


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_with_its_code_and_message(tmp_path):
    flags = [f"--workdir={tmp_path / 'run'}"]
    processes = run_processes(tmp_path, "2x2", flags, faults={1: "DataError:4"})
    assert_all_end(processes, 5, "the disk of this host is gone")
    assert re.search(r"process 1 \(.+\) failed", processes[0].err)


@pytest.mark.slow
def test_a_second_signal_in_a_save_ends_at_once_and_the_checkpoint_before_restores(
    tmp_path,
):
    flags = [f"--workdir={tmp_path / 'run'}", "--config.train.save_every=0.016"]
    (killed,) = run_processes(
        tmp_path, (1, 1), flags, faults={0: "SIGUSR1+SIGTERM:save"}
    )
    assert killed.code in (-signal.SIGTERM, 128 + signal.SIGTERM), killed.err
    (again,) = run_processes(tmp_path, (1, 1), flags)
    assert again.code == 0, again.err
    assert re.search(r"resuming at step [24]\b", again.out)


@pytest.mark.slow
def test_two_processes_end_a_diverged_run_with_the_examples_of_both(tmp_path):
    flags = [
        "--config.tricks.base_lr=1e30",
        "--config.train.max_skipped_steps=1",
        f"--workdir={tmp_path / 'run'}",
    ]
    processes = run_processes(tmp_path, (2, 1), flags, timeout=120)
    message = r"step \d+: 2 steps in a row .* examples \d+ \('.*\(all 32 in skipped"
    assert_all_end(processes, 4, message)
    skips = read_skipped(tmp_path / "run")
    assert len(skips) == 2
    for skip in skips:
        wanted = order.example_ids(0, BATCH, EXAMPLES, skip["step"] - 1)
        assert skip["index"] == wanted.tolist()
        assert len(set(skip["names"])) == BATCH
    log = (tmp_path / "run/log.txt").read_text()
    assert re.search(message, log.splitlines()[-1])
