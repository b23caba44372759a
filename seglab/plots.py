"""One visual language for the book: figures that read in light and dark, each with alt text."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import HTML, display
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle

from seglab import svg
from seglab.labels import Labels
from seglab.runtime import to_array

# After Okabe and Ito, darkened where needed: every color has a contrast of at least 3:1 against
# white and against #121212, and any two differ for color-blind eyes.
CURVES = ("#0072B2", "#D55E00", "#009E73", "#C978A6", "#8050D8", "#6F6F6F")
WIDTH = 7.0  # inches; the width of a page's text column
COLUMNS = 4  # pictures in a row that a phone can still show
_DARK, _PALE = "#111111", "#ffffff"


def use_style() -> None:
    """Set matplotlib's defaults: sizes, curve colors, transparent ground, black ink.

    `show` turns black ink into the page's own text color.
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.2),
            "figure.facecolor": "none",
            "figure.constrained_layout.use": True,
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(linestyle=["-", "--"]) * cycler(color=CURVES),
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "font.size": 11,
            "font.family": "DejaVu Sans",
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "grid.color": "#808080",
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "image.interpolation": "none",
            "image.cmap": "viridis",
            "savefig.transparent": True,
        }
    )


def show(figure: Figure | svg.Drawing, alt: str | None = None) -> None:
    """Show a figure under this cell, readable in light and dark, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or Drawing
        A figure, or what a function of `seglab.diagrams` returned.
    alt : str
        What the reader should see in it; a `Drawing` brings its own, which this replaces.

    Raises
    ------
    ValueError
        If the alt text is empty.
    """
    if isinstance(figure, svg.Drawing):
        drawing = figure if alt is None else figure.described(alt)
    else:
        drawing = svg.from_figure(figure, alt or "")
        plt.close(figure)
    display(HTML(drawing.html()))


def paint(mask: Any, labels: Labels) -> np.ndarray:
    """Color a label map; ignored pixels are hatched light and dark gray.

    Parameters
    ----------
    mask : array or tensor of integers, (H, W)
        Class ids, or ``labels.ignore_index``.
    labels : Labels
        Names and colors of the classes.

    Returns
    -------
    numpy.ndarray
        uint8, (H, W, 3).
    """
    ids = to_array(mask)
    picture = labels.colorize(ids)
    rows, columns = np.indices(ids.shape)
    stripe = max(1, round(min(ids.shape) / 96))
    hatch = np.where((rows + columns) // stripe % 2, 70, 215).astype(np.uint8)
    return np.where((ids == labels.ignore_index)[..., None], hatch[..., None], picture)


def overlay(image: Any, mask: Any, labels: Labels, alpha: float = 0.5) -> np.ndarray:
    """Lay a painted label map over its image.

    Parameters
    ----------
    image : array or tensor, (3, H, W) or (H, W, 3)
        Floats in [0, 1] or uint8.
    mask : array or tensor of integers, (H, W)
        Class ids, or ``labels.ignore_index``.
    labels : Labels
        Names and colors of the classes.
    alpha : float
        Weight of the label map, 0 to 1.

    Returns
    -------
    numpy.ndarray
        Floats in [0, 1], (H, W, 3).

    Raises
    ------
    ValueError
        If image and mask differ in size.
    """
    ground = _rgb(image)
    painted = paint(mask, labels) / 255
    if ground.shape != painted.shape:
        raise ValueError(f"image {ground.shape[:2]} and mask {painted.shape[:2]} differ in size")
    return (1 - alpha) * ground + alpha * painted


def images(
    pictures: Sequence[Any],
    titles: Sequence[Any] = (),
    labels: Labels | None = None,
    cmap: str = "gray",
) -> Figure:
    """Draw pictures and label maps in rows.

    Parameters
    ----------
    pictures : list, or list of lists
        A row, or several; a single row of more than four wraps. Each is an image ((3, H, W),
        (1, H, W) or (H, W, 3), floats in [0, 1] or uint8), a label map ((H, W) integers, when
        ``labels`` are given), a plane of numbers ((H, W), drawn with ``cmap``), or None for a gap.
    titles : list, or list of lists
        One for each picture, or one for each column of the first row.
    labels : Labels, optional
        Classes of the label maps; the legend names those that occur, and ignored pixels.
    cmap : str
        Colors for planes of numbers: "gray" for gray images, "viridis" for maps. uint8 runs from
        0 to 255, floats within [0, 1] from 0 to 1, others from their least to their largest.

    Returns
    -------
    matplotlib.figure.Figure
        For `show`.

    Raises
    ------
    ValueError
        If a picture has another shape than the above.
    """
    rows = _rows(pictures)
    names = _rows(titles) if len(titles) else []
    columns = max(map(len, rows))
    side = WIDTH / max(columns, 2)
    heights = [max((_aspect(picture) for picture in row), default=1) * side for row in rows]
    grid: Any
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(side * columns, sum(heights) + 0.3 * max(1, len(names)) + 0.3),
        squeeze=False,
        height_ratios=heights,
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02),  # inches
    )
    found: set[int] = set()
    for i, j in np.ndindex(grid.shape):
        axes = grid[i, j]
        axes.axis("off")
        picture = rows[i][j] if j < len(rows[i]) else None
        if picture is None:
            continue
        found |= _draw(axes, picture, labels, cmap)
        if i < len(names) and j < len(names[i]):
            axes.set_title(names[i][j])
    if labels is not None and found:
        _legend(figure, labels, found, 3 if columns == 1 else 6)
    return figure


