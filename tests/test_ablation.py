"""The rows of the paper's tables: what each one switches, and what it refuses."""

import pytest

import rtj
from rtj.config import flatten
from rtj.errors import ConfigError
from rtj.models import model_options
from rtj.parts import make_model
from rtj.trick_table import format_trick_table, trick_rows

TABLE4 = ["linear_scaling", "warmup", "zero_gamma", "no_bias_decay", "low_precision"]
FIELDS = {
    "linear_scaling": {"tricks.linear_scaling"},
    "warmup": {"tricks.warmup_epochs"},
    "zero_gamma": {"tricks.zero_gamma"},
    "no_bias_decay": {"tricks.no_bias_decay"},
    "low_precision": {"tricks.precision"},
    "cosine": {"tricks.schedule"},
    "label_smoothing": {"tricks.label_smoothing"},
    "distill": {"tricks.teacher"},
    "mixup": {"tricks.mixup", "train.epochs", "tricks.step_epochs"},
}
NETWORK = {"model.name"}
NETWORKS = ("resnet50", "resnet50b", "resnet50c", "resnet50d")


def config(argument, data="imagenet"):
    row, _, keys = argument.partition(",")
    whole_table_6 = "mode=without" in keys and row not in (*TABLE4, *NETWORKS)
    taught = row.startswith("distill") or (whole_table_6 and row != "distill")
    taught = taught and argument != "distill,mode=without"
    teacher = ",teacher=t" if taught else ""
    return flatten(rtj.get_config(f"ablation:{argument},data={data}{teacher}"))


def changed(a, b):
    """Fields that differ, without the name and what follows from the batch."""
    assert a.keys() == b.keys()
    return {f for f in a if a[f] != b[f]} - {"name"}


def test_the_baseline_is_the_papers_section_2():
    base = config("baseline")
    assert base["model.name"] == "resnet50"
    assert base["train.batch_size"] == 256
    assert base["model.bn_group_size"] == 32
    assert base["train.epochs"] == 120
    assert base["tricks.base_lr"] == 0.1
    assert base["tricks.step_epochs"] == (30, 60, 90)
    assert base["tricks.nesterov"] == "inside"
    assert base["tricks.initializer"] == "xavier"
    assert (base["data.image_size"], base["data.eval_resize"]) == (224, 256)
    assert base["data.mean"] == (123.68, 116.779, 103.939)
    assert base["data.std"] == (58.393, 57.12, 57.375)
    assert not any(on for _, on, _ in trick_rows(rtj.get_config("ablation:baseline")))


@pytest.mark.parametrize("data", ["imagenet", "digits"])
def test_table_4_adds_one_trick_a_row_in_the_papers_order(data):
    before = config(f"linear_scaling,batch={1024 if data == 'imagenet' else 128}", data)
    for row in TABLE4[1:]:
        now = config(row, data)
        assert changed(before, now) == FIELDS[row]
        before = now


def test_table_4_starts_from_the_baseline_at_the_large_batch():
    assert (
        changed(config("baseline,batch=1024"), config("linear_scaling"))
        == (FIELDS["linear_scaling"])
    )
    assert config("linear_scaling")["model.bn_group_size"] == 128


def test_table_5_changes_the_network_only():
    assert changed(config("low_precision"), config("resnet50")) == set()
    for row in ("resnet50b", "resnet50c", "resnet50d"):
        assert changed(config("resnet50"), config(row)) == NETWORK
        assert config(row)["model.name"] == row


def test_table_6_stacks_on_resnet_50_d():
    assert changed(config("resnet50d"), config("efficient")) == set()
    assert changed(config("efficient"), config("cosine")) == FIELDS["cosine"]
    assert (
        changed(config("cosine"), config("label_smoothing"))
        == (FIELDS["label_smoothing"])
    )
    smoothed, mixed = config("label_smoothing"), config("mixup")
    assert changed(smoothed, mixed) == FIELDS["mixup"]
    assert changed(smoothed, config("distill")) == FIELDS["distill"]
    assert changed(mixed, config("distill_mixup")) == FIELDS["distill"]


@pytest.mark.parametrize(
    ("teacher", "row"), [("teacher", "label_smoothing"), ("teacher_mixup", "mixup")]
)
def test_a_teacher_is_a_deeper_network_trained_as_the_row_below(teacher, row):
    assert changed(config(teacher), config(row)) == NETWORK
    assert config(teacher)["model.name"] == "resnet152d"
    assert changed(config(teacher, "digits"), config(row, "digits")) == NETWORK


@pytest.mark.parametrize("row", ["baseline", "efficient", "mixup"])
def test_inception_has_299_pixels_and_other_networks_the_rows(row):
    inception = config(f"{row},model=inception_v3")
    size = {"data.image_size", "data.eval_resize"}
    assert changed(config(row), inception) == NETWORK | size
    assert (inception["data.image_size"], inception["data.eval_resize"]) == (299, 342)
    assert changed(config(row), config(f"{row},model=mobilenet")) == NETWORK


@pytest.mark.parametrize("network", ["mobilenet", "inception_v3", "densenet201"])
def test_other_networks_build_on_the_digits_too(network):
    got = rtj.get_config(f"ablation:efficient,data=digits,model={network}")
    make_model(got, 10)
    assert got.model.width is None or "width" in model_options(network)


def test_small_and_large_are_the_papers_two_batches():
    for words, batches in (("imagenet", (256, 1024)), ("digits", (32, 128))):
        for word, batch in zip(("small", "large"), batches, strict=True):
            got = config(f"warmup,batch={word}", words)
            assert changed(got, config(f"warmup,batch={batch}", words)) == set()
            assert got["train.batch_size"] == batch


