import re

import numpy as np
import pytest
import torch
from PIL import Image

from seglab.data import Folder, folder, loading

RNG = np.random.default_rng(0)


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def pair(tmp_path):
    """One image and its label map, 6 x 9 pixels, two classes and ignored pixels."""
    image = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    mask = RNG.choice([0, 1, 255], (6, 9)).astype(np.uint8)
    save(image, tmp_path / "images" / "one.png")
    save(mask, tmp_path / "masks" / "one.png")
    return tmp_path, image, mask


def opened(root, **options):
    return Folder(root / "images", root / "masks", classes=["ground", "blob"], **options)


def test_items_are_the_pixels_of_the_files(pair):
    root, pixels, ids = pair
    dataset = opened(root)
    image, mask = dataset[0]
    assert len(dataset) == 1
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert torch.equal((image * 255).round().byte(), torch.from_numpy(pixels).permute(2, 0, 1))
    assert torch.equal(mask, torch.from_numpy(ids).long())
    assert dataset.labels.names == ("ground", "blob")
    assert dataset.labels.num_classes == 2


def test_files_are_paired_by_stem_whatever_the_extension_or_order(tmp_path):
    for name, value in {"b": 0, "a": 1, "c": 0}.items():
        gray = np.full((8, 8), 40 * value + 20, np.uint8)
        save(gray, tmp_path / "images" / f"{name}.JPG")
        save(np.full((8, 8), value, np.uint8), tmp_path / "masks" / f"{name}.png")
    save(np.zeros((8, 8), np.uint8), tmp_path / "masks" / "left_over.png")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"not an image")
    (tmp_path / "images" / "._a.png").write_bytes(b"not an image either")
    dataset = opened(tmp_path)
    assert [path.stem for path in dataset.images] == ["a", "b", "c"]
    assert [int(mask[0, 0]) for _, mask in dataset] == [1, 0, 0]
    assert [round(float(image[0, 0, 0]) * 255) for image, _ in dataset] == [60, 20, 20]


GRAY = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
COLOR = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
DEEP = (GRAY.astype(np.uint16) * 257).astype(np.uint16)


