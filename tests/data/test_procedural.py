"""What holds for every data set that a program draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab import data
from seglab.data.cells import Cells
from seglab.data.lesions import Lesions
from seglab.data.scenes import Scenes

every_procedural = pytest.mark.parametrize("drawn", [Scenes, Cells, Lesions])


@every_procedural
def test_same_seed_same_images_other_seed_or_split_others(drawn):
    first, again = (drawn("train", seed=4)[7] for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], drawn("train", seed=5)[7][0])
    assert not torch.equal(first[0], drawn("val", seed=4)[7][0])


@every_procedural
def test_an_image_does_not_depend_on_how_many_there_are(drawn):
    few, many = drawn("train", length=8), drawn("train", length=80)
    assert torch.equal(few[7][0], many[7][0])


@pytest.mark.parametrize("drawn", [Cells, Lesions])
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_any_size_of_a_gray_image_can_be_drawn(drawn, height, width, index):
    image, mask = drawn("val", size=(height, width), length=51).render(index)
    assert image.shape == mask.shape == (height, width)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("cells", ("cell", "membrane")), ("lesions", ("tissue", "lesion"))],
)
def test_items_of_gray_images_follow_the_contract(name, labels):
    dataset = data.load(name, "train", length=3)
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
    assert dataset.labels.names == labels
