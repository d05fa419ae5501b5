"""The loss on awkward images, on eight devices, and what it makes a network learn."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rtj.sharding import replicated, split
from rtj.state import TrainState
from rtj.transfer.detection.faster_rcnn import create_faster_rcnn
from rtj.transfer.detection.inference import detect
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.training import DetectionLoss
from rtj.tricks.low_precision import POLICIES
from tests.models import parity
from tests.transfer.detection import plain
from tests.transfer.detection.plain import ODD_BOXES, f32, i32

SIDE, OBJECTS, IMAGES = 48, 4, 8
MODEL = create_faster_rcnn(
    "resnet18",
    2,
    stage_sizes=(1, 1, 1, 1),
    width=8,
    rpn_channels=16,
    roi_size=5,
    anchor_sizes=(12, 20),
    output_stride=8,
)
OPTIONS = DetectionOptions(
    rpn_min_size=2.0,
    train_pre_nms=128,
    train_post_nms=24,
    test_pre_nms=128,
    test_post_nms=16,
    rpn_batch=32,
    roi_batch=16,
    max_detections=8,
)
COLOURS: dict[str, Any] = {"mean": (60.0, 60.0, 60.0), "std": (60.0, 60.0, 60.0)}
OPTIMIZER = optax.adam(3e-3)


def scene(rng):
    """Bright and dark squares on noise: two classes."""
    image = rng.integers(40, 80, (SIDE, SIDE, 3)).astype(np.uint8)
    boxes = np.zeros((OBJECTS, 4), np.float32)
    labels = i32([0, 1, 0, 0])
    for i, (value, left) in enumerate(((255, 2), (0, 25))):
        width, height = rng.integers(12, 20, 2)
        top = rng.integers(0, SIDE - height)
        image[top : top + height, left : left + width] = value
        boxes[i] = left, top, left + width, top + height
    return image, boxes, labels


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images, boxes, labels = zip(*(scene(rng) for _ in range(IMAGES)), strict=True)
    return {
        "image": np.stack(images),
        "size": np.full((IMAGES, 2), SIDE, np.int32),
        "boxes": np.stack(boxes),
        "labels": np.stack(labels),
        "objects": np.tile(np.arange(OBJECTS) < 2, (IMAGES, 1)),
        "difficult": np.zeros((IMAGES, OBJECTS), bool),
        "index": np.arange(IMAGES, dtype=np.int32),
    }


@pytest.fixture(scope="module")
def state():
    init = partial(MODEL.init, train=False)
    image = jnp.zeros((1, SIDE, SIDE, 3))
    key = jax.random.key(0)
    variables = jax.jit(init, compiler_options=parity.QUICK)(key, image)
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=OPTIMIZER.init(variables["params"]),
        loss_scale=None,
    )


def make_step(mesh):
    """A jitted loss that gives its value, sums, gradients and running statistics."""
    loss = DetectionLoss(MODEL, seed=0, options=OPTIONS, mesh=mesh, **COLOURS)

    def step(state, batch):
        function = jax.value_and_grad(loss, has_aux=True)
        (value, (stats, sums)), grads = function(
            state.params, state, batch, (), jax.random.key(0), jnp.float32(1)
        )
        return value, sums, grads, stats

    if mesh is None:
        return jax.jit(step, compiler_options=parity.QUICK)
    whole = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(whole, split(mesh)),
        out_shardings=whole,
        compiler_options=parity.QUICK,
    )


@pytest.fixture(scope="module")
def step():
    return make_step(None)


def changed(batch, **changes):
    return batch | {name: np.asarray(value) for name, value in changes.items()}


def awkward(batch):
    """Each image with another trouble, by name."""
    odd = np.resize(ODD_BOXES, (IMAGES, OBJECTS, 4))
    everywhere = np.ones((IMAGES, OBJECTS), bool)
    tiny_sizes = np.resize(i32([[1, 1], [3, 48], [48, 2], [5, 5]]), (IMAGES, 2))
    return {
        "no objects": changed(batch, objects=~everywhere),
        "odd boxes": changed(batch, boxes=odd, objects=everywhere),
        "tiny images": changed(batch, size=tiny_sizes),
        "no image": changed(batch, size=np.zeros((IMAGES, 2), np.int32)),
        "one colour": changed(batch, image=np.full_like(batch["image"], 60)),
    }


@pytest.mark.slow
def test_awkward_images_have_finite_losses_and_gradients(step, state, batch):
    for name, images in awkward(batch).items():
        value, sums, grads, _ = step(state, images)
        leaves = jax.tree.leaves((value, sums, grads))
        assert all(np.isfinite(leaf).all() for leaf in leaves), name
        if name in ("no objects", "no image"):
            assert float(sums["head_box"]) == float(sums["rpn_box"]) == 0, name


def test_the_loss_is_the_mean_of_four_reported_sums(step, state, batch):
    value, sums, grads, _ = step(state, batch)
    parts = sums["rpn_cls"] + sums["rpn_box"] + sums["head_cls"] + sums["head_box"]
    np.testing.assert_allclose(sums["loss"], parts, rtol=1e-5)
    np.testing.assert_allclose(value * IMAGES, parts, rtol=1e-5)
    # At the start an anchor's logit is near 0, and so are three classes'.
    assert abs(float(sums["rpn_cls"]) / IMAGES - np.log(2)) < 0.1
    assert abs(float(sums["head_cls"]) / IMAGES - np.log(3)) < 0.3
    assert 0 <= float(sums["head_acc"]) <= IMAGES
    assert all(leaf.any() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
def test_eight_devices_compute_the_loss_of_one(step, state, batch, meshes):
    mesh = meshes[1]
    placed = (
        jax.device_put(state, replicated(mesh)),
        jax.device_put(batch, split(mesh)),
    )
    value, sums, grads, _ = step(state, batch)
    other_value, other_sums, other_grads, _ = make_step(mesh)(*placed)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    for name, total in sums.items():
        np.testing.assert_allclose(other_sums[name], total, rtol=1e-4)
    norm = optax.tree.norm(grads)
    assert optax.tree.norm(jax.tree.map(jnp.subtract, grads, other_grads)) < 1e-3 * norm


def test_mirroring_depends_on_seed_step_and_index_and_takes_boxes_along(batch):
    loss = DetectionLoss(MODEL, seed=0, options=OPTIONS, **COLOURS)
    keys = jax.random.split(jax.random.key(0), IMAGES)
    images, truth = jax.jit(loss.inputs)(batch, keys)
    same = (truth.boxes == batch["boxes"]).all(axis=(1, 2))
    assert 0 < same.sum() < IMAGES
    for image, boxes in zip(images, np.asarray(truth.boxes), strict=True):
        for box, value in zip(boxes[:2].astype(int), (255, 0), strict=True):
            inside = image[box[1] : box[3], box[0] : box[2]]
            np.testing.assert_allclose(inside, (value - 60) / 60, rtol=1e-6)


def test_boxes_are_cut_at_the_image_and_what_is_empty_then_is_no_object(batch):
    boxes = np.resize(ODD_BOXES, (IMAGES, OBJECTS, 4))
    everywhere = np.ones((IMAGES, OBJECTS), bool)
    odd = changed(batch, boxes=boxes, objects=everywhere, size=[[40, 45]] * IMAGES)
    loss = DetectionLoss(MODEL, seed=0, options=OPTIONS, flip=False, **COLOURS)
    _, truth = loss.inputs(odd, jax.random.split(jax.random.key(0), IMAGES))
    cut = np.clip(boxes, 0, [45, 40, 45, 40])
    np.testing.assert_array_equal(truth.boxes, cut)
    there = [plain.area(box) > 0 for box in cut.reshape(-1, 4)]
    np.testing.assert_array_equal(truth.mask.reshape(-1), there)
    assert 0 < sum(there) < len(there)


def test_difficult_objects_are_trained_on_if_asked(batch):
    difficult = np.arange(OBJECTS) == 1
    some = changed(batch, difficult=np.tile(difficult, (IMAGES, 1)))
    keys = jax.random.split(jax.random.key(0), IMAGES)
    for trained in (True, False):
        options = DetectionOptions(train_difficult=trained)
        loss = DetectionLoss(MODEL, seed=0, options=options, **COLOURS)
        _, truth = loss.inputs(some, keys)
        assert truth.wanted.sum() == IMAGES * (2 if trained else 1)


@pytest.mark.slow
def test_what_is_learnt_by_heart_is_found_again(step, state, batch):
    @jax.jit
    def update(state, grads, stats):
        updates, opt_state = OPTIMIZER.update(grads, state.opt_state)
        return state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=stats,
            opt_state=opt_state,
        )

    for _ in range(80):
        _, _, grads, stats = step(state, batch)
        state = update(state, grads, stats)
    found = jax.jit(
        partial(
            detect, model=MODEL, policy=POLICIES["fp32"], options=OPTIONS, **COLOURS
        ),
        compiler_options=parity.QUICK,
    )(
        state.variables,
        {name: batch[name] for name in ("image", "size", "index")}
        | {"scale": f32(np.ones((IMAGES, 2))), "valid": np.ones(IMAGES, bool)},
    )
    found = jax.device_get(found)
    hits = 0
    for row in range(IMAGES):
        for box, label in zip(batch["boxes"][row, :2], (0, 1), strict=True):
            hits += any(
                plain.iou(box, other) > 0.5 and label == its and score > 0.5
                for other, its, score in zip(
                    *(found[name][row] for name in ("boxes", "labels", "scores")),
                    strict=True,
                )
            )
    assert hits >= 12  # of 16
