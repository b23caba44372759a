"""U-Net: a contracting path, an expanding path, and every map handed across between them.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, figure 1. The defaults are the form in common use: batch normalization, and 3 x 3
convolutions that keep the size of the map. The paper has neither: ``norm=False,
padding="valid"``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from seglab.models.blocks import SMALLEST, check_images, initialize, pad_to_multiple


class DoubleConv(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch normalization (optional) and ReLU.

    Shapes: (N, C, H, W) -> (N, D, H, W), or (N, D, H - 4, W - 4) without padding.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, padding: str):
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            # Batch normalization adds a shift of its own: a bias before it would be lost.
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=padding, bias=not norm))
            layers += [nn.BatchNorm2d(out_channels)] if norm else []
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Up(nn.Module):
    """Up-convolution, concatenation with the cropped map of the same level, two convolutions.

    Shapes: (N, C, h, w) and the skip (N, D, H, W), H >= 2h -> (N, D, 2h, 2w), or
    (N, D, 2h - 4, 2w - 4) without padding.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, padding: str):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.convs = DoubleConv(2 * out_channels, out_channels, norm=norm, padding=padding)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Bring what is coarse and what is fine together."""
        coarse = self.enlarge(coarse)  # (N, D, 2h, 2w)
        return self.convs(torch.cat([center_crop(skip, coarse.shape[-2:]), coarse], dim=1))


def center_crop(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the center out. Shapes: (N, C, H, W) -> (N, C, *size)."""
    top, left = ((side - wanted) // 2 for side, wanted in zip(maps.shape[-2:], size, strict=True))
    return maps[..., top : top + size[0], left : left + size[1]]


class UNet(nn.Module):
    """Encoder and decoder of equal depth, joined at every resolution by concatenation.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    in_channels : int
        Channels of the images: 3 as everywhere in this package, 1 in the paper.
    widths : sequence of int
        Channels of the blocks of the contracting path, and last those of the bottleneck.
    norm : bool
        Batch normalization behind every 3 x 3 convolution, which then has no bias.
    padding : {"same", "valid"}
        "same" keeps the size of every map. "valid" is the paper's: nothing is invented at the
        border, so the logits are smaller than the image.
    dropout : float
        Share of the bottleneck's values that are set to zero in training.

    Attributes
    ----------
    margin : int
        Pixels on each side of the image that "valid" gives no logits for: 92 with four blocks.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64; with ``padding="valid"``
    (N, K, H - 184, W - 184) for H, W that are 12 mod 16 and at least 188.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {"widths": (16, 32, 64, 128, 256), "dropout": 0.1},
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        norm: bool = True,
        padding: str = "same",
        dropout: float = 0.5,
    ):
        super().__init__()
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is {padding!r}; expected 'same' or 'valid'")
        *contracting, bottleneck = widths
        self.in_channels, self.padding = in_channels, padding
        self.multiple = 2 ** len(contracting)
        self.margin = 6 * self.multiple - 4 if padding == "valid" else 0
        self.down = nn.ModuleList(
            DoubleConv(before, after, norm=norm, padding=padding)
            for before, after in pairwise((in_channels, *contracting))
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = nn.Sequential(
            *DoubleConv(contracting[-1], bottleneck, norm=norm, padding=padding),
            nn.Dropout(dropout),
        )
        self.up = nn.ModuleList(
            Up(before, after, norm=norm, padding=padding)
            for before, after in pairwise(widths[::-1])
        )
        self.score = nn.Conv2d(widths[0], num_classes, 1)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H - 2 margin, W - 2 margin)."""
        self._check(images)
        height, width = images.shape[-2:]
        maps = images if self.padding == "valid" else pad_to_multiple(images, self.multiple)
        skips = []
        for block in self.down:
            skips.append(maps := block(maps))  # strides 1, 2, 4, 8
            maps = self.pool(maps)
        maps = self.bottleneck(maps)  # (N, 1024, H/16, W/16)
        for block in self.up:
            maps = block(maps, skips.pop())  # strides 8, 4, 2, 1
        return self.score(maps)[..., :height, :width]

    def fitting_size(self, side: int) -> int:
        """Return the smallest side of an image from `side` pixels on that the network accepts."""
        if self.padding == "same":
            return max(side, SMALLEST)
        smallest = max(side, 2 * self.margin + 1)
        return smallest + (-4 - smallest) % self.multiple

    def _check(self, images: Tensor) -> None:
        check_images(images, self.in_channels, self.fitting_size(1))
        height, width = images.shape[-2:]
        if self.fitting_size(height) == height and self.fitting_size(width) == width:
            return
        fitting = []
        for side in (height, width):
            above = self.fitting_size(side)
            fitting.append(f"{side}" if above == side else f"{above - self.multiple} or {above}")
        raise ValueError(
            f"without padding every side must be {self.multiple - 4} mod {self.multiple}: images "
            f"of {height} x {width} do not fit; the nearest heights are {fitting[0]}, the nearest "
            f"widths {fitting[1]} (got shape {tuple(images.shape)})"
        )
