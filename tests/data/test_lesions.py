"""Procedural lesions."""

import numpy as np
import pytest
from scipy import ndimage

from seglab.data.lesions import Lesions


@pytest.mark.parametrize("share", [0.005, 0.01, 0.03])
def test_lesions_cover_the_share_that_was_asked_for(share):
    dataset = Lesions("train", share=share, length=200)
    shares = [dataset.render(i)[1].mean() for i in range(len(dataset))]
    assert np.mean(shares) == pytest.approx(share, rel=0.1)
    assert np.std(shares) > 0.1 * share  # no two images alike


def test_lesions_are_darker_than_what_surrounds_them_but_no_threshold_finds_them():
    dataset = Lesions("train", size=128, length=60)
    images, masks = (np.stack(part) for part in zip(*map(dataset.render, range(60)), strict=True))
    around = np.stack([ndimage.binary_dilation(m, iterations=4) & (m == 0) for m in masks])
    inside, near = images[masks == 1].mean(), images[around].mean()
    assert inside < near - 10
    best = 0.0
    for threshold in range(40, 200, 5):
        called = images < threshold
        overlap = 2 * (called & (masks == 1)).sum() / (called.sum() + masks.sum())
        best = max(best, overlap)
    assert best < 0.4


def test_splits_lengths_shares_and_indices_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match="'dev'"):
        Lesions("dev")
    with pytest.raises(ValueError, match="length is 0"):
        Lesions("val", length=0)
    for share in (0.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match=f"share is {share}"):
            Lesions("val", share=share)
    with pytest.raises(IndexError, match="image 64 of 64"):
        Lesions("val")[64]
