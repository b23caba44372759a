"""Edges, thresholds, regions and motion, against loops, closed forms and scikit-image."""

from itertools import combinations, product

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from seglab import classical
from seglab.data import scenes

CAMERA, COINS, PAGE = (getattr(skimage.data, name)() for name in ("camera", "coins", "page"))
SMALL = arrays.arrays(np.uint8, st.tuples(st.integers(3, 9), st.integers(3, 9)))


def ramp(down, right, shape=(12, 15)):
    rows, columns = np.indices(shape)
    return 40.0 + down * rows + right * columns


def disk(center, radius, shape=(40, 60)):
    rows, columns = np.indices(shape)
    return np.hypot(rows - center[0], columns - center[1]) <= radius


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize("slopes", [(3, 0), (0, -2.5), (1.5, 4)])
def test_gradient_of_a_ramp_is_its_slope_in_gray_levels_per_pixel(slopes):
    inside = np.s_[1:-1, 1:-1]
    for found, slope in zip(classical.gradient(ramp(*slopes)), slopes, strict=True):
        np.testing.assert_allclose(found[inside], slope, atol=1e-12)
    np.testing.assert_allclose(classical.sobel(ramp(*slopes))[inside], np.hypot(*slopes))


@given(SMALL)
@settings(max_examples=20, deadline=None)
def test_gradient_is_the_sum_over_nine_neighbors(image):
    padded = np.pad(image.astype(float), 1, mode="edge")
    across = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    for row, column in np.ndindex(image.shape):
        window = padded[row : row + 3, column : column + 3]
        down, right = (part[row, column] for part in classical.gradient(image))
        assert right == pytest.approx((window * across).sum())
        assert down == pytest.approx((window * across.T).sum())


def test_sobel_keeps_the_units_of_the_image():
    np.testing.assert_allclose(
        classical.sobel(CAMERA), 255 * classical.sobel(CAMERA / 255), atol=1e-9
    )
    theirs = skimage.filters.sobel(CAMERA.astype(float), mode="nearest")
    np.testing.assert_allclose(np.sqrt(2) * classical.sobel(CAMERA), theirs, atol=1e-9)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
def test_laplacian_of_gaussian_is_the_sum_of_two_second_derivatives(sigma):
    image = np.zeros((61, 61))
    image[30, 30] = 1
    y, x = np.indices(image.shape) - 30
    squared = (y**2 + x**2) / sigma**2
    closed = (squared - 2) / sigma**2 * np.exp(-squared / 2) / (2 * np.pi * sigma**2)
    found = classical.laplacian_of_gaussian(image, sigma)
    np.testing.assert_allclose(found, closed, atol=0.02 * np.abs(closed).max())


def test_zero_crossings_of_a_step_lie_on_the_step():
    image = np.full((20, 30), 50.0)
    image[:, 13:] = 90
    edge = classical.zero_crossings(classical.laplacian_of_gaussian(image, 2.0), threshold=0.1)
    assert set(np.nonzero(edge)[1]) <= {12, 13}
    assert (edge.sum(axis=1) == 1).all()


@given(SMALL)
@settings(max_examples=20, deadline=None)
def test_a_crossing_marks_the_smaller_of_two_values_of_unlike_sign(image):
    values = image.astype(float) - 128
    expected = np.zeros(image.shape, bool)
    for row, column in np.ndindex(image.shape):
        for next_ in ((row + 1, column), (row, column + 1)):
            if next_[0] < image.shape[0] and next_[1] < image.shape[1]:
                here, there = values[row, column], values[next_]
                if (here < 0) != (there < 0) and abs(here - there) >= 60:
                    expected[(row, column) if abs(here) <= abs(there) else next_] = True
    np.testing.assert_array_equal(classical.zero_crossings(values, 60), expected)


