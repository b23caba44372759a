import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from seglab.data import transforms

IGNORE = 255


def class_of_color(image, colors):
    """Which class color every pixel is nearest to, and how far away it is."""
    distance = (image.permute(1, 2, 0)[:, :, None].float() - colors.float()).abs().sum(-1)
    nearest = distance.min(-1)
    return nearest.indices, nearest.values


def assert_aligned(image, mask, colors, least=0.5):
    """Wherever a pixel shows an unmixed class color, the label map must name that class."""
    seen, distance = class_of_color(image, colors)
    pure = (distance < 30) & (mask != IGNORE)
    assert pure.float().mean() > least * (mask != IGNORE).float().mean()
    assert (seen == mask)[pure].float().mean() > 0.999


@pytest.mark.parametrize("seed", range(25))
def test_train_keeps_painted_classes_under_their_labels(painted, painted_colors, seed):
    torch.manual_seed(seed)
    image, mask = transforms.train((48, 56), color=False)(*painted)
    assert image.shape == (3, 48, 56)
    assert mask.shape == (48, 56)
    assert_aligned(image, mask, painted_colors)


@pytest.mark.parametrize("size", [(31, 47), (64, 96), (128, 192), (20, 200), (13, 17)])
def test_resize_keeps_painted_classes_under_their_labels(painted, painted_colors, size):
    image, mask = transforms.resize(*painted, size)
    assert image.shape[1:] == mask.shape == size
    assert_aligned(image, mask, painted_colors, least=0.2)


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7, 2.5])
def test_rescale_keeps_painted_classes_and_proportions(painted, painted_colors, factor):
    image, mask = transforms.rescale(*painted, factor)
    assert mask.shape == (round(64 * factor), round(96 * factor))
    assert_aligned(image, mask, painted_colors, least=0.3)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(0, 254), min_size=1, max_size=6),
    old=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 99),
)
def test_resizing_a_label_map_invents_no_class(ids, old, new, seed):
    picked = torch.randint(len(ids), old, generator=torch.Generator().manual_seed(seed))
    mask = torch.tensor(ids)[picked]
    resized = transforms.resize_mask(mask, new)
    assert resized.dtype == mask.dtype
    assert set(resized.unique().tolist()) <= set(mask.unique().tolist())


@pytest.mark.parametrize("size", [(8, 8), (10, 7), (5, 64), (96, 50)])
def test_resizing_a_label_map_equals_pillow_s_nearest_neighbor(size):
    mask = torch.randint(9, (40, 28), generator=torch.Generator().manual_seed(1))
    pillow = Image.fromarray(mask.numpy().astype(np.uint8)).resize(size[::-1], Image.NEAREST)
    assert np.array_equal(transforms.resize_mask(mask, size), np.asarray(pillow))


@pytest.mark.parametrize("size", [(8, 8), (20, 14), (50, 60)])
def test_resizing_an_image_equals_pillow_s_antialiased_bilinear(size):
    image = torch.randint(256, (3, 40, 28), generator=torch.Generator().manual_seed(1))
    image = image.to(torch.uint8)
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], Image.BILINEAR)
    expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1).int()
    assert (transforms.resize_image(image, size).int() - expected).abs().max() <= 2


def test_horizontal_flip_equals_reversed_columns(painted):
    image, mask = transforms.horizontal_flip(*painted)
    assert torch.equal(image, painted[0].flip(-1))
    assert torch.equal(mask, painted[1].flip(-1))


@settings(max_examples=60, deadline=None)
@given(
    top=st.integers(-90, 90),
    left=st.integers(-130, 130),
    size=st.tuples(st.integers(1, 90), st.integers(1, 130)),
)
def test_crop_equals_indexing_pixel_by_pixel_with_black_and_ignore_outside(top, left, size):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(1, 256, (3, 30, 40), generator=generator).to(torch.uint8)
    mask = torch.randint(5, (30, 40), generator=generator)
    cut, labels = transforms.crop(image, mask, top, left, size)
    rows = torch.arange(top, top + size[0])[:, None].expand(size)
    columns = torch.arange(left, left + size[1]).expand(size)
    inside = (rows >= 0) & (rows < 30) & (columns >= 0) & (columns < 40)
    source = (rows.clamp(0, 29), columns.clamp(0, 39))
    assert torch.equal(cut, torch.where(inside, image[:, source[0], source[1]], 0))
    assert torch.equal(labels, torch.where(inside, mask[source], IGNORE))


