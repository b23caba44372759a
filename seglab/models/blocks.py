"""Small pieces that several architectures share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 64  # pixels; below this the deepest feature maps of most networks vanish


def conv_relu(in_channels: int, out_channels: int, kernel: int = 3, *, norm: bool = False) -> list:
    """Return convolution (same padding), optional batch norm, ReLU, as a list of layers.

    A convolution keeps its bias even before batch norm: VGG's parameter counts include it.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    return [conv, *([nn.BatchNorm2d(out_channels)] if norm else []), nn.ReLU(inplace=True)]


def check_images(images: Tensor, channels: int = 3, smallest: int = SMALLEST) -> None:
    """Raise unless images are floating point, (N, channels, H, W) with H, W >= smallest."""
    if images.ndim != 4 or images.shape[1] != channels or min(images.shape[-2:]) < smallest:
        raise ValueError(
            f"expected images (N, {channels}, H, W) with H, W >= {smallest}, "
            f"got shape {tuple(images.shape)}"
        )
    if not images.is_floating_point():
        raise TypeError(f"expected floating-point images in [0, 1], got {images.dtype}")


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad with zeros below and to the right until H and W are multiples of `multiple`.

    Shapes: (N, C, H, W) -> (N, C, ceil(H/m) m, ceil(W/m) m).
    Crop the result with ``[..., :H, :W]``.
    """
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return F.pad(images, (0, right, 0, below)) if below or right else images


def upsample(scores: Tensor, factor: int) -> Tensor:
    """Enlarge by bilinear interpolation. Shapes: (N, C, H, W) -> (N, C, factor H, factor W)."""
    return F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)


def initialize(model: nn.Module) -> None:
    """Draw all convolutions from He's normal distribution (ICCV 2015), biases 0.

    Signals and gradients then keep their size through many ReLUs, batch norm or not.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ImageNetNormalize(nn.Module):
    """Images in [0, 1] -> what networks pretrained on ImageNet expect. No parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self):
        super().__init__()
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H, W)."""
        return (images - self.mean) / self.std
