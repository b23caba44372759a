"""Drawings made by code: architectures from the live model, and convolutions on grids."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from seglab import architecture, svg, tracing
from seglab.runtime import to_array

_BLUE, _PINK, _GREEN = "#0072B2", "#C978A6", "#009E73"
_CELL = 26.0  # side of a grid's cell, CSS pixels


def network(
    model: nn.Module,
    shape: Sequence[int] = (3, 224, 224),
    *,
    blocks: Sequence[str] | Mapping[str, str] | None = None,
) -> svg.Drawing:
    """Draw an architecture from a run of the live model.

    Every block is a feature map: its height grows with the square root of the resolution, its
    width with that of the number of channels, which is written below it. A row holds maps of one
    resolution, so that an encoder descends on the left and a decoder climbs on the right. Three
    blocks in a row stand for three or more equal ones. Dashed lines carry the positions of maxima
    from pooling to unpooling.

    Parameters
    ----------
    model : torch.nn.Module
        Takes images (N, C, H, W).
    shape : (C, H, W)
        Size of the image; only shapes are computed, so any size is cheap.
    blocks : list of str, or dict of str to str, optional
        Names of the modules to draw, as in ``model.named_modules()``; a dict also says what to
        call them. By default the stages of equal resolution, and parallel branches.

    Returns
    -------
    Drawing
        For `seglab.plots.show`; its alt text lists the maps and their shapes.

    Raises
    ------
    ValueError
        If the model has no module of a given name.
    """
    return architecture.draw(tracing.trace(model, shape, blocks), type(model).__name__)


def convolution(
    input: int = 5,
    kernel: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 0,
    at: tuple[int, int] = (0, 0),
) -> svg.Drawing:
    """Draw which cells of the input make one cell of the output of a convolution.

    Parameters
    ----------
    input, kernel : int
        Side of the input and of the kernel, in cells.
    stride, dilation, padding : int
        As in ``torch.nn.Conv2d``.
    at : (row, column)
        Which cell of the output is made.

    Returns
    -------
    Drawing
        For `seglab.plots.show`. Filled: the cells that count. Dashed: padding. Thin frame: the
        window of the next output cell, one stride further.

    Raises
    ------
    ValueError
        If the kernel does not fit, or the output has no such cell.
    """
    span = dilation * (kernel - 1) + 1
    output = (input + 2 * padding - span) // stride + 1
    if output < 1:
        raise ValueError(f"a kernel that spans {span} cells does not fit {input} + 2 x {padding}")
    _check_cell(at, output, "output")
    side = input + 2 * padding
    taps = {
        (at[0] * stride + dilation * i, at[1] * stride + dilation * j)
        for i in range(kernel)
        for j in range(kernel)
    }

    def before(i: int, j: int) -> dict[str, Any]:
        inner = padding <= i < padding + input and padding <= j < padding + input
        return {"fill": _BLUE if (i, j) in taps else "", "dashed": not inner}

    def after(i: int, j: int) -> dict[str, Any]:
        return {"fill": _GREEN if (i, j) == at else ""}

    frames = [(at[0] * stride, at[1] * stride, span, _BLUE)]
    if at[1] + 1 < output:
        frames.append((at[0] * stride, (at[1] + 1) * stride, span, _PINK))
    traits = f"stride {stride}, dilation {dilation}, padding {padding}"
    alt = (
        f"Convolution with a {kernel} × {kernel} kernel, {traits}: output cell {at} of "
        f"{output} × {output} is made from the {len(taps)} marked cells of an input of "
        f"{input} × {input}; they span {span} × {span} cells."
    )
    words = [f"input {input} × {input}", f"output {output} × {output}"]
    words[0] += f", padding {padding}" if padding else ""
    return _pair((side, before, frames), (output, after, []), words, alt)


def transposed_convolution(
    input: int = 3,
    kernel: int = 3,
    *,
    stride: int = 2,
    padding: int = 0,
    at: tuple[int, int] = (0, 0),
) -> svg.Drawing:
    """Draw to which cells of the output one cell of the input is spread.

    Parameters
    ----------
    input, kernel : int
        Side of the input and of the kernel, in cells.
    stride, padding : int
        As in ``torch.nn.ConvTranspose2d``.
    at : (row, column)
        Which cell of the input is spread.

    Returns
    -------
    Drawing
        For `seglab.plots.show`. Filled: the cells that receive a part. Dashed: what padding cuts
        off. Thin frame: the patch of the next input cell; where both overlap, they are added.

    Raises
    ------
    ValueError
        If the input has no such cell, or nothing is left of the output.
    """
    _check_cell(at, input, "input")
    full = (input - 1) * stride + kernel
    output = full - 2 * padding
    if output < 1:
        raise ValueError(f"padding {padding} cuts off all of the {full} cells")
    row, column = at[0] * stride, at[1] * stride

    def before(i: int, j: int) -> dict[str, Any]:
        return {"fill": _BLUE if (i, j) == at else ""}

    def after(i: int, j: int) -> dict[str, Any]:
        hit = row <= i < row + kernel and column <= j < column + kernel
        inner = padding <= i < full - padding and padding <= j < full - padding
        return {"fill": _GREEN if hit else "", "dashed": not inner}

    frames = [(row, column, kernel, _GREEN)]
    if at[1] + 1 < input:
        frames.append((row, column + stride, kernel, _PINK))
    overlap = max(kernel - stride, 0)
    alt = (
        f"Transposed convolution with a {kernel} × {kernel} kernel, stride {stride}, padding "
        f"{padding}: input cell {at} of {input} × {input} is spread over a {kernel} × {kernel} "
        f"patch of the output of {output} × {output}; the next patch starts {stride} cells "
        f"further and overlaps it by {overlap}."
    )
    words = [f"input {input} × {input}", f"output {output} × {output}"]
    return _pair((input, before, []), (full, after, frames), words, alt)


def pooling(values: Any, size: int = 2, *, unpool: bool = False) -> svg.Drawing:
    """Draw max pooling, and unpooling with the remembered positions if asked.

    Parameters
    ----------
    values : array or tensor, (H, W)
        Numbers; H and W are multiples of ``size``.
    size : int
        Side of a window.
    unpool : bool
        Whether a third grid puts the maxima back to where they were, among zeros.

    Returns
    -------
    Drawing
        For `seglab.plots.show`.

    Raises
    ------
    ValueError
        If windows do not fill the array.
    """
    array = to_array(values)
    if array.ndim != 2 or array.shape[0] % size or array.shape[1] % size:
        raise ValueError(f"windows of {size} x {size} do not fill an array of shape {array.shape}")
    rows, columns = (length // size for length in array.shape)
    windows = array.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(rows, columns, -1)
    pooled, best = windows.max(-1), windows.argmax(-1)
    peaks = {
        (i * size + best[i, j] // size, j * size + best[i, j] % size): pooled[i, j]
        for i, j in np.ndindex(rows, columns)
    }

    def before(i: int, j: int) -> dict[str, Any]:
        return {"fill": _BLUE if (i, j) in peaks else "", "text": f"{array[i, j]:g}"}

    def after(i: int, j: int) -> dict[str, Any]:
        return {"fill": _GREEN, "text": f"{pooled[i, j]:g}"}

    def back(i: int, j: int) -> dict[str, Any]:
        return {"fill": _BLUE if (i, j) in peaks else "", "text": f"{peaks.get((i, j), 0):g}"}

    grids: list[tuple[tuple[int, int], _Paint, str]] = [
        ((array.shape[0], array.shape[1]), before, "input"),
        ((rows, columns), after, "maxima"),
    ]
    if unpool:
        grids.append(((array.shape[0], array.shape[1]), back, "unpooled"))
    x, parts, height = 4.0, [svg.ARROW], array.shape[0] * _CELL
    for k, ((h, w), paint, word) in enumerate(grids):
        top = 4 + (height - h * _CELL) / 2
        parts.append(_cells(x, top, h, w, paint))
        if word != "maxima":
            parts += [
                _frame(x + j * _CELL, top + i * _CELL, size * _CELL, "currentColor", 1.6)
                for i in range(0, h, size)
                for j in range(0, w, size)
            ]
        parts.append(svg.text(x + w * _CELL / 2, height + 22, word))
        x += w * _CELL
        if k + 1 < len(grids):
            parts.append(_pointer(x + 8, x + 40, 4 + height / 2))
            x += 48
    found = "; ".join(" ".join(f"{value:g}" for value in row) for row in pooled)
    alt = f"Max pooling in windows of {size} × {size}: the maxima of the windows are {found}."
    if unpool:
        alt += " Unpooling puts each maximum back to its place; all other cells are zero."
    return svg.drawing("".join(parts), alt, x + 4, height + 30)


def receptive_field(layers: Sequence[tuple[int, ...]]) -> svg.Drawing:
    """Draw, along one dimension, which pixels one unit sees through a stack of layers.

    Parameters
    ----------
    layers : list of (kernel, stride) or (kernel, stride, dilation)
        From the image to the output.

    Returns
    -------
    Drawing
        For `seglab.plots.show`. The image is the lowest row; filled cells are seen.
    """
    full = [(layer[0], layer[1], layer[2] if len(layer) > 2 else 1) for layer in layers]
    jumps, starts = [1], [0.0]  # pixels between two units, center of the first, row by row
    for kernel, stride, dilation in full:
        starts.append(starts[-1] + jumps[-1] * dilation * (kernel - 1) / 2)
        jumps.append(jumps[-1] * stride)
    seen: list[set[int]] = [{0}]  # from the output down
    for kernel, stride, dilation in reversed(full):
        seen.insert(0, {unit * stride + dilation * k for unit in seen[0] for k in range(kernel)})
    field = max(seen[0]) - min(seen[0]) + 1
    cell = min(_CELL, 560 / (field + 2))
    left, step = 104.0, cell + 34
    parts = []

    def center(row: int, unit: int) -> tuple[float, float]:
        x = left + cell * (1.5 + starts[row] + unit * jumps[row])
        return x, 8 + cell / 2 + step * (len(full) - row)

    for row, (kernel, stride, dilation) in enumerate(full, 1):
        for unit in seen[row]:
            for k in range(kernel):
                (x1, y1), (x2, y2) = (
                    center(row, unit),
                    center(row - 1, unit * stride + dilation * k),
                )
                parts.append(
                    f'<path d="M{x1:.1f} {y1 + cell / 2:.1f}L{x2:.1f} {y2 - cell / 2:.1f}" '
                    f'stroke="currentColor" stroke-opacity=".35"/>'
                )
    for row in range(len(full) + 1):
        color = _GREEN if row == len(full) else _BLUE
        margin = int(row == 0)
        first = math.ceil(-starts[row] / jumps[row]) - margin
        last = math.floor((field - 1 - starts[row]) / jumps[row]) + margin
        for unit in range(first, last + 1):
            x, y = center(row, unit)
            parts.append(
                _cell(x - cell / 2, y - cell / 2, cell, color if unit in seen[row] else "")
            )
        y = center(row, 0)[1] + 4
        parts.append(svg.text(4, y, _layer(full[row - 1]) if row else "image", "start"))
    bottom = 8 + cell + step * len(full)
    parts.append(svg.text(left + cell * (field / 2 + 1), bottom + 18, f"{field} pixels"))
    stack = "; ".join(_layer(layer) for layer in full)
    alt = (
        f"Receptive field of one unit behind {len(full)} layers ({stack}), along one dimension: "
        f"it spans {field} pixels, of which {len(seen[0])} are used."
    )
    return svg.drawing("".join(parts), alt, left + cell * (field + 2) + 4, bottom + 26)


_Paint = Callable[[int, int], dict[str, Any]]
_Frames = list[tuple[int, int, int, str]]


def _layer(layer: tuple[int, int, int]) -> str:
    kernel, stride, dilation = layer
    traits = [f"/{stride}"] if stride > 1 else []
    traits += [f"rate {dilation}"] if dilation > 1 else []
    return " ".join([f"{kernel} × {kernel}", *traits])


def _check_cell(at: tuple[int, int], side: int, name: str) -> None:
    if not (0 <= at[0] < side and 0 <= at[1] < side):
        raise ValueError(f"the {name} of {side} x {side} has no cell {tuple(at)}")


def _pair(
    first: tuple[int, _Paint, _Frames],
    second: tuple[int, _Paint, _Frames],
    words: list[str],
    alt: str,
) -> svg.Drawing:
    """Draw two square grids side by side, and an arrow from the first to the second."""
    height = max(first[0], second[0]) * _CELL
    x, parts = 4.0, [svg.ARROW]
    for k, ((side, paint, frames), word) in enumerate(zip((first, second), words, strict=True)):
        top = 4 + (height - side * _CELL) / 2
        parts.append(_cells(x, top, side, side, paint))
        for row, column, length, color in reversed(frames):
            width = 2.5 if color != _PINK else 1.8
            place = x + column * _CELL, top + row * _CELL
            parts.append(_frame(*place, length * _CELL, color, width))
        parts.append(svg.text(x + side * _CELL / 2, height + 22, word))
        x += side * _CELL
        if k == 0:
            parts.append(_pointer(x + 8, x + 46, 4 + height / 2))
            x += 54
    return svg.drawing("".join(parts), alt, x + 4, height + 30)


def _cells(x: float, y: float, rows: int, columns: int, paint: _Paint) -> str:
    return "".join(
        _cell(x + j * _CELL, y + i * _CELL, _CELL, **paint(i, j))
        for i in range(rows)
        for j in range(columns)
    )


def _cell(
    x: float, y: float, side: float, fill: str = "", text: str = "", dashed: bool = False
) -> str:
    shade = ".5" if text else ".75"  # paler under a number, which takes the page's color
    look = f'fill="{fill}" fill-opacity="{shade}"' if fill else 'fill-opacity=".04"'
    dash = ' stroke-dasharray="3 3"' if dashed else ""
    box = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" {look} '
        f'stroke="currentColor" stroke-opacity=".45"{dash}/>'
    )
    return box + (svg.text(x + side / 2, y + side / 2 + 4, text) if text else "")


def _frame(x: float, y: float, side: float, color: str, width: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" '
        f'stroke="{color}" stroke-width="{width}"/>'
    )


def _pointer(start: float, end: float, y: float) -> str:
    return (
        f'<path d="M{start:.1f} {y:.1f}H{end:.1f}" stroke="currentColor" stroke-width="1.5" '
        f'marker-end="url(##arrow)"/>'
    )
