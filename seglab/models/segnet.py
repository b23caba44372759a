"""SegNet: VGG-16 without its fully connected layers, and a decoder that unpools.

Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
for Image Segmentation", PAMI 2017, figure 2; layer by layer the authors' network definition.
Odd maps are pooled rounding up, as Caffe does, and unpooled to the size they had.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from seglab.models.backbones import IndexedVGG, copy_convolutions, imagenet
from seglab.models.blocks import (
    ImageNetNormalize,
    check_images,
    conv_relu,
    initialize,
    unpool,
)


class Decoder(nn.Module):
    """Unpool to the double size, then filter the sparse map until it is dense.

    Parameters
    ----------
    channels, out_channels : int
        Of the map that comes and of the map that goes; the last convolution changes the number.
    convs : int
        3 x 3 convolutions, each with batch normalization and ReLU; with 0 the map stays sparse.

    Shapes: (N, C, h, w) -> (N, D, H, W), where (H, W) was pooled to (h, w).
    """

    def __init__(self, channels: int, out_channels: int, convs: int):
        super().__init__()
        widths = [channels] * convs + [out_channels]
        layers = [layer for pair in pairwise(widths) for layer in conv_relu(*pair, norm=True)]
        self.convs = nn.Sequential(*layers)

    def forward(self, maxima: Tensor, indices: Tensor, size: torch.Size) -> Tensor:
        """Put `maxima` where `indices` say, in a map of `size`, and fill the gaps."""
        return self.convs(unpool(maxima, indices, size))


class SegNet(nn.Module):
    """An encoder, and a decoder that mirrors it and is told where the maxima were.

    Every convolution but the last has a bias and batch normalization.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    widths, convs : sequence of int
        Channels and number of convolutions of VGG's five blocks, and of their mirror images.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {"widths": (16, 32, 64, 96, 96), "convs": (2, 1, 1, 1, 1)},
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        normalize: bool = False,
    ):
        super().__init__()
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.encoder = IndexedVGG(widths, convs, norm=True)
        narrower = (widths[0], *widths[:-1])
        counts = (convs[0] - 1, *convs[1:])  # the last convolution is the score
        self.decoder = nn.ModuleList(
            Decoder(*block) for block in reversed([*zip(widths, narrower, counts, strict=True)])
        )
        self.score = nn.Conv2d(widths[0], num_classes, 3, padding=1)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        check_images(images)
        maps, places = self.encoder(self.normalize(images))  # (N, 512, H/32, W/32)
        for block, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            maps = block(maps, indices, size)
        return self.score(maps)

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of VGG-16 (downloaded on first use).

        As in the paper: the convolutions of the encoder; batch normalization starts anew.
        """
        copy_convolutions(imagenet("vgg16").features, self.encoder)
