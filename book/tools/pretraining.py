"""What does pretraining give to SETR, and what to an FCN? ``python -m book.tools.pretraining``.

In small, what ImageNet is in large: another and larger data set with other classes. The networks
first learn the lookalikes of chapter 8, streets and lakes in fog. Then their encoders go into new
networks, which learn the street scenes of chapter 13 as that chapter does; so do networks from
random weights. The scores go into book/results.
"""

import json
import time
from pathlib import Path

from torch import Tensor

from seglab import data, models, runtime, training
from seglab.data import loading

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "book" / "results" / "13_pretraining.json"
SIZE = 96  # pixels
FOGGY, CLEAR = 2048, 256  # images to pretrain on, and to train on
PRETRAINING = {"steps": 1500, "batch_size": 8, "lr": 1e-3, "warmup": 50}
TRAINING = {"steps": 125, "batch_size": 8}  # as in chapter 13
RATES = {"setr_pup": 1e-3, "fcn32s": 2e-3, "fcn8s": 2e-3}  # as in chapter 13
SEEDS = (0, 1, 2)


def trained(name: str, train, recipe: dict, seed: int, encoder: dict[str, Tensor] | None = None):
    """Train a small network from random weights, or with the given weights in its encoder."""
    runtime.seed_everything(seed)
    model = models.create(name, train.labels.num_classes, preset="small")
    if encoder is not None:
        model.encoder.load_state_dict(encoder)
    training.fit(model, train, seed=seed, **recipe)
    return model


def main() -> None:
    """Train every network from both beginnings for every seed; write the record."""
    started = time.perf_counter()

    def load(split, **options):
        return loading.in_memory(data.load("scenes", split, size=SIZE, **options))

    fog = load("train", length=FOGGY, lookalikes=True, seed=1)
    train, valid = load("train", length=CLEAR), load("val")
    scores: dict[str, dict[str, list]] = {}
    for name, rate in RATES.items():
        scores[name] = {"random": [], "pretrained": []}
        for seed in SEEDS:
            encoder = trained(name, fog, PRETRAINING, seed).encoder.state_dict()
            for beginning, weights in (("random", None), ("pretrained", encoder)):
                model = trained(name, train, TRAINING | {"lr": rate}, seed, weights)
                result = training.evaluate(model, valid)
                scores[name][beginning].append(result.as_dict())
                print(f"{name}, {beginning}, seed {seed}: {result.mean_iou:.3f}", flush=True)
    record = {
        "command": "python -m book.tools.pretraining",
        "data": {"name": "scenes", "size": SIZE, "pretraining": "lookalikes"},
        "pretraining": {"images": FOGGY, **PRETRAINING},
        "training": {"images": CLEAR, **TRAINING, "lr": RATES},
        "seeds": list(SEEDS),
        "hardware": runtime.processor(),
        "dtype": str(runtime.autocast_dtype(runtime.device())).removeprefix("torch."),
        "date": runtime.today(),
        "versions": runtime.versions(),
        "seconds": time.perf_counter() - started,
        "scores": scores,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{RECORD}: {record['seconds']:.0f} s")


if __name__ == "__main__":
    main()
