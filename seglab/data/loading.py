"""From single images to batches: decode once, shuffle by seed, augment, stack."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from seglab.data.transforms import Pair
from seglab.labels import Labels

Transform = Callable[[Tensor, Tensor], Pair]


class Segmentation(Protocol):
    """What this package asks of a data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class InMemory(Dataset):
    """A data set whose images are decoded and held as bytes.

    Attributes
    ----------
    images : list of Tensor
        uint8, (3, H, W).
    masks : list of Tensor
        uint8, (H, W).
    labels : Labels or None
        Those of the data set that it came from.
    """

    def __init__(self, images: list[Tensor], masks: list[Tensor], labels: Labels | None):
        self.images, self.masks, self.labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pair:
        return self.images[index].float() / 255, self.masks[index].long()


def in_memory(dataset: Segmentation) -> InMemory:
    """Decode every image once and keep it as bytes; nothing is lost by it.

    Parameters
    ----------
    dataset : data set
        With 8-bit images, as all data sets of this package have.

    Raises
    ------
    ValueError
        If an image is not made of 256 levels in [0, 1], or a label lies outside 0 to 255.
    """
    if isinstance(dataset, InMemory):
        return dataset
    images, masks = [], []
    for index in range(len(dataset)):
        image, mask = dataset[index]
        levels = image * 255
        pixels = levels.round().clamp(0, 255)
        if not (levels - pixels).abs().max() < 1e-2:
            raise ValueError(
                f"image {index} does not fit into bytes: expected 256 levels in [0, 1], "
                f"got values from {float(image.min()):.4g} to {float(image.max()):.4g}"
            )
        if mask.min() < 0 or mask.max() > 255:
            raise ValueError(
                f"label map {index} holds {int(mask.min())} to {int(mask.max())}; "
                f"expected class ids 0 to 254, or 255 for ignore"
            )
        images.append(pixels.to(torch.uint8))
        masks.append(mask.to(torch.uint8))
    return InMemory(images, masks, getattr(dataset, "labels", None))


def stack(dataset: Segmentation) -> Pair:
    """Return a whole data set as two tensors.

    Returns
    -------
    images : Tensor
        float32, (N, 3, H, W) in [0, 1].
    masks : Tensor
        int64, (N, H, W).

    Raises
    ------
    ValueError
        If the data set is empty or its images differ in size.
    """
    if len(dataset) == 0:
        raise ValueError("the data set is empty: there is nothing to stack")
    return _collate([dataset[index] for index in range(len(dataset))])


def loader(
    dataset: Segmentation,
    batch_size: int,
    *,
    steps: int | None = None,
    transform: Transform | None = None,
    seed: int = 0,
    workers: int = 0,
) -> Iterable[Pair]:
    """Serve batches.

    The same seed gives the same batches with the same augmentation, whatever the number of
    workers and whatever else draws random numbers meanwhile.

    Parameters
    ----------
    dataset : data set
        Items image, float32 (3, H, W) in [0, 1], and mask, int64 (H, W). One from `in_memory` is
        served fastest: transforms then work on bytes.
    batch_size : int
        Images per batch.
    steps : int, optional
        Number of batches, shuffled anew in every epoch; a batch may span two epochs, so that
        all are full. Without it: one pass in order, whose last batch may be smaller.
    transform : function, optional
        (image, mask) -> (image, mask): one of `seglab.data.transforms`, or of
        ``torchvision.transforms.v2``.
    seed : int
        Seed of order and augmentation.
    workers : int
        Processes that load; 0 loads in this one, which is best for data in memory.

    Returns
    -------
    iterable of (Tensor, Tensor)
        Images, float32 (N, 3, H, W), and masks, int64 (N, H, W).

    Raises
    ------
    ValueError
        If the data set is empty, a number is too small, or the images of a batch differ in size.
    """
    if len(dataset) == 0:
        raise ValueError("the data set is empty: there is nothing to load")
    for name, value in {"batch_size": batch_size, "steps": steps}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    return DataLoader(
        _Batches(dataset, transform, seed),
        batch_sampler=_Order(len(dataset), batch_size, steps, seed),  # type: ignore[arg-type]
        collate_fn=_unchanged,  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


class _Order:
    """Batches of (position in the stream, index of the image)."""

    def __init__(self, length: int, batch_size: int, steps: int | None, seed: int):
        self.length, self.batch_size, self.steps, self.seed = length, batch_size, steps, seed

    def __len__(self) -> int:
        return -(-self.length // self.batch_size) if self.steps is None else self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self.steps is None:
            for start in range(0, self.length, self.batch_size):
                stop = min(start + self.batch_size, self.length)
                yield [(index, index) for index in range(start, stop)]
            return
        generator = torch.Generator().manual_seed(self.seed)
        epoch: list[int] = []
        for step in range(self.steps):
            while len(epoch) < self.batch_size:
                epoch += torch.randperm(self.length, generator=generator).tolist()
            chosen, epoch = epoch[: self.batch_size], epoch[self.batch_size :]
            yield list(enumerate(chosen, start=step * self.batch_size))


class _Batches(Dataset):
    """Loads a whole batch at once: DataLoader calls `__getitems__` where it exists."""

    def __init__(self, dataset: Segmentation, transform: Transform | None, seed: int):
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __getitems__(self, batch: list[tuple[int, int]]) -> Pair:
        if isinstance(self.dataset, InMemory):
            images, masks = self.dataset.images, self.dataset.masks
            pairs = [(images[index], masks[index]) for _, index in batch]
        else:
            pairs = [self.dataset[index] for _, index in batch]
        if self.transform is not None:
            positions = [position for position, _ in batch]
            pairs = [self._transformed(*item) for item in zip(pairs, positions, strict=True)]
        return _collate(pairs)

    def _transformed(self, pair: Pair, position: int) -> Pair:
        """Draw from a generator of this position's own, then put the global one back."""
        before = torch.get_rng_state()
        # Not torch.manual_seed: it would reseed the GPU too.
        torch.default_generator.manual_seed(self.seed * 2**32 + position)
        try:
            image, mask = self.transform(tv_tensors.Image(pair[0]), tv_tensors.Mask(pair[1]))  # type: ignore[misc]
        finally:
            torch.set_rng_state(before)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def _collate(pairs: list[Pair]) -> Pair:
    sizes = {tuple(mask.shape): None for _, mask in pairs}
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise ValueError(
            f"images of one batch differ in size ({listed}): give the data set a size=(H, W), or "
            f"the loader a transform that crops"
        )
    images = torch.stack([image for image, _ in pairs])
    masks = torch.stack([mask for _, mask in pairs])
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    return images, masks.long()


def _unchanged(batch: Pair) -> Pair:
    return batch
