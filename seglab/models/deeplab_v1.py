"""DeepLab v1: VGG-16 made dense by atrous convolution.

Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs", ICLR 2015, section 3. The fully connected CRF that refines its result is in `seglab.crf`.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from seglab.models.backbones import VGG, copy_convolutions, imagenet
from seglab.models.blocks import ImageNetNormalize, check_images, conv_relu, initialize, resize


class DeepLabV1(nn.Module):
    """VGG whose last two pooling layers keep the resolution, and convolutions with holes.

    pool4 and pool5 have stride 1. The layers behind them would see half and a quarter of what
    they saw in VGG; rates 2 (conv5) and 4 (fc6) give it back. fc6 has 3 x 3 taps in place of
    7 x 7, spread to rate 12: the paper's LargeFOV.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    widths, convs : sequence of int
        Channels and number of convolutions of VGG's five blocks.
    fc6_kernel, fc6_rate : int
        Taps along one side of fc6's filters, and their rate: 3 and 12, or the paper's 7 and 4
        (DeepLab), 4 and 4 (4 x 4), 4 and 8 (LargeFOV 4 x 4).
    hidden : int
        Channels of fc6 and fc7: 1024, or 4096 in the variants with more taps.
    norm : bool
        Batch normalization, which makes training without pretrained weights possible.
    dropout : float
        Share of fc6's and fc7's channels set to zero in training.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {
            "widths": (32, 48, 96, 128, 128),
            "convs": (1, 1, 2, 2, 2),
            "hidden": 256,
            "norm": True,
            "dropout": 0.1,
        },
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        fc6_kernel: int = 3,
        fc6_rate: int = 12,
        hidden: int = 1024,
        norm: bool = False,
        dropout: float = 0.5,
        normalize: bool = False,
    ):
        super().__init__()
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.encoder = VGG(widths, convs, norm=norm, strides=(2, 2, 2, 1, 1), pool_kernel=3)
        self.fc6 = nn.Sequential(
            *conv_relu(widths[4], hidden, fc6_kernel, rate=fc6_rate, norm=norm),
            nn.Dropout2d(dropout),
        )
        self.fc7 = nn.Sequential(*conv_relu(hidden, hidden, 1, norm=norm), nn.Dropout2d(dropout))
        self.score = nn.Conv2d(hidden, num_classes, 1)
        initialize(self)

    def score_map(self, images: Tensor) -> Tensor:
        """Return the scores before upsampling: (N, 3, H, W) -> (N, K, H/8, W/8)."""
        check_images(images)
        *_, pool5 = self.encoder(self.normalize(images))  # (N, 512, H/8, W/8)
        return self.score(self.fc7(self.fc6(pool5)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        return resize(self.score_map(images), images.shape[-2:])

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of VGG-16's convolutions (downloaded once)."""
        copy_convolutions(imagenet("vgg16").features, self.encoder)
