"""The recipe for the real sections."""

import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur

from book.tools import isbi


def test_an_augmented_window_keeps_every_label_on_its_pixel():
    torch.manual_seed(0)
    mask = (torch.nn.functional.avg_pool2d(torch.randn(1, 1, 400, 400), 31, 1, 15)[0, 0] > 0).long()
    image = mask.float().expand(3, -1, -1)
    for _ in range(8):
        window, labels = isbi.augment(image, mask)
        assert window.shape == (3, isbi.WINDOW, isbi.WINDOW)
        assert labels.dtype == torch.int64
        assert torch.equal(window, labels.float().expand(3, -1, -1))


def test_eight_views_of_a_network_that_sees_single_pixels_agree_with_one():
    model = torch.nn.Conv2d(3, 2, 1)
    image = torch.rand(3, 64, 64)
    expected = model(image[None])[0].softmax(0)
    torch.testing.assert_close(isbi.in_eight_views(model, image), expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("sigma", [0.6, 0.9, 1.2])
def test_the_spectra_tell_how_much_images_were_smoothed(sigma):
    torch.manual_seed(0)
    sharp = [torch.rand(3, 128, 128) for _ in range(4)]
    smooth = [gaussian_blur(torch.rand(3, 128, 128), [9, 9], [sigma, sigma]) for _ in range(4)]
    found = isbi.missing_smoothness(isbi.spectrum(smooth), isbi.spectrum(sharp))
    assert found == pytest.approx(sigma, rel=0.1)


def test_images_that_are_smooth_already_are_left_alone():
    torch.manual_seed(0)
    sharp = isbi.spectrum([torch.rand(3, 128, 128)])
    smooth = isbi.spectrum([gaussian_blur(torch.rand(3, 128, 128), [7, 7], [0.7, 0.7])])
    assert isbi.missing_smoothness(sharp, smooth) == 0


def test_a_wave_has_its_power_at_its_frequency():
    wave = torch.sin(2 * torch.pi * 10 * torch.arange(64) / 64).expand(3, 64, 64)
    power = isbi.spectrum([wave])
    assert power.argmax() == 10
    assert len(power) == 32
