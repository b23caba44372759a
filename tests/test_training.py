"""The loop against a hand-written one, the schedule against its formula, files against damage."""

import math
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seglab import models, training
from seglab.data import loading
from seglab.labels import Labels

LABELS = Labels(names=("a", "b", "c"), colors=((0, 0, 0), (255, 0, 0), (0, 0, 255)))
CPU = {"device": "cpu", "dtype": torch.float32, "progress": False}


class Blocks(torch.utils.data.Dataset):
    """Random 8-bit images whose brightest channel is the label; label 255 in the corner."""

    labels = LABELS

    def __init__(self, length=6, size=16):
        generator = torch.Generator().manual_seed(1)
        images = torch.randint(0, 256, (length, 3, 4, 4), generator=generator).float()
        self.images = F.interpolate(images, (size, size)) / 255
        self.masks = self.images.argmax(dim=1)
        self.masks[:, :2, :2] = 255

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.masks[index]


def network(*, channels=3, dropout=0.0):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(8, channels, 1),
    )


class Fixed(nn.Module):
    """Logits that do not depend on the image; one parameter, so that it counts as a model."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return self.logits.expand(len(images), -1, *images.shape[-2:])


# ---- fit


def by_hand(model, optimizer, *, steps, lr, batch_size=4, seed=0):
    """The loop that fit stands for, with torch's own cross entropy."""
    model.train().to(memory_format=torch.channels_last)
    losses = []
    for t, (images, target) in enumerate(
        loading.loader(loading.in_memory(Blocks()), batch_size, steps=steps, seed=seed)
    ):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - t / steps) ** 0.9
        images = images.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(images), target, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fit_gives_the_losses_of_a_hand_written_loop(name):
    mine, theirs = network(), network()
    lr, decay = 0.02, 0.01
    optimizer = {
        "adamw": torch.optim.AdamW(mine.parameters(), lr, weight_decay=decay),
        "sgd": torch.optim.SGD(mine.parameters(), lr, momentum=0.9, weight_decay=decay),
    }[name]
    expected = by_hand(mine, optimizer, steps=12, lr=lr)
    history = training.fit(
        theirs, Blocks(), steps=12, batch_size=4, lr=lr, weight_decay=decay, optimizer=name, **CPU
    )
    assert history.losses == pytest.approx(expected, rel=1e-4)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_losses_bit_for_bit_and_another_seed_does_not():
    from seglab.data import transforms

    def losses(seed):
        torch.rand(seed + 1)  # the state of the global generator must not matter
        model = network(dropout=0.3)
        return training.fit(
            model,
            Blocks(),
            steps=8,
            batch_size=4,
            seed=seed,
            transform=transforms.train(16),
            progress=False,
        ).losses

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_fit_leaves_the_global_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = network(dropout=0.5)  # reseeds
    torch.manual_seed(5)
    training.fit(model, Blocks(), steps=2, **CPU)
    assert torch.equal(torch.rand(3), expected)


def test_training_lowers_the_loss_and_the_scores_rise():
    history = training.fit(
        network(), Blocks(), Blocks(), steps=150, lr=0.05, evaluate_every=50, **CPU
    )
    assert history.losses[-1] < 0.4 * history.losses[0]
    assert history.valid_steps == [50, 100, 150]
    assert history.mean_ious[-1] > 0.8
    assert len(history.steps) == len(history.losses) == len(history.lrs) == 150


def test_the_last_validation_is_what_evaluate_says():
    model = network()
    history = training.fit(model, Blocks(), Blocks(), steps=3, progress=False, device="cpu")
    assert history.mean_ious == [training.evaluate(model, Blocks()).mean_iou]


def test_poly_follows_its_formula():
    history = training.fit(network(), Blocks(), steps=10, lr=0.3, batch_size=2, **CPU)
    assert history.lrs == pytest.approx([0.3 * (1 - t / 10) ** 0.9 for t in range(10)])
    assert training.poly(0.0) == 1.0
    assert training.poly(1.0) == 0.0


