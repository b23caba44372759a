"""Classification networks that the segmentation networks stand on."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from seglab.models.blocks import conv_bn_relu, conv_relu, initialize


class VGG(nn.Module):
    """The convolutional part of VGG: five blocks, each ending with 2 x 2 max pooling.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015, table 1, column D (VGG-16) by default.

    Parameters
    ----------
    widths : sequence of int
        Channels of each block.
    convs : sequence of int
        3 x 3 convolutions in each block.
    norm : bool
        Put batch normalization behind each convolution; the paper has none.
    strides : sequence of int
        Stride of each pooling layer. Where it is 1 instead of 2, the convolutions that follow
        double their rate, so that their filters see what they saw before.
    pool_kernel : int
        Side of the pooling windows.

    Shapes: (N, 3, H, W) -> five maps, the i-th (N, widths[i], H / 2^(i+1), W / 2^(i+1)) with the
    default strides.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        *,
        norm: bool = False,
        strides: Sequence[int] = (2, 2, 2, 2, 2),
        pool_kernel: int = 2,
    ):
        super().__init__()
        self.blocks = nn.ModuleList()
        channels, rate = 3, 1
        for width, count, stride in zip(widths, convs, strides, strict=True):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += conv_relu(channels, width, rate=rate, norm=norm)
                channels = width
            pool = nn.MaxPool2d(pool_kernel, stride, padding=(pool_kernel - 1) // 2)
            self.blocks.append(nn.Sequential(*layers, pool))
            rate *= 2 // stride

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the output of each pooling layer, finest first."""
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return maps


class IndexedVGG(nn.Module):
    """VGG that also tells where every maximum was, for decoders that unpool.

    Poolings round up, as Caffe's do, so that the last row of an odd map keeps its maximum. On
    even maps the features are those of `VGG`.

    Shapes: (N, 3, H, W) -> the last map, (N, widths[-1], H/32, W/32) rounded up, and for each
    pooling, finest first: indices, as large as the pooled map, and the (H, W) that was pooled.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convs: Sequence[int] = (2, 2, 3, 3, 3),
        *,
        norm: bool = False,
    ):
        super().__init__()
        self.blocks = VGG(widths, convs, norm=norm).blocks
        for block in self.blocks:
            block[-1] = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)  # type: ignore[operator]

    def forward(self, images: Tensor) -> tuple[Tensor, list[tuple[Tensor, torch.Size]]]:
        """Return the last map, and what `blocks.unpool` needs to undo each pooling."""
        places: list[tuple[Tensor, torch.Size]] = []
        for block in self.blocks:
            size = images.shape[-2:]  # convolutions keep it
            images, indices = block(images)
            places.append((indices, size))
        return images, places


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: the block of ResNet-18 and ResNet-34.

    Shapes: (N, C, H, W) -> (N, width, H/stride, W/stride).
    """

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, rate: int):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv_bn_relu(channels, width, stride=stride, rate=rate)
        self.conv2, self.bn2, _ = conv_bn_relu(width, width, rate=rate)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions find to the shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up, beside a shortcut: the block of ResNet-50 and deeper.

    The 3 x 3 convolution carries the stride, as torchvision has it; in the paper the first
    1 x 1 does. Shapes: (N, C, H, W) -> (N, 4 width, H/stride, W/stride).
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, rate: int):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv_bn_relu(channels, width, 1)
        self.conv2, self.bn2, _ = conv_bn_relu(width, width, stride=stride, rate=rate)
        self.conv3, self.bn3, _ = conv_bn_relu(width, 4 * width, 1)
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions find to the shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.downsample(x))


# name -> (block, blocks in each of the four stages); He et al., table 1, and a small one
RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet10": (BasicBlock, (1, 1, 1, 1)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """The convolutional part of a residual network, with dilation in place of late strides.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1. Modules carry
    torchvision's names, so that its weights can be loaded.

    Parameters
    ----------
    name : str
        A name of ``RESNETS``.
    width : int
        Channels of the stem and of the first stage before expansion; each stage doubles them.
    output_stride : {32, 16, 8}
        Stride of the last map. A stage whose stride is taken away multiplies its rates by it.
    multi_grid : sequence of int
        Factors on the rates of the last stage's blocks; the last factor serves any further ones.
    delayed_rate : bool
        The first block of a dilated stage keeps the rate of the stage before, as torchvision
        has it. With bottleneck blocks this computes exactly what the strided network computes,
        at more places; the papers dilate the whole stage.

    Shapes: (N, 3, H, W) -> four maps of strides 4, 8, 16 and 32, none above ``output_stride``.
    """

    def __init__(
        self,
        name: str = "resnet50",
        *,
        width: int = 64,
        output_stride: int = 32,
        multi_grid: Sequence[int] = (1,),
        delayed_rate: bool = False,
    ):
        super().__init__()
        if name not in RESNETS:
            raise ValueError(f"no backbone is called {name!r}; there are {', '.join(RESNETS)}")
        if output_stride not in (32, 16, 8):
            raise ValueError(f"output_stride is {output_stride}; expected 32, 16 or 8")
        block, depths = RESNETS[name]
        self.name = name
        self.conv1, self.bn1, self.relu = conv_bn_relu(3, width, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, reached, rate = width, 4, 1
        self.channels = []  # of the four maps
        stages = []
        for stage, depth in enumerate(depths):
            stride, before = (1 if stage == 0 else 2), rate
            if reached * stride > output_stride:
                stride, rate = 1, rate * stride
            reached *= stride
            grid = multi_grid if stage == 3 else (1,)
            rates = [rate * grid[min(i, len(grid) - 1)] for i in range(depth)]
            if delayed_rate:
                rates[0] = before
            blocks = []
            for i, block_rate in enumerate(rates):
                blocks.append(block(channels, width * 2**stage, 1 if i else stride, block_rate))
                channels = width * 2**stage * block.expansion
            stages.append(nn.Sequential(*blocks))
            self.channels.append(channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the output of each stage, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (N, width, H/4, W/4)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def load_imagenet_resnet(target: ResNet) -> None:
    """Load torchvision's ImageNet weights into a residual network of the same name.

    Raises
    ------
    ValueError
        If torchvision has no such network, or one of another width.
    RuntimeError
        Without the file and without a network; see `imagenet`.
    """
    if target.name == "resnet10":
        raise ValueError(f"torchvision has no ImageNet weights for {target.name!r}")
    weights = imagenet(target.name).state_dict()
    del weights["fc.weight"], weights["fc.bias"]
    if weights["conv1.weight"].shape != target.conv1.weight.shape:
        raise ValueError(
            f"the ImageNet weights have a stem of {weights['conv1.weight'].shape[0]} channels, "
            f"this {target.name} one of {target.conv1.out_channels}"
        )
    target.load_state_dict(weights)


def _shortcut(channels: int, width: int, stride: int) -> nn.Module:
    """Return what makes the input of a block as large as its output."""
    if stride == 1 and channels == width:
        return nn.Identity()
    return nn.Sequential(*conv_bn_relu(channels, width, 1, stride=stride)[:2])


class SelfAttention(nn.Module):
    """Multi-head self-attention: every token takes a weighted mean of all tokens.

    Vaswani et al., "Attention Is All You Need", NIPS 2017, equation 1.

    Parameters
    ----------
    width : int
        Channels of a token, C.
    heads : int
        Attentions side by side, each on C / heads channels.

    Shapes: (N, L, C) -> (N, L, C).
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels cannot be shared by {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compare queries with keys, average values."""
        n, length, width = tokens.shape
        qkv = self.qkv(tokens).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, L, C/heads) each
        seen = _attention(query, key, value)
        return self.project(seen.transpose(1, 2).reshape(n, length, width))


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Average the values, weighted by how well their keys fit the query; all (N, h, L, C/h)."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value)
    # The gradient in bfloat16 takes a CPU up to four times as long as in float32 (torch 2.14).
    with torch.autocast("cpu", enabled=False):
        seen = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    return seen.to(query.dtype)


class TransformerBlock(nn.Module):
    """Attention among tokens, then two linear layers for each of them, both beside a shortcut.

    Shapes: (N, L, C) -> (N, L, C).
    """

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalize before each part, add its answer to what was there."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class ViT(nn.Module):
    """The encoder of a vision transformer: an image as a sequence of patches.

    Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021, table 1; ViT-L/16 by default.
    There is no final layer norm: whoever reads the tokens brings one. The class token attends and
    is attended to, but is not returned.

    Parameters
    ----------
    image_size : int or (int, int)
        Side, or height and width, for which the position table is made, in pixels. Other sizes
        interpolate it.
    patch : int
        Side of a patch, in pixels.
    width, depth, heads, hidden : int
        Channels of a token, number of blocks, attention heads, channels inside the MLPs.

    Shapes: (N, 3, H, W), multiples of the patch -> tokens (N, HW / patch^2, width) behind each
    block, row by row.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 512,
        *,
        patch: int = 16,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        hidden: int = 4096,
    ):
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if any(side < patch or side % patch for side in size):
            raise ValueError(
                f"image_size is {image_size}; expected multiples of the patch, {patch}"
            )
        self.patch = patch
        self.grid = (size[0] // patch, size[1] // patch)
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, hidden) for _ in range(depth))
        for name, parameter in self.named_parameters():
            if name == "positions" or (name.endswith("weight") and parameter.ndim > 1):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """Return the position table for a grid of patches, (1, 1 + rows columns, width).

        The class token's entry stays; the others are interpolated as an image is.
        """
        if grid == self.grid:
            return self.positions
        return torch.cat(
            [self.positions[:, :1], _resized(self.positions[:, 1:], self.grid, grid)], 1
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the patches' tokens behind each block, the first block first."""
        patches = self.embed(images)  # (N, C, H/16, W/16)
        positions = self.positions_for((patches.shape[2], patches.shape[3]))
        tokens = patches.flatten(2).transpose(1, 2)  # (N, L, C)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + positions
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens[:, 1:])
        return outputs


