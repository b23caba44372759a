"""Receptive fields: the published ones, and those that a linear network's pixels really reach."""

import math

import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from seglab import models
from seglab.receptive_field import ReceptiveField, effective, theoretical

VGG = torchvision.models.vgg16().features


def fully_convolutional_alexnet():
    return nn.Sequential(torchvision.models.alexnet().features, nn.Conv2d(256, 21, 6))


def googlenet():
    """The longest path: 5 x 5 in every module (torchvision's has 3 x 3), 7 x 7 average pooling."""
    layers = [nn.Conv2d(3, 1, 7, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True)]
    for count in (2, 5, 2):
        layers += [nn.Conv2d(1, 1, 5, padding=2) for _ in range(count)]
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] * (count == 2 and len(layers) < 10)
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] * (count == 5)
    return nn.Sequential(*layers, nn.AvgPool2d(7, 1))


def large_field_of_view(pool, kernel=3, rate=12):
    """DeepLab v1: VGG-16 whose last two poolings keep the resolution, then fc6."""
    layers, channels, dilation = [], 3, 1
    for block, count in enumerate((2, 2, 3, 3, 3)):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, 2, 3, padding=dilation, dilation=dilation))
            channels = 2
        dilation = 2 if block == 3 else 1
        layers.append(nn.MaxPool2d(pool, 2 if block < 3 else 1, padding=pool // 2))
    return nn.Sequential(*layers, nn.Conv2d(2, 2, kernel, dilation=rate))


@pytest.mark.parametrize(
    ("build", "size", "stride"),
    [
        (lambda: VGG, 212, 32),  # Araujo, Norris and Sim, Distill 2019
        (lambda: torchvision.models.alexnet().features, 195, 32),  # the same
        (fully_convolutional_alexnet, 355, 32),  # Long et al. 2015, table 1
        (googlenet, 907, 32),  # the same
        (lambda: large_field_of_view(2), 396, 8),
        (lambda: large_field_of_view(3), 419, 8),
    ],
)
def test_published_receptive_fields_are_found(build, size, stride):
    with torch.device("meta"):
        model = build()
    field = theoretical(model)
    assert (field.size, field.stride) == (size, stride)


def paper(name):
    with torch.device("meta"):
        return models.create(name)


def test_a_score_unit_of_fcn_sees_404_pixels():
    model = paper("fcn32s")
    assert theoretical(model) == ReceptiveField(404, 32, 15.5)
    assert theoretical(model) == theoretical(model, module="score")
    assert theoretical(model, module="encoder.blocks.4").size == 212
    assert theoretical(model, module="").size == 404 + 32  # interpolated between two units


@pytest.mark.parametrize(("name", "stride"), [("fcn32s", 32), ("fcn16s", 16), ("fcn8s", 8)])
def test_the_score_map_is_found_before_fixed_and_learnt_upsampling(name, stride):
    field = theoretical(paper(name))
    assert (field.stride, field.offset) == (stride, (stride - 1) / 2)
    assert theoretical(models.create(name, preset="small")).stride == stride
    learnt = theoretical(models.create(name, preset="small", learnt_upsampling=True))
    assert learnt.stride == stride


def reached(model, width):
    """First and last lit pixel for every unit, by lighting one pixel at a time."""
    with torch.no_grad():
        lit = model(torch.eye(width)[:, None]).sum(1) > 0  # (pixels, units)
    places = torch.arange(width)[:, None].expand_as(lit)
    first = places.masked_fill(~lit, width).amin(0)
    return first, places.masked_fill(~lit, -1).amax(0)


def middle(first, last, width):
    """Units whose field is centered in the middle third of the image."""
    center = (first + last) / 2
    return ((center > width / 3) & (center < 2 * width / 3) & (first <= last)).nonzero()[:, 0]


def linear(layers):
    """The same layers along one axis; positive weights, averages in place of maxima."""
    twins = []
    for part in layers:
        if isinstance(part, nn.Conv2d):
            k, s, d = part.kernel_size[0], part.stride[0], part.dilation[0]
            p = part.padding if isinstance(part.padding, str) else part.padding[0]
            sizes = part.in_channels, part.out_channels, k, s, p, d, part.groups
            twins.append(nn.Conv1d(*sizes, bias=False))
        elif isinstance(part, nn.ConvTranspose2d):
            k, s, p = part.kernel_size[0], part.stride[0], part.padding[0]
            twins.append(nn.ConvTranspose1d(2, 2, k, s, p, bias=False))
        elif isinstance(part, nn.Upsample):
            mode = part.mode.replace("bilinear", "linear")
            twins.append(nn.Upsample(scale_factor=part.scale_factor, mode=mode))
        else:
            k, s, p = part.kernel_size, part.stride, part.padding
            twins.append(nn.AvgPool1d(k, s, p, ceil_mode=part.ceil_mode))
        for weight in twins[-1].parameters():
            nn.init.constant_(weight, 0.5)
    return nn.Sequential(*twins)


@st.composite
def shrinking(draw):
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    dilation, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2]))
    kind = draw(st.sampled_from(["conv", "same", "max", "average"]))
    if kind == "conv":
        padding = draw(st.integers(0, 4))
        return nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups, bias=False)
    if kind == "same":
        return nn.Conv2d(2, 2, kernel, 1, "same", dilation, groups, bias=False)
    padding, ceil = draw(st.integers(0, kernel // 2)), draw(st.booleans())
    pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
    return pool(kernel, stride, padding, ceil_mode=ceil)


@st.composite
def growing(draw):
    kind = draw(st.sampled_from(["transposed", "bilinear", "nearest"]))
    stride = draw(st.integers(2, 3))
    if kind != "transposed":
        return nn.Upsample(scale_factor=stride, mode=kind)
    kernel, padding = draw(st.integers(stride, 4)), draw(st.integers(0, 1))
    return nn.ConvTranspose2d(2, 2, kernel, stride, padding, bias=False)


@settings(max_examples=30, deadline=None)
@given(st.lists(shrinking(), min_size=1, max_size=4))
def test_stacks_of_convolutions_and_poolings_see_what_light_reaches(layers):
    layers = [nn.Conv2d(1, 2, 1, bias=False), *layers]
    field = theoretical(nn.Sequential(*layers), channels=1)
    assume(field.size < 480 / 3)  # then the border cuts no unit in the middle
    first, last = reached(linear(layers), 480)
    inner = middle(first, last, 480)
    center = field.offset + field.stride * inner
    torch.testing.assert_close(first[inner] + 0.0, center - (field.size - 1) / 2)
    torch.testing.assert_close(last[inner] + 0.0, center + (field.size - 1) / 2)


def strides(part):
    found = part.scale_factor if isinstance(part, nn.Upsample) else part.stride
    return found[0] if isinstance(found, tuple) else found


@settings(max_examples=30, deadline=None)
@given(
    st.lists(shrinking(), min_size=1, max_size=2),
    st.lists(growing(), min_size=1, max_size=2),
    st.lists(shrinking(), min_size=1, max_size=1),
)
def test_units_of_decoders_see_what_light_reaches(down, up, after):
    layers = [nn.Conv2d(1, 2, 1, bias=False), *down, *up, *after]
    field = theoretical(nn.Sequential(*layers), channels=1, module="")
    assume(field.size < 480 / 3)
    first, last = reached(linear(layers), 480)
    inner = middle(first, last, 480)
    assert field.size == (last - first)[inner].max() + 1
    down_by = math.prod(strides(part) for part in [*down, *after])
    assert field.stride == pytest.approx(down_by / math.prod(strides(part) for part in up))
    error = (first + last)[inner] / 2 - field.offset - field.stride * inner
    assert error.mean().abs() < 0.5


class Joined(nn.Module):
    """Two branches of the same size, dilated and not, joined by any function."""

    def __init__(self, join):
        super().__init__()
        self.near = nn.Conv2d(3, 2, 3, padding=1)
        self.far = nn.Conv2d(3, 2, 3, padding=8, dilation=8)
        self.join = join

    def forward(self, images):
        return self.join(self.near(images), self.far(images))


@pytest.mark.parametrize(
    ("join", "size"),
    [
        (lambda near, far: near, 3),
        (lambda near, far: near + far, 17),
        (lambda near, far: near.add_(F.relu(far)), 17),
        (lambda near, far: torch.cat([near, far], 1), 17),
        (lambda near, far: torch.stack([near, far]).mean(0), 17),
        (lambda near, far: torch.cat([near, far], 1).chunk(2, 1)[0], 3),
        (lambda near, far: near * far.mean(1, keepdim=True).sigmoid(), 17),
        (lambda near, far: F.pixel_shuffle(torch.cat([near, far], 1), 2), 17),
        (lambda near, far: (near.flatten(2).transpose(1, 2) @ torch.ones(2, 4)).mT, 3),
    ],
)
def test_the_field_reaches_over_all_paths_that_lead_to_a_unit(join, size):
    def as_map(near, far):
        found = join(near, far)
        return found if found.ndim == 4 else found.unflatten(2, near.shape[2:])

    assert theoretical(Joined(as_map), module="").size == size


def test_crops_move_the_field_and_a_crop_of_the_score_map_is_looked_through():
    cut = Joined(lambda near, far: near[..., 4:-4, 4:-4])
    assert theoretical(cut, module="") == ReceptiveField(3, 1, 4)
    assert theoretical(cut) == ReceptiveField(3, 1, 0)


class Unpooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images):
        pooled, places = F.max_pool2d(self.encoder(images), 2, return_indices=True)
        return self.decoder(F.max_unpool2d(pooled, places, 2))


def test_a_maximum_may_have_come_from_anywhere_in_its_window_and_go_there():
    twin = [nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)]
    first, last = reached(linear([*twin, nn.Conv2d(2, 2, 3, padding=1)]), 60)
    field = theoretical(Unpooling())
    assert field.size == (last - first)[middle(first, last, 60)].max() + 1
    assert field.stride == 1


