"""Matching against a plain loop over boxes, and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.transfer.detection.matching import (
    HEAD_RULE,
    IGNORED,
    NEGATIVE,
    POSITIVE,
    RPN_RULE,
    Truth,
    match,
)
from tests.transfer.detection import plain
from tests.transfer.detection.plain import f32


@partial(jax.jit, static_argnames="rule")
def run(boxes, mask, truth, rule):
    return jax.vmap(lambda b, m, t: match(b, m, t, rule))(boxes, mask, truth)


def judge(boxes, truth, rule, mask=None):
    """Kinds and objects of one image's boxes; `truth` is (boxes, mask, ignored)."""
    boxes, objects = f32(boxes), f32(truth[0])
    mask = np.ones(len(boxes), bool) if mask is None else np.array(mask)
    mask_and_ignored = (jnp.asarray(part) for part in truth[1:])
    whole = Truth(objects, jnp.zeros(len(objects), jnp.int32), *mask_and_ignored)
    got = run(*jax.tree.map(lambda x: x[None], (boxes, mask, whole)), rule)
    return got.kind[0].tolist(), got.matched[0].tolist()


def plain_match(boxes, mask, truth, rule):
    wanted = [g for g in range(len(truth.mask)) if truth.wanted[g]]
    hidden = [g for g in range(len(truth.mask)) if truth.mask[g] and truth.ignored[g]]
    there = [i for i in range(len(boxes)) if mask[i]]
    overlap = {
        (i, g): plain.iou(boxes[i], truth.boxes[g]) for i in there for g in wanted
    }
    kind, index = [IGNORED] * len(boxes), [0] * len(boxes)
    for i in there:
        own = max((overlap[i, g] for g in wanted), default=0)
        hits = [g for g in wanted if overlap[i, g] == own and own > 0]
        index[i] = hits[0] if hits else 0
        best = any(
            overlap[i, g] > 0 and overlap[i, g] == max(overlap[k, g] for k in there)
            for g in wanted
        )
        inside = max(
            (plain.common_area(boxes[i], truth.boxes[g]) for g in hidden), default=0
        )
        size = plain.area(boxes[i])
        if own >= rule.positive or (rule.best_too and best):
            kind[i] = POSITIVE
        elif own < rule.negative and (not size or inside / size < 0.5):
            kind[i] = NEGATIVE
    return kind, index


@pytest.mark.parametrize("rule", [RPN_RULE, HEAD_RULE])
def test_random_images_equal_a_plain_loop(rule):
    rng = np.random.default_rng(0)
    images = 24
    objects = np.stack([plain.random_boxes(rng, 6) for _ in range(images)])
    boxes = np.stack([plain.random_boxes(rng, 40) for _ in range(images)])
    # Some boxes are objects or near them, so that all thresholds are met.
    boxes[:, :6] = objects
    boxes[:, 6:12] = objects + rng.uniform(-6, 6, objects.shape).astype(np.float32)
    boxes[:, 12] = boxes[:, 6]
    mask = rng.random((images, 40)) < 0.8
    truth = Truth(
        boxes=jnp.asarray(objects),
        labels=jnp.zeros((images, 6), jnp.int32),
        mask=jnp.asarray(rng.random((images, 6)) < 0.7),
        ignored=jnp.asarray(rng.random((images, 6)) < 0.3),
    )
    got = run(boxes, mask, truth, rule)
    seen = set()
    for i in range(images):
        one = jax.tree.map(lambda x, i=i: np.asarray(x[i]), truth)
        kind, index = plain_match(boxes[i], mask[i], one, rule)
        assert got.kind[i].tolist() == kind
        assert got.matched[i].tolist() == index
        seen.update(kind)
    assert seen == {POSITIVE, NEGATIVE, IGNORED}


def test_an_anchor_is_judged_by_thresholds_of_07_and_03():
    objects = ([[0, 0, 10, 10]], [True], [False])
    # Overlaps 1, 0.8, 0.7, 0.6, 0.3, 0.2.
    widths = [10, 8, 7, 6, 3, 2]
    boxes = [[0, 0, width, 10] for width in widths]
    kind, _ = judge(boxes, objects, RPN_RULE)
    assert kind == [POSITIVE] * 3 + [IGNORED] * 2 + [NEGATIVE]
    kind, _ = judge([[0, 0, width, 10] for width in (10, 5, 4)], objects, HEAD_RULE)
    assert kind == [POSITIVE, POSITIVE, NEGATIVE]


def test_every_best_anchor_of_an_object_is_positive_however_little_it_overlaps():
    objects = ([[0, 0, 10, 10]], [True], [False])
    boxes = [[0, 0, 2, 10], [8, 0, 10, 10], [0, 0, 1, 10], [20, 20, 30, 30]]
    kind, _ = judge(boxes, objects, RPN_RULE)
    assert kind == [POSITIVE, POSITIVE, NEGATIVE, NEGATIVE]
    assert judge(boxes, objects, HEAD_RULE)[0] == [NEGATIVE] * 4


def test_an_object_that_nothing_overlaps_makes_nothing_positive():
    kind, _ = judge(
        [[0, 0, 5, 5], [6, 6, 9, 9]], ([[50, 50, 60, 60]], [True], [False]), RPN_RULE
    )
    assert kind == [NEGATIVE, NEGATIVE]


def test_a_best_anchor_answers_for_the_object_it_overlaps_most():
    # The one anchor is the best of both objects.
    objects = ([[0, 0, 10, 2], [0, 0, 10, 8]], [True, True], [False, False])
    assert judge([[0, 0, 10, 10]], objects, RPN_RULE) == ([POSITIVE], [1])


@pytest.mark.parametrize("rule", [RPN_RULE, HEAD_RULE])
def test_without_objects_all_boxes_that_are_there_are_negative(rule):
    truth = ([[0, 0, 10, 10], [0, 0, 0, 0]], [False, False], [False, True])
    kind, index = judge([[0, 0, 10, 10]] * 3, truth, rule, mask=[True, False, True])
    assert kind == [NEGATIVE, IGNORED, NEGATIVE] and index == [0, 0, 0]


def test_what_lies_in_an_ignored_object_is_neither_positive_nor_negative():
    truth = ([[0, 0, 100, 100], [0, 0, 10, 10]], [True, True], [True, False])
    boxes = [
        [0, 0, 10, 10],  # a wanted object inside the crowd
        [50, 50, 60, 60],  # inside the crowd
        [95, 0, 105, 10],  # half inside
        [96, 0, 106, 10],  # less than half
        [0, 0, 100, 100],  # the crowd itself
    ]
    kind, _ = judge(boxes, truth, HEAD_RULE)
    assert kind == [POSITIVE, IGNORED, IGNORED, NEGATIVE, IGNORED]


def test_odd_boxes_and_objects_never_meet_without_area(odd_boxes):
    truth = (odd_boxes, [True] * 11, [False] * 11)
    kind, index = judge(odd_boxes, truth, RPN_RULE)
    assert kind[:4] == [NEGATIVE] * 4
    assert kind[4:] == [POSITIVE] * 7 and index[4:] == list(range(4, 11))


def test_matching_has_no_gradient_that_is_nan(odd_boxes):
    truth = Truth(
        jnp.asarray(odd_boxes),
        jnp.zeros(11, jnp.int32),
        jnp.ones(11, bool),
        jnp.zeros(11, bool),
    )

    def total(boxes):
        return match(boxes, jnp.ones(11, bool), truth, RPN_RULE).kind.sum() * 1.0

    assert not jax.grad(total)(jnp.asarray(odd_boxes)).any()
