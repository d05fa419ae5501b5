"""rtj's names of networks, timm's names, and finding a module's name."""

import pytest

import rtj.models
from rtj.weights.architectures import architecture, from_architecture, registry_name


@pytest.mark.parametrize("name", rtj.models.list_models())
def test_a_model_is_found_by_its_options(name: str):
    options = {"num_classes": 3, "bn_momentum": 0.5}
    found = registry_name(rtj.models.create_model(name, **options))
    assert architecture(found) == architecture(name)


@pytest.mark.parametrize(
    ("ours", "timms"),
    [
        ("resnet50b", "resnet50"),
        ("resnet50d", "resnet50d"),
        ("resnet18b", "resnet18"),
        ("seresnext50_32x4d", "seresnext50_32x4d"),
        ("mobilenet", "mobilenetv1_100"),
        ("mobilenet_050", "mobilenetv1_050"),
    ],
)
def test_timm_and_rtj_name_the_same_networks(ours: str, timms: str):
    assert architecture(ours) == timms
    assert from_architecture(timms) == ours


def test_what_timm_does_not_have_gets_no_name_of_timms():
    assert architecture("resnet50") == "resnet50a"
    assert from_architecture("vit_base_patch16_224") is None
