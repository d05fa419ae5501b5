"""Names, options, and the counts that others publish for them."""

import jax
import jax.numpy as jnp
import pytest

from rtj.errors import ConfigError
from rtj.models import (
    count_macs,
    count_parameters,
    create_model,
    list_models,
    model_options,
    model_summary,
)
from rtj.tricks.no_bias_decay import kernel_mask

# numel() of timm 1.0.31's parameters; what timm has no name for (14b to 14s, 18c,
# 18s, ..., seresnet50d) was built with timm's ResNet class. The plain networks
# stride elsewhere and have B's parameters.
# ResNet-10 is ResNet-18 less the second block of each stage, of 18 c^2 + 4 c for c
# channels.
PARAMETERS = {
    "resnet10b": 5_418_792,
    "resnet10c": 5_438_024,
    "resnet10d": 5_438_024,
    "resnet10s": 5_567_272,
    "resnet14b": 10_064_936,
    "resnet14c": 10_084_168,
    "resnet14d": 10_084_168,
    "resnet14s": 10_188_712,
    "resnet18b": 11_689_512,
    "resnet18c": 11_708_744,
    "resnet18d": 11_708_744,
    "resnet18s": 11_837_992,
    "resnet26b": 15_995_176,
    "resnet26c": 16_014_408,
    "resnet26d": 16_014_408,
    "resnet26s": 16_118_952,
    "resnet34b": 21_797_672,
    "resnet34c": 21_816_904,
    "resnet34d": 21_816_904,
    "resnet34s": 21_946_152,
    "resnet50b": 25_557_032,
    "resnet50c": 25_576_264,
    "resnet50d": 25_576_264,
    "resnet50s": 25_680_808,
    "resnet101b": 44_549_160,
    "resnet101c": 44_568_392,
    "resnet101d": 44_568_392,
    "resnet101s": 44_672_936,
    "resnet152b": 60_192_808,
    "resnet152c": 60_212_040,
    "resnet152d": 60_212_040,
    "resnet152s": 60_316_584,
    "resnet200b": 64_673_832,
    "resnet200c": 64_693_064,
    "resnet200d": 64_693_064,
    "resnet200s": 64_797_608,
    "seresnet50": 28_088_024,
    "seresnet50d": 28_107_256,
    "seresnet101": 49_326_872,
    "seresnet101d": 49_346_104,
    "seresnet152": 66_821_848,
    "seresnet152d": 66_841_080,
    "resnext50_32x4d": 25_028_904,
    "resnext50d_32x4d": 25_048_136,
    "resnext101_32x4d": 44_177_704,
    "seresnext50_32x4d": 27_559_896,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "mobilenet_025": 470_072,
    "mobilenet_050": 1_331_592,
    "mobilenet_075": 2_585_560,
    "mobilenet": 4_231_976,
    "inception_v3": 23_834_568,
}
PARAMETERS |= {
    name.removesuffix("b"): count
    for name, count in PARAMETERS.items()
    if name.startswith("resnet") and name.endswith("b")
}

# Multiply-adds in units of 1e9 at 224 pixels (299 for Inception), convolutions and
# dense layers. seresnet50's is timm's published figure, which counts pools as well.
MACS = {
    "resnet18b": 1.814,
    "resnet18d": 2.054,
    "resnet26d": 2.582,
    "resnet34b": 3.664,
    "resnet34d": 3.903,
    "resnet50": 3.858,
    "resnet50b": 4.089,
    "resnet50c": 4.329,
    "resnet50d": 4.329,
    "resnet50s": 5.444,
    "resnet101": 7.570,
    "resnet101b": 7.801,
    "resnet101d": 8.041,
    "resnet101s": 9.157,
    "resnet152": 11.282,
    "resnet152b": 11.514,
    "resnet152d": 11.753,
    "resnet152s": 12.869,
    "resnet200d": 15.247,
    "seresnet50": 4.11,
    "resnext50_32x4d": 4.230,
    "resnext50d_32x4d": 4.470,
    "mobilenet": 0.569,
    "inception_v3": 5.713,
}

# Decayed kernels and undecayed rest of ResNet-D, and channels under batch norm.
DECAYED = {
    "resnet18d": (11_698_016, 10_728, 4_864),
    "resnet34d": (21_798_752, 18_152, 8_576),
    "resnet50d": (25_522_016, 54_248, 26_624),
    "resnet101d": (44_461_920, 106_472, 52_736),
    "resnet152d": (60_059_488, 152_552, 75_776),
}


