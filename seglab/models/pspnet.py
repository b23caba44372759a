"""Pyramid Scene Parsing Network.

Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, figure 3. One deviation: the authors'
ResNet begins with three 3 x 3 convolutions; here it begins with one of 7 x 7, as He et al.
published it and as its weights are found.
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


class PyramidPooling(nn.Module):
    """Average over the cells of several grids and append to every pixel what its cells say.

    Parameters
    ----------
    channels : int
        Channels of the incoming feature map, C.
    bins : sequence of int
        Side of each grid; the paper uses 1, 2, 3 and 6.

    Shapes: (N, C, H, W) -> (N, 2C, H, W) when the number of grids divides C.
    """

    def __init__(self, channels: int, bins: Sequence[int] = (1, 2, 3, 6)):
        super().__init__()
        if not bins or channels % len(bins):
            raise ValueError(f"{channels} channels cannot be shared by {len(bins)} grids")
        width = channels // len(bins)
        self.grids = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *conv_bn_relu(channels, width, 1))
            for side in bins
        )

    def forward(self, features: Tensor) -> Tensor:
        """Concatenate the map with what each grid sees."""
        size = features.shape[-2:]
        contexts = [resize(grid(features), size) for grid in self.grids]  # (N, C/bins, H, W) each
        return torch.cat([features, *contexts], dim=1)


class PSPNet(nn.Module):
    """Dilated ResNet, pyramid pooling, one 3 x 3 convolution, a score for every class.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    backbone : str
        A name of ``backbones.RESNETS``.
    width : int
        Channels of the backbone's stem.
    bins : sequence of int
        Sides of the grids; () builds the same network without pyramid pooling.
    hidden : int
        Channels of the convolution before the scores.
    dropout : float
        Share of its channels set to zero in training.
    aux : bool
        Score the third stage too: in train mode the output is (logits, auxiliary logits).
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {"backbone": "resnet10", "width": 32, "hidden": 64},
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        backbone: str = "resnet101",
        width: int = 64,
        bins: Sequence[int] = (1, 2, 3, 6),
        hidden: int = 512,
        dropout: float = 0.1,
        aux: bool = False,
        normalize: bool = False,
    ):
        super().__init__()
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.backbone = ResNet(backbone, width=width, output_stride=8)
        *_, stage3, stage4 = self.backbone.channels
        self.pyramid = PyramidPooling(stage4, bins) if bins else nn.Identity()
        self.head = nn.Sequential(
            *conv_bn_relu(2 * stage4 if bins else stage4, hidden),
            nn.Dropout2d(dropout),
            nn.Conv2d(hidden, num_classes, 1),
        )
        self.auxiliary = None
        if aux:
            self.auxiliary = nn.Sequential(
                *conv_bn_relu(stage3, stage3 // 4),
                nn.Dropout2d(dropout),
                nn.Conv2d(stage3 // 4, num_classes, 1),
            )
        initialize(self)

    def score_map(self, images: Tensor) -> Tensor:
        """Return the scores before upsampling: (N, 3, H, W) -> (N, K, H/8, W/8)."""
        return self._scores(images)[0]

    def _scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score map and the map of the third stage, (N, C, H/8, W/8)."""
        check_images(images)
        check_batch_norm(self, images)
        *_, stage3, stage4 = self.backbone(self.normalize(images))  # both H/8: dilated
        return self.head(self.pyramid(stage4)), stage3

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> logits (N, K, H, W); with ``aux`` in train mode a pair of them."""
        scores, stage3 = self._scores(images)
        size = images.shape[-2:]
        if self.auxiliary is not None and self.training:
            return resize(scores, size), resize(self.auxiliary(stage3), size)
        return resize(scores, size)

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of the backbone (downloaded on first use)."""
        load_imagenet_resnet(self.backbone)