def test_constant_schedule_with_warmup_grows_linearly_and_stays():
    history = training.fit(
        network(), Blocks(), steps=6, lr=0.4, schedule="constant", warmup=3, **CPU
    )
    assert history.lrs == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_the_clock_stops_training_and_drives_the_schedule():
    started = time.perf_counter()
    history = training.fit(network(), Blocks(), minutes=0.01, lr=1.0, batch_size=2, **CPU)
    assert 0.5 < time.perf_counter() - started < 5.0
    assert history.lrs == sorted(history.lrs, reverse=True)
    assert history.lrs[0] > 0.8
    assert history.lrs[-1] < 0.4


def test_steps_end_training_before_a_long_clock():
    history = training.fit(network(), Blocks(), steps=3, minutes=5, **CPU)
    assert len(history.steps) == 3


def test_images_are_decoded_once():
    class Counting(Blocks):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return super().__getitem__(index)

    training.fit(network(), Counting(), steps=10, batch_size=4, **CPU)
    assert Counting.reads <= 7  # six images, one of them looked at for its size


def test_plain_lists_of_float_images_work_too():
    pairs = [(torch.rand(3, 16, 16), torch.randint(0, 3, (16, 16))) for _ in range(4)]
    assert len(training.fit(network(), pairs, steps=2, batch_size=2, **CPU).losses) == 2


def test_the_auxiliary_loss_counts_two_fifths():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, images):
            return (self.main(images), self.side(images)) if self.training else self.main(images)

    torch.manual_seed(0)
    model = TwoHeads()
    images, target = loading.stack(Blocks())
    main, side = (
        F.cross_entropy(head(images), target, ignore_index=255).item()
        for head in (model.main, model.side)
    )
    history = training.fit(model, Blocks(), Blocks(), steps=1, batch_size=6, **CPU)
    assert history.losses[0] == pytest.approx(main + 0.4 * side, rel=1e-5)


class Valid(nn.Module):
    """A 3x3 convolution without padding, then 2x2 pooling and its undoing: sizes n = 2 mod 4."""

    padding, margin = "valid", 1

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)

    def fitting_size(self, n):
        return n + (2 - n) % 4

    def forward(self, images):
        if any(side % 4 != 2 for side in images.shape[-2:]):
            raise ValueError(f"{tuple(images.shape)} does not fit")
        return self.convolution(images)


def test_a_model_without_padding_is_scored_on_the_center_of_the_target_in_fit():
    torch.manual_seed(0)
    model, data = Valid(), Blocks(size=18)
    images, target = loading.stack(data)
    expected = F.cross_entropy(model(images), target[:, 1:-1, 1:-1], ignore_index=255).item()
    history = training.fit(model, data, steps=1, batch_size=6, **CPU)
    assert history.losses[0] == pytest.approx(expected, rel=1e-5)


def test_a_model_without_padding_is_evaluated_on_every_pixel_of_any_size():
    torch.manual_seed(0)
    model, data = Valid().eval(), Blocks(size=17)
    images, target = loading.stack(data)
    with torch.no_grad():
        labels = model.convolution(F.pad(images, (1, 1, 1, 1), mode="reflect")).argmax(1)
    valid = target != 255
    expected = (labels == target)[valid].float().mean().item()
    assert training.evaluate(model, data).pixel_accuracy == pytest.approx(expected)


def test_logits_of_another_size_are_refused_without_valid_padding():
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    with pytest.raises(ValueError, match="logits are 14 x 14, the target is 16 x 16"):
        training.fit(model, Blocks(), steps=1, **CPU)