@pytest.mark.parametrize(
    ("array", "suffix", "expected"),
    [
        (GRAY, "png", np.stack([GRAY] * 3, -1)),
        (np.stack([GRAY, GRAY // 2], -1), "png", np.stack([GRAY] * 3, -1)),
        (COLOR, "png", COLOR),
        (np.dstack([COLOR, GRAY]), "png", COLOR),
        (COLOR, "bmp", COLOR),
        (DEEP, "png", np.stack([GRAY] * 3, -1)),
        (DEEP, "tif", np.stack([GRAY] * 3, -1)),
        (GRAY > 128, "png", np.stack([(GRAY > 128) * np.uint8(255)] * 3, -1)),
    ],
    ids=["gray", "gray+alpha", "rgb", "rgba", "bmp", "16-bit png", "16-bit tiff", "1 bit"],
)
def test_images_of_any_mode_become_rgb(tmp_path, array, suffix, expected):
    path = save(array, tmp_path / f"image.{suffix}")
    assert torch.equal(folder.read_image(path), torch.from_numpy(expected).permute(2, 0, 1))


def test_sixteen_bits_are_rounded_to_the_nearest_of_eight(tmp_path):
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(every, tmp_path / "deep.png")
    expected = np.rint(every / 65535 * 255).astype(np.uint8)
    assert np.array_equal(folder.read_image(path)[0], expected)


def test_a_palette_image_becomes_rgb_and_a_palette_mask_its_indices(tmp_path):
    ids = RNG.integers(0, 2, (6, 9)).astype(np.uint8)
    indexed = Image.frombytes("P", (9, 6), ids.tobytes())
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    indexed.save(tmp_path / "images" / "one.png")
    indexed.save(tmp_path / "masks" / "one.png")
    image, mask = opened(tmp_path)[0]
    assert np.array_equal(mask, ids)
    palette = torch.tensor([[10, 20, 30], [200, 100, 50]])
    assert torch.equal((image * 255).round().long(), palette[mask].permute(2, 0, 1))


def test_the_orientation_noted_by_a_camera_is_applied(tmp_path):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    save(array, tmp_path / "images" / "one.png", exif=exif)
    save(np.zeros((16, 8), np.uint8), tmp_path / "masks" / "one.png")
    image, mask = opened(tmp_path)[0]
    assert image.shape == (3, 16, 8)
    assert mask.shape == (16, 8)
    assert image[:, :8].min() == 1
    assert image[:, 8:].max() == 0


def test_size_resizes_image_and_label_map(own_folder):
    dataset = opened(own_folder, size=(32, 40))
    images, masks = loading.stack(dataset)
    assert images.shape == (10, 3, 32, 40)
    assert set(masks.unique().tolist()) <= {0, 1, 255}
    levels = images * 255
    assert (levels - levels.round()).abs().max() < 1e-4
    bright = images.mean(1)
    assert bright[masks == 1].mean() > bright[masks == 0].mean() + 0.3


def test_without_masks_the_items_are_images_alone(pair):
    root, pixels, _ = pair
    dataset = Folder(root / "images")
    assert dataset[0].shape == (3, 6, 9)
    assert torch.equal((dataset[0] * 255).byte(), torch.from_numpy(pixels).permute(2, 0, 1))
    assert dataset.labels is None
    assert Folder(root / "images", classes=["a"]).labels.names == ("a",)


def test_another_ignore_value_becomes_255(pair):
    root, _, ids = pair
    save(np.where(ids == 255, 7, ids).astype(np.uint8), root / "masks" / "one.png")
    _, mask = opened(root, ignore_index=7)[0]
    assert np.array_equal(mask, ids)


def test_colored_label_maps_are_decoded_by_their_colors(pair):
    root, _, ids = pair
    colors = [(10, 20, 30), (200, 0, 0), (255, 255, 255)]
    painted = np.array(colors, np.uint8)[np.where(ids == 255, 2, ids)]
    save(painted, root / "masks" / "one.png")
    dataset = opened(root, colors=colors)
    assert np.array_equal(dataset[0][1], ids)
    assert dataset.labels.colors == ((10, 20, 30), (200, 0, 0))
    with pytest.raises(ValueError, match=r"one.png holds the color \(255, 255, 255\)"):
        opened(root, colors=colors[:2])[0]


def test_every_number_of_classes_gets_different_colors():
    colors = folder._spread(60)
    assert len(set(colors)) == 60
    assert all(0 <= part <= 255 for color in colors for part in color)


# Errors: which file, what it holds, what was expected.


def test_an_unknown_class_id_is_named(pair):
    root, _, ids = pair
    save(np.where(ids == 1, 9, ids).astype(np.uint8), root / "masks" / "one.png")
    with pytest.raises(
        ValueError, match=r"masks/one\.png holds class id 9; expected 0 ground, 1 blob, or 255"
    ):
        opened(root)[0]


def test_an_image_without_label_map_is_named(pair):
    root, pixels, _ = pair
    save(pixels, root / "images" / "two.jpg")
    with pytest.raises(FileNotFoundError, match=r"two\.jpg has no label map: expected .*two\.png"):
        opened(root)


def test_different_sizes_are_named(pair):
    root, _, ids = pair
    save(ids[:5], root / "masks" / "one.png")
    with pytest.raises(ValueError, match=r"masks/one\.png has 5 x 9 .*images/one\.png has 6 x 9"):
        opened(root)[0]
    with pytest.raises(ValueError, match=r"has 5 x 9"):
        opened(root, size=4)[0]


def test_a_color_label_map_without_colors_is_named(pair):
    root, pixels, _ = pair
    save(pixels, root / "masks" / "one.png")
    with pytest.raises(ValueError, match=r"one\.png is a label map of mode RGB; expected one"):
        opened(root)[0]


@pytest.mark.parametrize("which", ["images", "masks"])
@pytest.mark.parametrize("kept", [0, 20, 60, 110])
def test_a_truncated_file_is_named(pair, which, kept):
    root, _, _ = pair
    path = root / which / "one.png"
    path.write_bytes(path.read_bytes()[: min(kept, path.stat().st_size - 24)])
    with pytest.raises(ValueError, match=rf"{which}/one\.png cannot be read as an image"):
        opened(root)[0]


def test_a_truncated_photograph_is_named(tmp_path):
    path = save(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8), tmp_path / "photo.jpg")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"photo\.jpg cannot be read as an image"):
        folder.read_image(path)


def test_floating_point_images_are_named(tmp_path):
    path = save(np.zeros((4, 4), np.float32), tmp_path / "depth.tif")
    with pytest.raises(ValueError, match=r"depth\.tif holds floating-point"):
        folder.read_image(path)
    with pytest.raises(ValueError, match=r"depth\.tif is a label map of mode F"):
        folder.read_mask(path)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no image; expected files \.png"):
        Folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        folder.read_image(tmp_path / "gone.png")


def test_two_files_with_one_stem_are_named(pair):
    root, pixels, _ = pair
    save(pixels, root / "images" / "one.jpg")
    with pytest.raises(ValueError, match=r"one\.jpg and one\.png differ in their extension alone"):
        opened(root)


@pytest.mark.parametrize(
    ("classes", "colors", "message"),
    [
        ([], None, "classes is"),
        ("sky", None, "classes is 'sky'"),
        (["c"] * 256, None, "256 classes"),
        (["a", "b"], [(0, 0, 0)], "1 colors for 2 classes"),
    ],
)
def test_impossible_classes_are_named(pair, classes, colors, message):
    root, _, _ = pair
    with pytest.raises(ValueError, match=re.escape(message)):
        Folder(root / "images", root / "masks", classes, colors=colors)


# The layout of the command line.


def stems(dataset):
    return {path.stem for path in dataset.images}


def test_an_unsplit_folder_is_split_by_a_hash_of_the_names(own_folder):
    train, val = (folder.open_folder(own_folder, split) for split in ("train", "val"))
    assert len(train) == 8
    assert len(val) == 2
    assert stems(train) | stems(val) == {f"photo{k}" for k in range(10)}
    assert train.labels.names == ("ground", "blob")
    assert all(i.stem == m.stem for i, m in zip(val.images, val.masks, strict=True))
    # The first two of `for i in $(seq 0 9); do printf photo$i | sha256sum; done`, sorted.
    assert stems(val) == {"photo7", "photo8"}


def test_a_folder_split_by_hand_is_taken_as_it_is(own_folder, tmp_path):
    root = tmp_path / "split"
    for split, numbers in {"train": range(3), "val": range(3, 5)}.items():
        for kind, suffix in {"images": "jpg", "masks": "png"}.items():
            (root / split / kind).mkdir(parents=True)
            for number in numbers:
                name = f"photo{number}.{suffix}"
                (root / split / kind / name).write_bytes((own_folder / kind / name).read_bytes())
    (root / "classes.txt").write_text("ground\r\nblob\r\n\r\n")
    assert stems(folder.open_folder(root, "train")) == {"photo0", "photo1", "photo2"}
    assert stems(folder.open_folder(root, "val", size=32)) == {"photo3", "photo4"}
    with pytest.raises(FileNotFoundError, match="test/images is not a folder"):
        folder.open_folder(root, "test")


def test_what_the_layout_lacks_is_named(own_folder, tmp_path):
    with pytest.raises(ValueError, match="no split is called 'valid'"):
        folder.open_folder(own_folder, "valid")
    with pytest.raises(FileNotFoundError, match="no folder test"):
        folder.open_folder(own_folder, "test")
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        folder.open_folder(tmp_path / "nowhere", "train")
    (own_folder / "classes.txt").write_text("ground\n\nblob\n")
    with pytest.raises(ValueError, match=r"classes\.txt has an empty line"):
        folder.open_folder(own_folder, "train")
    (own_folder / "classes.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes\.txt is missing: expected a text file"):
        folder.open_folder(own_folder, "train")


def test_one_image_cannot_be_split(pair):
    root, _, _ = pair
    (root / "classes.txt").write_text("ground\nblob")
    with pytest.raises(ValueError, match="holds one image"):
        folder.open_folder(root, "train")


def test_the_real_sections_of_isbi_2012_open_as_a_folder(isbi_root):
    dataset = Folder(isbi_root / "images", isbi_root / "masks", ["membrane", "cell"])
    image, mask = dataset[0]
    assert image.shape == (3, 512, 512)
    assert torch.equal(image[0], image[2])
    # There 255 means cell, so it counts as ignored until the masks are written as 0 and 1.
    assert set(mask.unique().tolist()) == {0, 255}
