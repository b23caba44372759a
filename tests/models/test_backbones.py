"""VGG and ResNet, dilated and not; VGG that remembers its maxima."""

import pytest
import torch
import torchvision
from torch import nn

from seglab.models import backbones
from seglab.models.backbones import VGG, IndexedVGG, ResNet

NARROW = {"widths": (4, 8, 8, 16, 16), "convs": (1, 1, 2, 2, 2), "norm": True}


@pytest.mark.parametrize(
    ("name", "parameters"),
    {
        "resnet18": 11_176_512,
        "resnet34": 21_284_672,
        "resnet50": 23_508_032,
        "resnet101": 42_500_160,
    }.items(),
)
def test_resnets_have_the_published_parameter_count(name, parameters):
    with torch.device("meta"):
        network = ResNet(name)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_computes_what_torchvision_computes(name):
    torch.manual_seed(0)
    other = torchvision.models.get_model(name).eval()
    network = ResNet(name).eval()
    weights = {k: v for k, v in other.state_dict().items() if not k.startswith("fc.")}
    network.load_state_dict(weights)
    image = torch.rand(1, 3, 96, 112)
    stages = nn.Sequential(*list(other.children())[:-2])
    with torch.no_grad():
        torch.testing.assert_close(network(image)[-1], stages(image))


@pytest.mark.parametrize(("stride", "sides"), [(32, (24, 12, 6, 3)), (16, (24, 12, 6, 6)),
                                               (8, (24, 12, 12, 12))])  # fmt: skip
def test_output_stride_takes_late_strides_away(stride, sides):
    network = ResNet("resnet10", width=16, output_stride=stride).eval()
    maps = network(torch.rand(1, 3, 96, 96))
    assert tuple(m.shape[-1] for m in maps) == sides
    assert [m.shape[1] for m in maps] == network.channels == [16, 32, 64, 128]


def rates(network, stage):
    return [block.conv2.dilation[0] for block in getattr(network, f"layer{stage}")]


def test_rates_are_those_of_the_papers():
    psp = ResNet("resnet50", output_stride=8)
    assert rates(psp, 3) == [2] * 6
    assert rates(psp, 4) == [4] * 3
    v3 = ResNet("resnet50", output_stride=16, multi_grid=(1, 2, 4))
    assert rates(v3, 3) == [1] * 6
    assert rates(v3, 4) == [2, 4, 8]
    torchvisions = ResNet("resnet50", output_stride=8, delayed_rate=True)
    assert rates(torchvisions, 3) == [1, 2, 2, 2, 2, 2]
    assert rates(torchvisions, 4) == [2, 4, 4]


def test_delayed_rates_compute_the_strided_network_at_more_places():
    """Every second position of the dense map is the strided map."""
    torch.manual_seed(0)
    strided = ResNet("resnet50", width=16).double().eval()
    dense = ResNet("resnet50", width=16, output_stride=16, delayed_rate=True).double().eval()
    dense.load_state_dict(strided.state_dict())
    image = torch.rand(1, 3, 128, 192, dtype=torch.float64)
    with torch.no_grad():
        every_second = dense(image)[-1][..., ::2, ::2]
        torch.testing.assert_close(every_second, strided(image)[-1])


def test_dense_vgg_computes_the_strided_one_at_more_places():
    """pool4 without stride, conv5 at rate 2: what VGG computes is among what this computes."""
    torch.manual_seed(0)
    shape = {"widths": (4, 8, 8, 8, 8), "convs": (1, 1, 1, 1, 2)}
    strided, dense = VGG(**shape), VGG(**shape, strides=(2, 2, 2, 1, 1))
    dense.load_state_dict(strided.state_dict())
    features = torch.rand(1, 8, 24, 32)  # what enters pool4
    conv4, conv5 = strided.blocks[3][-1](features), strided.blocks[4][:-1]
    dense4, dense5 = dense.blocks[3][-1](features), dense.blocks[4][:-1]
    assert dense4.shape[-2:] == (23, 31)
    with torch.no_grad():
        torch.testing.assert_close(dense5(dense4)[..., ::2, ::2], conv5(conv4))


def test_indexed_vgg_computes_the_features_of_vgg():
    plain, indexed = VGG(**NARROW).eval(), IndexedVGG(**NARROW).eval()
    indexed.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 96, 64)
    assert torch.equal(indexed(images)[0], plain(images)[-1])


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (67, 90)])
def test_places_are_those_of_the_maxima(size):
    """What lies at the remembered places of a map is the pooled map."""
    encoder = IndexedVGG(**NARROW).eval()
    images = torch.rand(2, 3, *size)
    last, places = encoder(images)
    assert [tuple(pooled) for _, pooled in places[:2]] == [size, tuple(-(-n // 2) for n in size)]
    maps = images
    for block, (indices, _) in zip(encoder.blocks, places, strict=True):
        maps = block[:-1](maps)
        maps = maps.flatten(2).gather(2, indices.flatten(2)).view(indices.shape)
    assert torch.equal(maps, last)


def test_no_row_of_an_odd_map_is_lost():
    """Caffe rounds up: a maximum in the last row survives."""
    encoder = IndexedVGG(**NARROW).eval()
    pool = encoder.blocks[0][-1]
    maps = torch.zeros(1, 1, 5, 5)
    maps[..., 4, 4] = 1
    pooled, _ = pool(maps)
    assert torch.equal(pooled, nn.functional.pad(torch.ones(1, 1, 1, 1), (2, 0, 2, 0)))


def test_unknown_backbone_and_stride_are_named():
    with pytest.raises(ValueError, match="'resnet7'; there are resnet10, resnet18"):
        ResNet("resnet7")
    with pytest.raises(ValueError, match="output_stride is 4; expected 32, 16 or 8"):
        ResNet("resnet50", output_stride=4)


def test_imagenet_weights_fit_and_misfits_are_named(monkeypatch):
    resnet18 = torchvision.models.resnet18()
    monkeypatch.setattr(backbones, "imagenet", lambda name: resnet18)
    network = ResNet("resnet18", output_stride=8)
    backbones.load_imagenet_resnet(network)
    assert torch.equal(network.layer4[1].conv2.weight, resnet18.layer4[1].conv2.weight)
    with pytest.raises(ValueError, match="stem of 64 channels, this resnet18 one of 32"):
        backbones.load_imagenet_resnet(ResNet("resnet18", width=32))
    with pytest.raises(ValueError, match="no ImageNet weights for 'resnet10'"):
        backbones.load_imagenet_resnet(ResNet("resnet10"))
