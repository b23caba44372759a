"""Procedural electron microscopy."""

import numpy as np
import pytest
from scipy import ndimage

from seglab.data.cells import Cells, tissue

CELL, MEMBRANE = 0, 1


@pytest.fixture(scope="module")
def sections():
    """Images (n, 256, 256) in [0, 1] and masks (n, 256, 256)."""
    pairs = [Cells("train", size=256).render(i) for i in range(12)]
    return np.stack([image for image, _ in pairs]) / 255, np.stack([mask for _, mask in pairs])


def test_images_larger_than_the_noise_fields_can_be_drawn():
    image, mask = Cells("val", size=(40, 600)).render(0)
    assert image.shape == mask.shape == (40, 600)


def test_membranes_cover_as_much_as_in_the_real_sections(sections):
    """22 % of the pixels of the ISBI 2012 sections are membrane, 19 to 27 % in each of them."""
    _, masks = sections
    assert masks.mean() == pytest.approx(0.22, abs=0.02)


def test_membranes_are_thin_and_of_one_width_whatever_the_size_of_the_image(sections):
    """A larger image shows more cells, not larger ones."""
    _, masks = sections

    def width(mask):  # area over length: the ridge of the distance is the middle of a membrane
        inside = ndimage.distance_transform_edt(mask)
        ridge = (inside == ndimage.maximum_filter(inside, 3)) & (mask == 1)
        return 2 * inside[ridge].mean()

    small = np.mean([width(Cells("train", size=96).render(i)[1]) for i in range(40)])
    large = np.mean([width(mask) for mask in masks])
    assert 3 < large < 7
    assert small == pytest.approx(large, rel=0.1)


def test_membranes_keep_touching_cells_apart(sections):
    """The pixels of class cell fall into many connected parts, none of them huge."""
    plan = tissue(np.random.default_rng(0), (256, 256))
    assert len(np.unique(plan)) > 20
    for mask in sections[1]:
        parts, count = ndimage.label(mask == CELL)
        assert count > 10
        assert np.bincount(parts.flat)[1:].max() < 0.4 * mask.size


def test_darkness_alone_does_not_decide(sections):
    """Membranes are darker than cells, but the best threshold misses and invents many."""
    images, masks = sections
    membrane = masks == MEMBRANE
    assert images[membrane].mean() < images[~membrane].mean() - 0.1
    scores = []
    for threshold in np.linspace(0.1, 0.7, 61):
        guess = images < threshold
        scores.append((guess & membrane).sum() / (guess | membrane).sum())
    assert 0.2 < max(scores) < 0.6


def test_organelles_as_dark_as_membranes_are_cell(sections):
    """Dark spots far from every membrane: mitochondria and vesicles, labeled as cell."""
    images, masks = sections
    smooth = np.stack([ndimage.gaussian_filter(image, 1.5) for image in images])
    typical = np.median(smooth[masks == MEMBRANE])
    far = np.stack([ndimage.distance_transform_edt(mask == CELL) > 8 for mask in masks])
    assert ((smooth < typical) & far).sum() / far.sum() > 0.01


def test_some_membranes_fade(sections):
    """Along the middle of the membranes, one pixel in ten is nearly as bright as the cells."""
    images, masks = sections
    smooth = np.stack([ndimage.gaussian_filter(image, 1) for image in images])
    middle = np.stack([ndimage.distance_transform_edt(mask) >= 2 for mask in masks])
    faint = smooth[middle] > np.quantile(smooth[masks == CELL], 0.2)
    assert 0.05 < faint.mean() < 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "no split is called 'training'; there are train, val, test"),
        ({"split": "train", "size": 0}, "size is 0"),
        ({"split": "train", "size": (3, 4, 5)}, r"size is \(3, 4, 5\)"),
        ({"split": "train", "length": 0}, "length is 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cells(**arguments)


def test_iteration_ends_after_the_last_image():
    assert len(list(Cells("val", length=2))) == 2
    with pytest.raises(IndexError, match="image 2 of 2"):
        Cells("val", length=2)[2]