class Patches(nn.Module):
    """Attention between patches of eight pixels, then a score map."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, 8)
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.score = nn.Conv2d(8, 4, 1)

    def forward(self, images):
        features = self.embed(images)
        tokens = self.attend(features.flatten(2).transpose(1, 2))
        return F.interpolate(self.score(tokens.mT.unflatten(2, features.shape[2:])), scale_factor=8)


class Context(nn.Module):
    def forward(self, images):
        return images + F.interpolate(F.adaptive_avg_pool2d(images, 3), images.shape[2:])


class Squeeze(nn.Module):
    def forward(self, images):
        return images * images.mean((2, 3), keepdim=True).sigmoid()


@pytest.mark.parametrize("model", [Patches(), Context(), Squeeze(), torchvision.models.resnet18()])
def test_attention_image_pooling_and_classifiers_see_the_whole_image(model):
    field = theoretical(model)
    assert field.size == math.inf
    assert math.isnan(field.stride)
    assert math.isnan(field.offset)


def test_before_its_attention_a_patch_sees_itself():
    assert theoretical(Patches(), module="embed") == ReceptiveField(8, 8, 3.5)


class Odd(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.idle = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.function(images)


def long_memory(images):
    """Each unit sees 9,001 pixels, all on its left."""
    return F.conv2d(F.pad(images, (9000, 0)), images.new_ones(1, 3, 1, 9001))


def part_written(images):
    result = torch.zeros_like(images)
    result[:, :1] = images[:, :1] + 1
    result[:, 1:].add_(images[:, 1:])
    return result


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: images.cumsum(-1), "'cumsum'"),
        (lambda images: torch.ones(1, 2, 8, 8), "does not depend"),
        (lambda images: F.conv3d(images[None], torch.ones(1, 1, 1, 1, 1)), "3 dimensions"),
        (part_written, "part of a map"),
        (long_memory, "larger than 8,192"),
    ],
)
def test_what_cannot_be_followed_is_said(function, message):
    with pytest.raises(ValueError, match=message):
        theoretical(Odd(function))


def test_modules_that_are_not_there_or_did_not_run_are_named():
    model = Odd(lambda images: images)
    for measure in (theoretical, effective):
        with pytest.raises(ValueError, match="no module 'fc9'; the model has idle"):
            measure(model, module="fc9")
        with pytest.raises(ValueError, match="'idle' did not run"):
            measure(model, module="idle")


def test_a_model_is_left_as_it_was():
    model = models.create("fcn8s", preset="small").train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    theoretical(model)
    effective(model, torch.rand(1, 3, 64, 64))
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def stack(depth, fill):
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(depth)))
    for weight in model.parameters():
        fill(weight)
    return model


def test_the_effective_field_of_equal_weights_is_a_binomial_bell():
    found = effective(stack(12, nn.init.ones_), torch.rand(1, 3, 65, 65)).double()
    assert found.shape == (65, 65)
    assert found.max() == found[32, 32] == 1
    profile = found.sum(0) / found.sum()
    places = torch.arange(65).double() - 32
    # a window of k equal weights has variance (k^2 - 1) / 12; variances of layers add up
    assert float(profile @ places**2) == pytest.approx(12 * (9 - 1) / 12)
    assert float(profile @ places) == pytest.approx(0, abs=1e-6)


def test_the_effective_field_fills_the_theoretical_one_and_no_more():
    model = stack(8, nn.init.normal_)
    field = theoretical(model)
    seen = effective(model, torch.rand(4, 3, 48, 48)).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [field.size, field.size]
    assert seen.amin(0).tolist() == [24 + field.offset - (field.size - 1) / 2] * 2


def test_the_effective_field_is_that_of_the_largest_channel_of_the_central_unit():
    model = nn.Conv2d(1, 2, 1, bias=False)
    nn.init.constant_(model.weight[0], -3.0)
    nn.init.constant_(model.weight[1], 2.0)
    found = effective(nn.Sequential(model), torch.ones(2, 1, 4, 6))
    assert found.nonzero().tolist() == [[2, 3]]


def test_the_images_of_the_effective_field_are_the_same_each_time():
    model = stack(2, nn.init.ones_)
    assert torch.equal(effective(model), effective(model))
    assert effective(model).shape == (256, 256)


def test_an_effective_field_without_gradient_or_map_is_refused():
    with pytest.raises(ValueError, match="no gradient"):
        effective(Odd(lambda images: 0 * images), torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        effective(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), torch.rand(2, 3, 2, 2))
