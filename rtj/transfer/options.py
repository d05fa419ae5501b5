"""The config sections of segmentation and detection, and what these tasks do not use.

Values are gluon-cv's for FCN on ADE20K and for Faster R-CNN (C4) on Pascal VOC; the
paper (section 6) gives none.
"""

from dataclasses import asdict
from typing import Any

from rtj.transfer.detection.options import DetectionOptions

SECTIONS: dict[str, dict[str, Any]] = {
    "segmentation": {
        "output_stride": 8,
        "aux": True,  # a second head on stage 3
        "aux_weight": 0.5,
        "skip": False,  # scores of stage 1 added
        "dropout": 0.1,  # in both heads; model.dropout is the classifier's
        "base_size": 520,  # of the long side before scaling
        "scale": (0.5, 2.0),  # times the base, drawn for each image
        "canvas": 768,  # larger images are made this small by the host
    },
    "detection": {
        "neck": "c4",  # or fpn
        "short_side": 600,
        "max_side": 1000,
        "max_objects": 64,  # of an image in training; the largest stay
        "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),  # pixels
        "rpn_channels": 1024,
        "roi_size": 14,  # bins a side of ROIAlign
        "fpn_channels": 256,  # this and the next with fpn only
        "fc": 1024,  # width of the head's two hidden layers
        **asdict(DetectionOptions()),
        "metric": "11point",  # area: VOC 2010's; coco
    },
}

# Fields of classification, at the values that switch them off.
UNUSED: dict[str, Any] = {
    "model.dropout": None,
    "tricks.label_smoothing": 0.0,
    "tricks.mixup": 0.0,
    "tricks.cutmix": 0.0,
    "tricks.teacher": "",
    "train.head": "keep",
    "data.crop_area": (0.08, 1.0),
    "data.crop_ratio": (3 / 4, 4 / 3),
    "data.crop_form": "paper",
    "data.repeats": 1,
    "data.color_jitter": "none",
    "data.pca_noise": 0.0,
    "data.rand_augment_ops": 0,
    "data.random_erasing": 0.0,
}
