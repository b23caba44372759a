"""Prediction against the same averages taken by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab import inference
from seglab.models.running import mirror


def pointwise(channels=4):
    torch.manual_seed(0)
    return nn.Conv2d(3, channels, 1).eval()


def contextual(channels=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, channels, 1)
    ).eval()


@pytest.fixture
def image():
    return torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(1))


def test_one_image_and_a_batch_give_the_argmax_of_the_logits(image):
    model = contextual()
    images = torch.stack([image, image.flip(1)])
    expected = model(images).argmax(1)
    assert torch.equal(inference.predict(model, images), expected)
    assert torch.equal(inference.predict(model, image), expected[0])
    assert inference.predict(model, image).dtype == torch.int64


def test_probabilities_are_the_softmax_and_sum_to_one(image):
    p = inference.probabilities(contextual(), image)
    assert p.shape == (4, 70, 90)
    assert p.dtype == torch.float32
    torch.testing.assert_close(p, contextual()(image[None]).softmax(1)[0])
    torch.testing.assert_close(p.sum(0), torch.ones(70, 90))


def test_one_channel_logits_mean_class_1_above_zero(image):
    model = contextual(channels=1)
    logits = model(image[None])[0]
    assert torch.equal(inference.predict(model, image), (logits[0] > 0).long())
    torch.testing.assert_close(inference.probabilities(model, image), logits.sigmoid())


def test_flip_averages_both_directions(image):
    model = contextual()
    straight = model(image[None]).softmax(1)
    mirrored = model(image[None].flip(-1)).softmax(1).flip(-1)
    p = inference.probabilities(model, image, flip=True)
    torch.testing.assert_close(p, ((straight + mirrored) / 2)[0])


def test_scales_average_probabilities_in_the_size_of_the_image(image):
    model = contextual()
    total = torch.zeros(1, 4, 70, 90)
    for size in [(70, 90), (105, 135)]:
        view = F.interpolate(image[None], size, mode="bilinear", antialias=True)
        p = model(view).softmax(1)
        total += F.interpolate(p, (70, 90), mode="bilinear", antialias=True)
    p = inference.probabilities(model, image, scales=(1.0, 1.5))
    torch.testing.assert_close(p, total[0] / 2)


@pytest.mark.parametrize("window", [64, (64, 70), (70, 90), 500])
def test_windows_of_a_pointwise_model_give_the_whole_image(image, window):
    model = pointwise()
    whole = inference.probabilities(model, image)
    torch.testing.assert_close(inference.probabilities(model, image, window=window), whole)
    labels = inference.predict(model, image, window=window)
    assert torch.equal(labels, inference.predict(model, image))


def test_windows_average_probabilities_by_hand():
    model = contextual()
    image = torch.rand(3, 64, 100)
    total, count = torch.zeros(4, 64, 100), torch.zeros(100)
    for left in (0, 32, 36):  # half a window apart, the last at the edge
        columns = slice(left, left + 64)
        total[..., columns] += model(image[None, ..., columns]).softmax(1)[0]
        count[columns] += 1
    p = inference.probabilities(model, image, window=64)
    torch.testing.assert_close(p, total / count)


@pytest.mark.parametrize("length", [64, 65, 96, 100, 128, 129, 300])
def test_windows_cover_every_pixel_and_stay_inside(length):
    covered = torch.zeros(length)
    for start in inference._starts(length, 64):
        assert 0 <= start <= length - 64
        covered[start : start + 64] += 1
    assert covered.min() >= 1


class Valid(nn.Module):
    """Two 3x3 convolutions without padding that accept only sizes that are 0 mod 4."""

    padding, margin = "valid", 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))

    def fitting_size(self, n):
        return n + -n % 4

    def forward(self, images):
        if any(side % 4 for side in images.shape[-2:]):
            raise ValueError(f"{tuple(images.shape)} does not fit")
        return self.layers(images)


def test_a_model_without_padding_sees_mirrored_borders(image):
    model = Valid()
    with torch.no_grad():
        expected = model.layers(F.pad(image[None], (2, 2, 2, 2), mode="reflect")).softmax(1)[0]
    torch.testing.assert_close(inference.probabilities(model, image), expected)
    torch.testing.assert_close(inference.probabilities(model, image, window=64), expected)


def test_mirroring_further_than_the_image_is_wide_goes_back_and_forth():
    image = torch.rand(1, 3, 4)
    expected = np.pad(image.numpy(), ((0, 0), (5, 2), (5, 9)), mode="reflect")
    assert np.array_equal(mirror(image, 5, (2, 9)).numpy(), expected)
    assert torch.equal(
        mirror(image[..., :1], 1, (1, 1)), image[..., [1, 0, 1, 2, 1], :1].expand(1, 5, 3)
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_found_and_statistics_do_not_move(image, training):
    model = contextual().train(training)
    before = model[1].running_mean.clone()
    inference.predict(model, image, flip=True)
    assert model.training is training
    assert torch.equal(model[1].running_mean, before)
    assert not inference.probabilities(model, image).requires_grad


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 63, 80), r"63 x 80 pixels; expected at least 64 x 64"),
        ((1, 1, 3, 80, 80), r"\(3, H, W\) or \(N, 3, H, W\)"),
        ((80, 80), r"\(3, H, W\) or \(N, 3, H, W\)"),
    ],
)
def test_wrong_shapes_are_named(shape, message):
    with pytest.raises(ValueError, match=message):
        inference.predict(pointwise(), torch.rand(shape))


def test_bytes_and_arrays_are_refused_with_advice(image):
    with pytest.raises(TypeError, match=r"torch\.uint8.*divide bytes by 255"):
        inference.predict(pointwise(), (image * 255).byte())
    with pytest.raises(TypeError, match="ndarray"):
        inference.predict(pointwise(), image.numpy())


def test_a_scale_that_makes_the_image_too_small_is_named(image):
    with pytest.raises(ValueError, match=r"scale 0\.5 makes 35 x 45"):
        inference.predict(pointwise(), image, scales=(1.0, 0.5))
    with pytest.raises(ValueError, match="scales is empty"):
        inference.predict(pointwise(), image, scales=())
    with pytest.raises(ValueError, match="window"):
        inference.predict(pointwise(), image, window=32)
