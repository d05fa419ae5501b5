"""Two runs in one workdir, the other one a real process."""

import errno
import fcntl
import subprocess
import sys
from contextlib import contextmanager

import pytest

import rtj
from rtj.errors import ConfigError
from rtj.workdir import LOCK_FILE, check_workdir
from rtj.workdir_lock import locked

HOLD = """
import sys, time
from pathlib import Path
from rtj.workdir_lock import locked
with locked(Path(sys.argv[1]), 0.0):
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def other_run(workdir, seconds):
    """Another process that has the lock, for so many seconds if nobody kills it."""
    command = [sys.executable, "-c", HOLD, str(workdir), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_second_run_is_told_who_trains_there_and_a_killed_one_lets_go(tmp_path):
    with other_run(tmp_path, 600) as other:
        with (
            pytest.raises(ConfigError, match=rf"in use by process {other.pid} of "),
            locked(tmp_path, 0.1),
        ):
            pass
        other.kill()
        other.wait()
        with locked(tmp_path, 0.0):
            pass


def test_a_second_run_waits_for_one_that_is_about_to_end(tmp_path, capsys):
    with other_run(tmp_path, 1), locked(tmp_path, 60.0):
        assert "waiting 60 s" in capsys.readouterr().err


def test_the_lock_is_free_after_an_error_of_the_same_process(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), locked(tmp_path, 0.0):
            raise RuntimeError


def test_training_in_a_locked_workdir_leaves_it_as_it_was(tmp_path, tiny_config):
    config = tiny_config(**{"mesh.wait_s": 1.0})
    workdir = tmp_path / "run"
    with locked(workdir, 0.0):
        with pytest.raises(ConfigError, match="in use by process"):
            rtj.train(config, workdir)
        assert [path.name for path in workdir.iterdir()] == [LOCK_FILE]
    check_workdir(workdir, config)  # still a new one


def test_a_file_system_without_locks_is_told_and_used(tmp_path, capsys, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path, 0.0):
        error = capsys.readouterr().err
        assert "cannot be locked" in error and "No locks available" in error


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        locked(tmp_path / "file" / "run", 0.0),
    ):
        pass
