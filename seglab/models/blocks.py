"""Small pieces that several architectures share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 64  # pixels; below this the deepest feature maps of most networks vanish


def conv_relu(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    rate: int = 1,
    padding: int | None = None,
    norm: bool = False,
) -> list:
    """Return convolution, optional batch norm, ReLU, as a list of layers.

    Without a word on the padding a map keeps its size. A convolution keeps its bias even before
    batch norm: VGG's parameter counts include it.
    """
    padding = rate * (kernel - 1) // 2 if padding is None else padding
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=rate)
    return [conv, *([nn.BatchNorm2d(out_channels)] if norm else []), nn.ReLU(inplace=True)]


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, rate: int = 1
) -> list:
    """Return convolution without bias (same padding), batch norm, ReLU, as a list of layers.

    `rate` is the dilation: a filter of 3 x 3 then spans 2 rate + 1 pixels.
    """
    padding = rate * (kernel - 1) // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, rate, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def check_images(images: Tensor, channels: int = 3, smallest: int = SMALLEST) -> None:
    """Raise unless images are floating point, (N, channels, H, W) with H, W >= smallest."""
    if images.ndim != 4 or images.shape[1] != channels or min(images.shape[-2:]) < smallest:
        raise ValueError(
            f"expected images (N, {channels}, H, W) with H, W >= {smallest}, "
            f"got shape {tuple(images.shape)}"
        )
    if not images.is_floating_point():
        raise TypeError(f"expected floating-point images in [0, 1], got {images.dtype}")


def check_batch_norm(model: nn.Module, images: Tensor) -> None:
    """Raise in train mode on a single image: batch norm of a 1 x 1 map has nothing to average."""
    if model.training and images.shape[0] == 1:
        raise ValueError(
            "got a batch of 1 image in train mode; pooling over the whole image and batch "
            "normalization need at least 2 (or call model.eval())"
        )


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


def resize(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate bilinearly to another size. Shapes: (N, C, h, w) -> (N, C, H, W)."""
    return F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)


def unpool(maxima: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """Put the maxima of 2 x 2 windows back to where they were found; all other entries are 0.

    Shapes: maxima and indices (N, C, h, w), size (H, W) -> (N, C, H, W). Pooling that rounds up
    makes one (h, w) of up to four sizes (H, W), so the size has to be remembered too.
    """
    return F.max_unpool2d(maxima, indices, (2, 2), (2, 2), output_size=tuple(size))


def initialize(model: nn.Module) -> None:
    """Draw all convolutions from He's normal distribution (ICCV 2015), biases 0.

    Signals and gradients then keep their size through many ReLUs, batch norm or not.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Upsample(nn.Module):
    """Bilinear interpolation without parameters. Shapes: (N, K, H, W) -> (N, K, sH, sW)."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, scores: Tensor) -> Tensor:
        """Enlarge `stride` times."""
        return upsample(scores, self.stride)


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
