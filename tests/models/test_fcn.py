"""FCN-32s, FCN-16s, FCN-8s."""

import pytest
import torch
import torchvision
from torch import nn

from seglab import models
from seglab.models.fcn import FCN, BilinearDeconvolution, bilinear_kernel

SMALL = {"preset": "small"}


@pytest.fixture(scope="module")
def vgg16():
    torch.manual_seed(0)
    return torchvision.models.vgg16().eval()


def test_convolutionalized_vgg_names_a_224_image_as_vgg_does(vgg16):
    """On 224 x 224 the central score sees exactly what the fully connected layers saw."""
    fcn = models.create("fcn32s", 1000).eval()
    fcn.load_classifier(vgg16)
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        scores = fcn.score_map(image)
        expected = vgg16(image)
    assert scores.shape == (1, 1000, 7, 7)
    torch.testing.assert_close(scores[..., 3, 3], expected, atol=1e-6, rtol=0)


def test_load_classifier_leaves_the_score_layer_alone_for_other_classes(vgg16):
    fcn = models.create("fcn8s", 3)
    before = fcn.score.weight.clone()
    fcn.load_classifier(vgg16)
    assert torch.equal(fcn.score.weight, before)
    assert torch.equal(fcn.fc6[0].weight.flatten(1), vgg16.classifier[0].weight)


def test_small_preset_refuses_vgg_weights(vgg16):
    with pytest.raises(ValueError, match="preset 'paper'"):
        models.create("fcn8s", **SMALL).load_classifier(vgg16)


@pytest.mark.parametrize(("name", "stride"), [("fcn32s", 32), ("fcn16s", 16), ("fcn8s", 8)])
def test_score_map_has_the_stride_of_the_name(name, stride):
    model = models.create(name, 6, **SMALL).eval()
    assert model.score_map(torch.rand(1, 3, 96, 128)).shape == (1, 6, 96 // stride, 128 // stride)


@pytest.mark.parametrize("skips", ["fcn16s", "fcn8s"])
def test_new_skips_are_silent_so_training_continues_from_fcn32s(skips):
    """Away from borders, two bilinear enlargements by parts are not one by 32: compare scores."""
    coarse = models.create("fcn32s", 6, **SMALL).eval()
    fine = models.create(skips, 6, **SMALL).eval()
    missing, unexpected = fine.load_state_dict(coarse.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} <= {"score_pool4", "score_pool3"}
    image = torch.rand(1, 3, 96, 96)
    scores = coarse.score_map(image)
    for _ in range({"fcn16s": 1, "fcn8s": 2}[skips]):
        scores = nn.functional.interpolate(scores, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(fine.score_map(image), scores)


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_bilinear_deconvolution_interpolates_inside_the_border(stride):
    scores = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    layer = BilinearDeconvolution(3, stride).double()
    expected = nn.functional.interpolate(scores, scale_factor=stride, mode="bilinear")
    inner = (..., slice(stride, -stride), slice(stride, -stride))
    torch.testing.assert_close(layer(scores)[inner], expected[inner])


def test_bilinear_kernel_by_hand():
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(bilinear_kernel(2), torch.outer(row, row))


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
def test_learnt_upsampling_starts_close_to_interpolation_and_learns(name):
    torch.manual_seed(0)
    fixed = models.create(name, 4, **SMALL).eval()
    learnt = models.create(name, 4, learnt_upsampling=True, **SMALL).eval()
    learnt.load_state_dict(fixed.state_dict(), strict=False)
    image = torch.rand(1, 3, 160, 160)
    inner = (..., slice(64, -64), slice(64, -64))
    torch.testing.assert_close(learnt(image)[inner], fixed(image)[inner], atol=1e-4, rtol=1e-4)
    learnt(image).square().mean().backward()
    assert learnt.upsample.weight.grad.abs().sum() > 0


def test_padding_to_32_does_not_move_the_image():
    """An image of 96 x 96 and the same with a strip cut off agree far from the cut."""
    model = models.create("fcn8s", 6, **SMALL).eval()
    image = torch.rand(1, 3, 256, 256)
    whole, cut = model(image), model(image[..., :250])
    torch.testing.assert_close(whole[..., :32], cut[..., :32], atol=1e-4, rtol=1e-4)


def test_stride_must_be_one_of_the_papers():
    with pytest.raises(ValueError, match="stride is 4; expected 32, 16 or 8"):
        FCN(stride=4)
