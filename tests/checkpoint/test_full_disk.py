"""A disk without room, in a real process: exit 6, and the checkpoint before is good."""

import json
import os
import resource
import subprocess
import sys
import time

import pytest

from rtj.checkpoint import newest_step
from tests.process_runs import FLAGS, ROOT


@pytest.mark.slow
def test_a_disk_that_fills_ends_the_run_with_6_and_room_lets_it_go_on(tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "rtj.main", *FLAGS, f"--workdir={workdir}"]
    command += ["--config.train.save_every=0.04", "--config.train.log_every=1000"]
    command += ["--config.train.steps=100", "--config.mesh.devices=1"]

    def start():
        return subprocess.Popen(
            command,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    child = start()
    while newest_step(workdir / "checkpoints") is None and child.poll() is None:
        time.sleep(0.005)
    # As if the disk were full: no file may grow beyond 4 KiB.
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    out, error = child.communicate(timeout=300)
    assert child.returncode == 6, error
    # Beside ours, even within our line, asyncio tells of what was still being written.
    assert f'File "{ROOT / "rtj"}/' not in error
    assert "trying once more" in out
    saved = newest_step(workdir / "checkpoints")
    assert error.count("rtj: cannot save step ") == 1
    assert f"step {saved} is on disk" in error

    child = start()
    out, error = child.communicate(timeout=300)
    assert child.returncode == 0, error
    assert f"resuming at step {saved}" in out
    assert json.loads(out.splitlines()[-1])["step"] == 100
    names = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert all(name.isdecimal() for name in names)