def legend(labels: Labels, ignored: bool = False) -> Figure:
    """Draw the names and colors of all classes.

    Parameters
    ----------
    labels : Labels
        Names and colors of the classes.
    ignored : bool
        Whether ignored pixels get an entry.

    Returns
    -------
    matplotlib.figure.Figure
        For `show`.
    """
    ids = set(range(labels.num_classes)) | ({labels.ignore_index} if ignored else set())
    figure = plt.figure(figsize=(WIDTH, 0.3 * (1 + len(ids) // 6)))
    _legend(figure, labels, ids, 6, "center")
    return figure


def history(histories: Any) -> Figure:
    """Draw the loss and, where it was measured, the mean IoU over the training steps.

    Parameters
    ----------
    histories : History, or dict of str to History
        What `seglab.training.fit` returned; several are compared by name.

    Returns
    -------
    matplotlib.figure.Figure
        For `show`.
    """
    named = histories if isinstance(histories, Mapping) else {"": histories}
    scored = any(len(run.mean_ious) for run in named.values())
    figure, grid = plt.subplots(
        1, 2 if scored else 1, figsize=(WIDTH, 2.8), squeeze=False, sharex=True
    )
    for (name, run), color in zip(named.items(), _colors(len(named)), strict=True):
        losses = np.asarray(run.losses, dtype=float)
        if losses.size > 40:
            grid[0, 0].plot(run.steps, losses, color=color, alpha=0.3, linewidth=0.8)
        grid[0, 0].plot(run.steps, _smooth(losses), color=color, label=name)
        if scored:
            grid[0, 1].plot(run.valid_steps, run.mean_ious, ".-", color=color, label=name)
    grid[0, 0].set(xlabel="step", ylabel="training loss")
    grid[0, 0].set_ylim(bottom=0)
    if scored:
        grid[0, 1].set(xlabel="step", ylabel="mean IoU, validation")
        grid[0, 1].set_ylim(bottom=0)
    if len(named) > 1:
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(named)))
    return figure


def confusion(matrix: Any, labels: Labels) -> Figure:
    """Draw a confusion matrix; every row shows where the pixels of one true class went.

    Parameters
    ----------
    matrix : ConfusionMatrix, or array or tensor (K, K)
        Rows = truth, columns = prediction, counts of pixels.
    labels : Labels
        Names of the K classes.

    Returns
    -------
    matplotlib.figure.Figure
        Percent of each row; a class that is absent from the truth has an empty row.

    Raises
    ------
    ValueError
        If the matrix is not (K, K).
    """
    counts = to_array(getattr(matrix, "matrix", matrix)).astype(float)
    size = labels.num_classes
    if counts.shape != (size, size):
        raise ValueError(f"expected a ({size}, {size}) matrix for {size} classes: {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(WIDTH, 1.8 + 0.5 * size)
    figure, axes = plt.subplots(figsize=(side, side - 0.4))
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    axes.grid(False)
    axes.set_xticks(range(size), labels.names, rotation=90 if size > 8 else 35, ha="right")
    for tick in axes.get_xticklabels():
        tick.set_rotation_mode("anchor")
        tick.set_verticalalignment("center" if size > 8 else "top")
    axes.set_yticks(range(size), labels.names)
    axes.set(xlabel="predicted class", ylabel="true class")
    for i, j in np.argwhere(share >= 0.005):
        ink = _DARK if share[i, j] > 0.45 else _PALE
        axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", color=ink, size=9)
    return figure


def iou_bars(scores: Mapping[str, Any], labels: Labels) -> Figure:
    """Draw the IoU of every class as bars, one color for each model.

    Parameters
    ----------
    scores : dict of str to Scores, or to array or tensor (K,)
        What `seglab.training.evaluate` returned, by name; NaN marks an absent class.
    labels : Labels
        Names of the K classes.

    Returns
    -------
    matplotlib.figure.Figure
        For `show`.

    Raises
    ------
    ValueError
        If a model does not have one number for each class.
    """
    height = 0.8 / len(scores)
    figure, axes = plt.subplots(
        figsize=(WIDTH, 0.9 + labels.num_classes * max(0.3, 0.17 * len(scores)))
    )
    for k, ((name, score), color) in enumerate(
        zip(scores.items(), _colors(len(scores)), strict=True)
    ):
        values = to_array(getattr(score, "iou", score)).astype(float)
        if values.shape != (labels.num_classes,):
            raise ValueError(f"{name}: expected {labels.num_classes} numbers, got {values.shape}")
        places = np.arange(values.size) + height * (k - (len(scores) - 1) / 2)
        axes.barh(places, np.nan_to_num(values), height=0.9 * height, color=color, label=name)
        for place, value in zip(places, values, strict=True):
            text = "absent" if np.isnan(value) else f"{value:.2f}"
            axes.text(np.nan_to_num(value) + 0.01, place, text, va="center", size=9)
    axes.set_yticks(range(labels.num_classes), labels.names)
    axes.invert_yaxis()
    axes.set(xlabel="IoU", xlim=(0, 1.05))
    axes.grid(False, axis="y")
    if len(scores) > 1:
        figure.legend(loc="outside lower center", ncols=min(4, len(scores)))
    return figure


def receptive_field(effective: Any, size: float) -> Figure:
    """Draw what moves the central unit, in the frame of what can.

    Parameters
    ----------
    effective : array or tensor, (H, W)
        What `seglab.receptive_field.effective` returned; its square root is drawn, so that faint
        parts show.
    size : float
        Side of the theoretical field in pixels, drawn dashed around the strongest pixel; no frame
        if it is larger than the image.

    Returns
    -------
    matplotlib.figure.Figure
        For `show`.

    Raises
    ------
    ValueError
        If the map is not (H, W).
    """
    values = to_array(effective)
    if values.ndim != 2:
        raise ValueError(f"expected a map (H, W), got {values.shape}")
    figure, axes = plt.subplots(figsize=(WIDTH / 2, WIDTH / 2 * min(_aspect(values), 2) + 0.4))
    axes.imshow(np.sqrt(values), cmap="viridis", vmin=0)
    axes.grid(False)
    axes.set(xlabel="column, pixels", ylabel="row, pixels")
    if size <= min(values.shape):
        row, column = np.unravel_index(values.argmax(), values.shape)
        corner = (column - size / 2, row - size / 2)
        axes.add_patch(
            Rectangle(
                corner, size, size, fill=False, edgecolor=_PALE, linestyle="--", linewidth=1.5
            )
        )
    return figure


def _rgb(picture: Any) -> np.ndarray:
    """Return (H, W, 3) floats in [0, 1]."""
    array = to_array(picture)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] != 3:
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(f"expected an image (3, H, W) or (H, W, 3), got {array.shape}")
    scale = 255 if array.dtype == np.uint8 else 1
    return np.broadcast_to(np.clip(array / scale, 0, 1), (*array.shape[:2], 3))


def _draw(axes: Any, picture: Any, labels: Labels | None, cmap: str) -> set[int]:
    """Draw one picture; return the class ids in it."""
    array = to_array(picture)
    if array.ndim == 3:
        axes.imshow(_rgb(array))
        return set()
    if array.ndim != 2:
        raise ValueError(f"expected (3, H, W), (H, W, 3) or (H, W), got {array.shape}")
    if labels is not None and array.dtype.kind in "iu":
        axes.imshow(paint(array, labels))
        return {int(k) for k in np.unique(array)}
    values = array / 255 if array.dtype == np.uint8 else array.astype(float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    axes.imshow(values, cmap=cmap, vmin=low, vmax=high)
    return set()


def _rows(items: Sequence[Any]) -> list[list[Any]]:
    """Return a list of rows; a single row of more than four wraps."""
    if isinstance(items[0], (list, tuple)):
        return [list(row) for row in items]
    return [list(items[i : i + COLUMNS]) for i in range(0, len(items), COLUMNS)]


def _aspect(picture: Any) -> float:
    """Return height over width."""
    if picture is None:
        return 0.0
    array = to_array(picture)
    height, width = array.shape[:2] if array.shape[-1] == 3 else array.shape[-2:]
    return height / width


def _legend(figure: Figure, labels: Labels, ids: set[int], columns: int, where: Any = "") -> None:
    """Name the given classes below the figure; a hatched swatch stands for ignored pixels."""
    swatches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*labels.colors[k]), label=labels.names[k])
        for k in sorted(ids - {labels.ignore_index})
    ]
    if labels.ignore_index in ids:
        swatches.append(
            Patch(facecolor="#d7d7d7", edgecolor="#464646", linewidth=0, hatch="///////")
        )
        swatches[-1].set_label("ignored")
    figure.legend(
        handles=swatches,
        loc=where or "outside lower center",
        ncols=-(-len(ids) // -(-len(ids) // columns)),  # rows of equal length
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.4,
        handletextpad=0.5,
    )


def _colors(number: int) -> list[str]:
    return [CURVES[k % len(CURVES)] for k in range(number)]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Average over a window of about a twentieth of the curve, centered; shorter at the ends."""
    width = 2 * (values.size // 40) + 1
    weights = np.convolve(np.ones_like(values), np.ones(width), mode="same")
    return np.convolve(values, np.ones(width), mode="same") / weights
