"""Fully convolutional networks: FCN-32s, FCN-16s and FCN-8s on VGG-16.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
figure 3. Two deviations: the authors pad every image by 100 pixels and crop the result; here
images are padded to a multiple of 32, so that nothing has to be cropped between the layers. The
upsampling is fixed and bilinear unless ``learnt_upsampling=True``.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torchvision
from torch import Tensor, nn

from seglab.models.backbones import VGG, copy_classifier, copy_linear, imagenet
from seglab.models.blocks import (
    ImageNetNormalize,
    Upsample,
    check_images,
    conv_relu,
    initialize,
    pad_to_multiple,
)


def bilinear_kernel(stride: int) -> Tensor:
    """Return the (2 stride, 2 stride) filter with which a transposed convolution interpolates.

    Entry (i, j) is (1 - |i - c| / stride) (1 - |j - c| / stride) with the center
    c = stride - 1/2. Paper, section 3.3.
    """
    center = stride - 0.5
    ramp = 1 - (torch.arange(2 * stride) - center).abs() / stride
    return torch.outer(ramp, ramp)


class BilinearDeconvolution(nn.ConvTranspose2d):
    """Transposed convolution that starts as bilinear interpolation and can learn from there.

    Shapes: (N, K, H, W) -> (N, K, stride H, stride W).
    """

    def __init__(self, classes: int, stride: int):
        super().__init__(classes, classes, 2 * stride, stride, padding=stride // 2, bias=False)
        with torch.no_grad():
            self.weight.zero_()
            for k in range(classes):  # class k is interpolated from class k alone
                self.weight[k, k] = bilinear_kernel(stride)


class FCN(nn.Module):
    """VGG with its fully connected layers turned into convolutions, and summed skip connections.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    stride : {32, 16, 8}
        Stride of the finest score map: FCN-32s, FCN-16s, FCN-8s.
    widths, convs : sequence of int
        Channels and number of convolutions of VGG's five blocks.
    hidden : int
        Channels of fc6 and fc7.
    fc6_kernel : int
        Side of fc6's filters: the side of the map that the classifier saw whole. Padding keeps
        the map's size.
    norm : bool
        Batch normalization, which makes training without pretrained weights possible.
    dropout : float
        Share of fc6's and fc7's channels set to zero in training.
    learnt_upsampling : bool
        Transposed convolutions with learnt weights instead of fixed interpolation.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {
            "widths": (24, 48, 96, 128, 128),
            "convs": (1, 1, 2, 2, 2),
            "hidden": 256,
            "fc6_kernel": 3,
            "norm": True,
            "dropout": 0.1,
        },
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        stride: int = 32,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        hidden: int = 4096,
        fc6_kernel: int = 7,
        norm: bool = False,
        dropout: float = 0.5,
        learnt_upsampling: bool = False,
        normalize: bool = False,
    ):
        super().__init__()
        if stride not in (32, 16, 8):
            raise ValueError(f"stride is {stride}; expected 32, 16 or 8")
        enlarge = (
            (lambda factor: BilinearDeconvolution(num_classes, factor))
            if learnt_upsampling
            else Upsample
        )
        self.stride = stride
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.encoder = VGG(widths, convs, norm=norm)
        self.fc6 = nn.Sequential(
            *conv_relu(widths[4], hidden, fc6_kernel, norm=norm), nn.Dropout2d(dropout)
        )
        self.fc7 = nn.Sequential(*conv_relu(hidden, hidden, 1, norm=norm), nn.Dropout2d(dropout))
        self.score = nn.Conv2d(hidden, num_classes, 1)
        if stride <= 16:
            self.score_pool4 = nn.Conv2d(widths[3], num_classes, 1)
            self.upsample_fc7 = enlarge(2)
        if stride == 8:
            self.score_pool3 = nn.Conv2d(widths[2], num_classes, 1)
            self.upsample_pool4 = enlarge(2)
        self.upsample = enlarge(stride)
        initialize(self)
        for name, parameter in self.named_parameters():
            if name.startswith("score_pool"):  # skips start silent: FCN-16s starts as FCN-32s
                nn.init.zeros_(parameter)

    def score_map(self, images: Tensor) -> Tensor:
        """Return the scores before the last upsampling.

        Shapes: (N, 3, H, W) -> (N, K, ceil(H/32) 32/stride, ceil(W/32) 32/stride).
        """
        check_images(images)
        images = pad_to_multiple(self.normalize(images), 32)
        _, _, pool3, pool4, pool5 = self.encoder(images)  # strides 8, 16, 32
        scores = self.score(self.fc7(self.fc6(pool5)))  # (N, K, H/32, W/32)
        if self.stride <= 16:
            scores = self.upsample_fc7(scores) + self.score_pool4(pool4)  # (N, K, H/16, W/16)
        if self.stride == 8:
            scores = self.upsample_pool4(scores) + self.score_pool3(pool3)  # (N, K, H/8, W/8)
        return scores

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        height, width = images.shape[-2:]
        return self.upsample(self.score_map(images))[..., :height, :width]

    def load_classifier(self, vgg16: torchvision.models.VGG) -> None:
        """Take the weights of torchvision's ``vgg16``; its fully connected layers become filters.

        The last layer is taken too if it has as many classes as this network.

        Raises
        ------
        TypeError, ValueError
            If the network is no VGG, or its layers have other sizes than those here.
        """
        score = copy_classifier(vgg16, self.encoder, self.fc6[0], self.fc7[0])
        if score.out_features == self.score.out_channels:
            copy_linear(score, self.score)

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of VGG-16 (downloaded on first use)."""
        self.load_classifier(imagenet("vgg16"))
