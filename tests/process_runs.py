"""Runs of rtj in several processes of this machine, for the tests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH, EXAMPLES = 20, 32, 4000
FLAGS = [
    f"--config={ROOT}/configs/ablation.py:zero_gamma,data=digits",
    "--config.model.small_images=True",
    # Of two devices: of one process in 2 x 2, of two in 4 x 1.
    "--config.model.bn_group_size=16",
    f"--config.train.batch_size={BATCH}",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=1",
    "--config.train.eval_every=0.0",
    "--config.train.save_every=0.0",
    "--config.data.image_size=14",
    "--config.data.eval_resize=14",
    "--config.data.eval_split=test[:37]",
    # CALM of test_steps.py.
    "--config.tricks.base_lr=0.001",
    "--config.tricks.warmup_epochs=0.0",
    "--config.model.width=8",
]
LAYOUTS = {"1x4": (1, 4), "2x2": (2, 2), "4x1": (4, 1)}


@dataclass
class Process:
    """What one process left."""

    code: int
    out: str
    err: str
    seen: list


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_processes(
    folder, layout, flags=(), faults=None, started=None, folders=None, timeout=150
):
    """Runs FLAGS and `flags` in processes of `layout`; their ends, in order.

    `faults`, `folders` (current directories) and lists in `flags` are by process;
    only the first `started` processes are started. One that stops itself (SIGSTOP) goes
    on (SIGCONT) once the others have ended.
    """
    count, devices = LAYOUTS[layout] if isinstance(layout, str) else layout
    folder.mkdir(parents=True, exist_ok=True)
    port, children = free_port(), []
    for index in range(count if started is None else started):
        seen = folder / f"seen-{index}.json"
        seen.unlink(missing_ok=True)
        fault = (faults or {}).get(index, "")
        own = [flag[index] if isinstance(flag, list) else flag for flag in flags]
        cluster = [
            f"--coordinator=localhost:{port}",
            f"--processes={count}",
            f"--process={index}",
        ]
        command = [sys.executable, str(ROOT / "tests/process_worker.py"), str(seen)]
        command += [fault, *FLAGS, *own, *(cluster if count > 1 else [])]
        own_env = {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
        with (
            (folder / f"{index}.out").open("w") as out,
            (folder / f"{index}.err").open("w") as err,
        ):
            child = subprocess.Popen(
                command,
                cwd=folders[index] if folders else folder,
                env=os.environ | own_env,
                stdout=out,
                stderr=err,
            )
        children.append(child)
    stopped = [i for i, f in (faults or {}).items() if f.startswith("SIGSTOP")]
    try:
        codes = _wait_for_all(children, stopped, time.monotonic() + timeout)
    finally:
        for child in children:
            child.kill()
    ended = []
    for index, code in enumerate(codes):
        seen = folder / f"seen-{index}.json"
        ended.append(
            Process(
                code,
                (folder / f"{index}.out").read_text(),
                (folder / f"{index}.err").read_text(),
                json.loads(seen.read_text()) if seen.exists() else [],
            )
        )
    return ended


def _wait_for_all(children, stopped, end):
    codes = {}
    for index in sorted(range(len(children)), key=lambda index: index in stopped):
        if index in stopped:
            children[index].send_signal(signal.SIGCONT)
        codes[index] = children[index].wait(max(end - time.monotonic(), 0.1))
    return [codes[index] for index in range(len(children))]


def assert_all_end(processes, code, message):
    for process in processes:
        assert process.code == code, process.err
        assert re.search(message, process.err), process.err
        assert "Traceback" not in process.err
