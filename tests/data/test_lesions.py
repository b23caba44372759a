"""Procedural lesions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seglab import data
from seglab.data.lesions import Lesions


def test_items_follow_the_contract():
    dataset = data.load("lesions", "train", length=3)
    image, mask = dataset[0]
    assert len(dataset) == 3
    assert image.shape == (3, 96, 96)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    assert mask.shape == (96, 96)
    assert mask.dtype == torch.int64
    assert set(mask.unique().tolist()) == {0, 1}
    assert dataset.labels.names == ("tissue", "lesion")


@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_any_size_can_be_drawn(height, width, index):
    image, mask = Lesions("val", size=(height, width), length=51).render(index)
    assert image.shape == mask.shape == (height, width)


def test_same_seed_same_images_other_seed_or_split_others():
    first, again = (Lesions("train", seed=4)[7] for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], Lesions("train", seed=5)[7][0])
    assert not torch.equal(first[0], Lesions("val", seed=4)[7][0])


def test_an_image_does_not_depend_on_how_many_there_are():
    few, many = Lesions("train", length=8), Lesions("train", length=80)
    assert torch.equal(few[7][0], many[7][0])


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