def _resized(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolate a table of positions. Shapes: (1, old rows x columns, C) -> (1, new ..., C)."""
    table = positions.transpose(1, 2).unflatten(2, old)  # (1, C, rows, columns)
    table = F.interpolate(table, new, mode="bicubic", align_corners=False)
    return table.flatten(2).transpose(1, 2)


# ViT of torchvision with the width of the encoder
_IMAGENET_VITS = {768: "vit_b_16", 1024: "vit_l_16"}


def load_imagenet_vit(target: ViT) -> None:
    """Load the encoder of torchvision's ViT-B/16 or ViT-L/16; positions are interpolated.

    Raises
    ------
    ValueError
        If torchvision has no transformer of this width and patch.
    RuntimeError
        Without the file and without a network; see `imagenet`.
    """
    width = target.embed.out_channels
    if width not in _IMAGENET_VITS or target.patch != 16:
        raise ValueError(
            f"torchvision has no ImageNet weights for width {width} and patch {target.patch}; "
            "it has ViT-B/16 (768) and ViT-L/16 (1024)"
        )
    copy_vit(imagenet(_IMAGENET_VITS[width]), target)


def copy_vit(source: torchvision.models.VisionTransformer, target: ViT) -> None:
    """Copy torchvision's encoder into ours, block by block.

    Raises
    ------
    ValueError
        If the numbers of blocks differ.
    """
    theirs, ours = source.encoder.layers, target.blocks
    if len(theirs) != len(ours):
        raise ValueError(f"{len(theirs)} blocks do not fill the {len(ours)} here")
    side = source.image_size // source.patch_size
    table = source.encoder.pos_embedding
    target.embed.load_state_dict(source.conv_proj.state_dict())
    with torch.no_grad():
        target.class_token.copy_(source.class_token)
        target.positions[:, :1].copy_(table[:, :1])
        target.positions[:, 1:].copy_(_resized(table[:, 1:], (side, side), target.grid))
        # Both blocks hold norm, queries-keys-values, projection, norm and two layers in this order.
        for giver, taker in zip(theirs.parameters(), ours.parameters(), strict=True):
            taker.copy_(giver)


def copy_convolutions(source: nn.Module, target: nn.Module) -> None:
    """Copy weights and biases of all convolutions, in order, from one network to another."""
    givers = [m for m in source.modules() if isinstance(m, nn.Conv2d)]
    takers = [m for m in target.modules() if isinstance(m, nn.Conv2d)]
    if [m.weight.shape for m in givers] != [m.weight.shape for m in takers]:
        raise ValueError(
            f"the {len(givers)} convolutions of the given network do not have the shapes of the "
            f"{len(takers)} expected ones; the weights of torchvision's vgg16 fit preset 'paper'"
        )
    for giver, taker in zip(givers, takers, strict=True):
        taker.load_state_dict(giver.state_dict())


def copy_classifier(
    source: nn.Module, encoder: nn.Module, fc6: nn.Module, fc7: nn.Module
) -> nn.Linear:
    """Copy torchvision's ``vgg16``, its fully connected layers as filters; return its last layer.

    Raises
    ------
    TypeError, ValueError
        If the network is no VGG, or its layers have other sizes than those here.
    """
    if not isinstance(source, torchvision.models.VGG):
        raise TypeError(f"expected torchvision's vgg16, got {type(source).__name__}")
    copy_convolutions(source.features, encoder)
    first, second, last = (m for m in source.classifier if isinstance(m, nn.Linear))
    copy_linear(first, fc6)
    copy_linear(second, fc7)
    return last


def copy_linear(layer: nn.Linear, conv: nn.Module) -> None:
    """Write a fully connected layer into a convolution whose filter covers the whole input."""
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    if layer.weight.numel() != conv.weight.numel():
        raise ValueError(
            f"a layer of {layer.in_features} x {layer.out_features} weights does not fill filters "
            f"of shape {tuple(conv.weight.shape)}; torchvision's vgg16 fits preset 'paper'"
        )
    with torch.no_grad():
        conv.weight.copy_(layer.weight.view_as(conv.weight))
        conv.bias.copy_(layer.bias)


def imagenet(name: str) -> Any:
    """Return a torchvision classifier with its ImageNet weights.

    The weights come from torch's cache, or are downloaded into it.

    Raises
    ------
    RuntimeError
        Without a cached file and without a network; it says which file belongs where.
    """
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return torchvision.models.get_model(name, weights=weights)
    except OSError as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise RuntimeError(
            f"could not download the ImageNet weights of {name} ({error}). On a machine with a "
            f"network, fetch {weights.url} and put the file into {folder}, "
            "or use pretrained=False."
        ) from error
