"""The command ``seglab``: train, evaluate and predict without writing Python.

Everything heavy is imported inside the commands, so that ``seglab --help`` answers at once.
"""

import json
import math
import re
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from seglab import __version__

CHECKPOINT = "checkpoint.pt"
RESULT = "result.json"
DEFAULT_STEPS = 10_000
LONGEST_SIDE = {"cpu": 256, "cuda": 1024}  # pixels, where --size is not given
SMALLEST_SIDE = 64  # pixels; no model takes less
LR = {"small": 2e-3, "paper": 2e-4}  # AdamW; the published widths need smaller steps


class Seglab(click.Group):
    """Turns the errors of bad input into one line."""

    def make_context(self, info_name, args, parent=None, **extra):
        """Remember what was typed; results carry it."""
        typed = shlex.join(["seglab", *args])
        context = super().make_context(info_name, args, parent, **extra)
        context.meta["typed"] = typed
        return context

    def invoke(self, context):
        """Run a command."""
        expected = (ValueError, TypeError, FileNotFoundError, PermissionError, FloatingPointError)
        try:
            return super().invoke(context)
        except expected as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's; importing it takes seconds
                raise
            advice = "out of memory: try a smaller --batch-size or --size"
            raise click.ClickException(advice) from error


class OneOf(click.ParamType):
    """One of the names of a room of this package, looked up when it is needed."""

    name = "name"

    def __init__(self, room: str):
        self.room = room

    def convert(self, value, param, context):
        """Check the name."""
        known = import_module(f"seglab.{self.room}").names()
        if value not in known:
            self.fail(f"{value!r} is not known; there are {', '.join(known)}", param, context)
        return value


_data_options = [
    click.option(
        "--data",
        required=True,
        metavar="NAME|FOLDER",
        help="A data set (see `seglab data`), or a folder with images/, masks/ and classes.txt.",
    ),
    click.option(
        "--root",
        type=click.Path(path_type=Path),
        help="Where a public data set lies on this machine.",
    ),
    click.option(
        "--size",
        type=click.IntRange(min=SMALLEST_SIDE),
        nargs=2,
        metavar="HEIGHT WIDTH",
        help="Resize all images to this. Default: for training their own size, halved until the "
        f"longer side is at most {LONGEST_SIDE['cpu']} pixels ({LONGEST_SIDE['cuda']} with a GPU); "
        "for evaluation the size of the training.",
    ),
    click.option(
        "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Images."
    ),
]


def data_options(command):
    """Add the options that say which images."""
    for option in reversed(_data_options):
        command = option(command)
    return command


@click.group(cls=Seglab, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="seglab")
def main() -> None:
    """Semantic segmentation from the command line.

    \b
    A first run, on procedural scenes (two minutes, no download):
      seglab train --model fcn8s --preset small --data scenes --minutes 2
      seglab predict runs/fcn8s-scenes/checkpoint.pt photo.jpg --output predictions
    """  # noqa: D301 -- click wants a real backspace


