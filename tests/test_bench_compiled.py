"""What a step costs a TPU, beside the Flax example's step."""

import json

import pytest

from rtj.bench import __main__ as bench
from rtj.bench import compiled_cost


def cost(**changes):
    sizes = {"flops": 4e12, "hbm_bytes": 20e9, "xla_bytes": 40e9, "temp_bytes": 4e9}
    return {**sizes, "all_reduces": 2, "traffic": {}, **changes}


def test_ratios_are_ours_by_the_examples(monkeypatch, capsys):
    contestants = {
        "rtj": cost(hbm_bytes=15e9),
        compiled_cost.FLAX: cost(temp_bytes=8e9, all_reduces=100),
    }
    ratios = compiled_cost.ratios(contestants)
    assert ratios == {
        "rtj": {"flops": 1, "hbm_bytes": 0.75, "xla_bytes": 1, "temp_bytes": 0.5}
    }
    assert compiled_cost.ratios({"rtj": cost()}) == {}
    result = {"topology": "v5e:2x4", "network": "resnet50b", "per_chip_batch": 128}
    result |= {"contestants": contestants, "ratios": ratios}
    monkeypatch.setattr(compiled_cost, "measure", lambda *_: result)
    assert bench.main(["compiled", "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == result
    assert "128 images a chip" in table[0]
    assert any("0.750" in line for line in table)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--topology=v5e:3x3"], "v5e:3x3"),
        (["--network=vgg16"], "vgg16"),
        (["--images=0"], "--images=0"),
    ],
)
def test_bad_flags_end_with_one_line(flags, part, capsys):
    assert bench.main(["compiled", *flags]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.exhaustive
def test_on_a_v5e_a_step_moves_a_quarter_less_than_the_examples():
    """Three minutes of the TPU compiler, which the extra `plan` installs."""
    pytest.importorskip("libtpu")
    result = compiled_cost.measure("v5e:2x4", "resnet50b", 128)
    ours, saving = (result["ratios"][name] for name in ("rtj", "rtj, recompute"))
    assert ours["hbm_bytes"] < 0.8
    assert ours["xla_bytes"] < 0.9
    assert ours["flops"] < 1.1
    assert ours["temp_bytes"] < 0.7
    assert saving["temp_bytes"] < ours["temp_bytes"]
    assert result["contestants"]["rtj"]["all_reduces"] <= 3
