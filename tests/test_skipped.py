"""Skipped steps: what is kept of each, and what a message says."""

import json

import jax.numpy as jnp
import pytest

from rtj.data.memory import ArraySource
from rtj.errors import DataError
from rtj.skipped import SkippedSteps, example_names, read_skipped

NAN, INF = float("nan"), float("inf")
VALUES = {"loss": NAN, "grad_norm": INF, "lr": 0.2, "top1": 0.5}
IDS = [f"train/cat/{number}.png" for number in range(10)]


class Listed:
    """Names are known and images cannot be read."""

    name, num_classes = "listed", 2

    def __len__(self):
        return 10

    def __getitem__(self, index):
        raise DataError("an image was read")

    def label_and_id(self, index):
        return 0, IDS[index]


SOURCE = Listed()


def opened(workdir, start_step=0, source=SOURCE, newest=lambda: None, **kwargs):
    return SkippedSteps(workdir, start_step, source, newest, **kwargs)


def batch(*index):
    return jnp.array(index, jnp.int32)


def steps_of(workdir):
    return [record["step"] for record in read_skipped(workdir)]


def test_a_line_holds_the_numbers_and_every_example_and_is_strict_json(tmp_path):
    with opened(tmp_path, newest=lambda: 40) as skipped:
        skipped.add(
            44, VALUES | {"loss_scale": 2.0}, batch(3, 9, 1, 4, 4), "not finite"
        )
    (line,) = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 44,
        "reason": "not finite",
        "loss": "nan",
        "grad_norm": "inf",
        "lr": 0.2,
        "loss_scale": 2.0,
        "checkpoint": 40,
        "index": [3, 9, 1, 4, 4],
        "names": [IDS[i] for i in (3, 9, 1, 4, 4)],
    }
    assert read_skipped(tmp_path)[0]["grad_norm"] == INF


def test_the_message_names_numbers_some_examples_the_file_and_the_checkpoint(tmp_path):
    with opened(tmp_path, newest=lambda: 40) as skipped:
        text = skipped.add(44, VALUES, batch(3, 9, 1, 4), "not finite")
        other = skipped.add(41, VALUES | {"loss_scale": 8.0}, batch(3), "not finite")
    assert text == (
        "loss nan, gradient norm inf, learning rate 0.2; examples "
        "3 ('train/cat/3.png'), 9 ('train/cat/9.png'), 1 ('train/cat/1.png'), ... "
        "(all 4 in skipped.jsonl); newest checkpoint: step 40"
    )
    assert "learning rate 0.2, loss scale 8; examples" in other
    assert other.endswith("newest checkpoint: step 40, whose weights gave this loss")


def test_without_a_checkpoint_the_message_says_so(tmp_path):
    with opened(tmp_path) as skipped:
        text = skipped.add(1, VALUES, batch(3), "not finite")
    assert text.endswith("no checkpoint yet")
    assert read_skipped(tmp_path)[0]["checkpoint"] is None


def test_a_name_cannot_break_a_line(tmp_path):
    images = [b""] * 2
    source = ArraySource(images, [0, 0], 1, ids=["a\nstep 9\x1b[2J", "\udcff"])
    with opened(tmp_path, source=source) as skipped:
        text = skipped.add(1, VALUES, batch(0, 1), "not finite")
    assert text.isprintable()
    assert read_skipped(tmp_path)[0]["names"] == ["a\nstep 9\x1b[2J", "\udcff"]


def test_names_come_from_a_list_or_else_from_the_examples():
    assert example_names(SOURCE, [2, 0]) == [IDS[2], IDS[0]]
    arrays = ArraySource([b"", b""], [0, 0], 1, ids=["left", "right"])
    assert example_names(arrays, [1, 0, 2]) == ["right", "left", None]


def test_padding_of_a_batch_is_no_example(tmp_path):
    with opened(tmp_path) as skipped:
        skipped.add(1, VALUES, batch(5, -1, -1), "not finite")
    assert read_skipped(tmp_path)[0]["index"] == [5]


def test_a_run_that_skips_nothing_writes_nothing(tmp_path):
    opened(tmp_path).close()
    with opened(tmp_path, enabled=False) as skipped:
        assert "gradient norm" in skipped.add(1, VALUES, batch(5), "not finite")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def three_steps(tmp_path):
    with opened(tmp_path) as skipped:
        for step in (2, 4, 6):
            skipped.add(step, VALUES, batch(step), "not finite")
    return tmp_path / "skipped.jsonl"


def test_a_resumed_run_forgets_later_lines_and_a_torn_one(three_steps):
    whole = three_steps.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(last + 1):
        three_steps.write_bytes(whole[: len(whole) - cut])
        with opened(three_steps.parent, start_step=5) as skipped:
            assert steps_of(three_steps.parent) == [2, 4]
            skipped.add(6, VALUES, batch(6), "not finite")
        assert three_steps.read_bytes() == whole


def test_a_damaged_line_is_named(three_steps):
    text = three_steps.read_text()
    three_steps.write_text("{}\n" + text)
    with pytest.raises(DataError, match=r"skipped\.jsonl, line 1"):
        opened(three_steps.parent)
    assert three_steps.read_text() == "{}\n" + text


def test_the_file_stays_small_and_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("rtj.skipped.MAX_BYTES", 2000)
    with opened(tmp_path) as skipped:
        for step in range(1, 101):
            skipped.add(step, VALUES, batch(1), "not finite")
            assert (tmp_path / "skipped.jsonl").stat().st_size <= 2000
    kept = steps_of(tmp_path)
    assert kept == list(range(kept[0], 101))
    assert len(kept) >= 5


def test_a_line_larger_than_the_file_may_be_is_kept_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("rtj.skipped.MAX_BYTES", 100)
    with opened(tmp_path) as skipped:
        for step in (1, 2, 3):
            skipped.add(step, VALUES, batch(1), "not finite")
    assert steps_of(tmp_path) == [3]