@main.command()
@click.option("--model", required=True, type=OneOf("models"), help="See `seglab models`.")
@click.option(
    "--preset",
    type=click.Choice(["paper", "small"]),
    default="paper",
    show_default=True,
    help="The published architecture, or a narrow one for a laptop.",
)
@click.option("--pretrained", is_flag=True, help="Start from ImageNet weights (downloads them).")
@data_options
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop by the clock.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help=f"Stop after so many updates; {DEFAULT_STEPS} if there are no --minutes either.",
)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Largest learning rate of AdamW; {LR['paper']:g}, with preset small {LR['small']:g}.",
)
@click.option("--loss", type=OneOf("losses"), default="cross_entropy", show_default=True)
@click.option(
    "--augment/--no-augment",
    default=True,
    help="Random scale, crop, flip and color; on by default.",
)
@click.option("--evaluate-every", type=click.IntRange(min=1), help="Score val every N steps.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for {CHECKPOINT} and {RESULT}, replaced if they exist. Default: the first of "
    "runs/MODEL-DATA, runs/MODEL-DATA-2, ... that does not exist.",
)
@click.pass_context
def train(
    context: click.Context,
    model: str,
    preset: str,
    pretrained: bool,
    data: str,
    root: Path | None,
    size: tuple[int, int] | None,
    batch_size: int,
    minutes: float | None,
    steps: int | None,
    lr: float | None,
    loss: str,
    augment: bool,
    evaluate_every: int | None,
    seed: int,
    output: Path | None,
) -> None:
    """Train on the split train, score on the split val.

    Writes OUTPUT/checkpoint.pt and OUTPUT/result.json. Ctrl-C ends training early and keeps the
    checkpoint.

    \b
    Examples:
      seglab train --model fcn8s --preset small --data scenes --minutes 2
      seglab train --model fcn8s --preset small --data camvid --root CamVid --minutes 8
      seglab train --model fcn8s --data my_photos --size 256 384 --steps 5000
    """  # noqa: D301 -- click wants a real backspace
    from seglab import models, runtime, training
    from seglab.data import transforms

    runtime.seed_everything(seed)
    size = size or _default_size(_open(data, root, "train", None))
    train_set = _resident(_open(data, root, "train", size))
    val_set = _resident(_open(data, root, "val", size))
    _report_classes(train_set)
    click.echo(f"{data}: {len(train_set)} train, {len(val_set)} val images, {_by(size)} pixels")

    network = models.create(
        model, train_set.labels.num_classes, preset=preset, pretrained=pretrained
    )
    parameters = _count(network)
    device = runtime.device()
    click.echo(f"{model} ({preset}): {parameters:,} parameters on {runtime.processor()}")
    output = output or _free_folder(Path("runs") / f"{model}-{Path(data).resolve().name}")
    surroundings = {"labels": train_set.labels, "size": list(size), "data": data, "seed": seed}
    try:
        history = training.fit(
            network,
            train_set,
            val_set if evaluate_every else None,
            loss=loss,
            steps=steps if steps or minutes else DEFAULT_STEPS,
            minutes=minutes,
            batch_size=batch_size,
            lr=lr or LR[preset],
            transform=transforms.train(size) if augment else None,
            evaluate_every=evaluate_every,
            checkpoint=output / CHECKPOINT,
            seed=seed,
        )
    except KeyboardInterrupt:
        network, content = training.load_checkpoint(output / CHECKPOINT)
        history = content["history"]
        training.save_checkpoint(output / CHECKPOINT, network, history=history, **surroundings)
        done = len(history.steps)
        click.echo(f"\nInterrupted after {done} steps; {output / CHECKPOINT} keeps them.", err=True)
        context.exit(130)
    training.save_checkpoint(output / CHECKPOINT, network, history=history, **surroundings)

    started = time.perf_counter()
    scores = training.evaluate(network, val_set, batch_size=batch_size)
    seconds = time.perf_counter() - started
    result = {
        "command": context.meta["typed"],
        "model": network.spec,
        "parameters": parameters,
        "data": {
            "name": data,
            "size": list(size),
            "train": len(train_set),
            "val": len(val_set),
            "classes": list(train_set.labels.names),
        },
        "batch_size": batch_size,
        "lr": lr or LR[preset],
        "loss": loss,
        "augment": augment,
        "seed": seed,
        "hardware": runtime.processor(),
        "dtype": str(runtime.autocast_dtype(device)).removeprefix("torch."),
        "date": runtime.today(),
        "versions": runtime.versions(),
        "steps": len(history.steps),
        "seconds": {"train": history.seconds, "evaluate": seconds},
        "scores": scores.as_dict(),
        "history": history.as_dict(),
    }
    _write_json(output / RESULT, result)
    click.echo(f"\n{scores}\n\n{output / CHECKPOINT}\n{output / RESULT}")


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@data_options
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="val",
    show_default=True,
    help="Which part of the data set.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the scores as JSON."
)
@click.pass_context
def evaluate(
    context: click.Context,
    checkpoint: Path,
    data: str,
    root: Path | None,
    size: tuple[int, int] | None,
    batch_size: int,
    split: str,
    output: Path | None,
) -> None:
    """Score a checkpoint: IoU of every class and their mean.

    \b
    Example:
      seglab evaluate runs/fcn8s-camvid/checkpoint.pt --data camvid --root CamVid --split val
    """  # noqa: D301 -- click wants a real backspace
    from seglab import runtime, training

    network, content = training.load_checkpoint(checkpoint)
    size = size or content.get("size")
    dataset = _open(data, root, split, tuple(size) if size else None)
    network.to(runtime.device())
    scores = training.evaluate(network, dataset, batch_size=batch_size, progress=True)
    shown = _by(size) if size else "their own"
    click.echo(f"{data} {split}: {len(dataset)} images, {shown} pixels\n\n{scores}")
    if output:
        result = {
            "command": context.meta["typed"],
            "model": content["spec"],
            "data": {"name": data, "split": split, "images": len(dataset)},
            "size": list(size) if size else None,
            "hardware": runtime.processor(),
            "date": runtime.today(),
            "versions": runtime.versions(),
            "scores": scores.as_dict(),
        }
        _write_json(output, result)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE..."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("predictions"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--flip", is_flag=True, help="Average with the mirror image: slower, often better.")
