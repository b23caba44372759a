"""DeepLab v1, v2, v3 and v3+."""

import pytest
import torch
import torchvision
from torch import nn

from seglab import models
from seglab.models.deeplab_v2 import DeepLabV2, SummedASPP


def count(name, **options):
    with torch.device("meta"):
        model = models.create(name, **options)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("kernel", "rate", "hidden", "parameters"),
    [
        (7, 4, 4096, 134_346_581),
        (4, 4, 4096, 65_140_565),
        (4, 8, 4096, 65_140_565),
        (3, 12, 1024, 20_505_429),
    ],
)
def test_v1_variants_of_the_field_of_view_table(kernel, rate, hidden, parameters):
    options = {"fc6_kernel": kernel, "fc6_rate": rate, "hidden": hidden}
    assert count("deeplabv1", **options) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"), [("deeplabv3", 39_048_533), ("deeplabv3plus", 40_352_181)]
)
def test_parameters_with_resnet50_are_the_published_ones(name, parameters):
    assert count(name, backbone="resnet50") == parameters


@pytest.mark.parametrize(
    ("name", "stride"),
    [("deeplabv1", 8), ("deeplabv2", 8), ("deeplabv3", 16), ("deeplabv3plus", 4)],
)
def test_score_map_has_the_stride_of_the_paper(name, stride):
    model = models.create(name, 5, preset="small").eval()
    assert model.score_map(torch.rand(1, 3, 96, 128)).shape == (1, 5, 96 // stride, 128 // stride)


@pytest.mark.parametrize("kernel", [3, 4, 7])
@pytest.mark.parametrize("rate", [4, 12])
def test_v1_keeps_the_size_of_the_map_for_every_field_of_view(kernel, rate):
    model = models.create("deeplabv1", 5, preset="small", fc6_kernel=kernel, fc6_rate=rate).eval()
    assert model.score_map(torch.rand(1, 3, 64, 96)).shape == (1, 5, 8, 12)


def test_v1_with_fc6_at_rate_4_computes_fcn32s_at_more_places():
    """Atrous convolution is dense evaluation: every fourth score, away from the border, is VGG's.

    The pools are VGG's own here, 2 x 2 with stride 2; those without stride must not be padded.
    """
    torch.manual_seed(0)
    shape = {"widths": (4, 4, 8, 8, 8), "convs": (1, 1, 1, 1, 1), "hidden": 8}
    fcn = models.create("fcn32s", 3, fc6_kernel=3, **shape).double().eval()
    deeplab = models.create("deeplabv1", 3, fc6_kernel=3, fc6_rate=4, **shape).double().eval()
    weights = {k: v for k, v in fcn.state_dict().items() if not k.startswith("upsample")}
    deeplab.load_state_dict(weights)
    for block, stride in zip(deeplab.encoder.blocks, (2, 2, 2, 1, 1), strict=True):
        block[-1] = nn.MaxPool2d(2, stride)
    # without stride, the second of two neighbors in a window lies 2 positions further in block 5
    deeplab.encoder.blocks[4][-1].dilation = 2
    image = torch.rand(1, 3, 384, 384, dtype=torch.float64)
    with torch.no_grad():
        coarse, dense = fcn.score_map(image), deeplab.score_map(image)
    torch.testing.assert_close(dense[..., 12:-12:4, 12:-12:4], coarse[..., 3:9, 3:9])


def test_v2_sums_what_each_rate_says():
    torch.manual_seed(0)
    pyramid = SummedASPP(8, 3, (1, 2, 5))
    features = torch.rand(2, 8, 11, 13)
    by_hand = sum(
        nn.functional.conv2d(features, b.weight, b.bias, padding=rate, dilation=rate)
        for b, rate in zip(pyramid.branches, (1, 2, 5), strict=True)
    )
    torch.testing.assert_close(pyramid(features), by_hand)


def test_v2_needs_a_rate():
    with pytest.raises(ValueError, match="rates is empty"):
        DeepLabV2(5, backbone="resnet10", rates=())


def test_v2_on_vgg16_is_the_papers_aspp_l():
    assert count("deeplabv2", backbone="vgg16") == 37_877_652
    model = models.create("deeplabv2", 3, backbone="vgg16").eval()
    with torch.no_grad():
        assert model.score_map(torch.rand(1, 3, 64, 97)).shape == (1, 3, 8, 13)
        assert model(torch.rand(1, 3, 64, 97)).shape == (1, 3, 64, 97)


def test_v2_on_vgg16_takes_its_imagenet_convolutions(monkeypatch):
    vgg16 = torchvision.models.vgg16()
    monkeypatch.setattr("seglab.models.deeplab_v2.imagenet", lambda name: vgg16)
    model = models.create("deeplabv2", backbone="vgg16", pretrained=True)
    assert torch.equal(model.backbone.blocks[0][0].weight, vgg16.features[0].weight)


def test_v3_gives_torchvisions_logits_with_its_weights():
    torch.manual_seed(0)
    build = torchvision.models.segmentation.deeplabv3_resnet50
    other = build(weights=None, weights_backbone=None, num_classes=21).eval()
    model = models.create("deeplabv3", backbone="resnet50", torchvision_compatible=True).eval()
    model.load_state_dict(other.state_dict())
    image = torch.rand(1, 3, 97, 129)
    with torch.no_grad():
        expected = other(image)["out"]
        torch.testing.assert_close(model(image), expected, atol=1e-4, rtol=0)
    other.load_state_dict(model.state_dict())  # and back


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
def test_output_stride_16_and_8_have_the_same_weights(name):
    coarse = models.create(name, 5, preset="small").eval()
    fine = models.create(name, 5, preset="small", output_stride=8).eval()
    fine.load_state_dict(coarse.state_dict())
    dilations = [
        [m.dilation[0] for m in model.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
        for model in (coarse, fine)
    ]
    assert dilations[1][-3:] == [2 * rate for rate in dilations[0][-3:]]


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
def test_impossible_output_stride_is_named(name):
    with pytest.raises(ValueError, match="output_stride is 32; expected 16 or 8"):
        models.create(name, output_stride=32)


@pytest.mark.parametrize("name", ["pspnet", "deeplabv2", "deeplabv3", "deeplabv3plus"])
def test_pretrained_backbones_are_loaded_and_images_normalized(monkeypatch, name):
    resnet50 = torchvision.models.resnet50()
    monkeypatch.setattr("seglab.models.backbones.imagenet", lambda given: resnet50)
    model = models.create(name, backbone="resnet50", pretrained=True)
    assert torch.equal(model.backbone.conv1.weight, resnet50.conv1.weight)
    gray = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert model.normalize(gray).abs().max() < 1e-6
