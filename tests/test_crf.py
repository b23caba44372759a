"""The fully connected CRF, against loops over all pairs and against an independent program."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from seglab import crf


def picture(height, width, classes, seed=0):
    """A noisy image of colored cells with curved borders, blurred probabilities, and the truth."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    rows = (y + 6 * np.sin(x / 11)).astype(int) // 16
    columns = (x + 6 * np.sin(y / 9)).astype(int) // 16
    truth = rng.integers(0, classes, (height, width))[rows, columns]
    palette = rng.random((classes, 3))
    image = np.clip(palette[truth] + rng.normal(0, 0.03, (height, width, 3)), 0, 1)
    sharp = np.moveaxis(np.eye(classes)[truth], 2, 0)
    blurred = np.stack([gaussian_filter(plane, 4) for plane in sharp]) + 0.05
    blurred /= blurred.sum(0)
    image, blurred = (torch.from_numpy(a).float() for a in (np.moveaxis(image, 2, 0), blurred))
    return image, blurred, torch.from_numpy(truth)


def by_loops(image, probabilities, iterations, w1, s1, w2, sxy, srgb):
    """Mean field with one loop over all pairs of pixels, in float64."""
    classes, height, width = probabilities.shape
    pixels = [(i, j) for i in range(height) for j in range(width)]
    n = len(pixels)
    color = 255 * image.double().flatten(1).T
    smooth, bilateral = np.empty((n, n)), np.empty((n, n))
    for a, (i, j) in enumerate(pixels):
        for b, (k, m) in enumerate(pixels):
            far = (i - k) ** 2 + (j - m) ** 2
            apart = float((color[a] - color[b]).square().sum())
            smooth[a, b] = math.exp(-far / (2 * s1**2))
            bilateral[a, b] = math.exp(-far / (2 * sxy**2) - apart / (2 * srgb**2))
    kernel = np.zeros((n, n))
    for weight, part in ((w1, smooth), (w2, bilateral)):
        root = 1 / np.sqrt(part.sum(1))
        kernel += weight * root[:, None] * part * root[None, :]
    p = probabilities.double().flatten(1).numpy().T
    q = p
    for _ in range(iterations):
        score = np.exp(np.log(p) + kernel @ q)
        q = score / score.sum(1, keepdims=True)
    return torch.from_numpy(q.T.reshape(classes, height, width))


@pytest.mark.parametrize("iterations", [1, 5])
def test_exact_method_is_the_mean_field_of_the_paper(iterations):
    image, p, _ = picture(9, 11, 3)
    numbers = {"smooth_weight": 2.0, "smooth_sigma": 1.5, "weight": 3.0}
    widths = {"sigma_xy": 6.0, "sigma_rgb": 20.0}
    ours = crf.dense_crf(image, p, iterations=iterations, method="exact", **numbers, **widths)
    expected = by_loops(image, p, iterations, 2.0, 1.5, 3.0, 6.0, 20.0)
    torch.testing.assert_close(ours.double(), expected, atol=2e-5, rtol=0)


def test_lattice_agrees_with_the_exact_mean_field():
    image, p, _ = picture(60, 66, 5)
    exact = crf.dense_crf(image, p, method="exact")
    lattice = crf.dense_crf(image, p, method="lattice")
    assert (exact.argmax(0) == lattice.argmax(0)).float().mean() >= 0.985
    assert (exact - lattice).abs().mean() < 0.005


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_lattice_filters_like_the_gaussian_in_any_dimension(d):
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.rand(2000, d, generator=generator)
    values = (features[:, :1] > 1.5).float()

    def average(kernel):
        return kernel(values) / kernel(torch.ones_like(values))

    exact = average(crf.exact_filter(features))
    assert (average(crf.lattice_filter(features)) - exact).abs().mean() < 0.03


@pytest.mark.parametrize("d", [2, 5])
def test_barycentric_weights_find_the_point_between_the_corners(d):
    """The weighted mean of the corners is the lifted point: no corner or weight is misplaced."""
    features = 20 * torch.randn(500, d, generator=torch.Generator().manual_seed(0))
    codes, weights = crf._simplices(features)
    assert (weights >= -1e-5).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(500))
    assert all(len(set(column.tolist())) == d + 1 for column in codes.T)
    # the same corners again, as coordinates: a code that is the identity in one of them
    scale = (d + 1) * (2 / 3) ** 0.5
    for axis in range(d):
        unit = torch.zeros(d, dtype=torch.long)
        unit[axis] = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(crf, "_multipliers", lambda d, unit=unit: unit)
            corners, _ = crf._simplices(features)
        k = torch.arange(1, d + 1)
        units = features * scale / (k * (k + 1)).sqrt()
        lifted = units[:, axis:].sum(1) - (axis * units[:, axis - 1] if axis else 0)
        torch.testing.assert_close((corners * weights).sum(0), lifted, atol=1e-3, rtol=1e-4)