def test_images_takes_the_first_of_the_training_split():
    got = config("cosine,images=500", "digits")
    assert got["data.train_split"] == "train[:500]"
    assert got["train.eval_every"] == got["train.save_every"] == 8.0
    assert config("cosine", "digits")["data.train_split"] == "train"


def test_a_part_of_data_of_unknown_size_is_evaluated_every_epoch():
    got = config("cosine,images=500", "folder:photos")
    assert got["data.train_split"] == "train[:500]"
    assert got["train.eval_every"] == got["train.save_every"] == 1.0


def test_mixup_is_the_papers_and_trains_for_200_epochs_instead_of_120():
    got = config("mixup")
    assert got["tricks.mixup"] == 0.2
    assert got["train.epochs"] == 200
    assert got["tricks.cutmix"] == 0


@pytest.mark.parametrize("data", ["imagenet", "digits"])
def test_mixup_stretches_the_run_and_its_step_decay_alike(data):
    before, now = config("label_smoothing", data), config("mixup", data)
    stretch = now["train.epochs"] / before["train.epochs"]
    assert stretch == pytest.approx(200 / 120)
    assert now["tricks.step_epochs"] == pytest.approx(
        tuple(stretch * epoch for epoch in before["tricks.step_epochs"])
    )


@pytest.mark.parametrize("row", sorted(FIELDS))
def test_only_is_the_baseline_and_this_trick(row):
    assert changed(config("baseline"), config(f"{row},mode=only")) == FIELDS[row]


@pytest.mark.parametrize("row", sorted(FIELDS))
def test_without_is_the_whole_table_less_this_trick(row):
    whole = config("low_precision" if row in TABLE4 else "distill_mixup")
    assert changed(whole, config(f"{row},mode=without")) == FIELDS[row]


@pytest.mark.parametrize("row", ["resnet50b", "resnet50c", "resnet50d"])
def test_a_network_row_knows_only_and_without_too(row):
    assert changed(config("baseline"), config(f"{row},mode=only")) == NETWORK
    assert changed(config(row), config(f"{row},mode=without")) == NETWORK


def test_digits_keep_the_tweak_of_the_row_on_the_small_network():
    assert config("resnet50d", "digits")["model.name"] == "resnet14d"
    assert config("resnet50", "digits")["model.name"] == "resnet14"


def test_auto_is_the_digits_where_imagenet_is_not_prepared():
    assert rtj.get_config("ablation:cosine").data.name == "digits"


def test_keys_set_their_fields():
    got = config("cosine,model=resnet18d,batch=64,seed=5,precision=fp16")
    assert got["model.name"] == "resnet18d"
    assert got["train.batch_size"] == 64
    assert got["seed"] == 5
    assert got["tricks.precision"] == "fp16"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("ablation", "a row is missing"),
        ("ablation:zero_gama", "'zero_gama' is unknown; .*first: zero_gamma, "),
        ("ablation:zero_gamma,batc=3", "'batc' is unknown; .*first: batch, "),
        (
            "ablation:zero_gamma,batch=abc",
            "batch='abc' .*small | large | an integer of at least 1",
        ),
        ("ablation:zero_gamma,batch=-1", "batch='-1' .*an integer of at least 1"),
        ("ablation:zero_gamma,batch", "each key is given once, as batch=VALUE"),
        ("ablation:cosine,seed=1,seed=2", "each key is given once"),
        ("ablation:cosine,precision=fp8", "precision='fp8' .*fp16 | fp32 | bf16"),
        ("ablation:cosine,data=mnist", "data='mnist' .*tfds:NAME"),
        ("ablation:efficient,mode=only", "mode='only' needs a row that is one trick"),
        ("ablation:cosine,model=resnet50x", "model='resnet50x' .*: resnet50"),
        ("ablation:cosine,data=imagenet,batch=100", "batch=100 .* multiple of 8"),
        ("ablatio:cosine", "config file 'ablatio' is unknown; .*ablation"),
    ],
)
def test_what_is_not_allowed_is_one_error_with_what_is(argument, message):
    with pytest.raises(ConfigError, match=message):
        rtj.get_config(argument)


def test_the_trick_table_says_on_or_off_and_the_value():
    text = format_trick_table(rtj.get_config("ablation:zero_gamma,data=imagenet"))
    lines = {line[:18].strip(): line[18:] for line in text.splitlines()}
    assert lines["linear scaling"].split(maxsplit=1) == [
        "on",
        "learning rate 0.1 at 256 -> 0.4 at 1024",
    ]
    assert lines["warmup"].split(maxsplit=1) == ["on", "5 epochs"]
    assert lines["zero gamma"].split()[0] == "on"
    assert lines["no bias decay"].split()[0] == "off"
    assert lines["cosine"].split()[0] == "off"
    assert lines["mixup"].split()[0] == "off"
    assert "cutmix" not in lines


def test_the_trick_table_has_mixups_values_and_cutmix_where_it_is_on():
    mixed = rtj.get_config("ablation:mixup,data=imagenet")
    on = {name: value for name, on, value in trick_rows(mixed) if on}
    assert on["mixup"] == "alpha 0.2, a lambda for each step"
    mixed.tricks.update(cutmix=1.0, mixup_lambda="example", mixup_off_epochs=10.0)
    name, is_on, value = trick_rows(mixed)[-1]
    assert (name, is_on) == ("cutmix", True)
    assert value == "alpha 1, a lambda for each example, off in the last 10 epochs"