def test_scale_then_crop_and_train_s_shortcut_show_the_same(painted):
    """Augment crops first; away from borders that must equal scaling first."""
    smooth = torch.nn.functional.avg_pool2d(painted[0].float() / 255, 9, 1, 4)
    enlarged, labels = transforms.rescale(smooth, painted[1], 2.0)
    expected = transforms.crop(enlarged, labels, 20, 40, (40, 60))
    window = transforms.crop(smooth, painted[1], 10, 20, (20, 30))
    found = transforms.resize(*window, (40, 60))
    assert torch.equal(found[1], expected[1])
    difference = (found[0] - expected[0])[:, 2:-2, 2:-2].abs().max()
    assert difference < 1e-5


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_color_jitter_changes_the_image_only_and_stays_in_range(painted, kind):
    image, mask = painted
    image = image if kind == "uint8" else image.float() / 255
    torch.manual_seed(0)
    changed, same = transforms.color_jitter(image, mask)
    assert changed.dtype == image.dtype
    assert changed.min() >= 0
    assert changed.max() <= (255 if kind == "uint8" else 1)
    assert not torch.equal(changed, image)
    assert torch.equal(same, mask)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_same_seed_gives_the_same_augmentation(painted, dtype):
    image = painted[0] if dtype == torch.uint8 else painted[0].float() / 255
    augment = transforms.train(40)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(augment(image, painted[1]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])
    assert results[0][0].dtype == dtype


def test_bytes_and_floats_are_augmented_alike(painted):
    augment = transforms.train((48, 56))
    torch.manual_seed(5)
    as_bytes, labels = augment(*painted)
    torch.manual_seed(5)
    as_floats, same_labels = augment(painted[0].float() / 255, painted[1])
    assert torch.equal(labels, same_labels)
    assert (as_bytes.float() / 255 - as_floats).abs().max() < 0.03


def test_every_second_image_is_flipped_and_every_scale_occurs():
    columns = torch.arange(96).expand(64, 96)
    image = columns.to(torch.uint8).expand(3, 64, 96)
    augment = transforms.train((32, 48), color=False)
    torch.manual_seed(0)
    flips, scales = [], []
    for _ in range(400):
        _, labels = augment(image, columns)
        row = labels[16]
        row = row[row != IGNORE].float()
        slope = float((row[-1] - row[0]) / (len(row) - 1))  # columns of the original per pixel
        flips.append(slope < 0)
        scales.append(1 / abs(slope))
    assert 0.42 < np.mean(flips) < 0.58
    assert 0.48 < min(scales) < 0.6
    assert 1.85 < max(scales) < 2.15
    assert 1.15 < np.mean(scales) < 1.35


def test_padding_is_black_and_ignored(painted):
    torch.manual_seed(0)
    image, mask = transforms.train(200, scale=(1, 1), color=False)(*painted)
    outside = mask == IGNORE
    assert outside.sum() == 200 * 200 - 64 * 96
    assert not image[:, outside].any()


def test_a_torchvision_transform_takes_its_place(painted):
    from torchvision import tv_tensors

    flip = v2.RandomHorizontalFlip(1.0)
    image, mask = flip(tv_tensors.Image(painted[0]), tv_tensors.Mask(painted[1]))
    ours = transforms.horizontal_flip(*painted)
    assert torch.equal(image, ours[0])
    assert torch.equal(mask, ours[1])


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 5, 6), (4, 0), (2.5, 3), "ab"])
def test_an_impossible_size_is_named(size):
    with pytest.raises(ValueError, match="size is"):
        transforms.train(size)


@pytest.mark.parametrize("scale", [(0, 1), (2, 1), (-1, 1)])
def test_an_impossible_scale_is_named(scale):
    with pytest.raises(ValueError, match="scale is"):
        transforms.train(32, scale=scale)
