"""Procedural lesions: an endless data set of rare, small, faint blobs, no download.

A slice through an organ, as a scanner shows it: tissue of uneven brightness, bright vessels, and
here and there a lesion. Lesions are darker than what surrounds them, some of them hardly. Two
things make them hard: they cover one pixel in a hundred or less, and cysts, which are as dark
but have a sharp rim and an even inside, are not lesions.
"""

import numpy as np

from seglab.data.procedural import Procedural, smooth_noise
from seglab.data.transforms import Size
from seglab.labels import LESIONS

SHARE = 0.01, 0.001, 0.1  # of the pixels: default, least and largest
SMALLEST = 2.0  # radius of a lesion, pixels
SPREAD = 0.35  # of the share of an image around the data set's, standard deviation of its log


def _noise(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> np.ndarray:
    """Smooth noise (H, W), of other fields than the cells'."""
    return smooth_noise(rng, size, sigma, field_seed=1)


def _blob(
    rng: np.random.Generator, size: tuple[int, int], center: tuple[float, float], radius: float
) -> np.ndarray:
    """Measure how deep inside a lobed ellipse every pixel is: (H, W), 0 on its rim, 1 inside."""
    y, x = np.ogrid[: size[0], : size[1]]
    y, x = y - center[0], x - center[1]
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
    u = (np.cos(turn) * x + np.sin(turn) * y) * np.sqrt(squeeze)
    v = (np.cos(turn) * y - np.sin(turn) * x) / np.sqrt(squeeze)
    angle = np.arctan2(v, u)
    lobes, phase = rng.uniform(0, 0.12, 3), rng.uniform(0, 2 * np.pi, 3)
    rim = 1 + sum(
        depth * np.sin(k * angle + p) for k, depth, p in zip((2, 3, 5), lobes, phase, strict=True)
    )
    return 1 - np.hypot(u, v) / (radius * rim)


def render(
    rng: np.random.Generator, size: tuple[int, int], share: float = SHARE[0]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a slice.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where all chance comes from.
    size : (int, int)
        Height and width in pixels.
    share : float
        Of the pixels that are lesion; the one of an image varies around it.

    Returns
    -------
    image, mask : numpy.ndarray
        uint8, (H, W): gray values, and class ids of ``seglab.labels.LESIONS``.
    """
    height, width = size
    gray = 0.55 + 0.07 * _noise(rng, size, 24.0) + 0.03 * _noise(rng, size, 5.0)
    vessels = np.abs(_noise(rng, size, 9.0))
    gray += 0.16 * np.exp(-((vessels / 0.07) ** 2))
    mask = np.zeros(size, bool)
    wanted = height * width * share * np.exp(SPREAD * rng.standard_normal() - SPREAD**2 / 2)
    largest = max(SMALLEST, np.sqrt(wanted / np.pi))

    for _ in range(1 + rng.poisson(3 * height * width / 128**2)):  # cysts
        center = rng.uniform(0, height), rng.uniform(0, width)
        depth = _blob(rng, size, center, rng.uniform(SMALLEST, max(4.0, 1.2 * largest)))
        gray -= rng.uniform(0.12, 0.2) * np.clip(8 * depth, 0, 1)
        gray += 0.08 * np.exp(-((depth / 0.12) ** 2)) * (depth > -0.5)  # a bright rim

    while (missing := wanted - mask.sum()) >= np.pi * SMALLEST**2 / 2:
        radius = min(rng.uniform(SMALLEST, largest), max(SMALLEST, np.sqrt(missing / np.pi)))
        center = rng.uniform(0, height), rng.uniform(0, width)
        depth = _blob(rng, size, center, radius)
        texture = 1 + 0.35 * _noise(rng, size, 1.5)
        gray -= rng.uniform(0.07, 0.17) * np.clip(2.5 * depth + 0.5, 0, 1) * texture
        mask |= depth > 0

    gray += 0.035 * _noise(rng, size, 0.6) + 0.02 * _noise(rng, size, 1.5)
    gray = (gray - 0.5) * rng.uniform(0.9, 1.1) + rng.uniform(0.45, 0.55)
    return (gray.clip(0, 1) * 255 + 0.5).astype(np.uint8), mask.astype(np.uint8)


class Lesions(Procedural):
    """Slices of tissue drawn by seed, gray: lesions that cover about one pixel in a hundred.

    The same arguments always give the same images.

    Parameters
    ----------
    split : {"train", "val", "test"}
        The splits share no image.
    size : int or (int, int)
        Side, or height and width, in pixels.
    length : int, optional
        Number of images; 256 for train, 64 for val and test.
    share : float
        Of all pixels that are lesion, on average: 0.001 to 0.1, typically 0.005 to 0.03.
    seed : int
        Another seed is another data set.

    Items: image float32 (3, H, W) in [0, 1], the same gray in all channels; mask int64 (H, W),
    0 = tissue, 1 = lesion.
    """

    labels = LESIONS

    def __init__(
        self,
        split: str,
        *,
        size: Size | None = None,
        length: int | None = None,
        share: float = SHARE[0],
        seed: int = 0,
    ):
        super().__init__(split, size=size, length=length, seed=seed)
        if not SHARE[1] <= share <= SHARE[2]:
            raise ValueError(
                f"share is {share}; expected the share of lesions among the pixels, "
                f"{SHARE[1]} to {SHARE[2]}"
            )
        self.share = share

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image and mask, both uint8 (H, W)."""
        return render(self.generator(index), self.size, self.share)