def test_one_channel_means_two_classes():
    class Binary(Blocks):
        labels = Labels(names=("back", "front"), colors=((0, 0, 0), (255, 255, 255)))

        def __init__(self):
            super().__init__()
            self.masks = (self.images[:, 0] > 0.5).long()

    model = network(channels=1)
    training.fit(model, Binary(), steps=100, lr=0.05, **CPU)
    scores = training.evaluate(model, Binary())
    images, target = loading.stack(Binary())
    with torch.inference_mode():
        predicted = (model.eval()(images)[:, 0] > 0).long()
    assert scores.pixel_accuracy == pytest.approx((predicted == target).double().mean().item())
    assert scores.confusion.matrix.shape == (2, 2)
    assert scores.pixel_accuracy > 0.9


@pytest.mark.parametrize("training_mode", [True, False])
def test_every_module_is_left_in_the_mode_in_which_it_was_found(training_mode):
    model = network().train(training_mode)
    model[1].eval()  # a batch norm that somebody froze
    training.fit(model, Blocks(), Blocks(), steps=1, **CPU)
    training.evaluate(model, Blocks())
    assert model.training is training_mode
    assert not model[1].training


def test_a_loss_that_is_not_finite_says_step_and_learning_rate():
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at step \d+.*1e\+38.*try lr="):
        training.fit(network(), Blocks(), steps=20, lr=1e38, schedule="constant", **CPU)


def test_loss_may_be_a_function_and_sees_float32():
    seen = []

    def loss(logits, target):
        seen.append(logits.dtype)
        return F.cross_entropy(logits, target, ignore_index=255)

    training.fit(
        network(),
        Blocks(),
        steps=2,
        loss=loss,
        dtype=torch.bfloat16,
        device="cpu",
        progress=False,
    )
    assert seen == [torch.float32] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "steps=, minutes= or both"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1, "minutes": -1}, "minutes is -1"),
        ({"steps": 1, "optimizer": "adam"}, "'adam'.*adamw.*sgd"),
        ({"steps": 1, "schedule": "cosine"}, "'cosine'.*poly.*constant"),
        ({"steps": 1, "loss": "crossentropy"}, "cross_entropy"),
        ({"steps": 1, "evaluate_every": 0}, "evaluate_every is 0"),
    ],
)
def test_impossible_arguments_say_what_is_possible(wrong, message):
    with pytest.raises(ValueError, match=message):
        training.fit(network(), Blocks(), **wrong, **CPU)


def test_one_line_sums_up_where_nobody_watches(capsys):
    training.fit(network(), Blocks(), Blocks(), steps=2, device="cpu")
    out, err = capsys.readouterr()
    assert out.startswith("2 steps in ")
    assert "validation mean IoU" in out
    assert out.count("\n") == 1
    assert err == ""


# ---- evaluate


def test_scores_are_those_of_one_matrix_over_all_images_whatever_the_batch_size():
    model = network().eval()
    images, target = loading.stack(Blocks())
    with torch.inference_mode():
        predicted = model(images).argmax(1)
    valid = target != 255
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for truth, guess in zip(target[valid].tolist(), predicted[valid].tolist(), strict=True):
        expected[truth, guess] += 1
    for batch_size in (1, 4, 16):
        scores = training.evaluate(model, Blocks(), batch_size=batch_size)
        assert torch.equal(scores.confusion.matrix.cpu(), expected)
    hits = expected.diagonal().double()
    iou = hits / (expected.sum(0) + expected.sum(1) - hits)
    torch.testing.assert_close(scores.iou, iou)
    assert scores.mean_iou == pytest.approx(iou.mean().item())


def test_scores_print_a_row_per_class_and_round_trip_to_json():
    import json

    logits = torch.tensor([9.0, 0, 0])[None, :, None, None]

    class NoC(Blocks):
        def __init__(self):
            super().__init__()
            self.masks = torch.where(self.masks == 2, 0, self.masks)

    scores = training.evaluate(Fixed(logits), NoC())
    table = str(scores).splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["a", "b", "c"]
    assert "nan" in table[3]
    values = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert values["iou"]["c"] is None
    assert values["iou"]["b"] == 0.0
    assert values["pixel_accuracy"] == pytest.approx(scores.iou[0].item())


