"""DeepLab v3+: DeepLab v3 as encoder, and a small decoder that sharpens its boundaries.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, figure 2. The decoder's convolutions are plain, not depthwise
separable, which is the paper's table 1 setting for ResNet-101.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from seglab.models.backbones import ResNet, load_imagenet_resnet
from seglab.models.blocks import (
    ImageNetNormalize,
    check_batch_norm,
    check_images,
    conv_bn_relu,
    initialize,
    resize,
)
from seglab.models.deeplab_v3 import ASPP, check_output_stride


class Decoder(nn.Module):
    """Join the pyramid's answer with fine low-level features, then refine it twice.

    Parameters
    ----------
    low_channels : int
        Channels of the backbone's map of stride 4.
    low_width : int
        Channels that these are reduced to, so that they do not outweigh the pyramid's; 48 in
        the paper.
    width : int
        Channels of the pyramid's answer and of the refined map.

    Shapes: (N, low_channels, H/4, W/4), (N, width, H/16, W/16) -> (N, width, H/4, W/4).
    """

    def __init__(self, low_channels: int, low_width: int = 48, width: int = 256):
        super().__init__()
        self.reduce = nn.Sequential(*conv_bn_relu(low_channels, low_width, 1))
        self.refine = nn.Sequential(
            *conv_bn_relu(low_width + width, width), *conv_bn_relu(width, width)
        )

    def forward(self, low: Tensor, context: Tensor) -> Tensor:
        """Enlarge the context to the size of the low-level map, concatenate, refine."""
        low = self.reduce(low)  # (N, 48, H/4, W/4)
        context = resize(context, low.shape[-2:])  # (N, 256, H/4, W/4)
        return self.refine(torch.cat([low, context], dim=1))


class DeepLabV3Plus(nn.Module):
    """DeepLab v3's encoder, a decoder at stride 4, a score for every class.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    backbone : str
        A name of ``backbones.RESNETS``.
    width : int
        Channels of the backbone's stem.
    output_stride : {16, 8}
        Stride of the encoder's last map. The weights fit both.
    rates : sequence of int
        Rates of the pyramid at output stride 16; doubled at 8.
    multi_grid : sequence of int
        Factors on the rates of the three blocks of the last stage.
    hidden : int
        Channels of the pyramid's branches and of the decoder.
    low_level : int
        Channels to which the map of stride 4 is reduced.
    dropout : float
        Share of the pyramid's output set to zero in training.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {
            "backbone": "resnet10",
            "width": 32,
            "hidden": 64,
            "rates": (2, 4, 6),
            "multi_grid": (1,),
            "low_level": 16,
            "dropout": 0.1,
        },
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        backbone: str = "resnet101",
        width: int = 64,
        output_stride: int = 16,
        rates: Sequence[int] = (6, 12, 18),
        multi_grid: Sequence[int] = (1, 2, 4),
        hidden: int = 256,
        low_level: int = 48,
        dropout: float = 0.5,
        normalize: bool = False,
    ):
        super().__init__()
        check_output_stride(output_stride)
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.backbone = ResNet(
            backbone, width=width, output_stride=output_stride, multi_grid=multi_grid
        )
        rates = [rate * 16 // output_stride for rate in rates]
        self.aspp = ASPP(self.backbone.channels[-1], rates, hidden, dropout)
        self.decoder = Decoder(self.backbone.channels[0], low_level, hidden)
        self.classifier = nn.Conv2d(hidden, num_classes, 1)
        initialize(self)

    def score_map(self, images: Tensor) -> Tensor:
        """Return the scores before upsampling: (N, 3, H, W) -> (N, K, H/4, W/4)."""
        check_images(images)
        check_batch_norm(self, images)
        low, *_, features = self.backbone(self.normalize(images))  # H/4, ..., H/16
        return self.classifier(self.decoder(low, self.aspp(features)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        return resize(self.score_map(images), images.shape[-2:])

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of the backbone (downloaded on first use)."""
        load_imagenet_resnet(self.backbone)
