"""`folder:PATH` and `tar:PATH` as values of a config."""

import pytest

import rtj
from rtj import main
from rtj.config import config_hash, flatten
from rtj.data import sources
from rtj.errors import ConfigError, DataError


@pytest.mark.parametrize("data", ["folder:/some/path", "tar:a=b/c d", "folder:~/x:y"])
def test_a_path_is_a_config_value_with_imagenets_recipe(repo_root, data):
    argument = f"--config={repo_root}/configs/ablation.py:zero_gamma,data={data}"
    _, config = main.parse(["rtj.main", argument])
    imagenet = rtj.get_config("ablation:zero_gamma,data=imagenet")
    assert config.data.name == data
    assert flatten(config) == flatten(imagenet) | {"data.name": data}
    assert config_hash(config) != config_hash(imagenet)
    assert main.default_workdir(config).parent.name == "runs"


@pytest.mark.parametrize("rest", ["b", "b=c", "b/c=d"])
def test_a_comma_in_a_path_is_an_error_that_says_so(rest):
    with pytest.raises(
        ConfigError, match=r"'b.*' is unknown; .*a value holds no comma"
    ):
        rtj.get_config(f"ablation:zero_gamma,data=folder:/a,{rest}")


@pytest.mark.parametrize("data", ["folder:", "tar:", "folders:/x"])
def test_a_name_without_a_path_is_an_error_that_lists_the_forms(data):
    with pytest.raises(ConfigError, match=r"tfds:NAME \| folder:PATH \| tar:PATH"):
        rtj.get_config(f"ablation:zero_gamma,data={data}")
    with pytest.raises(DataError, match="folder:PATH and tar:PATH"):
        sources.open_source(data, "train")
