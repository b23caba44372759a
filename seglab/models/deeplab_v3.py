"""DeepLab v3: atrous spatial pyramid pooling with image-level features.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, figure 5.
``torchvision_compatible=True`` builds torchvision's variant, whose weights then fit: output
stride 8, no multi-grid, the first block of a dilated stage with the rate of the stage before,
and one more 3 x 3 convolution behind the pyramid.
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


class ImagePooling(nn.Sequential):
    """What the whole image says, at every pixel. Shapes: (N, C, H, W) -> (N, width, H, W)."""

    def __init__(self, channels: int, width: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(channels, width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Average over the image and spread the answer over it again."""
        return resize(super().forward(features), features.shape[-2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: look at several rates, and at the whole image.

    Parameters
    ----------
    channels : int
        Channels of the incoming feature map, C.
    rates : sequence of int
        Dilation of each 3 x 3 branch.
    width : int
        Channels of every branch and of the result.
    dropout : float
        Share of the result's entries set to zero in training.

    Shapes: (N, C, H, W) -> (N, width, H, W).
    """

    def __init__(self, channels: int, rates: Sequence[int], width: int = 256, dropout: float = 0.5):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*conv_bn_relu(channels, width, 1)),
                *(nn.Sequential(*conv_bn_relu(channels, width, rate=rate)) for rate in rates),
                ImagePooling(channels, width),
            ]
        )
        self.project = nn.Sequential(
            *conv_bn_relu(len(self.convs) * width, width, 1), nn.Dropout(dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Concatenate all branches and mix them by a 1 x 1 convolution."""
        return self.project(torch.cat([conv(features) for conv in self.convs], dim=1))


class DeepLabV3(nn.Module):
    """ResNet with multi-grid, ASPP with image pooling, a score for every class.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    backbone : str
        A name of ``backbones.RESNETS``.
    width : int
        Channels of the backbone's stem.
    output_stride : {16, 8}
        Stride of the score map. The weights fit both.
    rates : sequence of int
        Rates of the pyramid at output stride 16; doubled at 8.
    multi_grid : sequence of int
        Factors on the rates of the three blocks of the last stage.
    hidden : int
        Channels of the pyramid's branches.
    dropout : float
        Share of the pyramid's output set to zero in training.
    torchvision_compatible : bool
        Build what torchvision calls DeepLabV3; its state dict fits. Sets ``output_stride`` to 8
        and ``multi_grid`` to (1, 1, 1).
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
        dropout: float = 0.5,
        torchvision_compatible: bool = False,
        normalize: bool = False,
    ):
        super().__init__()
        if torchvision_compatible:
            output_stride, multi_grid = 8, (1,)
        check_output_stride(output_stride)
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.backbone = ResNet(
            backbone,
            width=width,
            output_stride=output_stride,
            multi_grid=multi_grid,
            delayed_rate=torchvision_compatible,
        )
        rates = [rate * 16 // output_stride for rate in rates]
        extra = conv_bn_relu(hidden, hidden) if torchvision_compatible else []
        self.classifier = nn.Sequential(
            ASPP(self.backbone.channels[-1], rates, hidden, dropout),
            *extra,
            nn.Conv2d(hidden, num_classes, 1),
        )
        initialize(self)

    def score_map(self, images: Tensor) -> Tensor:
        """Return the scores before upsampling: (N, 3, H, W) -> (N, K, H/16, W/16), or H/8."""
        check_images(images)
        check_batch_norm(self, images)
        *_, features = self.backbone(self.normalize(images))  # (N, C, H/16, W/16)
        return self.classifier(features)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        return resize(self.score_map(images), images.shape[-2:])

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of the backbone (downloaded on first use)."""
        load_imagenet_resnet(self.backbone)


def check_output_stride(output_stride: int) -> None:
    """Raise unless the output stride is one of the two that the papers use."""
    if output_stride not in (16, 8):
        raise ValueError(f"output_stride is {output_stride}; expected 16 or 8")
