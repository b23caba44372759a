"""DeconvNet."""

import pytest
import torch
import torchvision
from torch import nn

from seglab import models
from seglab.models.deconvnet import DeconvBlock, DeconvNet

SMALL = {"preset": "small"}


def shapes_of(model, size):
    """(C, H, W) behind every transposed convolution and fully connected layer, in order."""
    found = []
    for module in model.modules():
        if isinstance(module, nn.ConvTranspose2d) or module in (model.fc6[0], model.fc7[0]):
            module.register_forward_hook(lambda m, x, y: found.append(tuple(y.shape[1:])))
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, *size, device="meta"))
    return found


def test_paper_preset_has_the_layers_of_the_papers_table():
    with torch.device("meta"):
        model = models.create("deconvnet")
    expected = [(4096, 1, 1), (4096, 1, 1), (512, 7, 7)]
    expected += [(512, 14, 14)] * 3
    expected += [(512, 28, 28)] * 2 + [(256, 28, 28)]
    expected += [(256, 56, 56)] * 2 + [(128, 56, 56)]
    expected += [(128, 112, 112), (64, 112, 112)]
    expected += [(64, 224, 224)] * 2
    assert shapes_of(model, (224, 224)) == expected


def test_parameters_by_kind_of_layer():
    with torch.device("meta"):
        model = models.create("deconvnet")
    counts = {kind: 0 for kind in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)}
    for module in model.modules():
        if type(module) in counts:
            counts[type(module)] += sum(p.numel() for p in module.parameters())
    assert list(counts.values()) == [134_261_909, 117_510_336, 33_408]


@pytest.mark.parametrize(("size", "middle"), [((256, 288), (2, 3)), ((225, 224), (2, 1))])
def test_fc6_slides_over_larger_images(size, middle):
    with torch.device("meta"):
        model = models.create("deconvnet")
    fc6, fc7, deconv_fc6, *_ = shapes_of(model, size)
    assert fc6 == fc7 == (4096, *middle)
    assert deconv_fc6 == (512, *(n + 6 for n in middle))


def test_map_of_a_small_image_stands_in_a_frame_of_zeros():
    """fc6 sees the map in the middle of zeros, and what its deconvolution writes there counts."""
    model = models.create("deconvnet", 5, fc6_kernel=4, **SMALL).eval()
    small = torch.rand(1, 128, 2, 3)
    framed = torch.zeros(1, 128, 4, 4)
    framed[..., 1:3, 0:3] = small
    expected = model.deconv_fc6(model.fc7(model.fc6(framed)))[..., 1:3, 0:3]
    torch.testing.assert_close(model.middle(small), expected)


def test_a_single_image_cannot_be_normalized_in_training_unless_fc6_slides():
    model = models.create("deconvnet", 5, **SMALL)
    model(torch.rand(1, 3, 64, 96))
    with pytest.raises(ValueError, match="batch of 1 image in train mode"):
        model(torch.rand(1, 3, 64, 64))


def test_middle_lets_every_place_know_of_every_other():
    model = models.create("deconvnet", 5, fc6_kernel=4, **SMALL).eval()
    maps = torch.rand(1, 128, 4, 4, requires_grad=True)
    model.middle(maps)[..., 0, 0].square().sum().backward()
    assert (maps.grad.abs().sum(1) > 0).all()


def test_decoder_block_mirrors_its_pooling():
    image = torch.rand(1, 6, 9, 8)
    maxima, indices = nn.functional.max_pool2d(image, 2, ceil_mode=True, return_indices=True)
    block = DeconvBlock(6, 3, deconvs=2)
    assert block(maxima, indices, image.shape[-2:]).shape == (1, 3, 9, 8)
    assert [m.out_channels for m in block.deconvs if isinstance(m, nn.ConvTranspose2d)] == [6, 3]


def test_where_a_maximum_was_decides_what_is_drawn():
    """The same pooled values in other places give other logits: places travel to the decoder."""
    torch.manual_seed(0)
    model = models.create("deconvnet", 5, **SMALL).eval()
    _, places = model.encoder(torch.rand(1, 3, 128, 128))
    size = places[0][1]
    block = model.decoder[-1]
    maxima = torch.rand(1, 16, 64, 64)
    moved = places[0][0].flip(1)  # another channel's places
    here, there = (block(maxima, indices, size) for indices in (places[0][0], moved))
    assert (here - there).abs().max() > 0.1


def test_encoder_takes_the_weights_of_vgg16():
    """Fresh batch norm in eval mode divides by sqrt(1 + 1e-5), nothing else: fc7 is VGG's."""
    torch.manual_seed(0)
    vgg16 = torchvision.models.vgg16(init_weights=False).eval()
    model = models.create("deconvnet").eval()
    model.load_classifier(vgg16)
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        fc7 = model.fc7(model.fc6(model.encoder(image)[0])).flatten()
        features = vgg16.avgpool(vgg16.features(image)).flatten(1)
        expected = vgg16.classifier[:5](features).flatten()
    torch.testing.assert_close(fc7, expected, atol=1e-4, rtol=1e-3)


def test_small_preset_refuses_vgg_weights():
    with torch.device("meta"):
        vgg16 = torchvision.models.vgg16()
    with pytest.raises(ValueError, match="preset 'paper'"):
        models.create("deconvnet", **SMALL).load_classifier(vgg16)


def test_model_can_be_exported():
    model = models.create("deconvnet", 5, **SMALL).eval()
    image = torch.rand(1, 3, 96, 128)
    exported = torch.export.export(model, (image,)).module()
    torch.testing.assert_close(exported(image), model(image))


def test_deconvolutions_start_with_signals_of_constant_size():
    """He's normal distribution, counted as a transposed convolution's outputs are made."""
    torch.manual_seed(0)
    model = DeconvNet(5, **DeconvNet.presets["small"])
    deconv = model.decoder[0].deconvs[0]
    assert deconv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