def test_canny_is_scikit_image_s_with_thresholds_in_gray_levels_per_pixel():
    theirs = skimage.feature.canny(CAMERA, 1.5, 40, 96, mode="nearest")  # of 0 ... 255, times 8
    np.testing.assert_array_equal(classical.canny(CAMERA, sigma=1.5, low=5, high=12), theirs)
    halves = classical.canny(CAMERA / 255, sigma=1.5, low=5 / 255, high=12 / 255)
    assert (halves != theirs).mean() < 1e-4  # another rounding may turn a tie


def test_canny_draws_one_thin_line_along_a_step():
    image = np.full((30, 40), 60, np.uint8)
    image[:, 20:] = 160
    edges = classical.canny(image)
    assert (edges[1:-1].sum(axis=1) == 1).all()
    assert set(np.nonzero(edges)[1]) <= {19, 20}
    assert not edges[[0, -1]].any()


def test_canny_keeps_weak_ridges_only_where_they_lead_to_strong_ones():
    edges = classical.canny(CAMERA, low=3, high=15)
    loose, strict = (classical.canny(CAMERA, low=t, high=t) for t in (3, 15))
    parts, count = ndimage.label(loose, np.ones((3, 3)))
    kept = ndimage.maximum(strict, parts, range(1, count + 1)).astype(bool)
    np.testing.assert_array_equal(edges, np.append(False, kept)[parts])
    assert strict.sum() < edges.sum() < loose.sum()


# ---------------------------------------------------------------- thresholds


def test_otsu_s_golden_values():
    assert classical.otsu(CAMERA) == 102
    assert classical.otsu(COINS) == 107
    np.testing.assert_array_equal(classical.multi_otsu(CAMERA), [87, 176])


def test_a_threshold_is_a_plain_number_in_the_image_s_units():
    assert type(classical.otsu(CAMERA)) is int
    assert type(classical.otsu(CAMERA / 255)) is float
    assert classical.otsu(CAMERA / 255) == pytest.approx(102 / 255, abs=1 / 255)
    assert classical.otsu(CAMERA.astype(np.int64) + 1000) == 1102


def between(values, thresholds):
    """Variance between the classes that the thresholds make, by its definition."""
    classes = np.digitize(values, thresholds, right=True)
    parts = [values[classes == k] for k in np.unique(classes)]
    return sum(part.size * (part.mean() - values.mean()) ** 2 for part in parts) / values.size


@pytest.mark.parametrize("classes", [2, 3])
def test_no_other_thresholds_part_the_gray_values_better(classes):
    values = np.random.default_rng(classes).integers(0, 24, (30, 30)).astype(np.uint8)
    values[:12] //= 3
    found = classical.multi_otsu(values, classes) if classes > 2 else [classical.otsu(values)]
    best = max(between(values, t) for t in combinations(range(23), classes - 1))
    assert between(values, found) == pytest.approx(best)


