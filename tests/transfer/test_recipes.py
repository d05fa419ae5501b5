"""The config files of both tasks: gluon-cv's values, and one error for a wrong one."""

import pytest

import rtj
from rtj import main
from rtj.config import check, flatten, set_field
from rtj.errors import ConfigError

# gluon-cv's, but for the last two lines of each, which are this repository's.
ADE20K = {
    "data.name": "ade20k",
    "train.epochs": 120.0,
    "train.batch_size": 16,
    "tricks.base_lr": 0.01,
    "tricks.schedule": "poly",
    "tricks.poly_power": 0.9,
    "tricks.warmup_epochs": 0.0,
    "tricks.weight_decay": 1e-4,
    "tricks.momentum": 0.9,
    "tricks.nesterov": "none",
    "train.head_lr": 10.0,
    "model.bn_group_size": 0,
    "data.image_size": 480,
    "segmentation.base_size": 520,
    "segmentation.scale": (0.5, 2.0),
    "segmentation.output_stride": 8,
    "segmentation.aux": True,
    "segmentation.aux_weight": 0.5,
    "segmentation.dropout": 0.1,
    "data.flip": True,
    "tricks.precision": "bf16",
    "model.name": "resnet50d",
}
VOC = {
    "data.name": "voc",
    "train.epochs": 20.0,
    "train.batch_size": 4,
    "tricks.base_lr": 0.001,
    "tricks.schedule": "step",
    "tricks.step_epochs": (14.0,),
    "tricks.step_factor": 0.1,
    "tricks.warmup_epochs": 0.0,
    "tricks.weight_decay": 5e-4,
    "tricks.momentum": 0.9,
    "tricks.nesterov": "none",
    "detection.neck": "c4",
    "detection.short_side": 600,
    "detection.max_side": 1000,
    "detection.anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
    "detection.rpn_channels": 1024,
    "detection.rpn_nms": 0.7,
    "detection.train_pre_nms": 12000,
    "detection.train_post_nms": 2000,
    "detection.test_pre_nms": 6000,
    "detection.test_post_nms": 300,
    "detection.roi_batch": 128,
    "detection.roi_positive": 0.25,
    "detection.roi_size": 14,
    "detection.nms": 0.3,
    "detection.metric": "11point",
    "tricks.precision": "bf16",
    "model.name": "resnet50d",
}


def config(name):
    return flatten(rtj.get_config(name))


@pytest.mark.parametrize(
    ("name", "values"), [("segmentation:ade20k", ADE20K), ("detection:voc", VOC)]
)
def test_the_papers_data_sets_have_gluon_cvs_values(name, values):
    got = config(name)
    assert {field: got[field] for field in values} == values


@pytest.mark.parametrize("name", ["segmentation:ade20k", "detection:voc"])
def test_a_row_names_the_run_and_its_network_and_changes_no_more(name):
    task = name.split(":")[0]
    plain = config(name)
    rows = rtj.list_rows(task)
    assert len(rows) == 7
    for row in rows:
        network = "resnet50b" if row == "b_standard" else "resnet50d"
        changes = {"name": f"{task}-{row}", "model.name": network}
        assert config(f"{name},row={row}") == plain | changes


def test_keys_set_their_fields_and_steps_of_decay_keep_their_place():
    got = config("detection:voc,batch=16,epochs=40,precision=fp32,seed=3,data_dir=d")
    assert got["train.batch_size"] == 16
    assert (got["train.epochs"], got["tricks.step_epochs"]) == (40.0, (28.0,))
    assert (got["tricks.precision"], got["seed"]) == ("fp32", 3)
    assert got["data.data_dir"] == "d"
    assert config("segmentation:ade20k,backbone=resnet101d")["model.name"] == (
        "resnet101d"
    )


def test_a_pyramid_has_its_own_layout():
    got, plain = config("detection:voc,neck=fpn"), config("detection:voc")
    fpn = {"neck": "fpn", "rpn_channels": 256, "roi_size": 7}
    assert got == plain | {f"detection.{key}": value for key, value in fpn.items()}
    assert config("detection:voc,neck=c4") == plain


def test_a_detector_on_weights_freezes_what_gluon_cv_freezes():
    got, plain = config("detection:voc,weights=w"), config("detection:voc")
    frozen = {"train.freeze_batch_norm": True, "train.frozen_stages": 2}
    assert got == plain | frozen | {"train.weights": "w"}
    plain = config("segmentation:ade20k")
    assert config("segmentation:ade20k,weights=w") == plain | {"train.weights": "w"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segmentation:voc", r"data set 'voc' is not allowed; allowed: scenes \| ade"),
        ("detection:ade20k", r"'ade20k' is not allowed; allowed: scenes \| voc"),
        ("detection:tfds:", r"data set 'tfds:' is not allowed"),
        ("segmentation:folder:", "data set 'folder:' is not allowed"),
        ("segmentation:ade20k,row=smoth", r"row='smoth' .*allowed: smooth \| b_stand"),
        ("detection:voc,neck=c5", r"neck='c5' is not allowed; allowed: c4 \| fpn"),
        ("segmentation:ade20k,neck=fpn", "key 'neck' is unknown; allowed, nearest"),
        ("detection:voc,weight=w", "'weight' is unknown; allowed, nearest first: wei"),
        ("detection:voc,backbone=mobilenet", "backbone='mobilenet' is not allowed"),
        ("segmentation:ade20k,batch=0", "batch='0' .*an integer of at least 1"),
    ],
)
def test_what_is_not_allowed_is_one_error_that_says_what_is(name, message):
    with pytest.raises(ConfigError, match=message):
        config(name)


UNUSED = {
    "tricks.mixup": 0.2,
    "tricks.cutmix": 1.0,
    "tricks.label_smoothing": 0.1,
    "tricks.teacher": "runs/teacher",
    "model.dropout": 0.2,
    "train.head": "reset",
    "data.color_jitter": "hsb",
    "data.pca_noise": 0.1,
    "data.crop_area": (0.5, 1.0),
    "data.repeats": 2,
    "data.rand_augment_ops": 1,
    "data.random_erasing": 0.5,
}


@pytest.mark.parametrize("task", ["segmentation", "detection"])
@pytest.mark.parametrize("field", UNUSED)
def test_a_trick_of_classification_is_an_error_and_not_left_out(task, field):
    changed = rtj.get_config(f"{task}:scenes")
    set_field(changed, field, UNUSED[field])
    with pytest.raises(ConfigError, match=f"{field}=.* has no meaning for {task}; all"):
        check(changed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.segmentation.nope=1"], "'segmentation.nope' is unknown; allowed"),
        (["--config.detection.neck=fpn"], "no section"),
        (["--config.segmentation.output_stride=4"], "output_stride=4 is not allowed"),
        (["--config.segmentation.scale=(2.0,0.5)"], "two numbers low <= high"),
        (["--config.tricks.mixup=0.2"], "tricks.mixup=0.2 has no meaning for segm"),
        (["--config.data.name=digits"], "data.name='digits' is not allowed; allowed"),
    ],
)
def test_a_bad_override_is_one_error_of_exit_2(repo_root, arguments, message):
    config = f"--config={repo_root}/configs/segmentation.py:scenes"
    with pytest.raises(ConfigError) as caught:
        main.parse(["rtj.main", config, *arguments])
    assert caught.value.exit_code == 2
    assert message in str(caught.value)


def test_a_task_that_is_another_ones_is_an_error():
    changed = rtj.get_config("segmentation:scenes")
    changed.task = "detection"
    with pytest.raises(ConfigError, match="config field 'segmentation"):
        check(changed)
