"""Procedural street scenes."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab import data
from seglab.data import scenes
from seglab.data.scenes import (
    BOAT,
    BUILDING,
    CAR,
    PERSON,
    ROAD,
    SKY,
    TREE,
    WATER,
    Scene,
    Scenes,
    Thing,
)


def test_items_follow_the_contract():
    dataset = data.load("scenes", "train", length=3)
    image, mask = dataset[0]
    assert len(dataset) == 3
    assert image.shape == (3, 96, 96)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert mask.shape == (96, 96)
    assert mask.dtype == torch.int64
    assert set(mask.unique().tolist()) <= set(range(dataset.labels.num_classes))


@given(st.integers(16, 150), st.integers(16, 150), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_any_size_can_be_drawn(height, width, index):
    image, mask = Scenes("val", size=(height, width), length=51).render(index)
    assert image.shape == (height, width, 3)
    assert mask.shape == (height, width)


def test_every_class_appears_and_the_rare_ones_stay_rare():
    masks = torch.stack([mask for _, mask in Scenes("train", length=64)])
    share = torch.bincount(masks.flatten(), minlength=6) / masks.numel()
    assert (share > 0.005).all()
    assert share[PERSON] < 0.03
    assert share[[SKY, ROAD]].sum() > 0.4


def test_twice_as_far_is_half_as_large():
    gray = np.full(3, 0.5, np.float32)

    def height_of(z):
        thing = Thing(scenes.CAR, 0.0, z, 4.0, 4.0, gray, (0, 0))
        _, mask = scenes.render(Scene([thing]), (400, 400))
        rows = np.nonzero((mask == scenes.CAR).any(1))[0]
        return rows.max() - rows.min() + 1

    assert height_of(10) == pytest.approx(2 * height_of(20), abs=3)


def test_near_things_hide_far_ones_in_whatever_order_they_are_listed():
    gray = np.full(3, 0.5, np.float32)
    far = Thing(scenes.BUILDING, 0.0, 30.0, 20.0, 10.0, gray, (0, 0))
    near = Thing(scenes.BUILDING, 0.0, 10.0, 20.0, 10.0, gray, (0, 0))
    near_car = Thing(scenes.CAR, 0.0, 8.0, 4.0, 1.5, gray, (0, 0))
    for things in ([far, near, near_car], [near_car, near, far]):
        _, mask = scenes.render(Scene(things), (96, 96))
        assert (mask == scenes.CAR).sum() > 100
    only_far = scenes.render(Scene([far]), (96, 96))[1] == scenes.BUILDING
    both = scenes.render(Scene([far, near]), (96, 96))[1] == scenes.BUILDING
    assert (both | ~only_far).all()


def test_void_band_covers_exactly_the_pixels_near_another_class():
    _, mask = Scenes("train").render(0)
    banded = scenes.void_band(mask, 2)
    padded = np.pad(mask, 2, mode="edge")
    for row, column in np.ndindex(mask.shape):
        near = padded[row : row + 5, column : column + 5]
        expected = 255 if (near != mask[row, column]).any() else mask[row, column]
        assert banded[row, column] == expected


def test_void_option_ignores_boundaries_and_keeps_the_image():
    plain, banded = Scenes("val")[3], Scenes("val", void=1)[3]
    assert torch.equal(plain[0], banded[0])
    ignored = banded[1] == 255
    assert 0.02 < ignored.float().mean() < 0.4
    assert torch.equal(plain[1][~ignored], banded[1][~ignored])


def test_color_alone_does_not_decide():
    """Nearest class by mean color errs often: a data set that color solves teaches nothing."""
    pairs = [Scenes("train", length=32)[i] for i in range(32)]
    colors = torch.stack([image for image, _ in pairs]).permute(0, 2, 3, 1).reshape(-1, 3)
    classes = torch.stack([mask for _, mask in pairs]).flatten()
    means = torch.stack([colors[classes == k].mean(0) for k in range(6)])
    guess = torch.cdist(colors, means).argmin(1)
    recall = torch.stack([(guess[classes == k] == k).float().mean() for k in range(6)])
    assert recall.mean() < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "no split is called 'training'; there are train, val, test"),
        ({"split": "train", "size": 3}, "size is 3"),
        ({"split": "train", "length": 0}, "length is 0"),
        ({"split": "train", "void": -1}, "void is -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**arguments)


def test_iteration_ends_after_the_last_image():
    assert len(list(Scenes("val", length=2))) == 2
    with pytest.raises(IndexError, match="image 2 of 2"):
        Scenes("val", length=2)[2]


def twins(seed, size=(64, 192)):
    """Images and masks of a street and of a lake from the same random numbers."""
    drawn = []
    for lake in (False, True):
        rng = np.random.default_rng([9, seed])
        scene = scenes.sample_lookalike(rng, lake, size[1] / max(size))
        drawn.append(scenes.render(scene, size))
    return drawn


@pytest.mark.parametrize("size", [(64, 192), (128, 128), (192, 96)])
def test_lookalikes_differ_only_where_the_shore_is(size):
    for seed in range(10):
        (street, road), (lake, water) = twins(seed, size)
        shore = np.isin(road, BUILDING) | np.isin(water, TREE)
        near = scenes.ndimage.binary_dilation(shore, np.ones((5, 5)))  # the lens blurs
        # The shore's foot may darken ground around it; nothing beyond may differ.
        np.testing.assert_array_equal(street[~near], lake[~near])
        assert shore.any()
        columns = np.flatnonzero(shore.any(0))
        assert columns.max() - columns.min() < 0.4 * size[1]


def test_lookalikes_swap_road_with_water_and_car_with_boat():
    for seed in range(10):
        (_, road), (_, water) = twins(seed)
        both = ~np.isin(road, BUILDING) & ~np.isin(water, TREE)
        other = np.arange(8)
        other[[ROAD, CAR]] = WATER, BOAT
        np.testing.assert_array_equal(other[road[both]], water[both])
        assert not np.isin(road, [WATER, BOAT, TREE, PERSON]).any()
        assert not np.isin(water, [ROAD, CAR, BUILDING, PERSON]).any()


def test_lookalikes_are_streets_and_lakes_with_labels_of_their_own():
    dataset = data.load("scenes", "train", size=(64, 192), length=60, lookalikes=True)
    assert dataset.labels.names[-2:] == ("water", "boat")
    masks = torch.stack([mask for _, mask in dataset])
    lakes = (masks == WATER).any(2).any(1)
    assert 15 < lakes.sum() < 45
    assert ((masks == CAR) | (masks == BOAT)).any(2).any(1).float().mean() > 0.9
    assert "boat" not in data.load("scenes", "train").labels.names


def test_vehicles_among_lookalikes_are_far_from_the_evidence():
    dataset = Scenes("train", size=(64, 192), length=40, lookalikes=True)
    for _, mask in dataset:
        shore = torch.isin(mask, torch.tensor([BUILDING, TREE])).any(0).nonzero()
        vehicle = torch.isin(mask, torch.tensor([CAR, BOAT])).any(0).nonzero()
        if len(vehicle):
            assert (vehicle - shore.T).abs().min() > 40


def test_default_scenes_have_not_changed():
    """Recorded results depend on every pixel of them."""
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for part in Scenes(split, length=4).render(3):
            digest.update(part.tobytes())
    assert digest.hexdigest()[:16] == "3a7477ff76ce1ae5"


def test_a_film_has_the_shapes_of_its_truth():
    film = scenes.sequence(0, frames=5, size=(40, 56))
    assert film.frames.shape == (5, 40, 56, 3)
    assert film.frames.dtype == np.uint8
    assert film.masks.shape == film.moving.shape == (5, 40, 56)
    assert film.flow.shape == (4, 40, 56, 2)
    assert film.camera.shape == (5, 2)
    assert scenes.sequence(0, frames=1, size=16).flow.shape == (0, 16, 16, 2)


def test_the_same_seed_gives_the_same_film():
    one, again, other = (scenes.sequence(seed, frames=3) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.frames, again.frames)
    np.testing.assert_array_equal(one.flow, again.flow)
    assert (one.frames != other.frames).any()


def test_in_every_film_something_moves_and_what_moves_is_a_car_or_a_person():
    for seed in range(8):
        film = scenes.sequence(seed, frames=24)
        assert 0.005 < film.moving.mean() < 0.35
        assert set(np.unique(film.masks[film.moving])) <= {CAR, PERSON}


def test_cars_that_are_parked_do_not_move():
    film = scenes.sequence(0, frames=6, cars=0, people=0, pan=1)
    assert (film.masks == CAR).any()
    assert not (film.masks == PERSON).any()
    assert not film.moving.any()


def test_without_motion_frames_differ_by_noise_alone():
    film = scenes.sequence(1, frames=4, cars=0, people=0)
    change = np.diff(film.frames.astype(float), axis=0)
    assert 1 < change.std() < 20
    assert abs(np.corrcoef(change[0].ravel(), change[2].ravel())[0, 1]) < 0.02
    assert (film.masks == film.masks[0]).all()


@pytest.mark.parametrize("options", [{}, {"pan": 2}, {"pan": -1, "shake": 2}])
def test_masks_move_with_the_flow(options):
    """What a pixel shows is found where the flow says, but where it is hidden or rounded."""
    film = scenes.sequence(2, frames=6, size=128, **options)
    rows, columns = np.indices((128, 128))
    for t in range(5):
        there = np.rint(np.stack([rows, columns], -1) + film.flow[t]).astype(int)
        inside = ((there >= 0) & (there < 128)).all(axis=-1)
        down, right = there[inside].T
        for truth in (film.masks, film.moving):
            agree = truth[t + 1][down, right] == truth[t][inside]
            assert agree.mean() > 0.975
    interior = scenes.ndimage.binary_erosion(film.moving[0], iterations=2)
    assert (film.flow[0][interior] != -np.diff(film.camera, axis=0)[0]).any(axis=-1).all()


def test_still_things_move_against_the_camera_by_whole_pixels():
    film = scenes.sequence(3, frames=6, size=64, cars=0, people=0, pan=1, shake=3)
    clean = scenes.ndimage.uniform_filter(film.frames.astype(float), (0, 3, 3, 0))
    for t, (down, right) in enumerate(np.diff(film.camera, axis=0)):
        assert (film.flow[t] == (-down, -right)).all()
        moved = scenes.ndimage.shift(clean[t], (-down, -right, 0), order=0, cval=np.nan)
        assert np.nanmedian(np.abs(moved - clean[t + 1])) < 6
        np.testing.assert_array_equal(
            film.masks[t, 12:-12, 12:-12],
            film.masks[t + 1, 12 - down : 52 - down, 12 - right : 52 - right],
        )


def test_the_first_frame_shows_the_same_place_wherever_the_camera_goes():
    still, moved = (scenes.sequence(5, frames=4, cars=0, people=0, **k) for k in ({}, {"pan": 3}))
    np.testing.assert_array_equal(still.masks[0], moved.masks[0])


def test_light_swells_and_fades():
    options = {"frames": 8, "cars": 0, "people": 0}
    steady, swelling = (scenes.sequence(1, light=light, **options) for light in (0.0, 0.2))
    ratio = swelling.frames.mean((1, 2, 3)) / steady.frames.mean((1, 2, 3))
    assert ratio[0] == pytest.approx(1)
    assert 1.1 < ratio[2] < 1.21  # a quarter of the film; bright pixels saturate
    assert ratio[6] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames is 0; expected at least 1"),
        ({"size": 4}, "size is 4; expected a side"),
        ({"cars": -1}, "cars is -1"),
        ({"people": -2}, "people is -2"),
        ({"shake": -1}, "shake is -1"),
        ({"light": float("nan")}, "light is nan"),
        ({"rate": 0}, "rate is 0"),
    ],
)
def test_bad_films_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes.sequence(**arguments)
