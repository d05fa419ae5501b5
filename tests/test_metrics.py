"""Metrics files read back by independent readers, and progress under a fake clock."""

import io
import json
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from rtj.errors import DataError
from rtj.metrics import MetricsWriter, Progress, Rate, format_duration, read_metrics


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


@pytest.fixture
def old_run(tmp_path):
    """A workdir with steps 1 to 5, the even ones evaluated."""
    with MetricsWriter(tmp_path, start_step=0) as writer:
        for step in range(1, 6):
            writer.write(step, "train", {"loss": 1 / step})
            if step % 2 == 0:
                writer.write(step, "eval", {"top1": step / 10})
    return tmp_path


def lines_of(workdir):
    return (workdir / "metrics.jsonl").read_text().splitlines()


def steps_of(workdir):
    return [(record["step"], record["kind"]) for record in read_metrics(workdir)]


def masked_crc32c(data):
    """CRC-32C bit by bit, masked as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def events_of(workdir):
    """All TensorBoard events, with length, both checksums and payload checked."""
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            (length_crc,) = struct.unpack("<I", data[8:12])
            payload, rest = data[12 : 12 + length], data[12 + length :]
            (payload_crc,) = struct.unpack("<I", rest[:4])
            assert masked_crc32c(data[:8]) == length_crc
            assert masked_crc32c(payload) == payload_crc
            events.append(Event.FromString(payload))
            data = rest[4:]
    return events


def test_crc_of_this_test_is_the_published_check_value():
    # CRC-32C of "123456789" is E3069283 (RFC 3720's polynomial).
    unmasked = (masked_crc32c(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF
    assert ((unmasked << 15) | (unmasked >> 17)) & 0xFFFFFFFF == 0xE3069283


def test_each_write_is_one_json_line_readable_before_close(tmp_path):
    with MetricsWriter(tmp_path, start_step=0) as writer:
        loss = np.float32(0.5)
        writer.write(3, "train", {"loss": loss, "lr": 0.1, "images": 96})
        writer.write(3, "eval", {"top1": 0.25})
        assert [json.loads(line) for line in lines_of(tmp_path)] == [
            {"step": 3, "kind": "train", "loss": 0.5, "lr": 0.1, "images": 96},
            {"step": 3, "kind": "eval", "top1": 0.25},
        ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_stay_valid_json_and_come_back(tmp_path, value):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    with MetricsWriter(tmp_path, start_step=0) as writer:
        writer.write(1, "train", {"loss": value})
    json.loads(lines_of(tmp_path)[0], parse_constant=refuse)
    np.testing.assert_equal(read_metrics(tmp_path)[0]["loss"], value)


@pytest.mark.parametrize("name", ["step", "kind"])
def test_a_value_cannot_replace_step_or_kind(tmp_path, name):
    with (
        MetricsWriter(tmp_path, start_step=0) as writer,
        pytest.raises(ValueError, match=name),
    ):
        writer.write(1, "train", {name: 1.0})
    assert read_metrics(tmp_path) == []


def test_reading_a_workdir_without_metrics_gives_nothing(tmp_path):
    assert read_metrics(tmp_path) == []


def test_resuming_drops_later_steps_and_keeps_earlier_lines_as_they_were(old_run):
    before = lines_of(old_run)
    with MetricsWriter(old_run, start_step=3) as writer:
        assert lines_of(old_run) == before[:4]
        writer.write(4, "train", {"loss": 0.5})
    assert steps_of(old_run) == [
        (1, "train"),
        (2, "train"),
        (2, "eval"),
        (3, "train"),
        (4, "train"),
    ]
    assert sorted(p.name for p in old_run.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_evaluations_the_run_does_not_know_of_are_dropped(old_run):
    # Killed between the save and the evaluation of step 4, which is then done again.
    with MetricsWriter(old_run, start_step=4, eval_step=2) as writer:
        writer.write(4, "eval", {"top1": 0.4})
    assert steps_of(old_run) == [
        (1, "train"),
        (2, "train"),
        (2, "eval"),
        (3, "train"),
        (4, "train"),
        (4, "eval"),
    ]


def test_starting_again_from_the_beginning_leaves_nothing_of_the_old_run(old_run):
    MetricsWriter(old_run, start_step=0).close()
    assert lines_of(old_run) == []


@pytest.mark.parametrize("torn", [b'{"step": 6, "ki', b"\x00\x00\x00\n", b'{"step": 6'])
def test_a_torn_last_line_is_not_read_and_is_gone_after_resuming(old_run, torn):
    path = old_run / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert [record["step"] for record in read_metrics(old_run)] == [1, 2, 2, 3, 4, 4, 5]
    MetricsWriter(old_run, start_step=5).close()
    assert path.read_bytes() == whole


def test_a_last_line_that_lacks_only_its_newline_is_kept(old_run):
    path = old_run / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with MetricsWriter(old_run, start_step=5) as writer:
        assert path.read_bytes() == whole
        writer.write(6, "train", {"loss": 0.0})
    assert steps_of(old_run)[-2:] == [(5, "train"), (6, "train")]


@pytest.mark.parametrize(
    "bad", ['{"step": 3, "ki', "[1, 2]", '{"kind": "train"}', '{"step": 3}', ""]
)
def test_a_torn_middle_line_is_an_error_that_names_file_and_line(old_run, bad):
    path = old_run / "metrics.jsonl"
    lines = lines_of(old_run)
    path.write_text("\n".join([*lines[:2], bad, *lines[3:]]) + "\n")
    place = re.escape(f"{path}, line 3")
    with pytest.raises(DataError, match=place):
        read_metrics(old_run)
    before = path.read_bytes()
    with pytest.raises(DataError, match=place):
        MetricsWriter(old_run, start_step=1)
    assert path.read_bytes() == before


def test_a_disabled_writer_writes_nothing(tmp_path):
    with MetricsWriter(tmp_path / "run", start_step=0, enabled=False) as writer:
        writer.write(1, "train", {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_has_the_same_scalars_by_kind_and_name(old_run):
    scalars = {
        (event.step, value.tag): value.simple_value
        for event in events_of(old_run)
        for value in event.summary.value
    }
    assert scalars == {
        **{(s, "train/loss"): pytest.approx(1 / s) for s in range(1, 6)},
        **{(s, "eval/top1"): pytest.approx(s / 10) for s in (2, 4)},
    }


def test_tensorboard_purges_from_the_step_after_the_resumed_one(old_run):
    # Two sessions open within one second must not overwrite each other's file.
    with MetricsWriter(old_run, start_step=3) as writer:
        writer.write(4, "train", {"loss": 9.0})
    events = events_of(old_run)
    starts = [e.step for e in events if e.session_log.status == SessionLog.START]
    versions = [e.file_version for e in events if e.file_version]
    assert starts == [1, 4]
    assert versions == ["brain.Event:2"] * 2
    assert [v.simple_value for v in events[-1].summary.value] == [9.0]
    assert len([e for e in events if e.summary.value]) == 7 + 1


def test_tensorboard_events_survive_a_kill(tmp_path):
    program = (
        "import os, signal, sys, pathlib\n"
        "from rtj.metrics import MetricsWriter\n"
        "writer = MetricsWriter(pathlib.Path(sys.argv[1]), start_step=0)\n"
        "writer.write(7, 'train', {'loss': 2.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert steps_of(tmp_path) == [(7, "train")]
    assert events_of(tmp_path)[-1].step == 7


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (360000, "100:00:00")],
)
def test_duration_is_hours_minutes_seconds(seconds, text):
    assert format_duration(seconds) == text


BAR_PROGRAM = """
from rtj.metrics import Progress
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
