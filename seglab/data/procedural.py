"""What the data sets that a program draws have in common: splits, seeds, items, smooth noise."""

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from seglab.data.transforms import Size, height_and_width

SPLITS = {"train": 256, "val": 64, "test": 64}  # split -> default number of images

FIELD = 512  # side of a noise field, pixels


@cache
def _field(sigma: float, seed: int) -> np.ndarray:
    """Smooth noise that wraps around, float32 (512, 512), mean 0, standard deviation 1."""
    noise = np.random.default_rng(seed).standard_normal((FIELD, FIELD))
    smooth = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)


def smooth_noise(
    rng: np.random.Generator, size: tuple[int, int], sigma: float, field_seed: int = 0
) -> np.ndarray:
    """Cut (H, W) out of a field of smooth noise, at a random place."""
    rows, columns = (rng.integers(FIELD) + np.arange(side) for side in size)
    return _field(sigma, field_seed)[rows[:, None] % FIELD, columns % FIELD]


class Procedural(Dataset):
    """Images drawn by seed: the same arguments always give the same images.

    A subclass has `labels`, and `render(index)`, which returns image (H, W) or (H, W, 3) and mask
    (H, W), all uint8.
    """

    def __init__(
        self,
        split: str,
        *,
        size: Size | None = None,
        length: int | None = None,
        seed: int = 0,
    ):
        if split not in SPLITS:
            raise ValueError(f"no split is called {split!r}; there are {', '.join(SPLITS)}")
        self.size = height_and_width(96 if size is None else size)
        self.length = SPLITS[split] if length is None else length
        if self.length < 1:
            raise ValueError(f"length is {length}; expected at least 1 image")
        self.split, self.seed = split, seed

    def __len__(self) -> int:
        return self.length

    def generator(self, index: int) -> np.random.Generator:
        """Return where all chance in image `index` comes from."""
        if not -self.length <= index < self.length:
            raise IndexError(f"image {index} of {self.length}")
        split = list(SPLITS).index(self.split)
        return np.random.default_rng([self.seed, split, index % self.length])

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image and mask, both uint8."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.render(index)
        pixels = torch.from_numpy(image).float() / 255
        if pixels.ndim == 2:
            pixels = pixels.expand(3, -1, -1).contiguous()
        else:
            pixels = pixels.permute(2, 0, 1)
        return pixels, torch.from_numpy(mask).long()