def test_every_name_has_a_published_count():
    assert sorted(list_models()) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", list_models())
def test_parameter_count_is_timms(name):
    assert count_parameters(create_model(name)) == PARAMETERS[name]


# Their blocks are those of other depths, and their parameters are counted above.
DEEP = [f"resnet{depth}{v}" for depth in (101, 152) for v in ("", "d", "s")]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (name in DEEP))
        for name in MACS
    ],
)
def test_multiply_adds_are_within_half_a_percent(name):
    assert count_macs(create_model(name)) / 1e9 == pytest.approx(MACS[name], rel=5e-3)


def test_gluon_v1_has_its_biases():
    assert count_parameters(create_model("resnet50", bias_1x1=True)) == 25_575_912


def test_aux_head_has_torchvisions_count():
    assert count_parameters(create_model("inception_v3", aux_head=True)) == 27_161_264


@pytest.mark.parametrize("name", DECAYED)
def test_decayed_and_undecayed_counts(name):
    model = create_model(name)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    )
    params, mask = variables["params"], kernel_mask(variables["params"])
    sizes = jax.tree.map(lambda leaf, keep: (leaf.size * keep, leaf.size), params, mask)
    pairs = jax.tree.leaves(sizes, is_leaf=lambda x: isinstance(x, tuple))
    decayed, total = (sum(column) for column in zip(*pairs, strict=True))
    statistics = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    assert (decayed, total - decayed, statistics // 2) == DECAYED[name]


def test_names_are_listed_by_family_then_size():
    names = list_models()
    depths = [int(name[6:]) for name in names if name.removeprefix("resnet").isdigit()]
    assert depths == [10, 14, 18, 26, 34, 50, 101, 152, 200]
    assert list_models("resnet50*") == [
        f"resnet50{v}" for v in ("", "b", "c", "d", "s")
    ]
    for pattern in ("densenet*", "mobilenet*", "seresnet*"):
        counts = [PARAMETERS[name] for name in list_models(pattern)]
        assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet50e", {}, "model 'resnet50e' is unknown; .* resnet50"),
        ("mobilenet", {"zero_gamma": True}, "mobilenet's option 'zero_gamma'"),
        ("densenet121", {"widht": 8}, "densenet121's option 'widht' .* first: width"),
    ],
)
def test_unknown_name_or_option_lists_what_is_allowed(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create_model(name, **options)


def test_options_of_an_unknown_name_are_an_error():
    with pytest.raises(ConfigError, match="model 'resnet' is unknown"):
        model_options("resnet")


def test_dropout_is_inceptions_alone():
    rates = {name: create_model(name).dropout for name in list_models()}
    assert rates.pop("inception_v3") == 0.5
    assert set(rates.values()) == {0.0}


@pytest.mark.parametrize("name", ["resnext50d_32x4d", "densenet121", "inception_v3"])
def test_summary_rows_add_up(name):
    summary = model_summary(name)
    assert summary.parameters == PARAMETERS[name]
    assert sum(stage.parameters for stage in summary.stages) == summary.parameters
    assert sum(stage.macs for stage in summary.stages) == summary.macs


def test_summary_shows_each_stage():
    summary = model_summary("resnet50d", image_size=225, num_classes=10)
    shapes = {stage.name: (stage.blocks, stage.output) for stage in summary.stages}
    assert shapes == {
        "stem": (1, (57, 57, 64)),
        "layer1": (3, (57, 57, 256)),
        "layer2": (4, (29, 29, 512)),
        "layer3": (6, (15, 15, 1024)),
        "layer4": (3, (8, 8, 2048)),
        "fc": (1, (10,)),
    }
    title, head, *rows = str(summary).splitlines()
    assert title == "resnet50d, 225x225 pixels"
    assert head.split() == ["stage", "blocks", "output", "parameters", "MACs"]
    assert rows[-2].split() == ["fc", "1", "10", "20,490", "20,480"]
    assert rows[-1].split()[:2] == ["total", f"{summary.parameters:,}"]


@pytest.mark.slow
def test_summary_has_a_row_for_the_auxiliary_head():
    summary = model_summary("inception_v3", aux_head=True)
    (aux,) = [stage for stage in summary.stages if stage.name == "AuxLogits"]
    # 128 x 768 + 768 x 128 x 25 + two batch norms + 1000 x 769
    assert aux.parameters == 98_304 + 2_457_600 + 2 * (128 + 768) + 769_000
    assert aux.macs == 0