def predict(checkpoint: Path, images: tuple[Path, ...], output: Path, flip: bool) -> None:
    """Label every pixel of images.

    For each IMAGE it writes NAME_overlay.png, the painted labels over the image with a legend, and
    NAME_mask.png, a palette image whose values are class ids. Both are as large as the image; the
    network sees it in the size of its training.

    \b
    Example:
      seglab predict runs/fcn8s-camvid/checkpoint.pt photo.jpg --output predictions
    """  # noqa: D301 -- click wants a real backspace
    from seglab import runtime, training
    from seglab.data.folder import read_image

    stems = [path.stem for path in images]
    for stem in stems:
        if stems.count(stem) > 1:
            raise click.UsageError(f"two images are called {stem}: their results would collide")
    network, content = training.load_checkpoint(checkpoint)
    network.to(runtime.device())
    labels = content["labels"] or _numbered(network)
    output.mkdir(parents=True, exist_ok=True)
    for path in images:
        image = read_image(path)
        mask = _label(network, image, content.get("size"), flip)
        overlay, palette = output / f"{path.stem}_overlay.png", output / f"{path.stem}_mask.png"
        _overlay(image, mask, labels).save(overlay)
        _palette_image(mask, labels).save(palette)
        click.echo(f"{overlay}  {palette}")


@main.command()
def models() -> None:
    """List the architectures and their sizes."""
    import torch

    from seglab import models as room

    rows = [("name", "paper preset", "small preset", "paper")]
    for name in room.names():
        with torch.device("meta"):
            paper, small = (room.create(name, 21, preset=preset) for preset in room.PRESETS)
        citation = _citation(sys.modules[type(paper).__module__].__doc__ or "")
        rows.append((name, f"{_count(paper):,}", f"{_count(small):,}", citation))
    click.echo(_table(rows, right=(1, 2)))
    click.echo("\nParameters for 21 classes.")


@main.command()
def data() -> None:
    """List the data sets, their classes and where to get them."""
    from seglab import data as room

    for name, dataset in room.DATASETS.items():
        summary = (dataset.__doc__ or "").split("\n\n")[0]
        labels = dataset.labels  # type: ignore[attr-defined]
        source = getattr(dataset, "source", None)
        where = f"--root FOLDER; get it from {source}" if source else "drawn on the spot, no --root"
        click.echo(f"{name}\n  {' '.join(summary.split())}")
        click.echo(f"  {labels.num_classes} classes: {', '.join(labels.names)}\n  {where}\n")
    click.echo(
        "FOLDER (your own data)\n"
        "  classes.txt       one class name per line, that of class 0 first\n"
        "  images/           PNG, JPEG, BMP, TIFF or WebP\n"
        "  masks/            one-channel PNG of the same name; value = class id, 255 = ignored\n"
        "  Every fifth image, in the order of a hash of its name, is for validation. To choose\n"
        "  yourself (for frames of one video you must), make train/ and val/ with images/ and\n"
        "  masks/ in each."
    )


def _open(name: str, root: Path | None, split: str, size: tuple[int, int] | None) -> Any:
    """Open a data set by name, or a folder."""
    from seglab import data
    from seglab.data.folder import open_folder

    if name in data.names():
        source = getattr(data.DATASETS[name], "source", None)
        if root is None and source:
            raise click.UsageError(f"{name} needs --root FOLDER; it can be obtained from {source}")
        if root is not None and not source:
            raise click.UsageError(f"{name} is drawn by this package and has no --root")
        return data.load(name, split, root=root, size=size)
    if not Path(name).is_dir():
        raise click.UsageError(
            f"--data {name} is neither a data set ({', '.join(data.names())}) nor a folder"
        )
    if root is not None:
        raise click.UsageError(f"--root belongs to public data sets; {name} is a folder itself")
    return open_folder(name, split, size=size)


def _default_size(dataset: Any) -> tuple[int, int]:
    """Return the size of the images, halved until the machine can cope."""
    from seglab import runtime
    from seglab.data import Folder
    from seglab.data.folder import image_size

    if isinstance(dataset, Folder):
        sizes = list(dict.fromkeys(image_size(path) for path in dataset.images))
        if len(sizes) > 1:
            shown = ", ".join(map(_by, sizes[:3]))
            raise click.UsageError(f"the images differ in size ({shown} ...): give --size")
    else:
        sizes = [tuple(dataset[0][0].shape[1:])]
    height, width = sizes[0]
    longest = LONGEST_SIDE[runtime.device().type]
    while max(height, width) > longest and min(height, width) >= 2 * SMALLEST_SIDE:
        height, width = height // 2, width // 2
    return height, width