@given(SMALL, st.sampled_from([3, 5, 9]))
@settings(max_examples=20, deadline=None)
def test_local_threshold_is_the_mean_of_the_square_around(image, side):
    padded = np.pad(image.astype(float), side // 2, mode="symmetric")
    found = classical.local_threshold(image, side, offset=7)
    for row, column in np.ndindex(image.shape):
        mean = padded[row : row + side, column : column + side].mean()
        assert found[row, column] == pytest.approx(mean - 7)


def test_a_local_threshold_reads_the_dark_side_of_the_page():
    """Otsu calls the dark corner ink; the local threshold finds letters on paper there."""
    corner = np.s_[-80:, :30]
    page, local = PAGE[corner], classical.local_threshold(PAGE, 35, 10)[corner]
    assert (page <= classical.otsu(PAGE)).mean() > 0.9
    assert (page <= local).mean() < 0.3


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("tolerance", [0, 5, 20, 300])
@pytest.mark.parametrize("seed", [(0, 0), (150, 200), (511, 511)])
@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_region_growing_is_flood_with_the_same_tolerance(seed, tolerance, scale):
    image = CAMERA if scale == 1 else CAMERA * scale
    theirs = skimage.segmentation.flood(image, seed, tolerance=tolerance * scale)
    grown = classical.region_grow(image, seed, tolerance * scale)
    np.testing.assert_array_equal(grown, theirs)


def test_a_tolerance_between_two_gray_levels_counts_as_the_lower():
    """Flood rounds the least value that it takes down: 78 comes in where 78.5 is the limit."""
    levels = np.array([[99, 78, 120, 79]], np.uint8)
    assert skimage.segmentation.flood(levels, (0, 0), tolerance=20.5).tolist() == [
        [True, True, False, False]
    ]
    assert classical.region_grow(levels, (0, 0), 20.5).sum() == 1


@given(SMALL, st.integers(0, 120), st.data())
@settings(max_examples=40, deadline=None)
def test_a_region_is_what_a_queue_of_neighbors_reaches(image, tolerance, draw):
    seed = tuple(draw.draw(st.integers(0, side - 1)) for side in image.shape)
    levels = image.astype(int)
    reached, waiting = {seed}, [seed]
    while waiting:
        row, column = waiting.pop()
        for down, right in product((-1, 0, 1), repeat=2):
            place = row + down, column + right
            inside = 0 <= place[0] < image.shape[0] and 0 <= place[1] < image.shape[1]
            if inside and place not in reached and abs(levels[place] - levels[seed]) <= tolerance:
                reached.add(place)
                waiting.append(place)
    grown = np.argwhere(classical.region_grow(image, seed, tolerance))
    assert set(map(tuple, grown.tolist())) == reached


def test_a_colored_region_is_alike_in_every_channel():
    image = np.zeros((5, 6, 3), np.uint8)
    image[:, 3:, 2] = 90  # only blue changes
    grown = classical.region_grow(image, (2, 1), 50)
    assert grown[:, :3].all()
    assert not grown[:, 3:].any()
    assert classical.region_grow(image, (2, 1), 90).all()
    gray = np.repeat(COINS[..., None], 3, axis=2)
    grown = classical.region_grow(gray, (100, 100), 30)
    np.testing.assert_array_equal(grown, classical.region_grow(COINS, (100, 100), 30))


def ranges(image, regions):
    """Least and largest value of each region, (R, C)."""
    channels = np.moveaxis(image.reshape(*image.shape[:2], -1).astype(float), 2, 0)
    numbers = range(1, regions.max() + 1)
    return [
        np.stack([which(channel, regions, numbers) for channel in channels], axis=1)
        for which in (ndimage.minimum, ndimage.maximum)
    ]


@given(
    arrays.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 13), st.integers(1, 13)),
            st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3)),
        ),
        elements=st.integers(0, 20),
    ),
    st.integers(0, 20),
)
@settings(max_examples=100, deadline=None)
def test_regions_are_even_connected_and_cannot_be_merged(image, tolerance):
    regions = classical.split_and_merge(image, tolerance)
    assert set(np.unique(regions)) == set(range(1, regions.max() + 1))
    low, high = ranges(image, regions)
    assert ((high - low).max(axis=1) <= tolerance).all()
    assert all(ndimage.label(regions == k)[1] == 1 for k in range(1, regions.max() + 1))
    for axis in (0, 1):
        lines = np.moveaxis(regions, axis, 0) - 1
        meets = lines[:-1] != lines[1:]
        one, other = lines[:-1][meets], lines[1:][meets]
        union = np.maximum(high[one], high[other]) - np.minimum(low[one], low[other])
        assert (union.max(axis=1) > tolerance).all()


def test_regions_are_numbered_as_one_reads():
    image = np.zeros((6, 9), np.uint8)
    image[:, 3:6], image[:, 6:] = 100, 200
    expected = np.repeat([[1, 2, 3]], 3, axis=1).repeat(6, axis=0)
    np.testing.assert_array_equal(classical.split_and_merge(image, 10), expected)


def test_a_large_tolerance_leaves_one_region_and_blocks_can_be_kept_whole():
    assert classical.split_and_merge(COINS[::4, ::4], 255).max() == 1
    noise = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    blocks = classical.split_and_merge(noise, 0, smallest=4)
    np.testing.assert_array_equal(blocks, np.arange(1, 17).reshape(4, 4).repeat(4, 0).repeat(4, 1))


