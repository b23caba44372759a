"""DeconvNet: VGG-16, its two fully connected layers, and the same way back.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015,
figure 2; layer by layer the authors' network definition. The paper knows images of 224 x 224
only. On larger ones fc6 slides, as in FCN; the last map of smaller ones is framed with zeros
until fc6 fits, and the frame is cut off again behind fc6's deconvolution.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.backbones import IndexedVGG, copy_classifier, imagenet
from seglab.models.blocks import (
    ImageNetNormalize,
    check_batch_norm,
    check_images,
    conv_relu,
    initialize,
    unpool,
)


def deconv_relu(in_channels: int, out_channels: int, kernel: int = 3, padding: int = 1) -> list:
    """Return transposed convolution, batch norm, ReLU, as a list of layers.

    With kernel 3 and padding 1 a map keeps its size.
    """
    deconv = nn.ConvTranspose2d(in_channels, out_channels, kernel, padding=padding)
    # An output gets in_channels x kernel^2 parts; this layout calls that number fan_out.
    nn.init.kaiming_normal_(deconv.weight, mode="fan_out", nonlinearity="relu")
    assert deconv.bias is not None
    nn.init.zeros_(deconv.bias)
    return [deconv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


class DeconvBlock(nn.Module):
    """Unpool to the double size, then deconvolve until the sparse map is dense.

    Shapes: (N, C, h, w) -> (N, D, H, W), where (H, W) was pooled to (h, w).
    """

    def __init__(self, channels: int, out_channels: int, deconvs: int):
        super().__init__()
        widths = [channels] * deconvs + [out_channels]  # the last one changes the width
        layers = [layer for pair in pairwise(widths) for layer in deconv_relu(*pair)]
        self.deconvs = nn.Sequential(*layers)

    def forward(self, maxima: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
        """Put `maxima` where `indices` say, in a map of `size`, and fill the gaps."""
        return self.deconvs(unpool(maxima, indices, size))


class DeconvNet(nn.Module):
    """An encoder, a fully connected middle, and a decoder that mirrors the encoder.

    Every layer but the last has a bias and batch normalization.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    widths, convs : sequence of int
        Channels and number of convolutions of VGG's five blocks, and of their mirror images.
    hidden : int
        Channels of fc6 and fc7.
    fc6_kernel : int
        Side of the filters of fc6 and of its deconvolution, neither padded: of an image of
        32 x fc6_kernel pixels they see all and fill all.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {
            "widths": (16, 32, 64, 128, 128),
            "convs": (1, 1, 1, 1, 1),
            "hidden": 256,
            "fc6_kernel": 2,
        },
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        hidden: int = 4096,
        fc6_kernel: int = 7,
        normalize: bool = False,
    ):
        super().__init__()
        self.fc6_kernel = fc6_kernel
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.encoder = IndexedVGG(widths, convs, norm=True)
        self.fc6 = nn.Sequential(*conv_relu(widths[-1], hidden, fc6_kernel, padding=0, norm=True))
        self.fc7 = nn.Sequential(*conv_relu(hidden, hidden, 1, norm=True))
        self.deconv_fc6 = nn.Sequential(*deconv_relu(hidden, widths[-1], fc6_kernel, padding=0))
        narrower = (widths[0], *widths[:-1])
        self.decoder = nn.ModuleList(
            DeconvBlock(*block) for block in reversed([*zip(widths, narrower, convs, strict=True)])
        )
        self.score = nn.Conv2d(widths[0], num_classes, 1)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        check_images(images)
        maps, places = self.encoder(self.normalize(images))  # (N, 512, H/32, W/32)
        maps = self.middle(maps)
        for block, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            maps = block(maps, indices, size)
        return self.score(maps)

    def middle(self, maps: Tensor) -> Tensor:
        """Say in one vector what a window of fc6's size contains, and spread it over the window.

        Shapes: (N, C, h, w) -> (N, C, h, w).
        """
        height, width = maps.shape[-2:]
        below, right = (max(0, self.fc6_kernel - side) for side in (height, width))
        top, left = below // 2, right // 2  # a small map stands in the middle of the frame
        maps = F.pad(maps, (left, right - left, top, below - top))
        if maps.shape[-2:] == (self.fc6_kernel, self.fc6_kernel):
            check_batch_norm(self, maps)  # fc6 says one vector of each image
        maps = self.deconv_fc6(self.fc7(self.fc6(maps)))
        return maps[..., top : top + height, left : left + width]

    def load_classifier(self, vgg16: torchvision.models.VGG) -> None:
        """Take the weights of torchvision's ``vgg16`` for encoder, fc6 and fc7.

        Raises
        ------
        TypeError, ValueError
            If the network is no VGG, or its layers have other sizes than those here.
        """
        copy_classifier(vgg16, self.encoder, self.fc6[0], self.fc7[0])

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of VGG-16 (downloaded on first use)."""
        self.load_classifier(imagenet("vgg16"))
