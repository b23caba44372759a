"""The graph behind a diagram is what the model really computes."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from seglab import models, tracing


def block(channels_in, channels_out):
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(inplace=True))


class Unet(nn.Module):
    """Two levels, pooled by a function, upsampled by a layer, concatenated by a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.bottom = block(3, 4), block(4, 8), block(8, 16)
        self.up2, self.up1 = nn.ConvTranspose2d(16, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)
        self.left2, self.left1 = block(16, 8), block(8, 4)
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, images):
        first = self.first(images)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        features = self.left2(torch.cat([second, self.up2(bottom)], 1))
        return self.head(self.left1(torch.cat([first, self.up1(features)], 1)))


class Unpooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Pool(), Unpool()

    def forward(self, images):
        return self.decoder(*self.encoder(images))


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.pool = block(3, 4), nn.MaxPool2d(2, return_indices=True)

    def forward(self, images):
        return self.pool(self.features(images))


class Unpool(nn.Module):
    def __init__(self):
        super().__init__()
        self.unpool, self.features = nn.MaxUnpool2d(2), block(4, 2)

    def forward(self, features, indices):
        return self.features(self.unpool(features, indices))


def edges(nodes):
    return {(edge.source, node.key) for node in nodes for edge in node.inputs}


def segmentation(name):
    return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None)


NETWORKS = {
    "vgg16": torchvision.models.vgg16,
    "resnet50": torchvision.models.resnet50,
    "fcn_resnet50": lambda: segmentation("fcn_resnet50"),
    "deeplabv3_resnet50": lambda: segmentation("deeplabv3_resnet50"),
    "fcn8s": lambda: models.create("fcn8s", preset="small"),
    "unet": Unet,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_of_a_forward_pass(name):
    with torch.device("meta"):
        model = NETWORKS[name]().eval()
    model.to_empty(device="cpu")  # any weights will do, and none take no time
    seen = {}

    def noting(key):
        def note(module, args, result):
            seen.setdefault(key, result)

        return note

    hooks = [module.register_forward_hook(noting(key)) for key, module in model.named_modules()]
    with torch.no_grad():
        model(torch.rand(1, 3, 96, 64))
    for hook in hooks:
        hook.remove()
    nodes = tracing.trace(model, (3, 96, 64))
    blocks = [node for node in nodes if node.kind == "block"]
    assert len(blocks) > 5
    for node in blocks:
        assert node.shape == tuple(seen[node.key].shape[1:])


def test_a_model_on_the_meta_device_and_one_in_training_are_left_as_they_were():
    with torch.device("meta"):
        paper = models.create("fcn32s")
    assert [node.shape for node in tracing.trace(paper, (3, 512, 512))][-1] == (21, 512, 512)
    small = models.create("fcn32s", preset="small").train()
    before = {key: tensor.clone() for key, tensor in small.state_dict().items()}
    tracing.trace(small)
    assert small.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in small.state_dict().items())
    assert not any(module._forward_hooks for module in small.modules())


def test_skips_and_concatenations_of_a_unet_are_found():
    nodes = tracing.trace(Unet(), (3, 64, 64))
    assert edges(nodes) == {
        ("image", "first"),
        ("first", "second"),
        ("second", "bottom"),
        ("second", "concat 1"),
        ("bottom", "concat 1"),
        ("concat 1", "left2"),
        ("first", "concat 2"),
        ("left2", "concat 2"),
        ("concat 2", "left1"),
        ("left1", "head"),
    }
    joined = next(node for node in nodes if node.key == "concat 1")
    assert joined.shape == (16, 32, 32)
    assert [edge.via for edge in joined.inputs] == ["", "up2"]


def test_the_sums_of_fcn8s_are_found():
    nodes = tracing.trace(models.create("fcn8s", preset="small"))
    sums = [node for node in nodes if node.kind == "sum"]
    assert [[edge.source for edge in node.inputs] for node in sums] == [
        ["score", "score_pool4"],
        ["sum 1", "score_pool3"],
    ]
    assert [edge.via for node in sums for edge in node.inputs if edge.via] == [
        "upsample_fc7",
        "upsample_pool4",
    ]


def test_parallel_branches_are_drawn_one_by_one():
    with torch.device("meta"):
        model = segmentation("deeplabv3_resnet50")
    nodes = tracing.trace(model)
    (joined,) = (node for node in nodes if node.kind == "concat")
    assert [edge.source for edge in joined.inputs] == [f"classifier.0.convs.{k}" for k in range(5)]
    assert nodes[-1].kind == "logits"
    assert nodes[-1].shape == (21, 224, 224)


def test_pooling_indices_are_told_from_feature_maps():
    nodes = tracing.trace(Unpooling(), (3, 64, 64), blocks=["encoder", "decoder"])
    kinds = [(edge.source, edge.indices) for edge in nodes[-1].inputs]
    assert kinds == [("encoder", False), ("encoder", True)]


def test_a_block_that_runs_twice_is_two_feature_maps():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, images):
            return self.shared(self.shared(images))

    nodes = tracing.trace(Twice(), (3, 8, 8), blocks={"shared": "convolution"})
    assert [node.key for node in nodes] == ["image", "shared", "shared#2"]
    assert [node.label for node in nodes] == ["image", "convolution", "convolution"]


def test_a_module_that_does_not_exist_or_does_not_count_is_named():
    with pytest.raises(ValueError, match=r"'middle'.*bottom"):
        tracing.trace(Unet(), (3, 64, 64), blocks=["middle"])
    model = Unet()
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="spare"):
        tracing.trace(model, (3, 64, 64), blocks=["first", "spare"])
