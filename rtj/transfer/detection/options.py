"""What training and inference of Faster R-CNN are done with, beside the network."""

from dataclasses import dataclass

from rtj.errors import ConfigError
from rtj.transfer.detection.proposals import ProposalOptions
from rtj.transfer.detection.sampling import Sampling


@dataclass(frozen=True)
class DetectionOptions:
    """Defaults are gluon-cv's for Pascal VOC; counts are per image.

    Attributes:
        rpn_nms: largest overlap (IoU) of two proposals of a map.
        rpn_min_size: shortest side of a proposal, in pixels of the resized image.
        train_pre_nms, train_post_nms: anchors of a map that are looked at, and boxes
            that are proposed in all, in training.
        test_pre_nms, test_post_nms: the same in inference.
        rpn_batch, rpn_positive: anchors of the region proposal network's losses, and
            the largest share of them that is positive.
        roi_batch, roi_positive: the same of proposals and the head's losses.
        train_difficult: whether objects marked difficult are trained on like others,
            as in gluon-cv; otherwise they are neither objects nor background.
        nms: largest overlap of two detections of a class.
        score_threshold: detections with a lower score are dropped.
        max_detections: over all classes.

    Raises:
        ConfigError: a count that is not positive, or a share outside [0, 1].
    """

    rpn_nms: float = 0.7
    rpn_min_size: float = 16.0
    train_pre_nms: int = 12000
    train_post_nms: int = 2000
    test_pre_nms: int = 6000
    test_post_nms: int = 300
    rpn_batch: int = 256
    rpn_positive: float = 0.5
    roi_batch: int = 128
    roi_positive: float = 0.25
    train_difficult: bool = True
    nms: float = 0.3
    score_threshold: float = 0.01
    max_detections: int = 100

    def __post_init__(self) -> None:
        for name in (
            "train_pre_nms",
            "train_post_nms",
            "test_pre_nms",
            "test_post_nms",
            "rpn_batch",
            "roi_batch",
            "max_detections",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}; allowed: 1 or more")
        for name in ("rpn_nms", "rpn_positive", "roi_positive", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}; allowed: 0 to 1")

    @property
    def train_proposals(self) -> ProposalOptions:
        """Which boxes the head is trained on, before its sample is drawn."""
        return self._proposals(self.train_pre_nms, self.train_post_nms)

    @property
    def test_proposals(self) -> ProposalOptions:
        """Which boxes the head classifies in inference."""
        return self._proposals(self.test_pre_nms, self.test_post_nms)

    @property
    def rpn_sampling(self) -> Sampling:
        """Of anchors."""
        return Sampling(self.rpn_batch, self.rpn_positive)

    @property
    def roi_sampling(self) -> Sampling:
        """Of proposals."""
        return Sampling(self.roi_batch, self.roi_positive)

    def _proposals(self, before: int, after: int) -> ProposalOptions:
        return ProposalOptions(before, after, self.rpn_nms, self.rpn_min_size)