def test_a_model_with_other_classes_than_the_data_is_refused_by_name():
    with pytest.raises(ValueError, match=r"4 output channels.*3 classes \(a, b, c\)"):
        training.evaluate(network(channels=4), Blocks())


# ---- history and checkpoints


def test_history_round_trips_through_a_dictionary():
    history = training.fit(network(), Blocks(), Blocks(), steps=3, **CPU)
    assert training.History.from_dict(history.as_dict()) == history


def small_fcn():
    torch.manual_seed(0)
    return models.create("fcn32s", 3, preset="small")


@pytest.fixture(scope="module")
def fcn():
    return small_fcn().eval()


def test_a_checkpoint_brings_back_the_same_function_and_its_surroundings(tmp_path, fcn):
    history = training.History(steps=[1], losses=[0.5], lrs=[0.1], seconds=2.0)
    path = tmp_path / "new folder" / "model.pt"
    training.save_checkpoint(path, fcn, history=history, labels=LABELS, note="hello")
    model, content = training.load_checkpoint(path)
    images = torch.rand(1, 3, 64, 80)
    assert torch.equal(model(images), fcn(images))
    assert content["history"] == history
    assert content["labels"] == LABELS
    assert content["note"] == "hello"
    assert "torch" in content["versions"]
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_the_state_of_the_optimizer_is_kept(tmp_path, fcn):
    optimizer = torch.optim.SGD(fcn.parameters(), 0.1, momentum=0.9)
    training.save_checkpoint(tmp_path / "a.pt", fcn, optimizer=optimizer)
    _, content = training.load_checkpoint(tmp_path / "a.pt")
    optimizer.load_state_dict(content["optimizer"])


def test_a_write_that_fails_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch, fcn):
    path = tmp_path / "model.pt"
    training.save_checkpoint(path, fcn, note="first")
    before = path.read_bytes()

    def half(content, file):
        file.write(before[: len(before) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        training.save_checkpoint(path, fcn, note="second")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_an_interrupt_leaves_a_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    calls = 0

    def interrupted(logits, target):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return F.cross_entropy(logits, target, ignore_index=255)

    data = Blocks(size=64)
    model = small_fcn()
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, data, steps=9, batch_size=2, loss=interrupted, checkpoint=path, **CPU)
    loaded, content = training.load_checkpoint(path)
    assert content["history"].steps == [1, 2]
    assert content["history"].seconds > 0
    assert content["labels"] == LABELS
    for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        training.load_checkpoint(tmp_path / "nowhere.pt")


def truncated(path, model):
    training.save_checkpoint(path, model)
    path.write_bytes(path.read_bytes()[:-2000])


def other_tensors(path, model):
    torch.save(model.state_dict(), path)


def whole_module(path, model):
    torch.save(network(), path)


def text(path, model):
    path.write_text("epoch 3, loss 0.5")


def empty(path, model):
    path.touch()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (truncated, "damaged, truncated"),
        (other_tensors, "not a checkpoint of seglab"),
        (whole_module, "damaged, truncated or of another kind"),
        (text, "damaged, truncated or of another kind"),
        (empty, "damaged, truncated or of another kind"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named_with_the_reason(tmp_path, fcn, write, message):
    path = tmp_path / "model.pt"
    write(path, fcn)
    with pytest.raises(ValueError, match=rf"(?s)model\.pt.*{message}"):
        training.load_checkpoint(path)


def test_a_model_of_ones_own_is_saved_and_the_way_to_load_it_is_told(tmp_path):
    path = tmp_path / "mine.pt"
    training.save_checkpoint(path, network())
    with pytest.raises(ValueError, match=r"load_state_dict"):
        training.load_checkpoint(path)
    network().load_state_dict(torch.load(path, weights_only=True)["state_dict"])


def test_scores_of_an_empty_class_do_not_count():
    assert math.isnan(training.evaluate(Fixed(torch.zeros(1, 3, 1, 1)), [ones()]).iou[2])


def ones():
    return torch.rand(3, 16, 16), torch.ones(16, 16, dtype=torch.int64)
