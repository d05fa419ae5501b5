"""Metrics files read back by independent readers."""

import json
import math
import re
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from rtj.errors import CheckpointError, DataError
from rtj.metrics import MetricsWriter, read_metrics


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


def test_a_kill_at_any_byte_of_a_line_leaves_no_torn_and_no_second_one(old_run):
    path = old_run / "metrics.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert json.loads(lines[-1])["step"] == 5
    for cut in range(len(lines[-1]) + 1):
        path.write_bytes(whole[: len(whole) - cut])
        with MetricsWriter(old_run, start_step=4) as writer:  # the checkpoint before
            assert path.read_bytes() == b"".join(lines[:-1])
            writer.write(5, "train", {"loss": 1 / 5})
        assert path.read_bytes() == whole


@pytest.fixture
def full_disk():
    """Called with a size: no file of this process can grow beyond it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_lines(writer, count):
    for _ in range(count):
        writer.write(2, "train", {"loss": 1.0})


@pytest.mark.parametrize(
    ("file", "room"), [("metrics.jsonl", 20), ("tensorboard", 100)]
)
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, full_disk, file, room):
    with MetricsWriter(tmp_path, start_step=0) as writer:
        writer.write(1, "train", {"loss": 1.0})
        path = tmp_path / file
        path = next(path.iterdir()) if path.is_dir() else path
        full_disk(path.stat().st_size + room)
        message = rf"{file}' cannot be written: .*File too large"
        with pytest.raises(CheckpointError, match=message):
            write_lines(writer, 10)
        full_disk(resource.RLIM_INFINITY)
    with MetricsWriter(tmp_path, start_step=1):
        assert steps_of(tmp_path) == [(1, "train")]


def test_folders_that_cannot_be_made_are_named(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(CheckpointError, match=r"tensorboard' cannot be written"):
        MetricsWriter(tmp_path, start_step=0)


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
