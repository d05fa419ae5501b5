"""Small TFDS data sets, prepared without TensorFlow."""

import io
import os
from types import SimpleNamespace

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

# All that the builders used here take of TensorFlow.
_FILES = SimpleNamespace(GFile=open, listdir=os.listdir)
_TENSORFLOW = SimpleNamespace(io=SimpleNamespace(gfile=_FILES))


def png(pixels):
    """A file of uint8 pixels, as TFDS's builders take images."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def prepare(module, builder, data_dir, splits, config=None):
    """What a builder of TFDS itself, in `module`, makes of files.

    `splits` gives the arguments of its `_generate_examples` for each split.
    """

    def generate(self, split):
        return builder._generate_examples(self, *map(str, splits[split]))

    kind = _subclass(builder, splits, generate, __module__=builder.__module__)
    tensorflow, module.tf = module.tf, _TENSORFLOW
    try:
        _run(kind(data_dir=str(data_dir), config=config))
    finally:
        module.tf = tensorflow


def prepare_examples(name, features, examples, data_dir):
    """A data set of splits 'train' and 'test' with the same `examples`."""

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def generate(self, split):
        # Files are read once.
        return ((str(number), make()) for number, make in enumerate(examples))

    kind = _subclass(
        tfds.core.GeneratorBasedBuilder,
        ("train", "test"),
        generate,
        name=name,
        VERSION=tfds.core.Version("1.0.0"),
        _info=info,
        _generate_examples=generate,
    )
    _run(kind(data_dir=str(data_dir)))


def _subclass(base, splits, generate, **attributes):
    def split_generators(self, _):
        return {split: generate(self, split) for split in splits}

    attributes |= {"_split_generators": split_generators}
    attributes |= {"code_path": None}  # as in rtj.data.digits
    return type(base.__name__, (base,), attributes, skip_registration=True)


def _run(builder):
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
    finally:
        tfds.enable_progress_bar()
