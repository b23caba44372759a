"""Procedural electron microscopy: an endless data set of cells and membranes, no download.

A section through tissue is a plane full of cells. Only membranes, a few pixels thin, keep them
apart, and some of these fade until they can hardly be seen. Inside the cells there are things as
dark as membranes that are none: mitochondria, vesicles, smears of stain. One pixel is one pixel
of the ISBI 2012 sections, about 4 nanometers: a larger image shows more cells, not larger ones.
"""

import numpy as np
from scipy import ndimage, spatial

from seglab.data.procedural import Procedural, smooth_noise
from seglab.labels import CELLS

FRAME = 8  # pixels drawn beyond the image, so that its edge is like its middle
SMALL, LARGE = 36.0, 84.0  # distance between neighboring small and large cells, pixels
HALF_WIDTH = 2.4  # of a membrane's label, pixels; it varies


def tissue(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Fill a plane with cells, large ones and many small ones between them.

    Every pixel belongs to one of many scattered points, in a plane that is bent and stretched:
    to that with the least d^2 - r^2, d the distance and r the radius of the cell. This is the
    nearest point in space if each point is raised by sqrt(R^2 - r^2), R the largest radius.

    Returns
    -------
    numpy.ndarray
        int64, (H, W): numbers of the cells.
    """
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0, 0.45)
    y, x = np.indices(size, dtype=np.float32)
    y, x = y + 4 * smooth_noise(rng, size, 9.0), x + 4 * smooth_noise(rng, size, 9.0)
    along = squeeze * (np.sin(turn) * y + np.cos(turn) * x)
    y, x = y - along * np.sin(turn), x - along * np.cos(turn)
    low, high = np.array([y.min(), x.min()]), np.array([y.max(), x.max()])
    small, large = (_scatter(rng, low, high, spacing) for spacing in (SMALL, LARGE))
    radii = np.concatenate([rng.uniform(0, 12, len(small)), rng.uniform(0, 64, len(large))])
    height = np.sqrt(radii.max() ** 2 - radii**2)
    points = spatial.cKDTree(np.column_stack([np.concatenate([small, large]), height]))
    return points.query(np.stack([y, x, np.zeros_like(y)], -1))[1]


def _scatter(rng: np.random.Generator, low, high, spacing: float) -> np.ndarray:
    """Points (n, 2) all over a rectangle: one anywhere in each square of side `spacing`."""
    axes = [np.arange(a - spacing, b + spacing, spacing) for a, b in zip(low, high, strict=True)]
    squares = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    return squares + rng.uniform(0, spacing, squares.shape)


def render(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a section.

    Returns
    -------
    image, mask : numpy.ndarray
        uint8, (H, W): gray values, and class ids of ``seglab.labels.CELLS``.
    """
    framed = (size[0] + 2 * FRAME, size[1] + 2 * FRAME)
    cell = tissue(rng, framed)
    border = np.zeros(framed, bool)
    border[:-1] |= cell[:-1] != cell[1:]
    border[:, :-1] |= cell[:, :-1] != cell[:, 1:]
    distance = ndimage.distance_transform_edt(~border).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, 1.5)  # rounds the corners
    oblique = np.maximum(smooth_noise(rng, framed, 12.0) - 1.2, 0)  # cut along the membrane: wide
    width = HALF_WIDTH + 0.4 * smooth_noise(rng, framed, 6.0) + 2.0 * oblique
    mask = distance <= np.maximum(width, 1.5)

    gray = 0.6 + 0.03 * smooth_noise(rng, framed, 24.0) + rng.normal(0, 0.025, cell.max() + 1)[cell]
    contrast = np.clip(1 + 0.45 * smooth_noise(rng, framed, 9.0), 0.2, 1.5)
    gray -= 0.35 * contrast * np.exp(-0.5 * (distance / (0.7 * width)) ** 2)
    gray -= 0.05 * np.maximum(smooth_noise(rng, framed, 12.0) - 1, 0) * (1 + contrast)  # stain
    _draw_vesicles(rng, gray, distance)
    _draw_mitochondria(rng, gray, distance)
    gray += 0.06 * smooth_noise(rng, framed, 0.5) + 0.03 * smooth_noise(rng, framed, 2.0)
    gray = (gray - 0.5) * rng.uniform(0.85, 1.15) + rng.uniform(0.4, 0.55)
    inside = slice(FRAME, -FRAME), slice(FRAME, -FRAME)
    image = (gray[inside].clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return image, mask[inside].astype(np.uint8)


def _draw_vesicles(rng: np.random.Generator, gray: np.ndarray, distance: np.ndarray) -> None:
    """Darken small rings inside the cells."""
    dots = np.zeros_like(gray)
    places = rng.integers(gray.size, size=gray.size // 260)
    dots.flat[places] = rng.uniform(0, 1, len(places)) * (distance.flat[places] > 6)
    ring = 3.4 * ndimage.gaussian_filter(dots, 2.2) - ndimage.gaussian_filter(dots, 1.2)
    gray -= 6 * ring  # both bells are equally high in the center


def _draw_mitochondria(rng: np.random.Generator, gray: np.ndarray, distance: np.ndarray) -> None:
    """Darken a few striped ellipses that fit into their cells."""
    for _ in range(rng.poisson(gray.size / 20_000)):
        places = rng.integers(gray.size, size=20)
        center = places[distance.flat[places].argmax()]
        room = float(distance.flat[center])
        if room < 9:
            continue
        long = min(room - 3, rng.uniform(8, 30))
        row, column = divmod(int(center), gray.shape[1])
        side = int(long) + 2
        rows = slice(max(0, row - side), row + side + 1)
        columns = slice(max(0, column - side), column + side + 1)
        y = (np.arange(gray.shape[0])[rows] - row)[:, None]
        x = np.arange(gray.shape[1])[columns] - column
        turn = rng.uniform(0, np.pi)
        u = (x * np.cos(turn) + y * np.sin(turn)) / long
        v = (y * np.cos(turn) - x * np.sin(turn)) / (long * rng.uniform(0.55, 0.95))
        radius = np.hypot(u, v)
        stripes = 0.05 * np.cos(long * (2 * u + 0.6 * np.sin(3 * v)))
        outline = 0.12 * np.exp(-(((radius - 0.93) * long / 1.5) ** 2))
        dark = rng.uniform(0.12, 0.24) + stripes + outline
        gray[rows, columns] -= np.where(radius < 1, dark, 0)
        distance[rows, columns] = 0  # no other one here


class Cells(Procedural):
    """Sections through tissue drawn by seed, gray: cells, and the membranes between them.

    The same arguments always give the same images; they resemble the ISBI 2012 sections.

    Parameters
    ----------
    split : {"train", "val", "test"}
        The splits share no image.
    size : int or (int, int)
        Side, or height and width, in pixels.
    length : int, optional
        Number of images; 256 for train, 64 for val and test.
    seed : int
        Another seed is another data set.

    Items: image float32 (3, H, W) in [0, 1], the same gray in all channels; mask int64 (H, W),
    0 = cell, 1 = membrane.
    """

    labels = CELLS

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image and mask, both uint8 (H, W)."""
        return render(self.generator(index), self.size)
