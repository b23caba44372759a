"""SegNet."""

import pytest
import torch
import torchvision
from torch import nn

from seglab import inference, models, training
from seglab.models.segnet import Decoder, SegNet

SMALL = {"preset": "small"}


def test_paper_preset_for_the_papers_eleven_classes():
    with torch.device("meta"):
        model = models.create("segnet", 11)
    assert sum(p.numel() for p in model.parameters()) == 29_449_355


def test_paper_preset_has_thirteen_layers_down_and_thirteen_up():
    """Channels and sides of the authors' network definition, on their images of 360 x 480."""
    with torch.device("meta"):
        model = models.create("segnet", 11).eval()
    found = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: found.append(tuple(y.shape[1:])))
    model(torch.empty(1, 3, 360, 480, device="meta"))
    sides = [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
    down = [(64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3]
    up = [(512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 11)]
    expected = [
        (width, *side) for widths, side in zip(down, sides, strict=True) for width in widths
    ]
    expected += [
        (width, *side) for widths, side in zip(up, sides[::-1], strict=True) for width in widths
    ]
    assert found == expected


def test_every_convolution_but_the_last_has_bias_and_batch_norm():
    with torch.device("meta"):
        model = models.create("segnet")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [n.num_features for n in norms] == [c.out_channels for c in convs[:-1]]
    assert all(conv.bias is not None for conv in convs)


def test_decoder_leaves_no_gaps():
    """Three neighbors in a row always hold a whole 2 x 2 window, so each filter sees a maximum."""
    maxima = 1 + torch.rand(1, 4, 5, 6)
    _, indices = nn.functional.max_pool2d(torch.rand(1, 4, 10, 12), 2, return_indices=True)
    block = Decoder(4, 4, convs=1)
    nn.init.constant_(block.convs[0].weight, 1.0)
    sparse = Decoder(4, 4, convs=0)(maxima, indices, (10, 12))
    assert (sparse == 0).float().mean() == 0.75
    assert (block.convs[0](sparse) > 1).all()


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (127, 66)])
def test_where_a_maximum_was_decides_what_is_drawn(size):
    """Mirroring the places of the first pooling moves what the decoder draws, at any size."""
    torch.manual_seed(0)
    model = models.create("segnet", 5, **SMALL).eval()
    image = torch.rand(1, 3, *size)
    _, places = model.encoder(image)
    indices, whole = places[0]
    assert whole == image.shape[-2:]
    block = model.decoder[-1]
    maxima = torch.rand(1, 16, *indices.shape[-2:])
    here, there = block(maxima, indices, whole), block(maxima, indices.flip(1), whole)
    assert (here - there).abs().max() > 0.1
    assert model(image).shape == (1, 5, *size)


def test_encoder_takes_the_weights_of_vgg16(monkeypatch):
    """Fresh batch norm in eval mode divides by sqrt(1 + 1e-5), nothing else."""
    torch.manual_seed(0)
    vgg16 = torchvision.models.vgg16(init_weights=False).eval()
    monkeypatch.setattr("seglab.models.segnet.imagenet", lambda name: vgg16)
    model = models.create("segnet", pretrained=True).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        normalized = model.normalize(image)
        maps, _ = model.encoder(normalized)
        expected = vgg16.features(normalized)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-3)


def test_loss_falls_and_predictions_are_repeatable():
    torch.manual_seed(0)
    model = SegNet(2, widths=(16,) * 5, convs=(1,) * 5)
    mask = torch.zeros(64, 64, dtype=torch.int64)
    mask[16:48, 24:40] = 1
    image = 0.5 * torch.rand(3, 64, 64) + 0.5 * mask
    pairs = [(image, mask)] * 4
    history = training.fit(
        model, pairs, steps=30, batch_size=4, lr=1e-2, device="cpu", progress=False
    )
    assert history.losses[-1] < 0.5 * history.losses[0]
    prediction = inference.predict(model, image)
    assert torch.equal(prediction, inference.predict(model, image))
    assert (prediction == mask).float().mean() > 0.9


def test_model_can_be_exported():
    model = models.create("segnet", 5, **SMALL).eval()
    image = torch.rand(1, 3, 65, 96)
    exported = torch.export.export(model, (image,)).module()
    torch.testing.assert_close(exported(image), model(image))
