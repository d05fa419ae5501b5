"""log.txt: lines with times over restarts, rotation, and a disk that is full."""

import logging
import os
import re
import subprocess
import sys

import pytest

from rtj.errors import CheckpointError, Diverged
from rtj.run_log import RunLog

LOGGER = logging.getLogger("rtj.data.some_module")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def said(workdir, name="log.txt"):
    """The lines without their times, which all must have."""
    lines = (workdir / name).read_text().splitlines()
    assert all(TIME.match(line) for line in lines)
    return [TIME.sub("", line, count=1) for line in lines]


@pytest.fixture(autouse=True)
def _loggers_are_left_as_they_were():
    loggers = [logging.getLogger(name) for name in ("rtj", None)]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    assert before == [(logger.handlers, logger.level) for logger in loggers]


def test_every_line_has_a_time_and_a_later_run_goes_on(tmp_path):
    with RunLog(tmp_path) as log:
        log.write("two\nlines")
    with RunLog(tmp_path) as log:
        log.write("ü and \udcff")
    assert said(tmp_path) == ["two", "lines", "ü and \\udcff"]


def test_what_rtj_warns_of_is_in_it_while_it_is_open(tmp_path):
    with RunLog(tmp_path) as log:
        log.write("before")
        LOGGER.warning("%s cannot be decoded", "a.jpg")
    LOGGER.warning("after")
    assert said(tmp_path) == ["before", "a.jpg cannot be decoded"]


def run_in_process(workdir, call):
    """What a process that warns with `call` prints: pytest has handlers of its own."""
    program = (
        "import logging, pathlib, sys\n"
        "from rtj.run_log import RunLog\n"
        "with RunLog(pathlib.Path(sys.argv[1])) as log:\n"
        f"    logging.getLogger('rtj.data').warning({call})\n"
        "    log.write('after')\n"
    )
    command = [sys.executable, "-c", program, str(workdir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_a_warning_is_still_shown_once(tmp_path):
    assert run_in_process(tmp_path, "'bad image'") == "bad image\n"
    assert said(tmp_path) == ["bad image", "after"]


def test_a_bad_logging_call_does_not_end_the_run(tmp_path):
    assert "Logging error" in run_in_process(tmp_path, "'%d images', 'x'")
    assert said(tmp_path) == ["after"]


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (Diverged("step 9:\n lost"), "rtj: step 9: lost"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_an_error_that_ends_the_run_is_the_last_line_and_goes_on(tmp_path, error, last):
    log = RunLog(tmp_path)
    log.write("begun")
    with pytest.raises(type(error)), log:
        raise error
    lines = said(tmp_path)
    assert (lines[0], lines[-1]) == ("begun", last)
    # Of an error that is none of rtj's, where it came from; of others one line.
    assert any("test_run_log.py" in line for line in lines) == (len(lines) > 2)
    assert (len(lines) > 2) == isinstance(error, KeyError)


def test_it_rotates_and_keeps_three_files(tmp_path, monkeypatch):
    monkeypatch.setattr("rtj.run_log.MAX_BYTES", 300)
    with RunLog(tmp_path) as log:
        for number in range(100):
            log.write(f"line {number}")
    names = ["log.txt.2", "log.txt.1", "log.txt"]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    lines = [line for name in names for line in said(tmp_path, name)]
    assert lines == [f"line {n}" for n in range(100 - len(lines), 100)]
    assert all((tmp_path / name).stat().st_size <= 300 for name in names)


def test_disabled_it_writes_nothing(tmp_path):
    with pytest.raises(KeyError), RunLog(tmp_path, enabled=False):
        raise KeyError
    RunLog(tmp_path, enabled=False).write("a line")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("say", ["write", "warning"])
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, say, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    message = r"log\.txt' cannot be written: .*No space left"
    with pytest.raises(CheckpointError, match=message), RunLog(tmp_path) as log:
        log.write("a line") if say == "write" else LOGGER.warning("a line")
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_hides_no_other_error(tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with pytest.raises(Diverged), RunLog(tmp_path):
        raise Diverged("loss nan")


def test_a_folder_in_its_place_is_named(tmp_path):
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(CheckpointError, match=r"log\.txt"), RunLog(tmp_path) as log:
        log.write("a line")
