"""DeepLab v2: atrous spatial pyramid pooling.

Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs", PAMI 2018, figures 4 and 7. The CRF is in `seglab.crf`,
prediction at several scales in `seglab.inference`.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from seglab.models.backbones import (
    VGG,
    ResNet,
    copy_convolutions,
    imagenet,
    load_imagenet_resnet,
)
from seglab.models.blocks import ImageNetNormalize, check_images, conv_relu, initialize, resize


class SummedASPP(nn.Module):
    """Score the same features at several rates and sum the scores.

    Parameters
    ----------
    channels : int
        Channels of the incoming feature map, C.
    num_classes : int
        Channels of the scores, K.
    rates : sequence of int
        Dilation of each 3 x 3 branch; a filter spans 2 rate + 1 positions.
    hidden : int
        Channels of a fully connected fc6 and fc7 in each branch, as on VGG-16 (figure 7b); 0: a
        branch is one convolution.

    Shapes: (N, C, H, W) -> (N, K, H, W).
    """

    def __init__(self, channels: int, num_classes: int, rates: Sequence[int], hidden: int = 0):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                *conv_relu(channels, hidden, rate=rate),
                nn.Dropout2d(0.5),
                *conv_relu(hidden, hidden, 1),
                nn.Dropout2d(0.5),
                nn.Conv2d(hidden, num_classes, 1),
            )
            if hidden
            else nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate)
            for rate in rates
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the sum of all branches."""
        first, *others = (branch(features) for branch in self.branches)
        return sum(others, first)


class DeepLabV2(nn.Module):
    """ResNet (or VGG-16) of stride 8 and a sum of atrous classifiers.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    backbone : str
        A name of ``backbones.RESNETS``, or "vgg16" for the paper's first network, in which every
        branch has an fc6 and an fc7 of 1,024 channels.
    width : int
        Channels of the ResNet's stem.
    rates : sequence of int
        Rates of the pyramid: 6, 12, 18, 24 are the paper's ASPP-L, 2, 4, 8, 12 its ASPP-S, a
        single 12 its LargeFOV.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {"backbone": "resnet10", "width": 32, "rates": (2, 4, 8, 12)},
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        backbone: str = "resnet101",
        width: int = 64,
        rates: Sequence[int] = (6, 12, 18, 24),
        normalize: bool = False,
    ):
        super().__init__()
        if not rates:
            raise ValueError("rates is empty; expected at least one dilation rate")
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.backbone: VGG | ResNet
        if backbone == "vgg16":
            self.backbone = VGG(strides=(2, 2, 2, 1, 1), pool_kernel=3)
            self.aspp = SummedASPP(512, num_classes, rates, hidden=1024)
        else:
            self.backbone = ResNet(backbone, width=width, output_stride=8)
            self.aspp = SummedASPP(self.backbone.channels[-1], num_classes, rates)
        initialize(self)

    def score_map(self, images: Tensor) -> Tensor:
        """Return the scores before upsampling: (N, 3, H, W) -> (N, K, H/8, W/8)."""
        check_images(images)
        *_, features = self.backbone(self.normalize(images))  # (N, C, H/8, W/8)
        return self.aspp(features)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        return resize(self.score_map(images), images.shape[-2:])

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of the backbone (downloaded on first use)."""
        if isinstance(self.backbone, VGG):
            copy_convolutions(imagenet("vgg16").features, self.backbone)
        else:
            load_imagenet_resnet(self.backbone)
