"""Segmentation without learning: edges, thresholds, regions and motion.

The four families of the lecture, as chapter 2 derives them. Where scikit-image and SciPy have the
well-kept implementation it is called here, with one convention for all: images are NumPy arrays,
(H, W) or (H, W, 3), uint8 or float, and **thresholds and tolerances are in the image's own units**,
gray levels of 0 to 255 for uint8. Nothing is rescaled behind your back.
"""

import heapq
import operator
from collections import defaultdict
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import feature, filters, registration, segmentation

Threshold = int | float
Values = list[float]  # one for each channel


# ---------------------------------------------------------------- edges


def gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate how fast the gray value grows down the rows and to the right along the columns.

    Sobel's filter: a central difference along one axis, averaged across the other with the weights
    1, 2, 1; beyond the edge of the image its last pixel is repeated.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W).

    Returns
    -------
    rows, columns : numpy.ndarray
        Both float64, (H, W), gray levels per pixel: a ramp that rises by 3 a column gives 3.

    Raises
    ------
    ValueError, TypeError
        If the image is colored, empty, not finite or not of numbers.
    """
    gray = _gray(image)
    down, right = (ndimage.sobel(gray, axis=axis, mode="nearest") / 8 for axis in (0, 1))
    return down, right


def sobel(image: np.ndarray) -> np.ndarray:
    """Return the length of the `gradient`, the edge strength, in gray levels per pixel.

    ``skimage.filters.sobel`` gives √2 times as much for a float image, and scikit-image's Canny
    compares its thresholds with 8 times as much.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W).

    Returns
    -------
    numpy.ndarray
        float64, (H, W).
    """
    return np.hypot(*gradient(image))


def laplacian_of_gaussian(image: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Smooth with a Gaussian and take the sum of the second derivatives, in one filter.

    Marr and Hildreth, "Theory of edge detection", 1980.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W).
    sigma : float
        Width of the Gaussian in pixels.

    Returns
    -------
    numpy.ndarray
        float64, (H, W), gray levels per pixel squared; negative on the bright side of an edge.
    """
    return ndimage.gaussian_laplace(_gray(image), _positive("sigma", sigma), mode="nearest")