def test_watershed_parts_disks_that_touch():
    one, other = disk((20, 20), 12), disk((20, 40), 12)
    parts = classical.watershed(one | other, distance=8)
    assert set(np.unique(parts)) == {0, 1, 2}
    np.testing.assert_array_equal(parts > 0, one | other)
    assert len(set(parts[one & ~other & (np.indices(one.shape)[1] < 28)])) == 1
    assert parts[20, 20] != parts[20, 40]


def test_watershed_of_nothing_and_of_everything():
    assert not classical.watershed(np.zeros((8, 9), bool)).any()
    assert classical.watershed(np.ones((8, 9), bool), distance=20).min() == 1


# ---------------------------------------------------------------- motion


def square_film(frames=12, noise=0.0):
    """A bright square that crosses a gray ground, 3 columns a frame; film and truth."""
    film = np.full((frames, 20, 60), 100.0)
    truth = np.zeros(film.shape, bool)
    for t in range(frames):
        truth[t, 5:15, 3 * t : 3 * t + 8] = True
    film[truth] = 180
    film += noise * np.random.default_rng(0).standard_normal(film.shape)
    return film, truth


def test_difference_marks_what_changed_since_the_frame_before():
    film, truth = square_film()
    found = classical.background_subtraction(film, method="difference", threshold=20)
    np.testing.assert_array_equal(found[1:], truth[1:] ^ truth[:-1])
    assert not found[0].any()


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize("method", ["average", "gaussian"])
def test_models_follow_their_formulas_pixel_by_pixel(method, selective):
    film, _ = square_film(noise=4)
    options = {"threshold": 25.0} if method == "average" else {"deviations": 2.5}
    found = classical.background_subtraction(
        film, method=method, rate=0.1, selective=selective, **options
    )
    first = film[1] - film[0]
    noise = (1.4826 * np.median(np.abs(first))) ** 2 / 2
    for place in [(10, 0), (10, 30), (6, 22), (19, 59)]:
        mean, variance = film[0][place], noise
        for t in range(1, len(film)):
            error = film[t][place] - mean
            limit = 25.0 if method == "average" else 2.5 * variance**0.5
            assert found[t][place] == (abs(error) > limit)
            if not (selective and found[t][place]):
                mean = 0.9 * mean + 0.1 * film[t][place]
                variance = max(0.9 * variance + 0.1 * error**2, noise / 4)


def test_gaussian_model_sets_its_own_threshold_by_the_noise():
    for noise in (2.0, 8.0):
        film, truth = square_film(noise=noise)
        found = classical.background_subtraction(film, deviations=4.0, selective=True)
        background = ~truth & ~truth[0]
        assert found[background].mean() < 0.01
        assert found[truth & ~truth[0]].mean() > 0.95


def test_selective_models_keep_a_ghost_that_others_forget():
    film, truth = square_film(60)
    left = truth[0] & ~truth[-1]
    for selective in (True, False):
        found = classical.background_subtraction(
            film, method="average", threshold=20, rate=0.1, selective=selective
        )
        assert found[-1][left].all() == selective


def test_a_colored_pixel_differs_if_one_channel_does():
    film = np.full((3, 4, 5, 3), 80, np.uint8)
    film[2, 1, 1, 2] = 200
    found = classical.background_subtraction(film, method="difference", threshold=50)
    assert found.sum() == 1
    assert found[2, 1, 1]


def test_one_frame_is_a_film_in_which_nothing_moves():
    assert not classical.background_subtraction(CAMERA[None, :8, :8]).any()


def texture(shift=(0.0, 0.0), shape=(64, 80)):
    """A smooth random texture, moved by any amount with a Fourier transform, not by resampling."""
    noise = np.random.default_rng(3).standard_normal((128, 128))
    spectrum = np.fft.fft2(ndimage.gaussian_filter(noise, 3, mode="wrap"))
    moved = np.fft.ifft2(ndimage.fourier_shift(spectrum, shift)).real
    return 128 + 600 * moved[: shape[0], : shape[1]]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.7), (-2.3, 3.6)])
