"""Reports: one step late, nothing fetched that is not needed, skips told in full."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import pytest

from rtj.errors import Diverged
from rtj.reporter import Reporter

NAN, INF = float("nan"), float("inf")


class Recorder:
    """Stands for the writer, the progress, the skipped steps and the wait for input."""

    step_s = None

    def __init__(self):
        self.lines, self.notes, self.skips = [], [], []

    def write(self, step, kind, values):
        self.lines.append((step, kind, values))

    def update(self, step, values):
        pass

    def note(self, text):
        self.notes.append(text)

    def take(self):
        return 0.0

    def add(self, step, values, index, reason):
        self.skips.append((step, index, reason))
        return f"facts of {index}"


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def make(recorder):
    def make(callbacks=(), **changes):
        train = {"log_every": 100, "max_skipped_steps": 2, "max_loss_ratio": 0.0}
        train |= {"batch_size": 4} | changes
        experiment: Any = SimpleNamespace(
            config=SimpleNamespace(train=SimpleNamespace(**train)),
            task=SimpleNamespace(shown=("loss", "lr")),
            total_steps=1000,
        )
        return Reporter(experiment, recorder, recorder, recorder, callbacks, recorder)

    return make


def metrics(loss=1.0, skipped=0.0, grad_norm=1.0, **more):
    values = {"loss": loss, "lr": 0.1, "grad_norm": grad_norm, "skipped": skipped}
    return {name: jnp.float32(value) for name, value in (values | more).items()}


class Untouchable:
    """The indices of a batch, or metrics, that nothing may look at."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")


def test_a_good_step_is_read_one_step_late_and_its_examples_are_not(make, recorder):
    seen = []
    reporter = make(callbacks=[lambda step, values: seen.append(step)])
    for step in (1, 2):
        reporter.step(step, metrics(), Untouchable())
    reporter.step(3, Untouchable(), Untouchable())
    assert seen == [1, 2]
    assert recorder.lines == []
    assert recorder.skips == []


def test_a_skipped_step_is_written_with_its_own_examples_and_told(make, recorder):
    reporter = make()
    reporter.step(1, metrics(), "batch 1")
    reporter.step(2, metrics(loss=NAN, skipped=1), "batch 2")
    reporter.step(3, metrics(), "batch 3")
    reporter.flush()
    assert [line[:2] for line in recorder.lines] == [(2, "train")]
    assert recorder.skips == [(2, "batch 2", "not finite")]
    assert recorder.notes == ["step 2 skipped: facts of batch 2"]


def test_too_many_skips_in_a_row_end_the_run_with_the_facts(make, recorder):
    reporter = make()
    bad = metrics(loss=NAN, skipped=1)
    for step, values in enumerate([bad, bad, metrics(), bad, bad, bad], start=1):
        reporter.step(step, values, f"batch {step}")
    message = r"step 6: 3 steps in a row .*max_skipped_steps=2\. .* facts of batch 6"
    with pytest.raises(Diverged, match=message):
        reporter.flush()
    assert [skip[0] for skip in recorder.skips] == [1, 2, 4, 5, 6]
    assert len(recorder.notes) == 4


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"loss_scale": 8.0}, "gradients overflow, loss scale 8 becomes 4"),
        ({"loss_scale": 1.5}, "gradients overflow, loss scale 1.5 becomes 1"),
        ({"loss_scale": 1.0}, "facts of batch 1"),  # which no scale can help
        ({"loss_scale": 8.0, "loss": INF}, "facts of batch 1"),
    ],
)
def test_a_skip_by_which_fp16_finds_its_scale_is_a_short_note(
    make, recorder, values, note
):
    reporter = make()
    reporter.step(1, metrics(skipped=1, grad_norm=INF, **values), "batch 1")
    reporter.flush()
    assert recorder.notes == [f"step 1 skipped: {note}"]
    assert recorder.skips == [(1, "batch 1", "not finite")]


def test_a_loss_that_jumps_ends_the_run_with_the_facts(make, recorder):
    reporter = make(max_loss_ratio=10.0)
    for step in range(1, 31):
        reporter.step(step, metrics(loss=0.5), Untouchable())
    reporter.step(31, metrics(loss=6.0), "batch 31")
    message = (
        r"step 31: the loss is 12 times 0\.5, .*train\.max_loss_ratio=10\. .* "
        "facts of batch 31"
    )
    with pytest.raises(Diverged, match=message):
        reporter.flush()
    assert recorder.skips == [(31, "batch 31", "loss ratio")]
    assert [line[:2] for line in recorder.lines] == [(31, "train")]
