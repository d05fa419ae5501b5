"""Rates and the progress line under a fake clock, and the bar on a real terminal."""

import io
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from rtj.progress import Progress, Rate, format_duration


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def test_rate_leaves_out_the_first_step_and_pauses(clock):
    rate = Rate(clock)
    clock.pass_(100)  # compiling
    rate.mark(1)
    assert (rate.recent, rate.mean) == (None, None)
    clock.pass_(2)
    rate.mark(5)
    assert (rate.recent, rate.mean) == (2.0, 2.0)
    clock.pass_(1)
    with rate.pause():
        clock.pass_(500)
    clock.pass_(1)
    rate.mark(13)
    assert (rate.recent, rate.mean) == (4.0, 3.0)


def test_a_pause_that_ends_with_an_error_still_ends(clock):
    rate = Rate(clock)
    rate.mark(0)

    def fail_in_a_pause():
        with rate.pause():
            clock.pass_(60)
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_a_pause()
    clock.pass_(2)
    rate.mark(2)
    assert rate.mean == 1.0


def test_plain_line_is_as_documented(clock, capsys):
    # The 119 steps after the first take 3.09 s, so the other 380 need 9.85 s.
    progress = Progress(500, 32, 500 / 15.8, clock=clock)
    clock.pass_(60)
    progress.update(1)
    clock.pass_(119 * 32 / 1234)
    with progress.pause():
        clock.pass_(1000)
    progress.update(120, {"loss": 0.21304, "lr": 0.2})
    assert capsys.readouterr().out == (
        "step 120/500 (24.0%) epoch 3.8 loss 0.213 lr 0.2 1234 img/s 0:00:10 left\n"
    )


def test_first_line_promises_no_rate_and_no_time(clock, capsys):
    progress = Progress(10, 8, 5, clock=clock)
    progress.update(1, {"loss": 2.5})
    assert capsys.readouterr().out == "step 1/10 (10.0%) epoch 0.2 loss 2.5\n"
    assert progress.images_per_s is None


def test_rate_is_of_the_last_log_and_time_left_of_the_session(clock, capsys):
    progress = Progress(1000, 10, 100, start_step=500, clock=clock)
    progress.update(501)
    for step, seconds in [(511, 10), (521, 30)]:
        clock.pass_(seconds)
        progress.update(step, {})
    # 20 steps in 40 s leave 479 steps at 2 s; the last 10 steps took 3 s each.
    assert capsys.readouterr().out.splitlines()[-1] == (
        "step 521/1000 (52.1%) epoch 5.2 3 img/s 0:15:58 left"
    )
    assert progress.images_per_s == 5.0


@pytest.mark.parametrize("terminal", [False, True])
def test_disabled_progress_is_silent_but_measures(clock, capsys, monkeypatch, terminal):
    screen = Terminal()
    if terminal:
        monkeypatch.setattr(sys, "stderr", screen)
    progress = Progress(10, 8, 5, enabled=False, clock=clock)
    progress.update(1)
    clock.pass_(1)
    progress.update(2, {"loss": 1.0})
    progress.note("a note")
    progress.close()
    assert progress.images_per_s == 8.0
    assert capsys.readouterr() == ("", "")
    assert screen.getvalue() == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_gets_plain_lines_at_log_steps_and_notes(clock, monkeypatch, terminal):
    if terminal:
        monkeypatch.setattr(sys, "stderr", Terminal())
    logged: list[str] = []
    progress = Progress(10, 8, 5, clock=clock, log=logged.append)
    progress.update(1)
    progress.update(2, {"loss": 2.5})
    progress.note("a note")
    progress.close()
    assert logged == ["step 2/10 (20.0%) epoch 0.4 loss 2.5", "a note"]


def test_disabled_progress_logs_nothing(clock):
    logged: list[str] = []
    progress = Progress(10, 8, 5, enabled=False, clock=clock, log=logged.append)
    progress.update(1, {"loss": 1.0})
    progress.note("a note")
    assert logged == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (360000, "100:00:00")],
)
def test_duration_is_hours_minutes_seconds(seconds, text):
    assert format_duration(seconds) == text


BAR_PROGRAM = """
from rtj.progress import Progress
now = iter(range(1000))
progress = Progress(40, 10, 20, start_step=10, clock=lambda: next(now))
progress.update(20, {"loss": 3.0})
progress.note("a note between")
progress.update(30, {"loss": 0.5})
progress.close()
print("after the bar")
"""


def run_on_terminal(program, columns, stdout=None):
    """Runs `program` with stderr (and stdout, if None) on a pseudo-terminal."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, columns))
    command = [sys.executable, "-c", program]
    child = subprocess.Popen(command, stdout=stdout or follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 65536)
        except OSError:  # EIO: the last writer has closed it
            break
    out = child.stdout.read() if child.stdout else b""
    os.close(leader)
    assert child.wait(timeout=60) == 0
    return shown.decode(), out.decode()


def test_terminal_shows_a_bar_and_notes_stand_on_lines_of_their_own():
    shown, _ = run_on_terminal(BAR_PROGRAM, columns=120)
    # A real terminal shows of each line what follows the last carriage return.
    lines = [line.rstrip("\r").split("\r")[-1] for line in shown.split("\n")]
    assert lines[0].rstrip() == "a note between"
    assert re.fullmatch(
        r"30/40 \|.*\| 75%, loss 0\.5, 100 img/s, 0:00:01 left *", lines[1]
    )
    assert lines[2] == "after the bar"
    assert "loss 3" in shown.split("\n")[0]
    assert "step 30/40" not in shown


def test_bar_does_not_mix_into_redirected_stdout():
    shown, out = run_on_terminal(BAR_PROGRAM, columns=80, stdout=subprocess.PIPE)
    assert out == "a note between\nafter the bar\n"
    assert "30/40" in shown
