"""Plans of segmentation and detection: nothing is opened, shapes are a run's."""

import pytest

import rtj
from rtj.experiment import build
from rtj.inputs import training_batches
from rtj.plan import aot, planning
from rtj.plan.aot import Compiled
from rtj.plan.chips import parse_topology
from rtj.plan.table import describe
from tests.transfer.runs import TASKS, tiny

SIZES = {
    "segmentation:ade20k": (150, 20_210),
    "segmentation:scenes": (11, 2000),
    "detection:voc": (20, 16_551),
    "detection:scenes": (10, 2000),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_data_are_known_without_opening_them(name, monkeypatch):
    config = rtj.get_config(name)
    with monkeypatch.context() as patch:
        for task in TASKS:
            module = f"rtj.transfer.{task}.task.TASK.__class__.open_data"
            patch.setattr(module, lambda *_: pytest.fail("the data were opened"))
        assert aot.data_size(config) == SIZES[name]
    config.model.num_classes = 7
    assert aot.data_size(config)[0] == 7


@pytest.mark.parametrize(("task", "classes"), [("segmentation", 11), ("detection", 10)])
def test_a_part_of_the_scenes_is_opened_and_counted(task, classes):
    assert aot.data_size(tiny(task)) == (classes, 20)


@pytest.mark.parametrize("task", TASKS)
def test_abstract_inputs_are_those_of_a_run(task):
    experiment = build(tiny(task))
    with training_batches(experiment, 0) as batches:
        batch = next(batches)
    shapes = {key: (x.shape, x.dtype) for key, x in batch.items()}
    planned = experiment.task.abstract_batch(experiment.config)
    assert {key: (x.shape, x.dtype) for key, x in planned.items()} == shapes


@pytest.mark.parametrize("name", ["segmentation:ade20k", "detection:voc"])
def test_an_image_of_the_papers_data_sets_has_the_largest_usual_shape(name):
    config = rtj.get_config(name)
    batch = rtj.task.task_of(config).abstract_batch(config)
    wanted = {"segmentation": (16, 768, 768, 3), "detection": (4, 608, 1024, 3)}
    assert batch["image"].shape == wanted[config.task]


@pytest.mark.parametrize("name", ["segmentation:ade20k", "detection:voc"])
def test_an_epoch_is_as_long_as_the_data_set(name):
    config = planning.with_batch(rtj.get_config(name), 16)
    text = "ENTRY %main (p: f32[]) -> f32[] {\n  %x = f32[1000,1000] negate(%y)\n}\n"

    def compiler(config, topology):
        return Compiled(text, 2 * 10**9, 10**9, flops=1e12, xla_bytes=1.0, seconds=1.0)

    pod = parse_topology("v5e:2x4")
    plan = planning.make_plan(config, pod, compiler)
    assert plan.step_s is not None
    assert plan.epoch_s == pytest.approx(SIZES[name][1] / 16 * plan.step_s)
    assert "resnet50d" in describe(plan, pod)
