"""Draw the picture of the front page with networks of this package: ``make pictures``.

Two small networks are trained on street scenes and label a scene that neither has seen. What
they make of it goes to ``book/assets/front``, what was measured to
``book/results/front_page.json``, and both to ``book/front.html``, which the front page includes.
The same processor draws the same picture again.
"""

import html
import json
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from seglab import data, inference, metrics, models, runtime, training
from seglab.data import loading
from seglab.labels import SCENES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "assets" / "front"
PAGE = ROOT / "book" / "front.html"
RECORD = ROOT / "book" / "results" / "front_page.json"

SIZE = (192, 144)  # height and width: upright, so that four stand beside each other
IMAGES, STEPS, BATCH, SEED = 256, 150, 8, 0
ENLARGED = 3  # times, so that pixels of a label map keep their edges on any screen
# Name in the package: its title, what it does, and what that looks like.
NETWORKS = {
    "fcn32s": ("FCN-32s", "one answer for every 32 x 32 pixels", "in large rounded blobs"),
    "fcn8s": ("FCN-8s", "with what two earlier layers saw", "with outlines"),
}


def trained(name: str, train) -> nn.Module:
    """Return a network after its training, which the seed alone decides."""
    torch.set_num_threads(1)  # or the number of cores would decide how sums are rounded
    torch.manual_seed(SEED)
    network = models.create(name, SCENES.num_classes, preset="small")
    training.fit(network, train, steps=STEPS, batch_size=BATCH, seed=SEED, dtype=torch.float32)
    return network


