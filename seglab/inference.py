"""Label maps from a trained model: several scales, mirror images, overlapping windows."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.models.running import (
    device_of,
    logits_everywhere,
    logits_inside,
    margin_of,
    mirror,
    mode,
)

SMALLEST_SIDE = 64  # pixels; less than two positions of a stride-32 score map


def predict(
    model: nn.Module,
    image: Tensor,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | tuple[int, int] | None = None,
) -> Tensor:
    """Label every pixel.

    Parameters
    ----------
    As for ``probabilities``.

    Returns
    -------
    Tensor
        int64 class ids, (H, W) for an image (3, H, W) and (N, H, W) for (N, 3, H, W), on the
        model's device. With one-channel logits: 1 where the logit is above 0.
    """
    p = probabilities(model, image, scales=scales, flip=flip, window=window)
    if p.shape[-3] == 1:
        return (p[..., 0, :, :] > 0.5).long()
    return p.argmax(dim=-3)


@torch.inference_mode()
def probabilities(
    model: nn.Module,
    image: Tensor,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | tuple[int, int] | None = None,
) -> Tensor:
    """Return the probability of every class at every pixel.

    All averages are taken of probabilities, not of logits: a view that is sure of itself then
    cannot outvote all others.

    Parameters
    ----------
    model : nn.Module
        It runs in eval mode where it is, and is left in the mode in which it was found. A model
        with ``padding="valid"`` sees the image continued by reflection.
    image : Tensor
        float, (3, H, W) or (N, 3, H, W) in [0, 1], on any device; H and W at least 64.
    scales : sequence of float
        The image is shown in each of these sizes, and the answers are averaged.
    flip : bool
        Show each size from left to right and from right to left.
    window : int or (int, int), optional
        Show windows of this height and width that overlap by half, instead of the whole image.
        The last window ends at the edge of the image. For images that are larger than those of
        the training, or than the memory.

    Returns
    -------
    Tensor
        float32, (K, H, W) or (N, K, H, W); with one-channel logits the foreground's, (1, H, W)
        or (N, 1, H, W).

    Raises
    ------
    TypeError
        If the image is no tensor of floating type.
    ValueError
        If its shape, a scale or the window does not fit.
    """
    images = _checked(image)
    height, width = images.shape[-2:]
    sizes = [_scaled((height, width), scale) for scale in scales]
    if not sizes:
        raise ValueError("scales is empty; expected at least one, for instance (1.0,)")
    if window is not None:
        window = (window, window) if isinstance(window, int) else window
        if min(window) < SMALLEST_SIDE:
            raise ValueError(f"window is {window}; expected at least {SMALLEST_SIDE} pixels a side")
    images = images.to(device_of(model))
    total, views = torch.zeros(()), 0
    with mode(model, training=False):
        for size, mirrored in itertools.product(sizes, (False, True) if flip else (False,)):
            view = _resize(images, size)
            view = view.flip(-1) if mirrored else view
            p = _whole(model, view) if window is None else _windows(model, view, window)
            p = p.flip(-1) if mirrored else p
            total = total.to(p.device) + _resize(p, (height, width))
            views += 1
    mean = total / views
    return mean if image.ndim == 4 else mean[0]


def _checked(image: Tensor) -> Tensor:
    """Return (N, 3, H, W), or say what is wrong with the image."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"image is {kind}; expected a float tensor in [0, 1] (divide bytes by 255)")
    if image.ndim not in (3, 4):
        raise ValueError(f"image is {tuple(image.shape)}; expected (3, H, W) or (N, 3, H, W)")
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        height, width = image.shape[-2:]
        raise ValueError(
            f"image is {height} x {width} pixels; expected at least "
            f"{SMALLEST_SIDE} x {SMALLEST_SIDE}"
        )
    return image if image.ndim == 4 else image[None]


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (round(side * scale) for side in size)
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"scale {scale} makes {height} x {width} pixels of {size[0]} x {size[1]}; expected "
            f"at least {SMALLEST_SIDE} x {SMALLEST_SIDE}"
        )
    return height, width


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)


def _normalized(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def _whole(model: nn.Module, images: Tensor) -> Tensor:
    return _normalized(logits_everywhere(model, images))


def _windows(model: nn.Module, images: Tensor, window: tuple[int, int]) -> Tensor:
    """Average the probabilities of overlapping windows.

    A window of a model without padding brings its true surroundings along, so that only the
    borders of the image itself are mirrored: the overlap-tile strategy of U-Net.
    """
    height, width = images.shape[-2:]
    h, w = min(window[0], height), min(window[1], width)
    margin = margin_of(model)
    surrounded = mirror(images, margin, (margin, margin)) if margin else images
    total, count = torch.zeros(()), images.new_zeros(height, width)
    for top, left in itertools.product(_starts(height, h), _starts(width, w)):
        tile = surrounded[..., top : top + h + 2 * margin, left : left + w + 2 * margin]
        p = _normalized(logits_inside(model, tile))
        if count.max() == 0:
            total = p.new_zeros(*p.shape[:2], height, width)
        total[..., top : top + h, left : left + w] += p
        count[top : top + h, left : left + w] += 1
    return total / count


def _starts(length: int, window: int) -> list[int]:
    """Return where windows begin: half a window apart, the last one at the end."""
    last = length - window
    return [*range(0, last, max(1, window // 2)), last]