def zero_crossings(response: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Mark where a response changes its sign, between a pixel and its right or lower neighbor.

    Parameters
    ----------
    response : numpy.ndarray
        (H, W), for instance of `laplacian_of_gaussian`.
    threshold : float
        How far apart the two values must at least be.

    Returns
    -------
    numpy.ndarray
        bool, (H, W); of the two pixels the one with the smaller value is marked.
    """
    values = _gray(response, "response")
    _not_negative("threshold", threshold)
    found = np.zeros(values.shape, bool)
    for axis in (0, 1):
        one, other = (np.moveaxis(values, axis, 0)[part] for part in (np.s_[:-1], np.s_[1:]))
        marks = np.moveaxis(found, axis, 0)  # a view
        crosses = ((one < 0) != (other < 0)) & (np.abs(one - other) >= threshold)
        small = np.abs(one) <= np.abs(other)
        marks[:-1] |= crosses & small
        marks[1:] |= crosses & ~small
    return found


def canny(
    image: np.ndarray,
    *,
    sigma: float = 1.0,
    low: float | None = None,
    high: float | None = None,
) -> np.ndarray:
    """Find thin edges: smooth, take the gradient, keep its ridges, link what is strong.

    Canny, "A computational approach to edge detection", 1986; scikit-image's implementation.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W).
    sigma : float
        Width in pixels of the Gaussian that smooths first; 0 for none.
    low, high : float, optional
        Gray levels per pixel, as `sobel` gives them. A ridge is kept if all of it is at least
        `low` and some of it at least `high`. Without `high`, a fifth of the largest gradient of the
        smoothed image; without `low`, half of `high`.

    Returns
    -------
    numpy.ndarray
        bool, (H, W). The outermost pixels, whose neighbors are unknown, are never edges.

    Raises
    ------
    ValueError
        If `low` is above `high`, or the image is not a gray one.
    """
    gray = _gray(image)
    _not_negative("sigma", sigma)
    if high is None:
        high = 0.2 * float(sobel(ndimage.gaussian_filter(gray, sigma, mode="nearest")).max())
    if low is None:
        low = high / 2
    _not_negative("low", low)
    if low > high:
        raise ValueError(f"low is {low:g} and high is {high:g}; expected low <= high")
    # scikit-image does not divide Sobel's sums by 8.
    return feature.canny(gray, sigma, 8 * low, 8 * high, mode="nearest")


# ---------------------------------------------------------------- thresholds


def otsu(image: np.ndarray) -> Threshold:
    """Return the threshold that parts the gray values best: ``image > otsu(image)``.

    It makes the variance between the two classes as large as possible. Otsu, "A threshold selection
    method from gray-level histograms", 1979; scikit-image's implementation.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W). Floats are counted in 256 bins from the least to the largest.

    Returns
    -------
    int or float
        The largest gray value of the dark class; for floats, the center of its bin.

    Raises
    ------
    ValueError
        If all pixels have one value, or the image is not a gray one.
    """
    return _number(filters.threshold_otsu(_varied(image, 2)))


def multi_otsu(image: np.ndarray, classes: int = 3) -> np.ndarray:
    """Return the thresholds between several classes: ``numpy.digitize(image, ..., right=True)``.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W), as for `otsu`.
    classes : int
        Number of classes, 2 to 5; the time grows with a power of it.

    Returns
    -------
    numpy.ndarray
        (classes - 1,), ascending, each the largest gray value of its class.

    Raises
    ------
    ValueError
        If the image has fewer gray values than classes.
    """
    if not 2 <= classes <= 5:
        raise ValueError(f"classes is {classes}; expected 2 to 5")
    return filters.threshold_multiotsu(_varied(image, classes), classes)


def local_threshold(image: np.ndarray, side: int, offset: float = 0.0) -> np.ndarray:
    """Return a threshold for every pixel: the mean around it, less an offset.

    Parameters
    ----------
    image : numpy.ndarray
        Gray image (H, W).
    side : int
        Side in pixels of the square that is averaged, odd; the image is mirrored at its edges.
    offset : float
        Gray levels to subtract, so that noise in an even ground stays above.

    Returns
    -------
    numpy.ndarray
        float64, (H, W).
    """
    gray = _gray(image)
    if side < 3 or side % 2 == 0:
        raise ValueError(f"side is {side}; expected an odd number of pixels from 3")
    return ndimage.uniform_filter(gray, side, mode="reflect") - offset


# ---------------------------------------------------------------- regions


def region_grow(image: np.ndarray, seed: tuple[int, int], tolerance: float) -> np.ndarray:
    """Take in neighbors of a seed for as long as they look like it.

    For a gray image this is ``skimage.segmentation.flood``: every pixel within the tolerance of the
    seed's value that is connected with it, diagonals included. (Of whole numbers, `flood` lets 78
    in with the seed 99 and the tolerance 20.5; this function does not.)

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), or (H, W, 3) whose channels must all be within the tolerance.
    seed : (int, int)
        Row and column.
    tolerance : float
        Gray levels that still count as alike, from 0.

    Returns
    -------
    numpy.ndarray
        bool, (H, W).

    Raises
    ------
    ValueError
        If the seed lies outside of the image, or the tolerance is negative.
    """
    pixels = _pixels(image)
    row, column = _seed(seed, pixels.shape)
    _not_negative("tolerance", tolerance)
    if pixels.ndim == 2:
        return segmentation.flood(pixels, (row, column), tolerance=tolerance)
    alike = np.abs(pixels - pixels[row, column]).max(axis=2) <= tolerance
    return segmentation.flood(alike, (row, column))


def split_and_merge(image: np.ndarray, tolerance: float, *, smallest: int = 1) -> np.ndarray:
    """Split blocks until each is even, then merge neighbors for as long as the union is.

    Horowitz and Pavlidis, 1976. A region is even if its largest and its smallest value are at most
    `tolerance` apart, in every channel. Of all pairs of neighbors those merge first whose union is
    the most even, so no order of the blocks plays a part.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W) or (H, W, 3).
    tolerance : float
        Gray levels, from 0.
    smallest : int
        Side in pixels below which a block is not split any further, even or not.

    Returns
    -------
    numpy.ndarray
        int64, (H, W): region numbers from 1, in the order in which a reader meets them. With
        ``smallest=1`` every region is even, and no two neighbors could be merged.
    """
    pixels = _pixels(image)
    _not_negative("tolerance", tolerance)
    if smallest < 1:
        raise ValueError(f"smallest is {smallest}; expected a side from 1 pixel")
    planes = pixels.reshape(*pixels.shape[:2], -1)
    blocks, low, high = _quadtree(planes, tolerance, smallest)
    parent = _merge(blocks, low, high, tolerance)
    _, first, region = np.unique(parent[blocks], return_index=True, return_inverse=True)
    order = np.empty_like(first)
    order[np.argsort(first)] = np.arange(1, len(first) + 1)
    return order[region].reshape(blocks.shape)


def _quadtree(
    planes: np.ndarray, tolerance: float, smallest: int
) -> tuple[np.ndarray, list[Values], list[Values]]:
    """Return the number of every pixel's block, and least and largest values of each block."""
    blocks = np.empty(planes.shape[:2], np.int64)
    low: list[Values] = []
    high: list[Values] = []
    waiting = [(0, 0, planes.shape[0], planes.shape[1])]  # top, left, height, width
    while waiting:
        top, left, height, width = waiting.pop()
        window = slice(top, top + height), slice(left, left + width)
        values = planes[window].reshape(height * width, -1)
        least, largest = values.min(axis=0), values.max(axis=0)
        if max(height, width) <= smallest or (largest - least).max() <= tolerance:
            blocks[window] = len(low)
            low.append(least.tolist())
            high.append(largest.tolist())
            continue
        for y, h in _halves(top, height):
            waiting += [(y, x, h, w) for x, w in _halves(left, width)]
    return blocks, low, high


