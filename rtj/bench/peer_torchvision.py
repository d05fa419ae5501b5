"""torchvision's ImageFolder and PyTorch's DataLoader, as timm's training uses them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rtj.bench.crops import BATCH, SIZE, Work
from rtj.bench.peer_tf import MEAN, STD
from rtj.data.augment import PCA_EIGENVALUES, PCA_EIGENVECTORS


def batches(work: Work, full: bool) -> Iterator[np.ndarray]:
    """Endless batches: uint8, or float32 when `full`; a process for each core."""
    import torch
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)
    indices, boxes = work.stream(2 * len(work.files))
    jitter = v2.ColorJitter(0.4, 0.4, 0.4)
    scale, base = torch.tensor(PCA_EIGENVALUES), torch.tensor(PCA_EIGENVECTORS)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]

    def augment(image: Any) -> Any:
        image = v2.RandomHorizontalFlip()(jitter(image))
        pixels = functional.pil_to_tensor(image).to(torch.float32)
        noise = base @ (scale * 0.1 * torch.randn(3))
        return (pixels + noise[:, None, None] - mean) / std

    loader = torch.utils.data.DataLoader(
        _Crops(work, indices, boxes, augment if full else None),
        batch_size=BATCH,
        num_workers=work.cores,
        persistent_workers=True,
        drop_last=True,
    )
    while True:
        for batch in loader:
            yield batch.numpy()


class _Crops:
    """ImageFolder's images, cut where rtj cuts them."""

    def __init__(
        self, work: Work, indices: np.ndarray, boxes: np.ndarray, augment: Any
    ) -> None:
        from torchvision.datasets import ImageFolder

        self._folder = ImageFolder(str(work.folder / "train"))
        self._indices, self._boxes, self._augment = indices, boxes, augment

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> Any:
        from torchvision.transforms.v2 import functional

        image, _ = self._folder[int(self._indices[place])]
        left, top, right, bottom = (int(side) for side in self._boxes[place])
        image = functional.resized_crop(
            image, top, left, bottom - top, right - left, [SIZE, SIZE]
        )
        if self._augment is not None:
            return self._augment(image)
        return functional.pil_to_tensor(image)
