"""SETR: a vision transformer as encoder, and three ways to make its tokens an image again.

Zheng et al., "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with
Transformers", CVPR 2021, figure 1. The multi-level decoder follows the authors' code, which
differs from the paper's text. Images are padded to whole patches and cropped again.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from seglab.models.backbones import ViT, load_imagenet_vit
from seglab.models.blocks import (
    ImageNetNormalize,
    Upsample,
    check_images,
    conv_bn_relu,
    conv_relu,
    pad_to_multiple,
    resize,
)

Grid = tuple[int, int]


class AsMap(nn.Module):
    """Normalize tokens and lay them out as a map. Shapes: (N, hw, C) -> (N, C, h, w)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Row by row, as the patches were read."""
        return self.norm(tokens).transpose(1, 2).unflatten(2, grid)


class Naive(nn.Module):
    """Two 1 x 1 convolutions on the last tokens; the image's size is reached in one step.

    Shapes: tokens (N, hw, C) of every layer -> (N, K, h, w).
    """

    def __init__(self, num_classes: int, width: int, hidden: int):
        super().__init__()
        self.as_map = AsMap(width)
        self.convs = nn.Sequential(
            *conv_relu(width, hidden, 1, norm=True), nn.Conv2d(hidden, num_classes, 1)
        )

    def forward(self, layers: list[Tensor], grid: Grid) -> Tensor:
        """Score every patch."""
        return self.convs(self.as_map(layers[-1], grid))


class PUP(nn.Module):
    """Progressive upsampling: a 3 x 3 convolution before every doubling.

    Shapes: tokens (N, hw, C) of every layer -> (N, K, h patch, w patch).
    """

    def __init__(self, num_classes: int, width: int, hidden: int, patch: int):
        super().__init__()
        self.as_map = AsMap(width)
        layers: list[nn.Module] = []
        for _ in range(round(math.log2(patch))):
            layers += [*conv_relu(width, hidden, norm=True), Upsample(2)]
            width = hidden
        self.convs = nn.Sequential(*layers, nn.Conv2d(hidden, num_classes, 1))

    def forward(self, layers: list[Tensor], grid: Grid) -> Tensor:
        """Double the map until it has the size of the image, then score."""
        return self.convs(self.as_map(layers[-1], grid))


class MLA(nn.Module):
    """Multi-level aggregation: four depths of the encoder, summed from the deepest up.

    Shapes: tokens (N, hw, C) of every layer -> (N, K, 4h, 4w).
    """

    def __init__(self, num_classes: int, width: int, hidden: int, depth: int):
        super().__init__()
        if depth % 4:
            raise ValueError(f"depth is {depth}; the four levels need a multiple of 4")
        self.levels = [depth * (i + 1) // 4 - 1 for i in range(4)]  # layers 6, 12, 18, 24 of 24
        self.as_maps = nn.ModuleList(AsMap(width) for _ in self.levels)
        self.reduce = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(width, hidden, 1)) for _ in self.levels
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(hidden, hidden)) for _ in self.levels
        )
        self.enlarge = nn.ModuleList(
            nn.Sequential(
                *conv_bn_relu(hidden, hidden // 2),
                *conv_bn_relu(hidden // 2, hidden // 2),
                Upsample(4),
            )
            for _ in self.levels
        )
        self.score = nn.Conv2d(4 * (hidden // 2), num_classes, 3, padding=1)

    def forward(self, layers: list[Tensor], grid: Grid) -> Tensor:
        """Hand each level what the deeper ones found; enlarge all, concatenate, score."""
        streams = []
        above: Tensor | None = None
        for i in reversed(range(4)):
            level = self.reduce[i](self.as_maps[i](layers[self.levels[i]], grid))
            above = level if above is None else above + level  # (N, hidden, h, w)
            streams.append(self.enlarge[i](self.smooth[i](above)))  # (N, hidden/2, 4h, 4w)
        return self.score(torch.cat(streams, dim=1))


class SETR(nn.Module):
    """Vision transformer and a convolutional decoder.

    Parameters
    ----------
    num_classes : int
        Channels of the logits, K.
    decoder : {"naive", "pup", "mla"}
        Decoder of the variant.
    image_size : int or (int, int)
        Size for which positions are learnt, in pixels; other sizes interpolate them.
    patch : int
        Side of a patch; a power of 2.
    width, depth, heads, mlp : int
        Size of the transformer; ViT-L/16 by default, ViT-B/16 is 768, 12, 12, 3072.
    hidden : int
        Channels of the decoder.
    normalize : bool
        Normalize images as ImageNet weights expect; ``load_pretrained`` needs it.

    Shapes: (N, 3, H, W) -> (N, K, H, W) for any H, W >= 64.
    """

    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "small": {
            "image_size": 128,
            "patch": 8,
            "width": 128,
            "depth": 4,
            "heads": 4,
            "mlp": 256,
            "hidden": 64,
        },
    }

    def __init__(
        self,
        num_classes: int = 21,
        *,
        decoder: str = "pup",
        image_size: int | tuple[int, int] = 512,
        patch: int = 16,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        mlp: int = 4096,
        hidden: int = 256,
        normalize: bool = False,
    ):
        super().__init__()
        if patch < 2 or patch & (patch - 1):
            raise ValueError(f"patch is {patch}; expected a power of 2")
        self.normalize = ImageNetNormalize() if normalize else nn.Identity()
        self.encoder = ViT(
            image_size, patch=patch, width=width, depth=depth, heads=heads, hidden=mlp
        )
        self.decoder: nn.Module
        if decoder == "naive":
            self.decoder = Naive(num_classes, width, hidden)
        elif decoder == "pup":
            self.decoder = PUP(num_classes, width, hidden, patch)
        elif decoder == "mla":
            self.decoder = MLA(num_classes, width, hidden, depth)
        else:
            raise ValueError(f"decoder is {decoder!r}; expected 'naive', 'pup' or 'mla'")

    def score_map(self, images: Tensor) -> Tensor:
        """Return the decoder's scores before the last upsampling.

        Shapes: (N, 3, H, W) -> (N, K, ...), for images padded to whole patches: h x w patches
        (naive), h patch x w patch pixels (PUP) or 4h x 4w (MLA).
        """
        check_images(images)
        patch = self.encoder.patch
        images = pad_to_multiple(self.normalize(images), patch)
        grid = (images.shape[2] // patch, images.shape[3] // patch)
        return self.decoder(self.encoder(images), grid)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K, H, W)."""
        height, width = images.shape[-2:]
        patch = self.encoder.patch
        whole = (height + -height % patch, width + -width % patch)
        return resize(self.score_map(images), whole)[..., :height, :width]

    def load_pretrained(self) -> None:
        """Load torchvision's ImageNet weights of ViT-L/16 or ViT-B/16 (downloaded once)."""
        load_imagenet_vit(self.encoder)
