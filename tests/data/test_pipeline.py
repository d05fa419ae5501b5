"""Host batches: order, coverage, independence of layout, errors and threads."""

import gc
import threading
from typing import Any

import numpy as np
import pytest

from rtj.data import order, pipeline, prefetch
from rtj.data.memory import ArraySource
from rtj.data.reading import Reading
from rtj.errors import ConfigError, DataError
from tests.reading import gathered

CROP: dict[str, Any] = {"crop_area": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3)}


def train(source, **options):
    defaults: dict[str, Any] = {"batch_size": 8, "image_size": 6, "seed": 5}
    defaults |= {"start_step": 0, "stop_step": 6, "workers": 2} | CROP
    with pipeline.train_batches(source, **gathered(defaults | options)) as batches:
        return list(batches)


def evaluate(source, **options):
    defaults = {"batch_size": 8, "image_size": 6, "eval_resize": 8, "workers": 2}
    with pipeline.eval_batches(source, **gathered(defaults | options)) as batches:
        return list(batches)


def joined(batches):
    return {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def by_process(run, source, count):
    """Runs `count` processes and puts their rows together again, step by step."""
    parts = [run(source, process_index=h, process_count=count) for h in range(count)]
    return joined([part[s] for s in range(len(parts[0])) for part in parts])


def test_batches_hold_the_examples_that_the_order_function_names(indexed_source):
    batches = train(indexed_source, start_step=2, stop_step=9)
    assert len(batches) == 7
    for step, batch in enumerate(batches, start=2):
        index = order.example_ids(5, 8, 37, step)
        np.testing.assert_array_equal(batch["index"], index)
        np.testing.assert_array_equal(batch["label"], index % 7)
        pixels = np.broadcast_to(5 * index[:, None, None, None], (8, 6, 6, 3))
        np.testing.assert_array_equal(batch["image"], pixels)


def test_shapes_and_dtypes(indexed_source):
    batch = train(indexed_source, stop_step=1)[0]
    kinds = {key: (value.shape, str(value.dtype)) for key, value in batch.items()}
    assert kinds == {
        "image": ((8, 6, 6, 3), "uint8"),
        "label": ((8,), "int32"),
        "index": ((8,), "int32"),
    }


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_what_one_process_reads(textured_source, count):
    assert_same(
        by_process(train, textured_source, count), joined(train(textured_source))
    )


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_number_of_threads_changes_nothing(textured_source, workers):
    assert_same(
        joined(train(textured_source, workers=workers)), joined(train(textured_source))
    )


def test_starting_at_a_step_gives_the_tail(textured_source):
    whole = train(textured_source)
    assert_same(joined(train(textured_source, start_step=4)), joined(whole[4:]))
    assert train(textured_source, start_step=6) == []


def test_a_late_start_does_not_walk_through_the_stream(indexed_source):
    late = 10**9
    batch = train(indexed_source, start_step=late, stop_step=late + 1)[0]
    np.testing.assert_array_equal(batch["index"], order.example_ids(5, 8, 37, late))


def test_the_stream_does_not_depend_on_the_batch_size(textured_source):
    small = joined(train(textured_source, batch_size=3, stop_step=16))
    large = joined(train(textured_source, batch_size=48, stop_step=1))
    assert_same(small, large)


def test_crops_change_with_epoch_and_seed_but_not_otherwise(textured_source):
    def crops(**options):
        data = joined(train(textured_source, **options))
        return {  # The batches 0, 1, 2 of 12 are the epochs 0, 1, 2.
            (epoch, index): image.tobytes()
            for epoch in range(3)
            for index, image in zip(
                data["index"][epoch * 12 : epoch * 12 + 12].tolist(),
                data["image"][epoch * 12 : epoch * 12 + 12],
                strict=True,
            )
        }

    first = crops(batch_size=12, stop_step=3)
    assert len(set(first.values())) == 36
    assert crops(batch_size=4, stop_step=9) == first
    assert not set(crops(batch_size=12, stop_step=3, seed=6).values()) & set(
        first.values()
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_evaluation_reads_all_37_examples_once_in_order(indexed_source, count):
    parts = [
        evaluate(indexed_source, process_index=h, process_count=count)
        for h in range(count)
    ]
    assert [len(part) for part in parts] == [5] * count
    data = by_process(evaluate, indexed_source, count)
    assert len(data["mask"]) == 40 and data["mask"].sum() == 37
    np.testing.assert_array_equal(data["index"], [*range(37), -1, -1, -1])
    np.testing.assert_array_equal(data["mask"], data["index"] >= 0)
    np.testing.assert_array_equal(data["image"][37:], 0)
    np.testing.assert_array_equal(data["label"][:37], np.arange(37) % 7)
    np.testing.assert_array_equal(data["image"][:37, 3, 3, 0], 5 * np.arange(37))


def test_evaluation_of_a_split_smaller_than_a_process_share(textured_source):
    part = evaluate(textured_source, batch_size=64, process_index=3, process_count=4)
    assert len(part) == 1 and not part[0]["mask"].any()


def four_threads(source):
    return pipeline.eval_batches(
        source,
        batch_size=2,
        image_size=6,
        eval_resize=8,
        reading=Reading(workers=4),
    )


def test_no_thread_is_left_at_the_end_or_after_close(textured_source, no_new_threads):
    train(textured_source)
    batches = pipeline.train_batches(
        textured_source,
        batch_size=8,
        image_size=6,
        seed=0,
        start_step=0,
        stop_step=10**6,
        reading=Reading(workers=4),
        **CROP,
    )
    next(batches)
    assert any("grain" in t.name for t in threading.enumerate())
    batches.close()
    batches.close()
    assert list(batches) == []


def test_a_dropped_iterator_ends_its_threads(textured_source, no_new_threads):
    batches = four_threads(textured_source)
    next(batches)
    del batches
    gc.collect()


def test_a_thread_that_got_no_chunk_is_joined_too(textured_source, monkeypatch):
    run, late = threading.Thread.run, threading.Event()

    def start_late(self):
        if self.name.startswith("grain") and not self.name.endswith("_0"):
            late.wait(10)
        run(self)

    before = set(threading.enumerate())
    monkeypatch.setattr(threading.Thread, "run", start_late)
    batches = four_threads(textured_source)
    next(batches)
    waiting = set(threading.enumerate()) - before
    assert len(waiting) > 1
    release = threading.Timer(0.2, late.set)
    release.start()
    batches.close()
    assert not any(thread.is_alive() for thread in waiting)
    release.join()


def test_a_read_that_hangs_does_not_hang_close(monkeypatch):
    monkeypatch.setattr(prefetch, "_JOIN_SECONDS", 0.1)
    hangs, released = threading.Event(), threading.Event()

    def fill(number, first, rows):
        if number:
            hangs.set()
            released.wait(60)

    batches = prefetch.BatchIterator(
        lambda number: {"x": np.zeros(2)}, fill, num_batches=3, rows=2, workers=1
    )
    next(batches)
    assert hangs.wait(60)
    batches.close()
    assert not released.is_set()
    released.set()


class Failing(ArraySource):
    def __getitem__(self, index):
        if index == 5:
            raise OSError("disk on fire")
        return super().__getitem__(index)


@pytest.mark.parametrize("run", [train, evaluate])
def test_a_read_error_reaches_the_consumer_and_ends_the_threads(run, no_new_threads):
    source = Failing(np.zeros((12, 8, 8, 3), np.uint8), [0] * 12, 1, name="shelf")
    with pytest.raises(DataError, match=r"shelf: example number 5 .*disk on fire"):
        run(source)


@pytest.mark.parametrize("run", [train, evaluate])
def test_a_decode_error_names_the_example(run):
    good = np.zeros((8, 8, 3), np.uint8)
    source = ArraySource([good, b"junk"], [0, 0], 1, ids=["ok", "n02.JPEG"])
    with pytest.raises(DataError, match=r"n02\.JPEG"):
        run(source)


@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_out_of_range_is_an_error(label):
    source = ArraySource(np.zeros((1, 8, 8, 3), np.uint8), [label], 7, ids=["n7"])
    with pytest.raises(DataError, match=rf"n7 has label {label}; allowed are 0 to 6"):
        train(source)


def test_an_empty_data_set_is_an_error_not_an_endless_loop():
    empty = ArraySource(np.zeros((0, 8, 8, 3), np.uint8), [], 7, name="nothing")
    with pytest.raises(DataError, match="nothing: the data set is empty"):
        train(empty)
    with pytest.raises(DataError, match="nothing: the data set is empty"):
        evaluate(empty)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"process_count": 3}, "batch_size=8"),
        ({"process_index": 2, "process_count": 2}, "process_index=2"),
        ({"workers": -1}, "workers=-1"),
        ({"start_step": 7}, "start_step=7"),
        ({"crop_area": (0.5, 2.0)}, "crop_area"),
        ({"crop_ratio": (0.0, 2.0)}, "crop_ratio"),
    ],
)
def test_a_bad_argument_is_named(indexed_source, options, field):
    with pytest.raises(ConfigError, match=field):
        train(indexed_source, **options)


def test_an_evaluation_size_below_the_crop_is_an_error(indexed_source):
    with pytest.raises(ConfigError, match="eval_resize=5"):
        evaluate(indexed_source, eval_resize=5)


@pytest.mark.parametrize(
    ("rows", "want"), [(1, 1), (8, 8), (96, 32), (100, 25), (37, 1)]
)
def test_chunks_divide_the_rows(rows, want):
    assert prefetch.chunk_size(rows) == want
