import pickle

import pytest
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from seglab import data, labels
from seglab.data import loading, transforms


class Numbered(Dataset):
    """Image and label map i hold the number i."""

    labels = labels.SCENES

    def __init__(self, length, side=4):
        self.length, self.side, self.decoded = length, side, 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.decoded += 1
        image = torch.full((3, self.side, self.side), index / 255)
        return image, torch.full((self.side, self.side), index, dtype=torch.int64)


def numbers(batches):
    return [masks[:, 0, 0].tolist() for _, masks in batches]


@pytest.fixture(params=["from the data set", "in memory"])
def hold(request):
    return loading.in_memory if request.param == "in memory" else lambda dataset: dataset


def test_in_memory_loses_nothing_and_decodes_once():
    scenes = data.load("scenes", "val", size=32, length=5, void=1)
    held = loading.in_memory(scenes)
    assert held.labels is scenes.labels
    assert len(held) == 5
    for (image, mask), (same_image, same_mask) in zip(held, scenes, strict=False):
        assert torch.equal(image, same_image)
        assert torch.equal(mask, same_mask)
        assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    counted = Numbered(3)
    held = loading.in_memory(counted)
    list(loading.loader(held, 2, steps=20))
    assert counted.decoded == 3
    assert loading.in_memory(held) is held


def test_in_memory_refuses_what_bytes_cannot_hold():
    class Normalized(Numbered):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return (image - 0.45) / 0.22, mask

    with pytest.raises(ValueError, match=r"image 0 does not fit into bytes.*-2\.04"):
        loading.in_memory(Normalized(2))


def test_in_memory_refuses_labels_that_bytes_cannot_hold():
    class ManyClasses(Numbered):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, mask + 300

    with pytest.raises(ValueError, match="label map 0 holds 300 to 300"):
        loading.in_memory(ManyClasses(2))


def test_stack_returns_the_items_in_order(hold):
    images, masks = loading.stack(hold(Numbered(5)))
    assert images.shape == (5, 3, 4, 4)
    assert images.dtype == torch.float32
    assert masks.dtype == torch.int64
    assert masks[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal((images[:, 0] * 255).round().long(), masks)


def test_without_steps_one_ordered_pass_with_a_smaller_last_batch(hold):
    batches = loading.loader(hold(Numbered(7)), 3)
    assert numbers(batches) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(batches) == 3


def test_steps_serves_full_batches_and_every_image_once_per_epoch(hold):
    batches = numbers(loading.loader(hold(Numbered(7)), 3, steps=14, seed=1))
    assert len(batches) == 14
    stream = [number for batch in batches for number in batch]
    epochs = [stream[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_batch_may_be_larger_than_the_data_set(hold):
    (batch,) = numbers(loading.loader(hold(Numbered(2)), 5, steps=1))
    assert len(batch) == 5
    assert set(batch) == {0, 1}


@pytest.mark.parametrize("transform", [None, transforms.train(6)])
def test_the_same_seed_gives_the_same_batches_and_another_seed_others(hold, transform):
    dataset = hold(data.load("scenes", "train", size=16, length=6))

    def served(seed, noise):
        batches = []
        for images, masks in loading.loader(dataset, 2, steps=5, transform=transform, seed=seed):
            torch.rand(noise)  # a dropout layer, say
            batches.append((images, masks))
        return batches

    first, again, other = served(3, 0), served(3, 7), served(4, 0)
    for (images, masks), (same_images, same_masks) in zip(first, again, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(masks, same_masks)
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_workers_change_nothing():
    dataset = loading.in_memory(data.load("scenes", "train", size=16, length=6))
    options = {"steps": 4, "transform": transforms.train(8), "seed": 2}
    alone = list(loading.loader(dataset, 3, **options))
    helped = list(loading.loader(dataset, 3, workers=2, **options))
    for (images, masks), (same_images, same_masks) in zip(alone, helped, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(masks, same_masks)


def test_augmentation_leaves_the_global_random_numbers_alone():
    dataset = loading.in_memory(data.load("scenes", "train", size=16, length=4))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(loading.loader(dataset, 2, steps=1, transform=transforms.train(8)))
    # DataLoader itself draws one number when it starts.
    torch.manual_seed(0)
    batches = iter(loading.loader(dataset, 2, steps=3, transform=transforms.train(8)))
    next(batches)
    torch.manual_seed(0)
    next(batches)
    assert torch.equal(torch.rand(3), expected)


def test_every_visit_of_an_image_is_augmented_differently():
    dataset = loading.in_memory(data.load("scenes", "train", size=32, length=1))
    images, _ = next(iter(loading.loader(dataset, 8, steps=1, transform=transforms.train(16))))
    assert len({image.numpy().tobytes() for image in images}) == 8


def test_a_torchvision_transform_reaches_image_and_label_map(hold):
    dataset = hold(data.load("scenes", "train", size=16, length=3))
    flip = v2.Compose([v2.RandomHorizontalFlip(1.0)])
    for (images, masks), (image, mask) in zip(
        loading.loader(dataset, 1, transform=flip), dataset, strict=False
    ):
        assert torch.equal(images[0], image.flip(-1))
        assert torch.equal(masks[0], mask.flip(-1))
        assert type(images) is type(masks) is torch.Tensor


def test_images_of_several_sizes_need_a_transform_or_a_size():
    class Growing(Numbered):
        def __getitem__(self, index):
            self.side = 8 + index
            return super().__getitem__(index)

    for dataset in (Growing(3), loading.in_memory(Growing(3))):
        with pytest.raises(ValueError, match=r"8 x 8, 9 x 9.*size=\(H, W\)"):
            list(loading.loader(dataset, 2))
        images, _ = next(iter(loading.loader(dataset, 3, transform=transforms.train(8))))
        assert images.shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (0, {"batch_size": 2}, "empty"),
        (3, {"batch_size": 0}, "batch_size is 0"),
        (3, {"batch_size": 1, "steps": 0}, "steps is 0"),
    ],
)
def test_bad_arguments_are_named(length, options, message):
    with pytest.raises(ValueError, match=message):
        loading.loader(Numbered(length), **options)


def test_stacking_nothing_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        loading.stack(Numbered(0))


def test_transforms_travel_to_worker_processes():
    assert pickle.loads(pickle.dumps(transforms.train(8))).size == (8, 8)


def test_an_endless_stream_starts_at_once():
    import sys

    batches = loading.loader(loading.in_memory(Numbered(5)), 2, steps=sys.maxsize)
    assert next(iter(batches))[0].shape == (2, 3, 4, 4)
