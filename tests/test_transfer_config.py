"""Other data by name: the paper's recipes as they are, and fine-tuning's own."""

import pytest

import rtj
from rtj.config import flatten
from rtj.errors import ConfigError


def config(argument):
    return flatten(rtj.get_config(f"transfer:{argument}"))


def changed(a, b):
    return {field for field in a if a[field] != b[field]} - {"name", "data.name"}


@pytest.mark.parametrize(
    ("recipe", "row"), [("efficient", "efficient"), ("best", "mixup")]
)
def test_places365_has_the_papers_recipes_unchanged(recipe, row):
    got = config(f"places365,recipe={recipe}")
    assert got["data.name"] == "tfds:places365_small"
    paper = flatten(rtj.get_config(f"ablation:{row},data=imagenet"))
    assert changed(got, paper) == set()


def test_a_data_set_alone_is_trained_from_random_weights():
    assert changed(config("places365"), config("places365,recipe=efficient")) == set()
    assert config("folder:photos")["data.name"] == "folder:photos"


def test_weights_are_fine_tuned_with_a_fresh_classifier():
    got = config("folder:photos,weights=runs/cosine,frozen=2,freeze_bn=yes,epochs=5")
    assert got["train.weights"] == "runs/cosine"
    assert got["train.head"] == "reset"
    assert got["train.frozen_stages"] == 2
    assert got["train.freeze_batch_norm"] is True
    assert got["train.epochs"] == 5
    assert (got["tricks.base_lr"], got["train.head_lr"]) == (0.01, 10.0)
    assert got["tricks.schedule"] == "cosine"


def test_a_kept_classifier_learns_at_the_rate_of_the_rest():
    got = config("folder:photos,weights=runs/cosine,head=keep")
    assert (got["train.head"], got["train.head_lr"]) == ("keep", 1.0)


def test_a_recipe_of_the_paper_may_start_from_weights_too():
    got = config("tfds:flowers,recipe=best,weights=w.npz")
    assert changed(got, config("tfds:flowers,recipe=best")) == {
        "train.weights",
        "train.head",
    }


def test_keys_of_the_ablation_are_passed_on():
    got = config("digits,model=resnet18d,batch=64,seed=3,images=500,precision=fp16")
    assert (got["model.name"], got["train.batch_size"]) == ("resnet18d", 64)
    assert (got["seed"], got["tricks.precision"]) == (3, "fp16")
    assert got["data.train_split"] == "train[:500]"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("places36", "data set 'places36' is not allowed; allowed: places365"),
        ("places365,recipe=bests", "recipe='bests' .*best"),
        ("places365,recipe=finetune", "recipe=finetune needs weights="),
        ("places365,frozen=1", "frozen needs weights="),
        ("places365,weight=x", r"'weight' is unknown; .*weights"),
        ("places365,batch=x", "batch='x' is not allowed"),
        ("places365,weights=x,freeze_bn=1", "freeze_bn='1' .*yes"),
    ],
)
def test_what_is_not_allowed_is_one_error(argument, message):
    with pytest.raises(ConfigError, match=message):
        config(argument)


def test_rows_are_listed_for_notebooks():
    rows = rtj.list_rows()
    assert rows[0] == "baseline"
    assert {"zero_gamma", "distill_mixup", "teacher"} <= set(rows)
    with pytest.raises(ConfigError, match="'ablatio' is unknown"):
        rtj.list_rows("ablatio")
    with pytest.raises(ConfigError, match="no list of rows"):
        rtj.list_rows("transfer")