def test_crf_mends_a_blurred_segmentation():
    image, p, truth = picture(80, 96, 4)
    refined = crf.dense_crf(image, p)
    before, after = ((x.argmax(0) == truth).float().mean() for x in (p, refined))
    assert after > before + 0.02


def test_agrees_with_an_independent_program_on_a_large_image():
    dcrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 could not be built")
    image, p, _ = picture(240, 320, 8)
    other = dcrf.DenseCRF2D(320, 240, 8)
    other.setUnaryEnergy(np.ascontiguousarray(-np.log(p.flatten(1).numpy())))
    other.addPairwiseGaussian(sxy=3, compat=3)
    levels = (255 * image).round().to(torch.uint8).permute(1, 2, 0)
    other.addPairwiseBilateral(sxy=50, srgb=5, rgbim=levels.contiguous().numpy(), compat=4)
    theirs = torch.from_numpy(np.array(other.inference(10))).view_as(p)
    ours = crf.dense_crf(levels.permute(2, 0, 1) / 255, p, method="lattice")
    assert (ours.argmax(0) == theirs.argmax(0)).float().mean() >= 0.985
    assert (ours - theirs).abs().mean() < 0.005


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_without_iterations_or_weights_nothing_changes(method):
    image, p, _ = picture(20, 24, 3)
    for options in ({"iterations": 0}, {"smooth_weight": 0.0, "weight": 0.0}):
        torch.testing.assert_close(crf.dense_crf(image, p, method=method, **options), p)


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_classes_have_no_order(method):
    image, p, _ = picture(24, 20, 4)
    order = [2, 0, 3, 1]
    straight = crf.dense_crf(image, p, method=method)[order]
    torch.testing.assert_close(crf.dense_crf(image, p[order], method=method), straight)


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_result_is_a_distribution_of_the_given_type(method):
    image, p, _ = picture(20, 24, 3)
    refined = crf.dense_crf(image.double(), 2 * p.double(), method=method)  # normalized inside
    assert refined.dtype == torch.float64
    torch.testing.assert_close(refined.sum(0), torch.ones(20, 24).double())


def test_certain_pixels_stay_certain_and_finite():
    image, _, truth = picture(16, 16, 3)
    certain = torch.nn.functional.one_hot(truth, 3).permute(2, 0, 1).float()
    refined = crf.dense_crf(image, certain)
    assert refined.isfinite().all()
    assert (refined.argmax(0) == truth).all()


def test_auto_is_exact_on_small_images_and_the_lattice_on_large_ones():
    for (height, width), method in {(32, 32): "exact", (65, 64): "lattice"}.items():
        image, p, _ = picture(height, width, 3)
        chosen = crf.dense_crf(image, p, iterations=2)
        assert torch.equal(chosen, crf.dense_crf(image, p, iterations=2, method=method))


def test_wrong_input_is_named():
    image, p, _ = picture(16, 16, 3)
    for bad_image, bad_p, error, words in [
        (image[:2], p, ValueError, r"image \(3, H, W\), got shape \(2, 16, 16\)"),
        (image, p[:, :8], ValueError, r"\(K, 16, 16\) for this image, got shape \(3, 8, 16\)"),
        (255 * image, p, ValueError, r"expected \[0, 1\] \(divide by 255\?\)"),
        ((255 * image).byte(), p, TypeError, "image: expected a floating-point .* torch.uint8"),
        (image, p.numpy(), TypeError, "probabilities: expected .* got ndarray"),
        (image, p * torch.nan, ValueError, "probabilities has entries that are not finite"),
        (image, p - 1, ValueError, "must not be negative"),
    ]:
        with pytest.raises(error, match=words):
            crf.dense_crf(bad_image, bad_p)
    for options, words in [
        ({"iterations": 2.5}, "iterations is 2.5"),
        ({"method": "fast"}, "method is 'fast'; expected 'auto', 'exact' or 'lattice'"),
        ({"sigma_rgb": 0.0}, "sigma_rgb is 0.0"),
        ({"weight": -1.0}, "weight is -1.0"),
    ]:
        with pytest.raises(ValueError, match=words):
            crf.dense_crf(image, p, **options)
