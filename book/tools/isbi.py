"""Train U-Net on the real ISBI 2012 sections: ``python -m book.tools.isbi ROOT``.

Windows of the full resolution, turned and mirrored at random, because fifteen sections are few.
The validation sections are sharper than those: their spectra say by how much, and they are
smoothed by it. Ten minutes on two processor cores; the scores on the validation sections go into
book/results.
"""

import base64
import io
import json
import math
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from seglab import data, inference, losses, models, runtime, training
from seglab.data import loading, transforms
from seglab.metrics import ConfusionMatrix

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "book" / "results" / "isbi2012_unet_small.json"
MINUTES, BATCH, RATE, WINDOW, SEED = 8.5, 4, 2e-3, 256, 0
SHOWN = 0  # the validation section in the record


def augment(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a window out of a section, turn and mirror it at random."""
    top, left = (int(torch.randint(0, n - WINDOW + 1, ())) for n in mask.shape)
    image, mask = transforms.crop(image, mask, top, left, WINDOW)
    turns = int(torch.randint(0, 4, ()))
    image, mask = image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))
    if torch.rand(()) < 0.5:
        image, mask = transforms.horizontal_flip(image, mask)
    return image, mask


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy and Dice: one steady, one for the thin class."""
    return losses.cross_entropy(logits, target) + losses.dice(logits, target)


def spectrum(images: list[Tensor]) -> Tensor:
    """Mean power of square gray images per frequency from 0 to 0.5 cycles a pixel, (side/2,)."""
    power = torch.stack([torch.fft.fft2(image[0] - image[0].mean()).abs() ** 2 for image in images])
    side = power.shape[-1]
    axis = torch.fft.fftfreq(side)
    radius = (torch.hypot(axis[:, None], axis) * side).round().long()
    sums = torch.zeros(int(radius.max()) + 1).index_add_(0, radius.ravel(), power.mean(0).ravel())
    return (sums / radius.ravel().bincount())[: side // 2]


def missing_smoothness(smooth: Tensor, sharp: Tensor) -> float:
    """Find the Gaussian that makes sharp images as smooth as others: its sigma in pixels.

    A Gaussian multiplies the power at frequency f by exp(-4 pi^2 sigma^2 f^2). The slope of the
    logarithm of the ratio of two spectra over f^2 gives sigma; the lowest frequencies differ from
    one content to another, the highest are noise, so it is fitted between 0.1 and 0.4.
    """
    frequencies = torch.arange(len(smooth)) / (2 * len(smooth))
    middle = (frequencies > 0.1) & (frequencies < 0.4)
    squares = frequencies[middle] ** 2
    ratios = (sharp / smooth).log()[middle]
    slope = torch.cov(torch.stack([squares, ratios]))[0, 1] / squares.var()
    return math.sqrt(max(0.0, slope)) / (2 * math.pi)


def in_eight_views(model, image: Tensor) -> Tensor:
    """Average the probabilities over the turns of an image and of its mirror image."""
    views = []
    for turns in range(4):
        p = inference.probabilities(model, image.rot90(turns, (-2, -1)), flip=True)
        views.append(p.rot90(-turns, (-2, -1)))
    return torch.stack(views).mean(0)


def main() -> None:
    """Train, score sections 15 to 19, write the record."""
    folder = sys.argv[1]
    train = loading.in_memory(data.load("isbi2012", "train", root=folder))
    valid = data.load("isbi2012", "val", root=folder)
    spectra = [spectrum([image for image, _ in part]) for part in (train, valid)]
    sigma = missing_smoothness(*spectra)
    runtime.seed_everything(SEED)
    model = models.create("unet", 2, preset="small")
    history = training.fit(
        model,
        train,
        loss=loss,
        minutes=MINUTES,
        batch_size=BATCH,
        lr=RATE,
        transform=augment,
        seed=SEED,
    )
    started = time.perf_counter()
    variants = ("scores", "scores_single_view", "scores_not_smoothed")
    confusions = {variant: ConfusionMatrix(2) for variant in variants}
    labels = []
    for image, mask in valid:
        smooth = gaussian_blur(image, [7, 7], [sigma, sigma])
        labels.append(in_eight_views(model, smooth).argmax(0).cpu())
        confusions["scores"].update(labels[-1], mask)
        confusions["scores_single_view"].update(inference.predict(model, smooth).cpu(), mask)
        views = in_eight_views(model, image).argmax(0).cpu()
        confusions["scores_not_smoothed"].update(views, mask)
    seconds = time.perf_counter() - started

    picture = io.BytesIO()
    Image.fromarray(labels[SHOWN].byte().numpy()).save(picture, "png", optimize=True)
    scores = {
        variant: training.Scores(confusion, valid.labels).as_dict()
        for variant, confusion in confusions.items()
    }
    result = {
        "command": f"python -m book.tools.isbi {folder}",
        "model": model.spec,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": {
            "name": "isbi2012",
            "size": list(valid[0][1].shape),
            "window": WINDOW,
            "train": len(train),
            "val": len(valid),
        },
        "spectra": {
            part: [float(f"{value:.4g}") for value in power.tolist()]
            for part, power in zip(("train", "val"), spectra, strict=True)
        },
        "smoothing_sigma": sigma,
        "batch_size": BATCH,
        "lr": RATE,
        "loss": "cross_entropy + dice",
        "augment": "window, turn, mirror",
        "seed": SEED,
        "hardware": runtime.processor(),
        "dtype": str(runtime.autocast_dtype(runtime.device())).removeprefix("torch."),
        "date": runtime.today(),
        "versions": runtime.versions(),
        "steps": len(history.steps),
        "seconds": {"train": history.seconds, "evaluate": seconds},
        **scores,
        "example": {
            "image": "val 0",
            "prediction_png": base64.b64encode(picture.getvalue()).decode(),
        },
    }
    RECORD.write_text(json.dumps(result, indent=1) + "\n")
    print(training.Scores(confusions["scores"], valid.labels))
    print(f"{RECORD}: {len(history.steps)} steps in {history.seconds:.0f} s")


if __name__ == "__main__":
    main()
