"""Detection with heads made by hand, and with a small network on padded images."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from rtj.transfer.detection.boxes import HEAD_WEIGHTS, encode
from rtj.transfer.detection.faster_rcnn import HeadOutputs, create_faster_rcnn
from rtj.transfer.detection.inference import detect, detections
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.proposals import Proposals
from rtj.transfer.detection.rpn import RPNOutputs
from rtj.tricks.low_precision import POLICIES
from tests.models import parity
from tests.transfer.detection import plain
from tests.transfer.detection.plain import f32, i32

COLOURS: dict[str, Any] = {"mean": (127.0, 127.0, 127.0), "std": (60.0, 60.0, 60.0)}
OPTIONS = DetectionOptions(
    rpn_min_size=2.0, test_pre_nms=200, test_post_nms=20, max_detections=8
)
OBJECTS = f32([[4, 6, 30, 40], [20, 10, 60, 34], [8, 30, 31, 60]])
LABELS = i32([2, 0, 2])


class Oracle(nn.Module):
    """A network with an anchor near each of OBJECTS that knows it."""

    def features(self, images, *, train):
        return [images]

    def anchors(self, maps):
        return [OBJECTS + f32([3, -2, -1, 2])]

    def propose(self, maps):
        logits = jnp.broadcast_to(f32([3, 2, 1]), (len(maps[0]), 3))
        return RPNOutputs([logits], [jnp.zeros((*logits.shape, 4))])

    def head(self, maps, boxes, *, train):
        # Proposals come in the order of the anchors, and padding after them.
        known = jnp.pad(OBJECTS, ((0, boxes.shape[1] - 3), (0, 0)))
        offsets = encode(known, boxes, HEAD_WEIGHTS)[:, :, None]
        own = jnp.pad(jax.nn.one_hot(LABELS + 1, 4), ((0, boxes.shape[1] - 3), (0, 0)))
        logits = jnp.broadcast_to(20 * own, (*boxes.shape[:2], 4))
        return HeadOutputs(logits, jnp.broadcast_to(offsets, (*boxes.shape[:2], 3, 4)))


def batch_of(images, sizes, scale=None, index=None):
    count = len(images)
    return {
        "image": images,
        "size": i32(sizes),
        "scale": np.ones((count, 2), np.float32) if scale is None else f32(scale),
        "index": np.arange(count, dtype=np.int32) if index is None else i32(index),
        "valid": np.full(count, True) if index is None else i32(index) >= 0,
    }


def run(model, variables, batch, options=OPTIONS, mesh=None, **how: Any):
    function = partial(
        detect,
        model=model,
        policy=POLICIES["fp32"],
        options=options,
        mesh=mesh,
        **COLOURS,
    )
    return jax.jit(function, compiler_options=parity.QUICK, **how)(variables, batch)


def test_a_perfect_head_gives_the_objects_back_in_pixels_of_the_original():
    images = np.zeros((3, 64, 80, 3), np.uint8)
    scale = [[1.0, 1.0], [0.5, 0.25], [0.0, 0.0]]
    batch = batch_of(images, [[64, 70]] * 3, scale, [5, 6, -1])
    got = jax.device_get(run(Oracle(), {}, batch))
    assert got["mask"].tolist() == [[True] * 3 + [False] * 5] * 2 + [[False] * 8]
    assert got["index"].tolist() == [5, 6, -1]
    assert got["valid"].tolist() == [True, True, False]
    for row, (vertical, horizontal) in enumerate(scale[:2]):
        order = np.lexsort((got["boxes"][row, :3, 0],))
        want = OBJECTS / f32([horizontal, vertical] * 2)
        np.testing.assert_allclose(
            got["boxes"][row, :3][order], want[[0, 2, 1]], rtol=1e-5, atol=1e-4
        )
        assert got["labels"][row, :3][order].tolist() == [2, 2, 0]
    np.testing.assert_allclose(got["scores"][:2, :3], 1, atol=1e-6)
    for name in ("boxes", "scores", "labels"):
        assert not got[name][~got["mask"]].any()


def test_detections_are_cut_at_the_image_not_at_the_canvas():
    images = np.zeros((1, 64, 80, 3), np.uint8)
    got = run(Oracle(), {}, batch_of(images, [[48, 50]]))
    count = int(got["mask"].sum())
    assert count == 3
    assert float(got["boxes"][0, :3, 2].max()) == 50
    assert float(got["boxes"][0, :3, 3].max()) == 48


def plain_detections(boxes, mask, logits, offsets, size, options):
    """Class by class, then the best of all: (score, label, box)."""
    found = []
    for label in range(logits.shape[1] - 1):
        rows, scores = [], []
        for i in np.flatnonzero(mask):
            weights = np.exp(logits[i] - logits[i].max())
            score = weights[label + 1] / weights.sum()
            box = plain.decode(offsets[i, label] / f32(HEAD_WEIGHTS), boxes[i])
            limits = [size[1], size[0]] * 2
            box = [min(max(v, 0), m) for v, m in zip(box, limits, strict=True)]
            if score >= options.score_threshold and plain.area(box):
                rows.append(box)
                scores.append(score)
        for k in plain.nms(rows, scores, [True] * len(rows), options.nms):
            found.append((float(scores[k]), label, rows[k]))
    return sorted(found, key=lambda row: -row[0])[: options.max_detections]


@pytest.mark.parametrize(("threshold", "most"), [(0.01, 100), (0.3, 100), (0.01, 10)])
def test_detections_equal_a_plain_loop(threshold, most):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 70, (40, 2))
    boxes = f32(np.concatenate([corners, corners + rng.uniform(8, 40, (40, 2))], 1))
    logits = f32(rng.normal(0, 2, (40, 5)))
    offsets = f32(rng.normal(0, 1, (40, 4, 4)))
    mask, size = jnp.arange(40) < 33, i32([80, 90])
    options = DetectionOptions(score_threshold=threshold, max_detections=most)
    got = jax.device_get(
        jax.jit(partial(detections, options=options))(
            Proposals(boxes, f32(np.zeros(40)), mask),
            HeadOutputs(logits, offsets),
            size,
            f32([1, 1]),
        )
    )
    want = plain_detections(boxes, mask, logits, offsets, size, options)
    count = len(want)
    assert 8 < count <= most
    assert got["mask"].tolist() == [i < count for i in range(most)]
    assert got["labels"][:count].tolist() == [label for _, label, _ in want]
    np.testing.assert_allclose(got["scores"][:count], [s for s, _, _ in want], 1e-5)
    np.testing.assert_allclose(got["boxes"][:count], [b for *_, b in want], atol=1e-3)


@pytest.fixture(scope="module")
def small():
    """A network whose every place proposes boxes, and two images with its variables.

    Its field of view reaches less than 64 pixels beyond a place.
    """
    model = create_faster_rcnn(
        "resnet18",
        3,
        stage_sizes=(1, 1, 1, 1),
        width=8,
        rpn_channels=8,
        roi_size=3,
        anchor_sizes=(12, 24),
    )
    rng = np.random.default_rng(0)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)

    def draw(leaf):
        if leaf.ndim == 1:
            return rng.uniform(0.5, 1, leaf.shape).astype(np.float32)
        scale = np.sqrt(1 / np.prod(leaf.shape[:-1]))
        return rng.normal(0, scale, leaf.shape).astype(np.float32)

    images = rng.integers(0, 256, (8, 50, 43, 3)).astype(np.uint8)
    return model, jax.tree.map(draw, shapes), images


def padded(images, canvas, value):
    count, height, width, _ = images.shape
    whole = np.full((count, *canvas, 3), value, np.uint8)
    whole[:, :height, :width] = images
    return batch_of(whole, [[height, width]] * count)


@pytest.fixture(scope="module")
def near(small):
    """What `small` detects with as little padding as its field of view takes."""
    model, variables, images = small
    return run(model, variables, padded(images, (128, 128), 0))


def test_how_far_an_image_is_padded_does_not_change_what_is_detected(small, near):
    model, variables, images = small
    far = run(model, variables, padded(images, (208, 160), 255))
    assert near["mask"].all() and (near["boxes"] <= f32([43, 50] * 2)).all()
    np.testing.assert_array_equal(near["labels"], far["labels"])
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(near[name], far[name], rtol=1e-3, atol=1e-3)


def test_eight_devices_detect_what_one_detects_without_talking(small, near, meshes):
    model, variables, images = small
    batch = padded(images, (128, 128), 0)
    rows = NamedSharding(meshes[1], PartitionSpec("data"))
    whole = NamedSharding(meshes[1], PartitionSpec())
    function = partial(
        detect,
        model=model,
        policy=POLICIES["fp32"],
        options=OPTIONS,
        mesh=meshes[1],
        **COLOURS,
    )
    compiled = (
        jax.jit(
            function,
            in_shardings=(whole, rows),
            out_shardings=rows,
            compiler_options=parity.QUICK,
        )
        .lower(variables, batch)
        .compile()
    )
    assert "all-" not in str(compiled.as_text())
    apart = compiled(jax.device_put(variables, whole), jax.device_put(batch, rows))
    np.testing.assert_array_equal(apart["labels"], near["labels"])
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(apart[name], near[name], rtol=1e-3, atol=1e-3)
