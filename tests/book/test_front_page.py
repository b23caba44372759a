"""The picture of the front page: what it shows is what the networks said, and small."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from book.tools import pictures
from book.tools.browser import chromium
from seglab import data
from tests.book.test_browser import CHROMIUM

RECORD = json.loads(pictures.RECORD.read_text())
LABELS = pictures.SCENES


@pytest.fixture(scope="module")
def scene():
    """Image (3, H, W) and mask (H, W) that the record names, drawn again."""
    split, index = RECORD["scene"].values()
    return data.load("scenes", split, size=tuple(RECORD["settings"]["size"]))[index]


def label_map(name):
    """Class ids of a picture, (H, W), read from its colors."""
    colors = np.array(Image.open(pictures.FOLDER / f"{name}.png").convert("RGB"))
    pixels = colors[:: pictures.ENLARGED, :: pictures.ENLARGED]
    same = (pixels[:, :, None] == np.array(LABELS.colors)).all(-1)  # (H, W, K)
    assert same.any(-1).all(), "a color that belongs to no class"
    return torch.from_numpy(same.argmax(-1))


def test_the_page_is_written_from_the_record():
    assert pictures.PAGE.read_text() == pictures.page(RECORD), "type: make pictures"


def test_the_pictures_are_small():
    assert sum(path.stat().st_size for path in pictures.FOLDER.iterdir()) < 150_000


def test_image_and_truth_are_a_scene_of_the_test_images(scene):
    image, mask = scene
    assert RECORD["scene"]["split"] == "test"
    assert torch.equal(label_map("truth"), mask)
    assert set(mask.unique().tolist()) == set(range(LABELS.num_classes))
    shown = np.array(Image.open(pictures.FOLDER / "scene.webp").convert("RGB")) / 255
    assert np.abs(shown - image.permute(1, 2, 0).numpy()).mean() < 0.02


@pytest.mark.parametrize("name", pictures.NETWORKS)
def test_a_network_gets_as_much_right_as_the_words_under_it_say(name, scene):
    right = (label_map(name) == scene[1]).numpy()
    assert right.mean() == pytest.approx(RECORD["right"][name]["all"])
    for k, title in enumerate(LABELS.names):
        share = right[scene[1].numpy() == k].mean()
        assert share == pytest.approx(RECORD["right"][name][title])


def test_the_later_network_is_better_on_all_scenes_and_on_this_one():
    first, second = pictures.NETWORKS
    assert RECORD["mean_iou"][second] > RECORD["mean_iou"][first]
    assert RECORD["right"][second]["all"] > RECORD["right"][first]["all"]


def test_the_words_of_the_front_page_are_true_of_the_picture():
    first, second = (RECORD["right"][name] for name in pictures.NETWORKS)
    assert first["car"] == 0 < 0.5 < second["car"]  # "the car above is smaller than that"
    assert second["person"] == 0  # "the people are still missing"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH, page not opened")
def test_the_slider_fades_the_labels(site):
    with chromium() as browser:
        tab = browser.new_page()
        tab.goto((site / "book" / "index.html").as_uri())
        labels = tab.locator(".front img + img")
        shown = "images => images.map(image => getComputedStyle(image).opacity)"
        assert labels.evaluate_all(shown) == ["1"] * (len(pictures.NETWORKS) + 1)
        tab.get_by_role("slider").press("Home")
        assert labels.evaluate_all(shown) == ["0"] * (len(pictures.NETWORKS) + 1)