def test_lucas_kanade_measures_fractions_of_a_pixel(shift):
    flow = classical.optical_flow_lucas_kanade(texture(), texture(shift))
    assert flow.shape == (64, 80, 2)
    inside = flow[12:-12, 12:-12]
    assert np.abs(inside - shift).max() < 0.1


@pytest.mark.parametrize("shift", [(0, 0), (1, -2), (-4, 3)])
def test_block_matching_finds_whole_pixels(shift):
    flow = classical.optical_flow_block_matching(texture(), texture(shift), block=8, search=4)
    assert flow.dtype.kind == "i"
    assert (flow[8:-8, 8:-8] == shift).all()


@given(st.integers(1, 6), st.integers(0, 2), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_block_matching_is_the_best_of_all_places(block, search, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 4, (2, 7, 11)).astype(float)
    flow = classical.optical_flow_block_matching(first, second, block=block, search=search)
    for top, left in product(range(0, 7, block), range(0, 11, block)):
        part = first[top : top + block, left : left + block]
        height, width = part.shape
        costs = []
        for y, x in product(range(-search, search + 1), repeat=2):
            if min(top + y, left + x) >= 0 and top + y + height <= 7 and left + x + width <= 11:
                there = second[top + y : top + y + height, left + x : left + x + width]
                costs.append((np.abs(part - there).sum(), np.hypot(y, x), y, x))
        expected = min(costs)[2:]
        assert (flow[top : top + height, left : left + width] == expected).all()


def test_flow_of_a_film_is_near_its_truth_where_there_is_texture():
    film = scenes.sequence(0, frames=3, size=96, cars=0, people=0, pan=2)
    gray = film.frames.mean(axis=3)
    flow = classical.optical_flow_block_matching(gray[0], gray[1], block=16, search=4)
    assert (np.abs(flow - film.flow[0]).max(axis=2) == 0).mean() > 0.6


# ---------------------------------------------------------------- bad input


GRAY_FUNCTIONS = {
    "gradient": classical.gradient,
    "sobel": classical.sobel,
    "laplacian_of_gaussian": classical.laplacian_of_gaussian,
    "zero_crossings": classical.zero_crossings,
    "canny": classical.canny,
    "otsu": classical.otsu,
    "multi_otsu": classical.multi_otsu,
    "local_threshold": lambda image: classical.local_threshold(image, 5),
    "lucas_kanade": lambda image: classical.optical_flow_lucas_kanade(image, image),
    "block_matching": lambda image: classical.optical_flow_block_matching(image, image),
}
FUNCTIONS = GRAY_FUNCTIONS | {
    "region_grow": lambda image: classical.region_grow(image, (0, 0), 5),
    "split_and_merge": lambda image: classical.split_and_merge(image, 5),
}


@pytest.mark.parametrize("function", GRAY_FUNCTIONS.values(), ids=GRAY_FUNCTIONS)
def test_a_colored_image_where_gray_is_needed_is_named(function):
    with pytest.raises(ValueError, match=r"colors, shape \(8, 9, 3\).*gray values \(H, W\)"):
        function(np.zeros((8, 9, 3)))


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.full((8, 9), np.nan), ValueError, "NaN or infinite at 72 of 72"),
        (np.array([[1.0, np.inf], [0.0, 2.0]]), ValueError, "NaN or infinite at 1 of 4"),
        (np.zeros((0, 9)), ValueError, "empty"),
        (np.zeros((8, 9), bool), TypeError, "expected integers or floats, got bool"),
        (np.zeros((8, 9), complex), TypeError, "got complex128"),
        (np.zeros(9), ValueError, r"got shape \(9,\)"),
        (np.zeros((2, 3, 8, 9)), ValueError, r"got shape \(2, 3, 8, 9\)"),
    ],
)
def test_an_image_that_is_none_is_named(function, image, error, message):
    with pytest.raises(error, match=message):
        function(image)


