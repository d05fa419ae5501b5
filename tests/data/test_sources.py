"""Opening data sets by name, and what is said when that fails."""

import numpy as np
import pytest

from rtj.data import sources, tfds_source
from rtj.errors import DataError


def test_synthetic_labels_can_be_read_off_the_images():
    for classes in (2, 10, 1000):
        source = sources.SyntheticSource(classes + 5, classes, 16)
        for i in (0, 1, classes - 1, classes + 4):
            example = source[i]
            image = np.asarray(example["image"])
            assert example["label"] == i % classes
            assert sources.synthetic_label(image, classes) == i % classes


def test_synthetic_images_are_a_function_of_the_index():
    first = sources.SyntheticSource(20, 3, 8)
    again = sources.SyntheticSource(20, 3, 8)
    np.testing.assert_array_equal(first[7]["image"], again[7]["image"])
    assert not np.array_equal(first[7]["image"], first[10]["image"])  # same label
    image = np.asarray(first[7]["image"])
    assert (image.shape, image.dtype) == ((8, 8, 3), np.uint8)


def test_synthetic_splits_share_no_example():
    parts = [
        sources.open_source("synthetic", split, image_size=8, length=12)
        for split in ("train", sources.eval_split("synthetic"))
    ]
    ids = [{part[i]["id"] for i in range(12)} for part in parts]
    assert len(ids[0] | ids[1]) == 24


def test_every_kind_of_source_meets_the_protocol(digits_dir):
    arrays = sources.ArraySource(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], 2)
    digits = sources.open_source("digits", "test", data_dir=str(digits_dir))
    synthetic = sources.open_source("synthetic", "train")
    for source in (arrays, digits, synthetic):
        assert isinstance(source, sources.Source)
        assert set(source[0]) == {"image", "label", "id"}
        assert isinstance(source[0]["label"], int) and isinstance(source[0]["id"], str)


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="2 images, 3 labels"):
        sources.ArraySource(np.zeros((2, 4, 4, 3), np.uint8), [0, 1, 1], 2)


def test_an_unknown_name_lists_the_allowed_ones():
    with pytest.raises(DataError, match=r"digits, imagenet, synthetic.*mean imagenet"):
        sources.open_source("imagnet", "train")


def test_unprepared_imagenet_says_where_it_looked_and_how_to_prepare(tmp_path):
    with pytest.raises(DataError) as caught:
        sources.open_source("imagenet", "train", data_dir=str(tmp_path))
    message = str(caught.value)
    assert f"{tmp_path}/imagenet2012" in message
    assert "tfds build imagenet2012 --file_format=array_record" in message
    assert f"--data_dir={tmp_path}" in message


def test_an_unknown_tfds_name_suggests_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"nearest: .*cifar10"):
        sources.open_source("tfds:cifar1O", "train", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="NAME"):
        sources.open_source("tfds:../x", "train", data_dir=str(tmp_path))


def test_a_tfrecord_copy_gets_the_command_that_converts_it(fake_imagenet):
    data_dir = fake_imagenet("tfrecord")
    assert sources.is_prepared("imagenet", data_dir)
    with pytest.raises(DataError) as caught:
        sources.open_source("imagenet", "train", data_dir=data_dir)
    # That it does convert: test_tfrecord.py.
    assert str(caught.value).endswith(
        f"python -m rtj.data.prepare convert tfrecord:{data_dir}/imagenet2012/5.1.0"
    )


def test_auto_is_imagenet_if_prepared_and_digits_if_not(fake_imagenet, tmp_path):
    assert sources.resolve_auto(str(tmp_path)) == "digits"
    data_dir = fake_imagenet("array_record")
    assert sources.resolve_auto(data_dir) == "imagenet"
    source = sources.open_source("imagenet", "validation", data_dir=data_dir)
    assert len(source) == 1000 and source.name == "imagenet"
    assert sources.eval_split("imagenet") == "validation"
    assert sources.eval_split("tfds:imagenet2012", data_dir) == "validation"


def test_the_data_dir_is_the_argument_then_the_environment(monkeypatch, fake_imagenet):
    data_dir = fake_imagenet("array_record")
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert sources.resolve_auto() == "imagenet"
    assert sources.resolve_auto("elsewhere") == "digits"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_source.tfds_dir().endswith("/tensorflow_datasets")


@pytest.mark.parametrize("split", ["valid", "validation[:10%]", "dev+train"])
def test_a_missing_split_lists_those_there_are(digits_dir, split):
    with pytest.raises(DataError, match=r"no split.*(test, train|train, test)"):
        sources.open_source("digits", split, data_dir=str(digits_dir))


def test_a_part_of_a_split_opens(digits_dir):
    part = sources.open_source("digits", "train[:10%]", data_dir=str(digits_dir))
    assert len(part) == 400


def test_tfds_names_take_config_and_version():
    parsed = tfds_source.parse_name("cifar10_corrupted/fog_3:1.0.0")
    assert parsed == tfds_source.TfdsName("cifar10_corrupted", "fog_3", "1.0.0")


def test_several_prepared_configs_must_be_named(tmp_path):
    for config in ("fog", "snow"):
        path = tmp_path / "weather" / config / "1.0.0"
        path.mkdir(parents=True)
        (path / "dataset_info.json").touch()
        (path / "features.json").touch()
    with pytest.raises(DataError, match="tfds:weather/fog, tfds:weather/snow"):
        sources.open_source("tfds:weather", "train", data_dir=str(tmp_path))
    assert sources.is_prepared("tfds:weather/fog", str(tmp_path))
    assert not sources.is_prepared("tfds:weather/rain", str(tmp_path))
