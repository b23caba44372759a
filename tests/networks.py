"""Small networks of every shape that a diagram has to show."""

import torch
import torch.nn.functional as F
from torch import nn


def block(channels_in, channels_out, kernel=3, rate=1):
    padding = rate * (kernel // 2)
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=rate)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


class Unet(nn.Module):
    """Two levels, pooled by a function, upsampled by a layer, concatenated by a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.bottom = block(3, 4), block(4, 8), block(8, 16)
        self.up2, self.up1 = nn.ConvTranspose2d(16, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)
        self.left2, self.left1 = block(16, 8), block(8, 4)
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, images):
        first = self.first(images)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        features = self.left2(torch.cat([second, self.up2(bottom)], 1))
        return self.head(self.left1(torch.cat([first, self.up1(features)], 1)))


class Unpooling(nn.Module):
    """Three levels of a SegNet; the encoder pools by a layer that the decoder undoes."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([block(3, 8), block(8, 16), block(16, 32)])
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.up = nn.ModuleList([block(32, 16), block(16, 8), block(8, 8)])
        self.score = nn.Conv2d(8, 5, 1)

    def forward(self, features):
        places = []
        for layers in self.down:
            features, place = self.pool(layers(features))
            places.append(place)
        for layers, place in zip(self.up, reversed(places), strict=True):
            features = layers(self.unpool(features, place))
        return self.score(features)


class Functional(Unpooling):
    """The same with functions instead of layers."""

    def forward(self, features):
        places = []
        for layers in self.down:
            features, place = F.max_pool2d(layers(features), 2, return_indices=True)
            places.append(place)
        for layers, place in zip(self.up, reversed(places), strict=True):
            features = layers(F.max_unpool2d(features, place, 2))
        return self.score(features)


class Pyramid(nn.Module):
    """Stride 8, pooled to four grids beside the map itself."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 32, 9, 8, 4), nn.ReLU())
        self.grids = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(32, 8, 1)) for bins in (1, 2, 3, 6)
        )
        self.score = nn.Conv2d(64, 5, 1)

    def forward(self, images):
        features = self.encoder(images)
        size = features.shape[2:]
        contexts = [F.interpolate(grid(features), size, mode="bilinear") for grid in self.grids]
        return F.interpolate(self.score(torch.cat([features, *contexts], 1)), images.shape[2:])


class Atrous(nn.Module):
    """Stride 8, four rates summed."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 32, 9, 8, 4), nn.ReLU())
        self.rates = nn.ModuleList(block(32, 5, rate=rate) for rate in (6, 12, 18, 24))

    def forward(self, images):
        features = self.encoder(images)
        return F.interpolate(sum(rate(features) for rate in self.rates), images.shape[2:])


class Taps(nn.Module):
    """A transformer whose layers are tapped, summed from the top down and concatenated."""

    def __init__(self, depth=12):
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 8, 8)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 64, batch_first=True) for _ in range(depth)
        )
        self.reduce = nn.ModuleList(nn.Conv2d(32, 16, 1) for _ in range(3))
        self.smooth = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.score = nn.Conv2d(48, 5, 1)

    def forward(self, images):
        features = self.embed(images)
        tokens, maps = features.flatten(2).transpose(1, 2), []
        for k, layer in enumerate(self.layers, 1):
            tokens = layer(tokens)
            if k % 4 == 0:
                tapped = tokens.transpose(1, 2).unflatten(2, features.shape[2:])
                maps.append(self.reduce[len(maps)](tapped))
        for k in (1, 0):
            maps[k] = maps[k] + maps[k + 1]
        streams = [
            F.interpolate(smooth(found), scale_factor=2)
            for smooth, found in zip(self.smooth, maps, strict=True)
        ]
        return F.interpolate(self.score(torch.cat(streams, 1)), images.shape[2:])
