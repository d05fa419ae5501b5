"""Signals: where one may come, and what the second does."""

import os
import signal
import subprocess
import sys

import pytest

import rtj
from rtj.checkpoint import Checkpointer
from rtj.errors import Stopped
from rtj.metrics import read_metrics


def kill_me(number):
    os.kill(os.getpid(), number)


@pytest.fixture
def signal_in(monkeypatch):
    """Calls f(place, number): that signal comes once at the next such place."""

    def patch(owner, name, number):
        real, numbers = getattr(owner, name), [number]

        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            while numbers:
                kill_me(numbers.pop())
            return result

        monkeypatch.setattr(owner, name, call)

    places = {
        "compilation": lambda: (rtj.loop.preflight, "check_compiled"),
        "a save": lambda: (Checkpointer, "save"),
        "an evaluation": lambda: (rtj.evaluation, "evaluation_batches"),
    }
    import rtj.evaluation
    import rtj.loop

    return lambda place, number: patch(*places[place](), number)


@pytest.mark.slow
def test_a_signal_anywhere_saves_once_and_the_next_call_goes_on(
    tiny_config, tmp_path, signal_in
):
    changes = {"train.steps": 8, "train.save_every": 0.016, "train.eval_every": 0.032}
    config = tiny_config(**changes)
    stops = [
        ("compilation", signal.SIGUSR1, 1),
        ("a save", signal.SIGTERM, 2),
        ("an evaluation", signal.SIGINT, 4),
    ]
    for place, number, step in stops:
        signal_in(place, number)
        name = signal.Signals(number).name
        with pytest.raises(Stopped, match=rf"{name}: saved step {step} of 8"):
            rtj.train(config, tmp_path)
        assert (tmp_path / "checkpoints" / str(step)).is_dir()
    assert rtj.train(config, tmp_path)["step"] == 8
    rows = read_metrics(tmp_path)
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(1, 9))
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [4, 8]


def test_an_interrupt_before_training_ends_at_once_with_nothing_written(
    tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr("rtj.loop.build", lambda config: kill_me(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        rtj.train(tiny_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def ready_child(repo_root):
    """Starts a program, given as text, that prints 'ready'; waits until it has."""

    def start(program):
        child = subprocess.Popen(
            [sys.executable, "-c", program], cwd=repo_root, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    return start


def test_a_second_signal_ends_at_once(ready_child):
    child = ready_child(
        "import time\n"
        "from rtj.stop import StopRequest\n"
        "with StopRequest():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "    time.sleep(60)\n"
    )
    child.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.5)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_whose_main_thread_is_in_c_code(
    ready_child, second
):
    child = ready_child(
        "import hashlib\n"
        "from rtj.stop import StopRequest, end_at_second_signal\n"
        "with end_at_second_signal(), StopRequest():\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
    )
    for number in (signal.SIGUSR1, second):
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
        child.send_signal(number)
    # The first code is a shell's for the second, of a main thread that was not there.
    assert child.wait(timeout=60) in (128 + second, -second)


def test_one_signal_alone_does_not_end_it(run_python):
    done = run_python(
        "import os, signal, time\n"
        "from rtj.stop import StopRequest, end_at_second_signal\n"
        "with end_at_second_signal(), StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    time.sleep(0.2)\n"
        "print(stop.requested, signal.set_wakeup_fd(-1))\n"
    )
    assert done.stdout == "SIGUSR1 -1\n"