@pytest.mark.parametrize("seed", [(-1, 0), (0, -1), (512, 0), (0, 512)])
def test_a_seed_outside_of_the_image_is_named(seed):
    with pytest.raises(ValueError, match=r"outside of the image: rows are 0 to 511, columns 0"):
        classical.region_grow(CAMERA, seed, 5)


@pytest.mark.parametrize("seed", [5, (1, 2, 3), (1.5, 2), None])
def test_a_seed_that_is_no_pixel_is_named(seed):
    with pytest.raises(TypeError, match=r"expected two whole numbers, \(row, column\)"):
        classical.region_grow(CAMERA, seed, 5)


@pytest.mark.parametrize("frames", [[], np.zeros((0, 8, 9)), np.zeros((0, 8, 9, 3))])
def test_a_film_without_frames_is_named(frames):
    with pytest.raises(ValueError, match="a film without frames"):
        classical.background_subtraction(frames)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classical.otsu(np.full((4, 4), 7)), "1 gray value, from 7 to 7.* 2 classes"),
        (lambda: classical.multi_otsu(np.eye(4), 3), "2 gray values, .* 3 classes"),
        (lambda: classical.multi_otsu(CAMERA, 1), "classes is 1; expected 2 to 5"),
        (lambda: classical.local_threshold(PAGE, 4), "side is 4; expected an odd number"),
        (lambda: classical.canny(CAMERA, low=9, high=4), "low is 9 and high is 4"),
        (lambda: classical.canny(CAMERA, sigma=-1), "sigma is -1"),
        (lambda: classical.canny(CAMERA, low=-1, high=4), "low is -1"),
        (lambda: classical.laplacian_of_gaussian(CAMERA, 0), "sigma is 0"),
        (lambda: classical.zero_crossings(CAMERA, -1), "threshold is -1"),
        (lambda: classical.region_grow(CAMERA, (0, 0), -1), "tolerance is -1"),
        (lambda: classical.region_grow(CAMERA, (0, 0), np.nan), "tolerance is nan"),
        (lambda: classical.split_and_merge(COINS, -1), "tolerance is -1"),
        (lambda: classical.split_and_merge(COINS, 5, smallest=0), "smallest is 0"),
        (lambda: classical.watershed(COINS > 9, distance=0), "distance is 0"),
        (lambda: classical.optical_flow_lucas_kanade(COINS, CAMERA), "differ in size"),
        (lambda: classical.optical_flow_lucas_kanade(COINS, COINS, radius=0), "radius is 0"),
        (lambda: classical.optical_flow_block_matching(COINS, COINS, block=0), "block is 0"),
        (lambda: classical.optical_flow_block_matching(COINS, COINS, search=-1), "search is -1"),
    ],
)
def test_parameters_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mixture"}, "method is 'mixture'; expected 'difference', 'average'"),
        ({"method": "average"}, "'average' needs a threshold, in gray levels"),
        ({"method": "difference", "threshold": -1}, "threshold is -1"),
        ({"deviations": -1}, "deviations is -1"),
        ({"rate": 0}, "rate is 0; expected a number above 0"),
        ({"rate": 1.5}, "rate is 1.5"),
    ],
)
def test_bad_models_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        classical.background_subtraction(np.zeros((2, 4, 4)), **options)


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4, 2), (1, 2, 4, 4, 3)])
def test_a_film_of_another_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"expected \(T, H, W\) or \(T, H, W, 3\)"):
        classical.background_subtraction(np.zeros(shape))


def test_watershed_wants_booleans():
    with pytest.raises(TypeError, match=r"mask: expected booleans \(H, W\), got uint8"):
        classical.watershed(COINS)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_what_is_given_stays_as_it_is(function):
    image = COINS[:20, :24].copy()
    function(image)
    np.testing.assert_array_equal(image, COINS[:20, :24])