def _resident(dataset: Any) -> Any:
    """Decode a data set once if its bytes fit into memory."""
    from seglab import training
    from seglab.data import loading

    image, _ = dataset[0]
    fits = len(dataset) * 4 * image[0].numel() < training.IN_MEMORY_BYTES
    return loading.in_memory(dataset) if fits else dataset


def _report_classes(dataset: Any) -> None:
    """Warn of classes that no label map holds: most often 255 was meant as a class."""
    import torch

    from seglab.data.loading import InMemory

    if not isinstance(dataset, InMemory):
        return
    pixels = sum(torch.bincount(mask.flatten(), minlength=256) for mask in dataset.masks)
    ignored = float(pixels[255] / pixels.sum())  # type: ignore[index, union-attr]
    absent = [
        f"{k} {name}"
        for k, name in enumerate(dataset.labels.names)  # type: ignore[union-attr]
        if pixels[k] == 0  # type: ignore[index]
    ]
    if absent:
        click.echo(
            f"Warning: no training image holds class {', '.join(absent)}; {ignored:.0%} of all "
            f"pixels have the value 255, which means ignored",
            err=True,
        )


def _free_folder(wanted: Path) -> Path:
    folder, number = wanted, 1
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _label(network: Any, image: Any, size: list[int] | None, flip: bool) -> Any:
    """Return the label map (H, W) of a byte image (3, H, W), seen in the size of the training."""
    from torch.nn import functional as F

    from seglab import inference
    from seglab.data.transforms import resize_image

    seen = resize_image(image, (size[0], size[1])) if size else image
    p = inference.probabilities(network, seen.float() / 255, flip=flip)  # (K, h, w)
    p = F.interpolate(p[None], image.shape[1:], mode="bilinear", align_corners=False)[0]
    labels = (p[0] > 0.5).long() if len(p) == 1 else p.argmax(0)
    return labels.cpu()


def _overlay(image: Any, mask: Any, labels: Any) -> Any:
    """Paint a label map over its image and name the classes in it below."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    from seglab import plots

    picture = (plots.overlay(image, mask, labels) * 255).round().astype(np.uint8)
    height, width, _ = picture.shape
    side = min(40, max(11, width // 36))  # of the letters
    font = ImageFont.load_default(side)
    shares = torch.bincount(mask.flatten(), minlength=labels.num_classes) / mask.numel()
    places, x, y = [], side, side // 2
    for k in shares.argsort(descending=True)[: int((shares > 0).sum())].tolist():
        text = f"{labels.names[k]} " + ("<1%" if shares[k] < 0.005 else f"{shares[k]:.0%}")
        wide = 2 * side + int(font.getlength(text))
        if x > side and x + wide > width:
            x, y = side, y + round(1.6 * side)
        places.append((k, text, x, y))
        x += wide + side // 2
    sheet = Image.new("RGB", (width, height + y + 2 * side), "white")
    sheet.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(sheet)
    for k, text, x, y in places:
        y += height
        draw.rectangle((x, y, x + side, y + side), fill=labels.colors[k], outline="black")
        draw.text((x + 1.4 * side, y + side / 2), text, fill="black", font=font, anchor="lm")
    return sheet


def _palette_image(mask: Any, labels: Any) -> Any:
    """Return a palette image whose values are class ids."""
    import numpy as np
    from PIL import Image

    ids = mask.numpy().astype(np.uint8)
    picture = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    colors = np.zeros((256, 3), np.uint8)
    colors[: labels.num_classes] = labels.colors
    colors[labels.ignore_index] = labels.ignore_color
    picture.putpalette(colors.tobytes())
    return picture


def _numbered(network: Any) -> Any:
    """Return labels for a checkpoint that has none: class ids."""
    from seglab.data.folder import make_labels

    return make_labels([f"class {k}" for k in range(max(2, network.spec["num_classes"]))])


def _count(network: Any) -> int:
    return sum(p.numel() for p in network.parameters())


def _citation(docstring: str) -> str:
    """Return the first reference of a docstring: authors, "title", venue year."""
    found = re.search(r'([^.]*"[^"]+",[^.]*? \d{4})', " ".join(docstring.split()))
    return found[1].strip() if found else ""


def _table(rows: Sequence[tuple[str, ...]], right: Iterable[int] = ()) -> str:
    """Align columns; those in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _by(size: Any) -> str:
    return f"{size[0]} x {size[1]}"


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(content), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Keep six digits of every number: more would be noise; lists of numbers get one line."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    main()
