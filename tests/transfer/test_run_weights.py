"""A classifier's weights, wherever they lie, become the backbone of both tasks."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import rtj
from rtj.checkpoint import restore_newest
from rtj.errors import CheckpointError
from rtj.initial_weights import open_initial_weights
from rtj.models.stages import stage_of
from rtj.weights.architectures import architecture
from rtj.weights.names import to_torch
from rtj.weights.safetensors_file import write_safetensors
from tests.transfer.runs import TASKS, classifier_variables, tiny
from tests.weights.networks import NAME, make_run, random_variables, tiny_model

TOGETHER = "transfer runs"
HUB_NAME = f"timm:{NAME}.test_in1k"


@pytest.fixture(scope="module")
def sources(tmp_path_factory, tiny_config, classifier_file):
    """`weights=` by kind, and the classifier's variables it should give.

    The hub's cache is a folder of the test's own, and there is no network.
    """
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = tmp_path_factory.mktemp("weights")
    changes = {"model.name": NAME, "model.small_images": None}
    _, trained = make_run(folder / "run", tiny_config("baseline", **changes))
    # Its newest checkpoint has all parameters doubled.
    doubled = jax.tree.map(lambda x: 2 * x, trained["params"])
    about = {"architecture": architecture(NAME), "num_classes": 1000}
    variables = classifier_variables()
    cached = folder / "hub" / f"models--timm--{HUB_NAME.removeprefix('timm:')}"
    snapshot = cached / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123")
    shutil.copy(classifier_file, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps(about))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        yield {
            "run": (str(folder / "run"), {**trained, "params": doubled}),
            "file": (str(classifier_file), variables),
            "hub": (HUB_NAME, variables),
        }


def first_state(built, config):
    """The state that a new run of the config starts from."""
    experiment = built(config)
    task = experiment.task
    classifier = task.initial_model(config, experiment.model)
    initial = open_initial_weights(config, classifier, task.weights_under)
    return replace(experiment, initial=initial).first_state()


def body(variables):
    """Flat variables of a classifier without the part that classifies."""
    flat = flatten_dict(variables)
    return {path: leaf for path, leaf in flat.items() if path[1] != "fc"}


@pytest.mark.parametrize("kind", ["run", "file", "hub"])
@pytest.mark.parametrize("task", TASKS)
def test_the_backbone_is_the_files_and_the_heads_are_the_seeds(
    task, kind, sources, built
):
    weights, given = sources[kind]
    named = rtj.get_config(f"{task}:scenes,weights={weights}")
    assert named.train.weights == weights
    config = tiny(task, **{"train.weights": weights})
    fresh = flatten_dict(built(config).init_state().weights)
    found = flatten_dict(first_state(built, config).weights)
    wanted = {(p[0], "backbone", *p[1:]): leaf for p, leaf in body(given).items()}
    assert wanted.keys() == {path for path in found if path[1] == "backbone"}
    heads = {path[1] for path in found} - {"backbone"}
    assert heads >= {"segmentation": {"classifier"}, "detection": {"rpn"}}[task]
    for path, leaf in found.items():
        np.testing.assert_array_equal(
            leaf, wanted.get(path, fresh[path]), err_msg="/".join(path)
        )


@pytest.mark.parametrize("task", TASKS)
def test_a_file_of_another_network_is_one_error_and_nothing_is_written(
    task, built, share_steps, tmp_path
):
    other = random_variables(tiny_model(10, "resnet14"))
    file = tmp_path / "w.safetensors"
    write_safetensors(file, to_torch("resnet14", other), {"format": "pt"})
    config = tiny(task, **{"train.weights": str(file)})
    match = r"train.weights='.*w.safetensors': the tensors do not fit resnet14d: \d+ mi"
    with pytest.raises(CheckpointError, match=match):
        rtj.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_detector_on_weights_keeps_stem_stage_1_and_statistics_and_learns_the_rest(
    folder_run, built
):
    run = folder_run("detection")
    fresh = built(run.config).init_state()
    state = restore_newest(run.workdir / "checkpoints", fresh).state
    start = flatten_dict(fresh.weights) | {
        (p[0], "backbone", *p[1:]): leaf
        for p, leaf in body(classifier_variables()).items()
    }
    for path, leaf in flatten_dict(state.weights).items():
        kept = path[0] == "batch_stats" or stage_of(path[1:], 4) < 2
        same = np.array_equal(leaf, start[path])
        assert same == kept, "/".join(path)
