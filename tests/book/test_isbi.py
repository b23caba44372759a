"""The recipe for the real sections."""

import torch

from book.tools import isbi


def test_an_augmented_window_keeps_every_label_on_its_pixel():
    torch.manual_seed(0)
    mask = (torch.nn.functional.avg_pool2d(torch.randn(1, 1, 400, 400), 31, 1, 15)[0, 0] > 0).long()
    image = mask.float().expand(3, -1, -1)
    for _ in range(8):
        window, labels = isbi.augment(image, mask)
        assert window.shape == (3, isbi.WINDOW, isbi.WINDOW)
        assert labels.dtype == torch.int64
        middle = (window.max() + window.min()) / 2
        assert ((window[0] > middle) == labels.bool()).float().mean() > 0.98


def test_eight_views_of_a_network_that_sees_single_pixels_agree_with_one():
    model = torch.nn.Conv2d(3, 2, 1)
    image = torch.rand(3, 64, 64)
    expected = model(image[None])[0].softmax(0)
    torch.testing.assert_close(isbi.in_eight_views(model, image), expected, atol=2e-2, rtol=0)