def _halves(start: int, length: int) -> list[tuple[int, int]]:
    """Cut a stretch in two, if it has two pixels; return start and length of the parts."""
    half = (length + 1) // 2
    return [(start, half), (start + half, length - half)] if length > 1 else [(start, length)]


def _merge(
    blocks: np.ndarray, low: list[Values], high: list[Values], tolerance: float
) -> np.ndarray:
    """Merge neighbors, the most even union first; return the region of each block."""
    across = np.stack([blocks[:, :-1].ravel(), blocks[:, 1:].ravel()], axis=1)
    down = np.stack([blocks[:-1].ravel(), blocks[1:].ravel()], axis=1)
    pairs = np.unique(np.sort(np.concatenate([across, down]), axis=1), axis=0)
    neighbors: defaultdict[int, set[int]] = defaultdict(set)
    waiting: list[tuple[float, int, int]] = []

    def spread_of(one: int, other: int) -> float:
        tops, bottoms = map(max, high[one], high[other]), map(min, low[one], low[other])
        return max(map(operator.sub, tops, bottoms))

    def consider(one: int, other: int) -> None:
        spread = spread_of(one, other)
        if spread <= tolerance:
            heapq.heappush(waiting, (spread, min(one, other), max(one, other)))

    for one, other in pairs[pairs[:, 0] != pairs[:, 1]].tolist():
        neighbors[one].add(other)
        neighbors[other].add(one)
        consider(one, other)
    parent = list(range(len(low)))
    while waiting:
        spread, one, other = heapq.heappop(waiting)
        if parent[one] != one or parent[other] != other or spread != spread_of(one, other):
            continue  # one of them has grown, or has become part of another region
        if len(neighbors[one]) < len(neighbors[other]):
            one, other = other, one
        parent[other] = one
        tops, bottoms = list(map(max, high[one], high[other])), list(map(min, low[one], low[other]))
        grown = (tops, bottoms) != (high[one], low[one])
        high[one], low[one] = tops, bottoms
        mine, new = neighbors[one], neighbors.pop(other)
        for region in new:
            neighbors[region].discard(other)
        mine.discard(other)
        new -= mine | {one}
        mine |= new
        for region in new:
            neighbors[region].add(one)
        for region in mine if grown else new:
            consider(one, region)
    for region in range(len(parent)):
        root = region
        while parent[root] != root:
            root = parent[root]
        parent[region] = root
    return np.array(parent)


