"""Pieces that several architectures share."""

import pytest
import torch
from torch.nn import functional as F

from seglab.models.blocks import unpool


def test_unpooling_by_hand():
    image = torch.tensor([[1.0, 5.0, 2.0, 0.0], [3.0, 2.0, 8.0, 4.0]])
    maxima, indices = F.max_pool2d(image[None, None], 2, return_indices=True)
    expected = torch.tensor([[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0]])
    assert torch.equal(unpool(maxima, indices, (2, 4))[0, 0], expected)


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 7), (5, 7), (1, 1)])
def test_unpooling_keeps_one_value_of_each_window_where_it_was(size):
    """Checked window by window; at an odd edge windows are cut off."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, *size)
    maxima, indices = F.max_pool2d(image, 2, ceil_mode=True, return_indices=True)
    sparse = unpool(maxima, indices, size)
    assert sparse.shape == image.shape
    for y in range(0, size[0], 2):
        for x in range(0, size[1], 2):
            before = image[..., y : y + 2, x : x + 2].flatten(-2)
            after = sparse[..., y : y + 2, x : x + 2].flatten(-2)
            kept = before == before.max(-1, keepdim=True).values
            assert torch.equal(after, before * kept)


def test_gradient_of_unpooling_is_what_lies_at_the_places():
    image = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    maxima, indices = F.max_pool2d(image, 2, return_indices=True)
    weights = torch.randn_like(image)
    maxima.requires_grad_()
    (unpool(maxima, indices, (6, 6)) * weights).sum().backward()
    expected = weights.flatten(2).gather(2, indices.flatten(2)).view_as(maxima)
    torch.testing.assert_close(maxima.grad, expected)


def test_unpooling_to_a_size_that_was_not_pooled_is_an_error():
    maxima, indices = F.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
    with pytest.raises(ValueError, match="output_size"):
        unpool(maxima, indices, (8, 4))
