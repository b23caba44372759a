"""Classification networks that the segmentation networks stand on."""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from seglab.models.blocks import conv_relu


class VGG(nn.Module):
    """The convolutional part of VGG: five blocks, each ending with 2 x 2 max pooling.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015, table 1, column D (VGG-16) by default.

    Parameters
    ----------
    widths : sequence of int
        Channels of each block.
    convs : sequence of int
        3 x 3 convolutions in each block.
    norm : bool
        Put batch normalization behind each convolution; the paper has none.

    Shapes: (N, 3, H, W) -> five maps, the i-th (N, widths[i], H / 2^(i+1), W / 2^(i+1)).
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        *,
        norm: bool = False,
    ):
        super().__init__()
        self.blocks = nn.ModuleList()
        channels = 3
        for width, count in zip(widths, convs, strict=True):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += conv_relu(channels, width, norm=norm)
                channels = width
            self.blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the output of each pooling layer, finest first."""
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return maps


def copy_convolutions(source: nn.Module, target: nn.Module) -> None:
    """Copy weights and biases of all convolutions, in order, from one network to another."""
    givers = [m for m in source.modules() if isinstance(m, nn.Conv2d)]
    takers = [m for m in target.modules() if isinstance(m, nn.Conv2d)]
    if [m.weight.shape for m in givers] != [m.weight.shape for m in takers]:
        raise ValueError(
            f"the {len(givers)} convolutions of the given network do not have the shapes of the "
            f"{len(takers)} expected ones; the weights of torchvision's vgg16 fit preset 'paper'"
        )
    for giver, taker in zip(givers, takers, strict=True):
        taker.load_state_dict(giver.state_dict())


def imagenet(name: str) -> Any:
    """Return a torchvision classifier with its ImageNet weights.

    The weights come from torch's cache, or are downloaded into it.

    Raises
    ------
    RuntimeError
        Without a cached file and without a network; it says which file belongs where.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT
    if name == "vgg16":
        weights = weights.__class__.IMAGENET1K_V1
    try:
        return torchvision.models.get_model(name, weights=weights)
    except OSError as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise RuntimeError(
            f"could not download the ImageNet weights of {name} ({error}). On a machine with a "
            f"network, fetch {weights.url} and put the file into {folder}, "
            "or use pretrained=False."
        ) from error
