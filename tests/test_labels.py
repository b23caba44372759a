"""Class names and colors."""

import numpy as np
import pytest

from seglab import labels


@pytest.mark.parametrize("palette", [labels.SCENES, labels.CAMVID])
def test_every_class_has_a_color_of_its_own(palette):
    assert len(set(palette.names)) == len(set(palette.colors)) == palette.num_classes


def test_colorize_paints_each_pixel_with_its_class():
    mask = np.array([[0, 5], [255, 2]], np.uint8)
    painted = labels.SCENES.colorize(mask)
    for row, column in np.ndindex(mask.shape):
        k = mask[row, column]
        expected = labels.SCENES.ignore_color if k == 255 else labels.SCENES.colors[k]
        assert tuple(painted[row, column]) == expected


def test_colorize_names_the_strange_class():
    with pytest.raises(ValueError, match=r"holds \[6\].*0 to 5 or 255"):
        labels.SCENES.colorize(np.array([[6]]))


def test_colorize_refuses_probabilities():
    with pytest.raises(ValueError, match="integer label map"):
        labels.SCENES.colorize(np.zeros((2, 2)))


def test_names_and_colors_must_match():
    with pytest.raises(ValueError, match="2 names but 1 colors"):
        labels.Labels(("a", "b"), ((0, 0, 0),))
