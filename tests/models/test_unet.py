"""U-Net, padded and without padding."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab import inference, metrics, models, training
from seglab.models.unet import center_crop

SMALL = {"preset": "small"}
VALID = {"preset": "small", "padding": "valid"}
ORIGINAL = {"norm": False, "padding": "valid"}


@pytest.mark.parametrize(
    ("classes", "channels", "parameters"), [(21, 3, 31_033_045), (2, 1, 31_030_658)]
)
def test_the_papers_network_has_its_parameter_count(classes, channels, parameters):
    with torch.device("meta"):
        model = models.create("unet", classes, in_channels=channels, **ORIGINAL)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_papers_figure_572_becomes_388():
    with torch.device("meta"):
        model = models.create("unet", 2, in_channels=1, **ORIGINAL)
        assert model(torch.rand(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_without_padding_the_output_is_184_smaller_from_188_on():
    model = models.create("unet", 3, **VALID).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 188, 204)).shape == (1, 3, 4, 20)
    assert model.margin == 92


def walk(side, blocks=4):
    """Follow the side of the maps layer by layer; None where a map cannot be pooled or vanishes."""
    for _ in range(blocks):
        side -= 4
        if side < 2 or side % 2:
            return None
        side //= 2
    side -= 4
    for _ in range(blocks):
        side = 2 * side - 4
        if side < 1:
            return None
    return side


@pytest.mark.parametrize("blocks", [2, 3, 4])
def test_sizes_that_fit_are_those_of_a_walk_through_the_layers(blocks):
    model = models.create("unet", 2, widths=(16,) * (blocks + 1), padding="valid")
    fitting = [side for side in range(1, 600) if walk(side, blocks) is not None]
    assert all(walk(side, blocks) == side - 2 * model.margin for side in fitting)
    for side in range(1, 500):
        assert model.fitting_size(side) == min(size for size in fitting if size >= side)


def test_a_size_that_does_not_fit_names_the_nearest_that_do():
    model = models.create("unet", 3, **VALID)
    with pytest.raises(ValueError, match=r"256 x 572 do not fit.* heights are 252 or 268.* 572 "):
        model(torch.rand(1, 3, 256, 572))
    with pytest.raises(ValueError, match=r"H, W >= 188, got shape \(1, 3, 187, 300\)"):
        model(torch.rand(1, 3, 187, 300))


def test_crops_lie_on_the_center():
    maps = torch.arange(8.0).expand(1, 1, 6, 8)
    assert torch.equal(center_crop(maps, (2, 4))[0, 0], torch.tensor([[2.0, 3, 4, 5]] * 2))


def test_padded_and_unpadded_agree_where_no_padding_is_seen():
    """The valid logits see only the image, so a padded network of equal weights must agree."""
    valid = models.create("unet", 3, **VALID).eval()
    same = models.create("unet", 3, **SMALL).eval()
    same.load_state_dict(valid.state_dict())
    image = torch.rand(1, 3, 220, 236)
    # Unpadded, the windows of the last pooling begin 2 + 4 + 8 + 16 = 30 pixels from the edge;
    # padded, at multiples of 16. Two pixels more at the edge, and both pool the same pixels.
    with torch.no_grad():
        expected = valid(image)
        middle = same(F.pad(image, (2, 0, 2, 0)))[..., 2 + 92 :, 2 + 92 :]
    torch.testing.assert_close(middle[..., :36, :52], expected, atol=1e-4, rtol=0)


def test_skips_reach_the_decoder_at_every_level():
    """Without the deep path a pixel's logits still depend on that pixel through the skips."""
    model = models.create("unet", 2, **SMALL).eval()
    for block in model.up:
        nn.init.zeros_(block.enlarge.weight)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    model(image)[0, 0, 32, 32].backward()
    assert image.grad[0, :, 32, 32].abs().sum() > 0


def test_dropout_is_in_the_bottleneck_alone():
    model = models.create("unet", 2, **SMALL)
    assert [n for n, m in model.named_modules() if isinstance(m, nn.Dropout)] == ["bottleneck.6"]


def test_padding_must_be_one_of_two():
    with pytest.raises(ValueError, match="padding is 'reflect'; expected 'same' or 'valid'"):
        models.create("unet", padding="reflect")


# What training, inference and metrics make of it


@pytest.fixture
def blobs():
    """A data set of two images whose class is what a threshold of the blurred image says."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 188, 204)
    masks = (F.avg_pool2d(images.mean(1), 5, 1, 2) > 0.5).long()
    return [(image, mask) for image, mask in zip(images, masks, strict=True)]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_fit_evaluate_and_predict_take_every_variant(blobs, channels, padding):
    model = models.create("unet", channels, widths=(16, 16, 16, 16, 16), padding=padding)
    history = training.fit(model, blobs, steps=2, batch_size=2, progress=False)
    assert len(history.losses) == 2
    scores = training.evaluate(model, blobs)
    assert scores.confusion.matrix.sum() == 2 * 188 * 204
    by_prediction = metrics.ConfusionMatrix(2)
    for image, mask in blobs:
        by_prediction.update(inference.predict(model, image), mask)
    assert (by_prediction.matrix - scores.confusion.matrix).abs().max() <= 2  # rounding


def test_tiles_without_padding_are_the_whole_image():
    """The overlap-tile strategy: a tile knows its true surroundings, so no seam is left.

    Tiles must start on the grid of the poolings, multiples of 16 pixels.
    """
    model = models.create("unet", 2, **VALID).eval()
    image = torch.rand(3, 192, 160)
    whole = inference.probabilities(model, image)
    tiles = inference.probabilities(model, image, window=128)
    torch.testing.assert_close(tiles, whole, atol=1e-5, rtol=0)
