"""Undecodable images: replaced in training, left out in evaluation, and bounded."""

import logging

import numpy as np
import pytest

import rtj
from rtj.data import order, pipeline
from rtj.data.input_wait import InputWait
from rtj.data.memory import ArraySource
from rtj.data.reading import Reading
from rtj.errors import DataError
from rtj.metrics import read_metrics
from tests.reading import gathered

N = 40
BAD = (3, 17)


@pytest.fixture
def source():
    """40 grey images as bright as 5 times their index, two of them broken."""
    images = [np.full((8, 8, 3), 5 * k, np.uint8) for k in range(N)]
    broken = [b"\xff\xd8 no more" if k in BAD else images[k] for k in range(N)]
    return ArraySource(broken, [k % 7 for k in range(N)], 7, name="shelf")


def train(source, seed=1, batch_size=8, start=0, **options):
    with pipeline.train_batches(
        source,
        batch_size=batch_size,
        image_size=6,
        seed=seed,
        start_step=start,
        stop_step=N // batch_size * 2,
        crop_area=(0.08, 1.0),
        crop_ratio=(0.75, 1.33),
        **gathered({"max_bad_images": 0.05} | options),
    ) as batches:
        rows = list(batches)
    return {key: np.concatenate([b[key] for b in rows]) for key in rows[0]}


def test_a_bad_image_gives_its_place_to_another_and_all_else_stays(source):
    data = train(source)
    wanted = order.stream_indices(1, N, 0, 2 * N)
    was_bad = np.isin(wanted, BAD)
    assert was_bad.sum() == 4
    np.testing.assert_array_equal(data["index"][~was_bad], wanted[~was_bad])
    assert not np.isin(data["index"], BAD).any()
    np.testing.assert_array_equal(data["image"][:, 3, 3, 0], 5 * data["index"])
    np.testing.assert_array_equal(data["label"], data["index"] % 7)


def test_the_substitute_depends_on_seed_and_epoch_alone(source):
    data = train(source)
    for other in (train(source, batch_size=4), train(source, workers=3)):
        np.testing.assert_array_equal(other["index"], data["index"])
        np.testing.assert_array_equal(other["image"], data["image"])
    late = train(source, start=5)
    np.testing.assert_array_equal(late["index"], data["index"][N:])
    places = [np.isin(order.stream_indices(seed, N, 0, N), BAD) for seed in range(20)]
    picks = {
        int(pick)
        for seed, bad in enumerate(places)
        for pick in train(source, seed)["index"][:N][bad]
    }
    assert len(picks) > 15  # of the 38 good ones, in 40 draws


def test_each_bad_image_is_named_once_in_the_log(source, caplog):
    with caplog.at_level(logging.WARNING):
        train(source)
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2
    assert any("shelf: skipped: example 17: the image cannot" in text for text in named)


def test_one_bad_image_too_many_is_an_error_that_counts_them(source):
    message = r"example \d+: the image cannot.* 2 of 40 images; allowed: .*images=0.04"
    with pytest.raises(DataError, match=message):
        train(source, max_bad_images=0.04)


def test_evaluation_leaves_bad_images_out_and_keeps_their_index(source):
    with pipeline.eval_batches(
        source,
        batch_size=16,
        image_size=6,
        eval_resize=8,
        reading=Reading(max_bad_images=0.05),
    ) as batches:
        rows = list(batches)
    index = np.concatenate([row["index"] for row in rows])
    mask = np.concatenate([row["mask"] for row in rows])
    np.testing.assert_array_equal(index, [*range(N), *[-1] * 8])
    np.testing.assert_array_equal(mask, (index >= 0) & ~np.isin(index, BAD))


@pytest.mark.slow
def test_a_run_with_a_bad_image_counts_the_others(tiny_config, tmp_path, monkeypatch):
    good = rtj.get_config("ablation:baseline,data=digits")
    assert good.data.max_bad_images == 0.001  # one of 1,000
    from rtj.data import sources

    def broken(*args, **kwargs):
        source = sources.open_source(*args, **kwargs)
        examples = [source[k] for k in range(100)]
        images = [example["image"] for example in examples]
        images[5] = images[5][:60]
        return ArraySource(images, [example["label"] for example in examples], 10)

    monkeypatch.setattr("rtj.classification_task.open_source", broken)
    changes = {"train.steps": 8, "train.log_every": 2, "data.max_bad_images": 0.01}
    result = rtj.train(tiny_config(**changes), tmp_path)
    assert result["examples"] == 99
    speed = read_metrics(tmp_path, ["speed"])
    assert [line["step"] for line in speed] == [2, 4, 6, 8]
    for line in speed:
        assert 0 <= line["input_wait_s"] < line["step_s"]
        assert line["images_per_s"] == pytest.approx(32 / line["step_s"])


def test_repeats_come_in_a_row_with_crops_of_their_own():
    noise = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    source = ArraySource(noise, [0] * N, 1)
    data = train(source, repeats=4)
    np.testing.assert_array_equal(
        data["index"], np.repeat(order.stream_indices(1, N, 0, N // 2), 4)
    )
    np.testing.assert_array_equal(data["copy"], np.tile(np.arange(4), N // 2))
    for first in range(0, 2 * N, 4):
        crops = {data["image"][first + k].tobytes() for k in range(4)}
        assert len(crops) == 4
    odd = train(source, repeats=4, batch_size=5)
    np.testing.assert_array_equal(odd["image"], data["image"])


def test_the_wait_is_the_mean_time_spent_in_next():
    now = 0.0

    def slow():
        nonlocal now
        for k in range(4):
            now += 2.0 + k
            yield k

    waits = InputWait(clock=lambda: now)
    assert waits.take() == 0.0
    seen = []
    for k in waits.over(slow()):
        now += 100.0  # the step
        seen.append(k)
        if k == 1:
            assert waits.take() == 2.5
    assert seen == [0, 1, 2, 3]
    assert waits.take() == 4.5
