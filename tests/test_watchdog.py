"""The watchdog: what counts as progress, what it shows, whom it tells."""

import os
import threading
import time
import warnings

import pytest

import rtj
from rtj import watchdog
from rtj.checkpoint import Checkpointer
from rtj.errors import NoProgress
from rtj.peers import Peers
from rtj.watchdog import Watchdog, show_stacks


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Stalls:
    """An `on_stall` that keeps what it is given."""

    def __init__(self):
        self.messages, self.changed = [], threading.Condition()

    def __call__(self, error):
        assert isinstance(error, NoProgress)
        with self.changed:
            self.messages.append(str(error))
            self.changed.notify_all()

    def wait_for(self, text, timeout=60):
        with self.changed:
            return self.changed.wait_for(
                lambda: any(text in message for message in self.messages), timeout
            )


def test_the_limit_is_stall_s_or_twenty_of_the_longest_recent_step(tmp_path):
    clock = Clock()
    dog = Watchdog(600, tmp_path, clock=clock)

    def steps(count, seconds):
        for _ in range(count):
            clock.now += seconds
            dog.progress()

    assert dog.limit() == 6000
    with dog.during("training"):
        steps(2, 500)  # the first is compiled, and has ended with the second
        assert dog.limit() == 600
        steps(1, 40)
        assert dog.limit() == 800
        steps(99, 1)
        assert dog.limit() == 800
        with dog.during("saving"):
            clock.now += 1000
            assert dog.limit() == 800
        steps(1, 1)
        assert dog.limit() == 600
        steps(1, 601)  # a stall
        assert dog.limit() == 600
        with dog.during("evaluation"):
            assert dog.limit() == 6000
            steps(3, 31)
            assert dog.limit() == 620
        assert dog.limit() == 620


def test_a_stall_is_called_once_and_again_after_progress(tmp_path):
    for name in ("12", "7", "14.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "file").touch()
    stalls = Stalls()
    with Watchdog(0.1, tmp_path, on_stall=stalls) as dog:
        for step in (12, 13):
            dog.progress(step)
        assert stalls.wait_for("at step 13 (start)")
        assert not stalls.wait_for("nothing", timeout=0.5)
        assert len(stalls.messages) == 1
        dog.progress(14)
        assert stalls.wait_for("at step 14 (start)")
    stacks = tmp_path / "stacks-0.txt"
    assert "test_a_stall_is_called_once" in stacks.read_text()
    for said in (f"in {stacks}", "checkpoint is of step 12;", "run the same command"):
        assert said in stalls.messages[0]


def test_steps_in_time_are_no_stall_and_0_watches_nothing(tmp_path):
    def watching():
        return "rtj-watchdog" in [thread.name for thread in threading.enumerate()]

    stalls = Stalls()
    with Watchdog(0, tmp_path, on_stall=stalls) as dog:
        assert not watching()
        dog.progress(1)
    with Watchdog(60, tmp_path, on_stall=stalls) as dog:
        assert watching()
        dog.progress(1)
    assert not watching()
    assert stalls.messages == []


def test_time_in_which_the_whole_process_was_stopped_does_not_count(tmp_path):
    clock, stalls = Clock(), Stalls()
    with Watchdog(1, tmp_path, on_stall=stalls, clock=clock) as dog:
        for step in (1, 2):
            dog.progress(step)
        time.sleep(0.3)  # it has seen that
        clock.now += 1e6
        assert not stalls.wait_for("no progress", timeout=0.5)


def test_a_disk_that_does_not_answer_delays_the_end_only_so_long(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(watchdog, "_DISK_S", 0.2)
    pipe = tmp_path / "stacks-0.txt"
    os.mkfifo(pipe)  # to open it for writing waits for a reader
    assert show_stacks(pipe) == "above"
    assert "test_a_disk_that_does_not_answer" in capfd.readouterr().err
    with pipe.open() as reader:
        assert "test_a_disk_that_does_not_answer" in reader.read()


def test_a_library_warns(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watchdog.warn(NoProgress("no progress for 600 s"))
    assert [str(w.message) for w in caught] == ["rtj: no progress for 600 s"]


class Board(Peers):
    """Of several processes in one: what is posted, all read."""

    texts: dict[str, str] = {}  # noqa: RUF012 (shared by all, for one test)

    def post(self, name, text):
        self.texts.setdefault(name, text)

    def read(self, name):
        return self.texts.get(name)


@pytest.mark.slow
def test_the_first_that_notices_tells_the_others(tmp_path):
    quick, slow = Stalls(), Stalls()
    with (
        Watchdog(0.1, tmp_path, Board(0, 2), quick) as first,
        Watchdog(9, tmp_path, Board(1, 2), slow) as second,
    ):
        for dog in (first, second):
            dog.progress(5)
            dog.progress(6)
        assert quick.wait_for("process 0 of 2")
        assert slow.wait_for("process 0 of 2")
        second.progress(7)  # it goes on, where `on_stall` lets it
        assert not slow.wait_for("at step 7", timeout=2)
    assert "first to notice" not in quick.messages[0]
    assert slow.messages[0].startswith("process 1 of 2 (")
    assert ") was the first to notice" in slow.messages[0]
    assert (tmp_path / "stacks-1.txt").exists()


def test_the_command_line_ends_with_7_whatever_the_main_thread_is_stuck_in(
    run_python, tmp_path
):
    program = (
        "import functools, hashlib, pathlib\n"
        "from rtj.distributed import end_stalled\n"
        "from rtj.watchdog import Watchdog\n"
        "end = functools.partial(end_stalled, None)\n"
        f"with Watchdog(0.2, pathlib.Path({str(tmp_path)!r}), on_stall=end) as dog:\n"
        "    dog.progress(1)\n"
        "    dog.progress(2)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
    )
    done = run_python(program, timeout=60)
    assert done.returncode == NoProgress.exit_code == 7, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rtj: no progress for ")
    assert "checkpoint does not exist" in last
    assert done.stderr.count("rtj: ") == 1
    assert 'File "<string>", line 8 in <module>' in done.stderr


@pytest.fixture
def run_that_stalls(tiny_config, tmp_path, monkeypatch):
    """A run that stalls in a step, a save and an evaluation; gets on when noticed."""
    import rtj.evaluation

    stalls = Stalls()
    config = tiny_config(**{"train.steps": 6, "train.stall_s": 0.3})
    real_save, real_batches = Checkpointer.save, rtj.evaluation.evaluation_batches

    def save(*args):
        assert stalls.wait_for("(saving)")
        return real_save(*args)

    def batches(experiment):
        assert stalls.wait_for("(evaluation)")
        return real_batches(experiment)

    monkeypatch.setattr(Checkpointer, "save", save)
    monkeypatch.setattr(rtj.evaluation, "evaluation_batches", batches)
    return config, tmp_path, stalls


@pytest.mark.slow
def test_a_run_notices_a_stall_in_steps_saves_and_evaluations_and_goes_on(
    run_that_stalls,
):
    config, workdir, stalls = run_that_stalls

    def callback(step, _):
        assert step != 4 or stalls.wait_for("at step 4 (training)")

    result = rtj.train(config, workdir, callbacks=[callback], on_stall=stalls)
    assert result["step"] == 6
    stalls.messages.clear()
    evaluated = rtj.evaluate(config, workdir, on_stall=stalls)
    assert evaluated["top1"] == result["top1"]
    assert any("at step 6 (evaluation)" in message for message in stalls.messages)