def watershed(mask: np.ndarray, *, distance: int = 5) -> np.ndarray:
    """Part things that touch: flood the map of distances to the background from its peaks.

    Parameters
    ----------
    mask : numpy.ndarray
        bool, (H, W): the foreground.
    distance : int
        Pixels that two peaks are at least apart.

    Returns
    -------
    numpy.ndarray
        int32, (H, W): 0 for the background, and a number from 1 for every thing.
    """
    foreground = np.asarray(mask)
    if foreground.dtype != bool or foreground.ndim != 2:
        raise TypeError(
            f"mask: expected booleans (H, W), got {foreground.dtype} {foreground.shape}"
        )
    if distance < 1:
        raise ValueError(f"distance is {distance}; expected at least 1 pixel")
    depth = ndimage.distance_transform_edt(foreground)
    parts, _ = ndimage.label(foreground)
    peaks = feature.peak_local_max(depth, min_distance=distance, exclude_border=False, labels=parts)
    markers = np.zeros(foreground.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return segmentation.watershed(-depth, markers, mask=foreground)


# ---------------------------------------------------------------- motion


def background_subtraction(
    frames: np.ndarray,
    *,
    method: str = "gaussian",
    threshold: float | None = None,
    deviations: float = 3.0,
    rate: float = 0.05,
    selective: bool = True,
) -> np.ndarray:
    """Mark what differs from what was there before, frame after frame.

    Every frame is compared with the model first, and the model learns from it afterward.

    Parameters
    ----------
    frames : numpy.ndarray
        (T, H, W) or (T, H, W, 3). A colored pixel differs if one of its channels does.
    method : {"difference", "average", "gaussian"}
        The model: the frame before; a running average, ``B += rate (I - B)``; or a running average
        and variance for each pixel (Wren et al., "Pfinder", 1997).
    threshold : float
        Gray levels that a pixel must differ by; "difference" and "average" need it.
    deviations : float
        Of "gaussian": standard deviations that a pixel must differ by.
    rate : float
        How fast the model forgets, above 0 and up to 1.
    selective : bool
        Whether "average" and "gaussian" learn only from pixels that do not differ. If they learn
        from all, a thing that passes blurs the mean and widens the variance; if not, what was in
        the first frame leaves a ghost that stays.

    Returns
    -------
    numpy.ndarray
        bool, (T, H, W). Nothing is marked in the first frame, which starts the model.

    Raises
    ------
    ValueError
        If there is no frame, a frame is not finite, or a parameter is out of its range.
    """
    film = _frames(frames)
    if method not in ("difference", "average", "gaussian"):
        raise ValueError(f"method is {method!r}; expected 'difference', 'average' or 'gaussian'")
    if method != "gaussian" and threshold is None:
        raise ValueError(f"method {method!r} needs a threshold, in gray levels of the frames")
    if not 0 < rate <= 1:
        raise ValueError(f"rate is {rate}; expected a number above 0 and up to 1")
    _not_negative("threshold", threshold or 0)
    _not_negative("deviations", deviations)

    if method == "difference":
        rate, selective = 1.0, False
    noise = _noise_variance(film)
    mean, variance = film[0].copy(), np.full_like(film[0], noise)
    marked = np.zeros(film.shape[:3], bool)
    for t in range(1, len(film)):
        error = film[t] - mean  # (H, W, C)
        limit = deviations * np.sqrt(variance) if method == "gaussian" else threshold
        marked[t] = (np.abs(error) > limit).any(axis=2)
        learn = rate * ~marked[t][..., None] if selective else rate
        mean += learn * error
        # A variance that falls to nothing would mark any noise.
        variance = np.maximum(variance + learn * (error**2 - variance), noise / 4)
    return marked


def _noise_variance(film: np.ndarray) -> float:
    """Estimate the variance of the noise from two frames; most pixels show the same in both."""
    if len(film) < 2:
        return 0.0
    spread = 1.4826 * np.median(np.abs(film[1] - film[0]))  # robust standard deviation
    return float(spread**2 / 2)  # a difference has the noise of two frames


def optical_flow_lucas_kanade(
    first: np.ndarray, second: np.ndarray, *, radius: int = 7, warps: int = 10
) -> np.ndarray:
    """Estimate the motion at every pixel, assuming that it is the same all over a window.

    Lucas and Kanade, 1981, repeated from coarse to fine; ``skimage.registration.optical_flow_ilk``.

    Parameters
    ----------
    first, second : numpy.ndarray
        Gray images (H, W), two frames of a film.
    radius : int
        The window has 2 radius + 1 pixels a side.
    warps : int
        Repetitions at every scale.

    Returns
    -------
    numpy.ndarray
        float64, (H, W, 2): rows and columns by which each pixel of the first frame moves.
    """
    one, other = _pair(first, second)
    for name, value in {"radius": radius, "warps": warps}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    flow = registration.optical_flow_ilk(
        one, other, radius=radius, num_warp=warps, dtype=np.float64
    )
    return np.moveaxis(flow, 0, -1)


def optical_flow_block_matching(
    first: np.ndarray, second: np.ndarray, *, block: int = 8, search: int = 4
) -> np.ndarray:
    """Find for every block of the first frame the place of the second that looks most like it.

    Parameters
    ----------
    first, second : numpy.ndarray
        Gray images (H, W), two frames of a film.
    block : int
        Side of a block in pixels; at the right and lower edge blocks may be smaller.
    search : int
        Largest motion in pixels, in each direction. A place must lie inside the image.

    Returns
    -------
    numpy.ndarray
        int64, (H, W, 2): rows and columns by which each block moves, the same for all of its
        pixels. The sum of absolute differences decides; of equals, the shortest motion wins.
    """
    one, other = _pair(first, second)
    if block < 1:
        raise ValueError(f"block is {block}; expected a side from 1 pixel")
    if search < 0:
        raise ValueError(f"search is {search}; expected a number of pixels from 0")
    height, width = one.shape
    tops, lefts = np.arange(0, height, block), np.arange(0, width, block)
    padded = np.pad(other, search, constant_values=np.inf)  # outside nothing matches
    steps = range(-search, search + 1)
    moves = sorted(((y, x) for y in steps for x in steps), key=lambda move: (np.hypot(*move), move))
    best = np.full((len(tops), len(lefts)), np.inf)
    flow = np.zeros((*best.shape, 2), np.int64)
    for y, x in moves:
        moved = padded[search + y : search + y + height, search + x : search + x + width]
        cost = np.add.reduceat(np.abs(one - moved), tops, axis=0)
        cost = np.add.reduceat(cost, lefts, axis=1)
        flow[cost < best] = y, x
        best = np.minimum(best, cost)
    return flow[np.arange(height)[:, None] // block, np.arange(width) // block]


# ---------------------------------------------------------------- what may be given


def _numbers(values: Any, name: str) -> np.ndarray:
    """Return an array of finite integers or floats, not empty, as it is."""
    array = np.asarray(values)
    if array.dtype.kind not in "uif":
        raise TypeError(f"{name}: expected integers or floats, got {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}")
    wrong = int((~np.isfinite(array)).sum())
    if wrong:
        raise ValueError(f"{name} is NaN or infinite at {wrong} of {array.size} places")
    return array


def _gray_levels(image: Any, name: str = "image") -> np.ndarray:
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise ValueError(
            f"{name} has colors, shape {array.shape}; expected gray values (H, W): "
            "take one channel, or skimage.color.rgb2gray"
        )
    if array.ndim != 2:
        raise ValueError(f"{name}: expected gray values (H, W), got shape {array.shape}")
    return _numbers(array, name)


def _gray(image: Any, name: str = "image") -> np.ndarray:
    return _gray_levels(image, name).astype(np.float64)


def _varied(image: Any, values: int) -> np.ndarray:
    """Return gray levels as they are, of which there must be as many as classes."""
    levels = _gray_levels(image)
    found = np.unique(levels)
    if len(found) < values:
        raise ValueError(
            f"the image has {len(found)} gray value{'s' * (len(found) > 1)}, "
            f"from {found[0]} to {found[-1]}; no threshold parts it into {values} classes"
        )
    return levels


def _pixels(image: Any) -> np.ndarray:
    array = np.asarray(image)
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise ValueError(f"image: expected (H, W) or (H, W, 3), got shape {array.shape}")
    return _numbers(array, "image").astype(np.float64)


def _frames(frames: Any) -> np.ndarray:
    """Return a film as float64 (T, H, W, C)."""
    array = np.asarray(frames)
    if len(array.shape) and len(array) == 0:
        raise ValueError(f"frames: a film without frames, shape {array.shape}")
    if array.ndim != 3 and (array.ndim != 4 or array.shape[3] != 3):
        raise ValueError(f"frames: expected (T, H, W) or (T, H, W, 3), got shape {array.shape}")
    film = _numbers(array, "frames").astype(np.float64)
    return film if film.ndim == 4 else film[..., None]


def _pair(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    one, other = _gray(first, "first"), _gray(second, "second")
    if one.shape != other.shape:
        raise ValueError(f"the frames differ in size: {one.shape} and {other.shape}")
    return one, other


def _seed(seed: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    place = np.asarray(seed)
    if place.shape != (2,) or place.dtype.kind not in "ui":
        raise TypeError(f"seed is {seed!r}; expected two whole numbers, (row, column)")
    row, column = place.tolist()
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise ValueError(
            f"seed ({row}, {column}) lies outside of the image: rows are 0 to {shape[0] - 1}, "
            f"columns 0 to {shape[1] - 1}"
        )
    return row, column


def _not_negative(name: str, value: float) -> None:
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} is {value}; expected a number from 0")


def _positive(name: str, value: float) -> float:
    if not 0 < value < np.inf:
        raise ValueError(f"{name} is {value}; expected a positive number")
    return value


def _number(value: Any) -> Threshold:
    return value.item() if isinstance(value, np.generic) else value
