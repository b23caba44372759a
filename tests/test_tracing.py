"""The graph behind a diagram is what the model really computes."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from seglab import models, tracing
from tests.networks import Atrous, Functional, Pyramid, Taps, Unet, Unpooling, block


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


@pytest.mark.parametrize("network", [Unpooling, Functional])
def test_pooling_indices_are_told_from_feature_maps(network):
    nodes = tracing.trace(network(), (3, 64, 64))
    dashed = {(e.source, node.key) for node in nodes for e in node.inputs if e.indices}
    assert {b for _, b in dashed} == {"up.2", "up.1", "up.0"}
    plain = {(e.source, node.key) for node in nodes for e in node.inputs if not e.indices}
    assert {b for _, b in plain & dashed} == {"up.0"}  # there the map itself comes along


def test_layers_that_only_pool_or_unpool_are_drawn_as_the_way_into_the_next_block():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.pool, self.second = block(3, 4), nn.MaxPool2d(2), block(4, 8)
            self.up, self.last = nn.Upsample(scale_factor=2), block(8, 4)

        def forward(self, images):
            return self.last(self.up(self.second(self.pool(self.first(images)))))

    keys = [node.key for node in tracing.trace(Pooled(), (3, 32, 32))]
    assert keys == ["image", "first", "second", "last"]
    chosen = tracing.trace(Pooled(), (3, 32, 32), ["pool", "last"])
    assert [node.key for node in chosen] == ["image", "pool", "last"]


def test_equal_blocks_in_a_row_are_drawn_as_one_between_two_taps():
    nodes = tracing.trace(Taps(), (3, 64, 64))
    rows = [(node.label, node.count) for node in nodes if node.count > 1]
    assert rows == [("layers.0–3", 4), ("layers.4–7", 4), ("layers.8–11", 4)]
    assert ("layers.3", "layers.7") in edges(nodes)
    assert ("layers.3", "reduce.0") in edges(nodes)


@pytest.mark.parametrize(
    ("network", "labels"),
    [
        (Atrous, ["3 × 3, rate 6", "3 × 3, rate 12", "3 × 3, rate 18", "3 × 3, rate 24"]),
        (Pyramid, ["pool 1 × 1", "pool 2 × 2", "pool 3 × 3", "pool 6 × 6"]),
    ],
)
def test_branches_are_called_by_what_differs(network, labels):
    nodes = tracing.trace(network(), (3, 64, 64))
    branches = [node for node in nodes if node.branch]
    assert [node.label for node in branches] == labels
    assert {node.branch for node in branches} == {"encoder"}


def test_stages_of_a_plain_stack_are_called_by_their_layers():
    with torch.device("meta"):
        nodes = tracing.trace(torchvision.models.vgg16())
    assert [node.label for node in nodes] == [
        "image",
        "2 convs",
        "pool, 2 convs",
        *["pool, 3 convs"] * 3,
        "pool",
        *["linear"] * 3,
    ]


def test_a_block_that_joins_two_maps_is_opened():
    class Join(nn.Module):
        def __init__(self):
            super().__init__()
            self.refine = block(12, 4)

        def forward(self, low, high):
            return self.refine(torch.cat([low, F.interpolate(high, scale_factor=2)], 1))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.join = block(3, 4), block(4, 8), Join()

        def forward(self, images):
            first = self.first(images)
            return self.join(first, high=self.second(F.max_pool2d(first, 2)))

    nodes = tracing.trace(Model(), (3, 32, 32))
    assert [node.key for node in nodes][-2:] == ["concat 1", "join.refine"]


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
