"""PSPNet."""

import pytest
import torch

from seglab import models
from seglab.models.pspnet import PSPNet, PyramidPooling


def test_parameters_with_resnet50_are_the_published_ones():
    with torch.device("meta"):
        model = models.create("pspnet", backbone="resnet50")
    assert sum(p.numel() for p in model.parameters()) == 46_592_597


def test_pyramid_keeps_the_map_and_appends_averages_over_cells():
    """With the identity in place of the 1 x 1 convolutions, one grid at a time."""
    features = torch.rand(2, 8, 12, 18)
    for side in (1, 2, 3, 6):
        pyramid = PyramidPooling(8, (side,)).eval()
        torch.nn.init.dirac_(pyramid.grids[0][1].weight)
        pyramid.grids[0][2].eps = 0.0
        appended = pyramid(features)
        assert torch.equal(appended[:, :8], features)
        height, width = 12 // side, 18 // side
        cells = [
            features[..., i * height : (i + 1) * height, j * width : (j + 1) * width].mean((2, 3))
            for i in range(side)
            for j in range(side)
        ]
        grid = torch.stack(cells, -1).view(2, 8, side, side)
        expected = torch.nn.functional.interpolate(grid, (12, 18), mode="bilinear")
        torch.testing.assert_close(appended[:, 8:], expected)


def test_every_output_depends_on_every_pixel_and_without_the_pyramid_it_does_not():
    seen = {}
    for bins in ((1,), ()):
        torch.manual_seed(0)
        model = models.create("pspnet", 3, preset="small", bins=bins).eval()
        image = torch.rand(1, 3, 256, 256, requires_grad=True)
        model.score_map(image)[0, :, 0, 0].sum().backward()
        seen[bins] = image.grad.abs().sum(1)[0]
    assert seen[(1,)][-32:, -32:].count_nonzero() > 900
    assert seen[()][-32:, -32:].count_nonzero() == 0


def test_auxiliary_scores_come_in_train_mode_only():
    model = models.create("pspnet", 5, preset="small", aux=True)
    images = torch.rand(2, 3, 65, 80)
    logits, auxiliary = model(images)
    assert logits.shape == auxiliary.shape == (2, 5, 65, 80)
    assert model.eval()(images).shape == (2, 5, 65, 80)


def test_single_image_in_train_mode_is_refused_with_a_reason():
    model = models.create("pspnet", 5, preset="small")
    with pytest.raises(ValueError, match="batch of 1 image in train mode"):
        model(torch.rand(1, 3, 64, 64))


def test_grids_must_share_the_channels():
    with pytest.raises(ValueError, match="256 channels cannot be shared by 3 grids"):
        PSPNet(5, backbone="resnet10", width=32, bins=(1, 2, 3))
