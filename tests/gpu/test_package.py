"""The package on a device that does not mix with the CPU: what would only fail on a GPU."""

import copy
import io

import numpy as np
import pytest
import torch

from seglab import (
    checks,
    crf,
    data,
    inference,
    losses,
    metrics,
    models,
    plots,
    receptive_field,
    training,
)
from tests.gpu import device
from tests.gpu.device import DEVICE

CLASSES = 6


@pytest.fixture(autouse=True)
def _on_the_device(monkeypatch):
    device.pretend(monkeypatch.setattr)


@pytest.fixture(scope="module")
def scenes():
    return data.loading.in_memory(data.load("scenes", "val", length=2, size=64))


def create(name):
    torch.manual_seed(0)
    return models.create(name, CLASSES, preset="small").to(DEVICE)


# ---------------------------------------------------------------- the device itself


def test_it_computes_what_the_cpu_computes():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(inplace=True),
        torch.nn.MaxPool2d(2),
        torch.nn.ConvTranspose2d(4, 2, 2, 2),
    )
    there = copy.deepcopy(model).to(DEVICE)
    images = torch.rand(2, 3, 8, 8)
    for net, batch in ((model, images), (there, images.to(DEVICE))):
        net(batch).square().mean().backward()
    for here, other in zip(model.parameters(), there.parameters(), strict=True):
        assert other.grad.device == DEVICE
        torch.testing.assert_close(other.grad.cpu(), here.grad)


def test_it_knows_inference_mode():
    torch.manual_seed(0)
    model, images = torch.nn.Linear(4, 2), torch.rand(3, 4)
    with torch.inference_mode():
        there = copy.deepcopy(model).to(DEVICE)(images.to(DEVICE)).flatten()
        torch.testing.assert_close(there.cpu(), model(images).flatten())
    assert there.is_inference()


def test_views_share_memory_and_moments_of_a_model_can_be_saved():
    numbers = torch.zeros(3, 4, device=DEVICE)
    numbers.T[0] += 1
    file = io.BytesIO()
    torch.save({"numbers": numbers}, file)
    file.seek(0)
    loaded = torch.load(file, map_location="cpu", weights_only=True)["numbers"]
    assert loaded[:, 0].tolist() == [1, 1, 1]
    assert copy.deepcopy(numbers).sum().item() == loaded.sum().item() == 3


@pytest.mark.parametrize(
    "mistake",
    [
        lambda there: there + torch.ones(4),
        lambda there: torch.cat([there, torch.ones(4)]),
        lambda there: torch.ones(4)[there.long()],
        lambda there: there.numpy(),
        lambda there: np.asarray(there),
        lambda there: there.uniform_(generator=torch.Generator()),
        lambda there: torch.nn.Linear(4, 2)(there),
    ],
)
def test_it_refuses_what_a_gpu_refuses(mistake):
    with pytest.raises((RuntimeError, TypeError)):
        mistake(torch.ones(4, device=DEVICE))


# ---------------------------------------------------------------- the package


@pytest.mark.parametrize("name", models.names())
def test_a_model_trains_predicts_and_is_saved(name, scenes, tmp_path):
    model = create(name)
    transform = data.transforms.train(64)
    options = {"steps": 2, "batch_size": 2, "transform": transform, "progress": False}
    training.fit(model, scenes, scenes, checkpoint=tmp_path / "model.pt", **options)
    image, _ = scenes[0]
    prediction = inference.predict(model, image, scales=(1.0, 1.5), flip=True, window=64)
    assert prediction.device == DEVICE
    loaded, _ = training.load_checkpoint(tmp_path / "model.pt")
    checks.same_function(model, loaded)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", losses.names())
def test_a_loss_is_the_same_as_on_the_cpu(name, channels):
    torch.manual_seed(0)
    logits = torch.randn(2, channels, 8, 8)
    target = torch.randint(max(2, channels), (2, 8, 8))
    target[0, 0] = 255
    beta = 2.0 if channels == 1 else torch.tensor([1.0, 2.0, 3.0])
    options = {"beta": beta} if name == "weighted_cross_entropy" else {}
    here = losses.get(name)(logits, target, **options)
    there = losses.get(name)(logits.to(DEVICE), target.to(DEVICE), **options)
    assert there.device == DEVICE
    torch.testing.assert_close(there.cpu(), here)


def test_metrics_take_what_lies_there():
    torch.manual_seed(0)
    logits, target = torch.randn(1, CLASSES, 32, 32), torch.randint(CLASSES, (1, 32, 32))
    there = logits.to(DEVICE), target.to(DEVICE)
    matrices = [
        metrics.ConfusionMatrix(CLASSES).update(*pair) for pair in ((logits, target), there)
    ]
    assert torch.equal(matrices[0].matrix, matrices[1].matrix)
    for measure in (metrics.boundary_f1, metrics.boundary_iou):
        here = measure(logits[0], target[0])
        torch.testing.assert_close(measure(there[0][0], there[1][0]), here, equal_nan=True)


def test_a_crf_answers_where_it_was_asked():
    torch.manual_seed(0)
    image, p = torch.rand(3, 12, 12), torch.rand(3, 12, 12).softmax(dim=0)
    here = crf.dense_crf(image, p, iterations=2)
    there = crf.dense_crf(image.to(DEVICE), p.to(DEVICE), iterations=2)
    assert there.device == DEVICE
    torch.testing.assert_close(there.cpu(), here)


def test_receptive_fields_are_those_of_the_cpu():
    model = create("fcn32s")
    assert receptive_field.theoretical(model) == receptive_field.theoretical(model.cpu())
    images = torch.rand(1, 3, 64, 64)
    here = receptive_field.effective(model, images)
    there = receptive_field.effective(model.to(DEVICE), images)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-3)


def test_figures_take_what_lies_there(scenes):
    image, mask = (x.to(DEVICE) for x in scenes[0])
    plots.images([image, mask, image[0]], labels=scenes.labels)
    plots.overlay(image, mask, scenes.labels)
    plots.confusion(torch.eye(CLASSES, device=DEVICE), scenes.labels)
    plots.iou_bars({"model": torch.rand(CLASSES, device=DEVICE)}, scenes.labels)
