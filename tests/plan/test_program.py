"""The real step for 8 virtual CPU devices, and what a plan asks of a config."""

import jax
import pytest

from rtj.config import set_field
from rtj.errors import ConfigError
from rtj.experiment import build_program
from rtj.models import model_summary
from rtj.plan import aot, collectives, hlo
from rtj.plan.chips import parse_topology
from rtj.plan.collectives import find_collectives
from rtj.sharding import make_mesh
from rtj.teacher import planned_teacher


def step_program(config):
    """(the config's program, its step lowered for 8 CPU devices)."""
    made = build_program(
        config,
        make_mesh(8),
        num_classes=10,
        examples=4000,
        teacher=planned_teacher(config, 10),
    )
    return made, made.train_step.lower(*aot.abstract_inputs(made))


EIGHT = {"mesh.devices": 8, "train.batch_size": 64}


@pytest.mark.parametrize(
    ("group", "gram", "fewest", "most"),
    [(8, False, 1, 3), (8, True, 1, 3), (0, False, 20, 60)],
    ids=["in a device", "in a device, by Gram matrices", "whole"],
)
def test_batch_norm_groups_inside_a_device_leave_three_all_reduces(
    tiny_config, group, gram, fewest, most
):
    changes = {"model.bn_group_size": group, "model.gram_norm": gram}
    _, lowered = step_program(tiny_config(**EIGHT, **changes))
    found = find_collectives(hlo.parse(lowered.compile().as_text()), 8)
    kinds = collectives.by_kind(found)
    assert set(kinds) == {"all-reduce"}
    assert fewest <= kinds["all-reduce"]["count"] <= most


@pytest.mark.slow
def test_the_step_has_three_times_the_flops_of_the_forward_pass(tiny_config):
    # Forward, and backward for inputs and for weights. XLA also counts what is no
    # product, leaves out products with padding and finds no gradient of the images:
    # each a few per cent.
    changes = {"model.width": 64, "model.small_images": False, "data.image_size": 224}
    config = tiny_config(**EIGHT, **changes, **{"data.eval_resize": 224})
    set_field(config, "model.name", "resnet50d")
    _, lowered = step_program(config)
    macs = model_summary("resnet50d", num_classes=10).macs
    analytic = 3 * 2 * macs * config.train.batch_size
    assert lowered.cost_analysis()["flops"] == pytest.approx(analytic, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.bn_group_size": 8}, True),
        ({"model.bn_group_size": 8, "tricks.precision": "fp32"}, False),
        ({"model.bn_group_size": 4}, False),
        ({"model.bn_group_size": 16}, False),
        ({"model.bn_group_size": 0}, False),
        ({"model.bn_group_size": 16, "model.gram_norm": True}, True),
        ({"model.bn_group_size": 8, "model.gram_norm": False}, False),
    ],
)
def test_gram_matrices_are_for_16_bits_and_one_group_a_device_unless_asked_for(
    tiny_config, changes, expected
):
    defaults = {"tricks.precision": "bf16", "model.gram_norm": None}
    config = tiny_config(**EIGHT, **(defaults | changes))
    made = build_program(config, make_mesh(8), num_classes=10, examples=4000)
    assert made.model.gram_norm is expected
    assert made.config.model.gram_norm is changes.get("model.gram_norm")


@pytest.mark.slow
def test_gram_matrices_cost_a_tenth_of_the_arithmetic_at_most(tiny_config):
    # Two products of K x K over all pixels beside three of K x 4 K in the convolution
    # that has 4 of a block's 17 K^2: 4 %. And two of K x K x 4 K a group, 8.2 GFLOP
    # beside the 196 of its 8 images: 4 %.
    network = {"model.width": 64, "model.small_images": False, "data.image_size": 224}
    flops = []
    for gram in (False, True):
        config = tiny_config(**EIGHT, **network, **{"model.gram_norm": gram})
        set_field(config, "data.eval_resize", 224)
        set_field(config, "model.name", "resnet26b")
        flops.append(step_program(config)[1].cost_analysis()["flops"])
    assert 1.01 < flops[1] / flops[0] < 1.1


@pytest.mark.slow
def test_a_teacher_is_planned_with_without_its_weights_at_hand(tiny_config):
    """Its forward pass, a third of a training step of the same network, is counted."""
    flops = [
        step_program(
            tiny_config(
                row,
                **EIGHT,
                **{"model.name": "resnet14d", "tricks.teacher_model": name},
                **{"data.image_size": 128, "data.eval_resize": 128},
            )
        )[1].cost_analysis()["flops"]
        for row, name in (
            ("label_smoothing,precision=fp32", ""),
            ("distill,precision=fp32,teacher=nowhere", "resnet14"),
        )
    ]
    macs = model_summary("resnet14", num_classes=10, image_size=128).macs
    assert flops[1] - flops[0] == pytest.approx(2 * 64 * macs, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"mesh.devices": 1}, r"mesh\.devices=1"),
        (
            {"mesh.devices": 0, "train.batch_size": 12, "model.bn_group_size": 4},
            "a multiple of 8",
        ),
    ],
)
def test_a_plan_is_for_all_chips_of_its_slice(tiny_config, monkeypatch, changes, part):
    monkeypatch.setattr(aot, "topology_mesh", lambda topology: make_mesh(8))
    with pytest.raises(ConfigError, match=part):
        aot.compile_step(tiny_config(**changes), parse_topology("v5e:2x4"))


def test_sizes_of_data_are_known_without_opening_them(imagenet_config, tiny_config):
    from rtj.data.digits import TRAIN_PER_CLASS

    assert aot.data_size(imagenet_config) == (1000, 1_281_167)
    assert aot.data_size(tiny_config()) == (10, 10 * TRAIN_PER_CLASS)
    set_field(imagenet_config, "data.name", "synthetic")
    set_field(imagenet_config, "model.num_classes", 7)
    assert aot.data_size(imagenet_config)[0] == 7


@pytest.mark.slow
def test_abstract_inputs_are_those_of_a_run(tiny_config):
    made, _ = step_program(tiny_config(**EIGHT, **{"data.repeats": 2}))
    state, batch = aot.abstract_inputs(made)
    real = jax.tree.map(lambda x: (x.shape, x.dtype), made.init_state())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == real
    assert batch["image"].shape == (64, 14, 14, 3)
    assert set(batch) == {"image", "label", "index", "copy"}
