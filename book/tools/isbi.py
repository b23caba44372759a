"""Train U-Net on the real ISBI 2012 sections: ``python -m book.tools.isbi ROOT``.

As its authors did it: windows of the full resolution, mirrored, turned and deformed at random,
because fifteen sections are few. Ten minutes on two processor cores; the numbers of the
validation sections go into book/results.
"""

import base64
import io
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from seglab import data, inference, losses, models, runtime, training
from seglab.data import loading
from seglab.metrics import ConfusionMatrix

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "book" / "results" / "isbi2012_unet_small.json"
MINUTES, BATCH, RATE, WINDOW, SEED = 8.5, 4, 2e-3, 256, 0
MARGIN, AMPLITUDE, GRID = 32, 6.0, 5  # deformation: room, pixels, points along a side
SHOWN = 0  # the validation section in the record


def augment(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a window out of a section, mirror, turn, deform and light it at random."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    side = WINDOW + 2 * MARGIN
    top, left = (int(torch.randint(0, n - side + 1, ())) for n in mask.shape)
    image = image[:, top : top + side, left : left + side]
    mask = mask[top : top + side, left : left + side]
    turns = int(torch.randint(0, 4, ()))
    image, mask = image.rot90(turns, (-2, -1)), mask.rot90(turns, (-2, -1))
    if torch.rand(()) < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)

    moves = AMPLITUDE * torch.randn(1, 2, GRID, GRID)
    moves = F.interpolate(moves, (side, side), mode="bicubic", align_corners=True)
    axis = torch.arange(side, dtype=torch.float32)
    y, x = axis[:, None] + moves[0, 0], axis + moves[0, 1]
    places = (torch.stack([x, y], -1) + 0.5) * 2 / side - 1
    inner = places[MARGIN:-MARGIN, MARGIN:-MARGIN][None]
    image = F.grid_sample(image[None], inner, padding_mode="reflection", align_corners=False)[0]
    planes = F.grid_sample(
        mask[None, None].float(),
        inner,
        mode="nearest",
        padding_mode="reflection",
        align_corners=False,
    )
    contrast, shift = 0.8 + 0.4 * torch.rand(()), 0.1 * torch.randn(())
    image = ((image - 0.5) * contrast + 0.5 + shift).clamp(0, 1)
    return image, planes[0, 0].round().long()


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy and Dice: one steady, one for the thin class."""
    return losses.cross_entropy(logits, target) + losses.dice(logits, target)


def in_eight_views(model, image: Tensor) -> Tensor:
    """Average the probabilities over the turns of an image and of its mirror image."""
    views = []
    for mirrored in (False, True):
        for turns in range(4):
            view = image.flip(-1) if mirrored else image
            p = inference.probabilities(model, view.rot90(turns, (-2, -1)))
            p = p.rot90(-turns, (-2, -1))
            views.append(p.flip(-1) if mirrored else p)
    return torch.stack(views).mean(0)


def main() -> None:
    """Train, score sections 15 to 19, write the record."""
    folder = sys.argv[1]
    train = loading.in_memory(data.load("isbi2012", "train", root=folder))
    valid = data.load("isbi2012", "val", root=folder)
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
    single, turned = ConfusionMatrix(2), ConfusionMatrix(2)
    labels = []
    for image, mask in valid:
        single.update(inference.predict(model, image).cpu(), mask)
        labels.append(in_eight_views(model, image).argmax(0).cpu())
        turned.update(labels[-1], mask)
    seconds = time.perf_counter() - started

    picture = io.BytesIO()
    Image.fromarray(labels[SHOWN].byte().numpy()).save(picture, "png", optimize=True)
    scores = {
        name: training.Scores(matrix, valid.labels).as_dict()
        for name, matrix in (("scores", turned), ("scores_single_view", single))
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
        "batch_size": BATCH,
        "lr": RATE,
        "loss": "cross_entropy + dice",
        "augment": "window, mirror, turn, elastic deformation, light",
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
    print(training.Scores(turned, valid.labels))
    print(f"{RECORD}: {len(history.steps)} steps in {history.seconds:.0f} s")


if __name__ == "__main__":
    main()