def median_scene(guesses: Tensor, masks: Tensor) -> int:
    """Return the scene on which a network is as good as on half of the others.

    Only scenes count in which every class is.

    Parameters
    ----------
    guesses, masks : Tensor, (N, H, W)
        Label maps of N scenes: the network's and the true ones.
    """
    complete = [i for i, mask in enumerate(masks) if len(mask.unique()) == SCENES.num_classes]
    return sorted(complete, key=lambda i: mean_iou(guesses[i], masks[i]))[len(complete) // 2]


def mean_iou(guess: Tensor, mask: Tensor) -> float:
    """Return the mean IoU of label maps of any shape."""
    return metrics.ConfusionMatrix(SCENES.num_classes).update(guess, mask).mean_iou()


def shares(guess: Tensor, mask: Tensor) -> dict[str, float]:
    """Return which share of the pixels is right: of all of them, and of every class."""
    right = (guess == mask).double()
    classes = {name: right[mask == k] for k, name in enumerate(SCENES.names)}
    return {name: pixels.mean().item() for name, pixels in {"all": right, **classes}.items()}


def save_labels(mask: Tensor, path: Path) -> None:
    """Write a label map as a small PNG, enlarged without new colors."""
    picture = Image.fromarray(SCENES.colorize(mask))
    width, height = picture.size
    picture = picture.resize((ENLARGED * width, ENLARGED * height), Image.Resampling.NEAREST)
    picture.quantize(SCENES.num_classes, dither=Image.Dither.NONE).save(path, optimize=True)


def draw() -> None:
    """Train, choose a scene, and write pictures and record."""
    started = time.monotonic()
    train = loading.in_memory(data.load("scenes", "train", size=SIZE, length=IMAGES))
    images, masks = loading.stack(data.load("scenes", "test", size=SIZE))
    guesses = {}
    for name in NETWORKS:
        network = trained(name, train)
        guesses[name] = torch.stack([inference.predict(network, image) for image in images])
    scene = median_scene(guesses["fcn8s"], masks)

    FOLDER.mkdir(parents=True, exist_ok=True)
    photograph = (images[scene].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(photograph).save(FOLDER / "scene.webp", quality=90, method=6)
    save_labels(masks[scene], FOLDER / "truth.png")
    for name in NETWORKS:
        save_labels(guesses[name][scene], FOLDER / f"{name}.png")
    record = {
        "command": "make pictures",
        "date": runtime.today(),
        "seconds": round(time.monotonic() - started),
        "seed": SEED,
        "dtype": "float32",
        "hardware": runtime.processor(),
        "versions": runtime.versions(),
        "settings": {"size": SIZE, "images": IMAGES, "steps": STEPS, "batch_size": BATCH},
        "scene": {"split": "test", "index": scene},
        "mean_iou": {name: mean_iou(guesses[name], masks) for name in NETWORKS},
        "right": {name: shares(guesses[name][scene], masks[scene]) for name in NETWORKS},
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def page(record: dict) -> str:
    """Return the picture as HTML: four panels, a legend, and a slider that fades labels in."""
    right, scores = record["right"], record["mean_iou"]
    scene = "A street between houses, with cars, people and trees, as the networks get it."
    panels = [panel("scene.webp", scene, "image", "none of the networks has seen it")]
    for name, (title, words, look) in NETWORKS.items():
        share = {key: f"{100 * value:.0f} %" for key, value in right[name].items()}
        alt = (
            f"The label map of {title}, {look}: {share['all']} of the pixels are right, "
            f"{share['car']} of the cars' and {share['person']} of the people's."
        )
        panels.append(panel(f"{name}.png", alt, title, f"{words}; mean IoU {scores[name]:.2f}"))
    truth = "The true label map: every pixel is sky, building, road, tree, car or person."
    panels.append(panel("truth.png", truth, "truth", "a name for every pixel"))
    legend = "".join(
        f'<span><i style="background:rgb{color}"></i>{name}</span>'
        for name, color in zip(SCENES.names, SCENES.colors, strict=True)
    )
    steps = record["settings"]["steps"]
    return f"""<!-- Written by `make pictures` from book/results/front_page.json. -->
{STYLE}<figure class="front">
<div class="panels">
{"".join(panels)}</div>
<div class="below"><div class="legend">{legend}</div>
<label class="screen-only">image <input type="range" min="0" max="1" step="0.01" value="1"
 oninput="this.closest('figure').style.setProperty('--labels', this.value)"> labels</label></div>
<figcaption>Two small networks of this book after {steps} training steps each.
The scene is the median one for FCN-8s; mean IoU is over all 64 test images.
<code>make pictures</code> draws it again.</figcaption>
</figure>
"""


STYLE = """<style>
.bd-article figure.front {margin: 1.5rem 0; padding: 0; --labels: 1}
.front .panels {display: grid; grid-template-columns: repeat(4, 1fr); gap: .75rem}
.front .panels > div > div {position: relative; line-height: 0}
.front img {width: 100%; height: auto; border-radius: 4px}
.front img + img {position: absolute; inset: 0; opacity: var(--labels)}
.front .panels p {margin: .4rem 0 0; font-size: .9rem; line-height: 1.35}
.front .below {display: flex; flex-wrap: wrap; gap: .5rem 1rem; justify-content: space-between;
  margin-top: .75rem; font-size: .9rem}
.front .legend {display: flex; flex-wrap: wrap; gap: .2rem .9rem}
.front i {display: inline-block; width: .9em; height: .9em; margin-right: .4em;
  border: 1px solid #808080; vertical-align: -.1em}
.front label {display: flex; gap: .6rem; align-items: center; margin: 0}
.front input {width: 9rem; accent-color: #0072b2}
.bd-article .front figcaption {font-size: .9rem; font-weight: 400; letter-spacing: 0;
  margin: .75rem 0 0; padding: 0; color: inherit; text-align: left}
@media (max-width: 576px) {.front .panels {grid-template-columns: 1fr 1fr}}
</style>
"""


def panel(name: str, alt: str, title: str, words: str) -> str:
    """Return one picture, the photograph beneath a label map, and words under both."""
    layers = [image("scene.webp", 'alt="" aria-hidden="true"')] if name != "scene.webp" else []
    layers.append(image(name, f'alt="{html.escape(alt)}"'))
    return f"<div><div>{''.join(layers)}</div>\n<p><strong>{title}</strong><br>{words}</p></div>\n"


def image(name: str, attributes: str) -> str:
    """Return the HTML of one picture; the theme does not darken what is "dark-light"."""
    height, width = SIZE
    size = f'width="{width}" height="{height}"'
    return f'<img class="dark-light" {attributes} {size} src="../_static/front/{name}">'


if __name__ == "__main__":
    draw()
    PAGE.write_text(page(json.loads(RECORD.read_text())))
    print(
        f"Written: {PAGE.relative_to(ROOT)}, {FOLDER.relative_to(ROOT)}, {RECORD.relative_to(ROOT)}"
    )
