"""What training and prediction both need to know about running a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter, the CPU if it has none."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into train or eval mode; afterwards every module is as it was found."""
    found = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in found.items():
            module.training = was_training


def margin_of(model: nn.Module) -> int:
    """Return how many pixels the output lacks on each side: 0 unless ``padding="valid"``."""
    return getattr(model, "margin", 0) if getattr(model, "padding", None) == "valid" else 0


def mirror(images: Tensor, before: int, after: tuple[int, int]) -> Tensor:
    """Continue images beyond their edges by reflection, as often as needed.

    Parameters
    ----------
    images : (..., H, W)
        The edge pixel itself is not repeated: ...cb|abc|ba...
    before : int
        Pixels to add at the top and at the left.
    after : (int, int)
        Pixels to add at the bottom and at the right.

    Returns
    -------
    (..., before + H + after[0], before + W + after[1])
    """
    for axis, extra in zip((-2, -1), after, strict=True):
        size = images.shape[axis]
        period = max(2 * (size - 1), 1)
        place = torch.arange(-before, size + extra, device=images.device) % period
        images = images.index_select(axis, torch.minimum(place, period - place) % size)
    return images


def logits_inside(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of all pixels that are at least ``margin_of(model)`` from the edge.

    A padded model answers every pixel. A model with ``padding="valid"`` has ``margin``, the
    pixels that it loses on each side, and ``fitting_size(n)``, the smallest side >= n that it
    accepts; what is missing to that size is mirrored and cut off again.

    Shapes: (N, 3, H, W) -> (N, K, H - 2 margin, W - 2 margin).
    """
    margin = margin_of(model)
    if margin == 0:
        return model(images)
    height, width = images.shape[-2:]
    fitting_size: Callable[[int], int] = model.fitting_size  # type: ignore[assignment]
    missing = (fitting_size(height) - height, fitting_size(width) - width)
    return model(mirror(images, 0, missing))[..., : height - 2 * margin, : width - 2 * margin]


def logits_everywhere(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of all pixels; a model without padding sees mirrored borders.

    Shapes: (N, 3, H, W) -> (N, K, H, W).
    """
    margin = margin_of(model)
    return logits_inside(model, mirror(images, margin, (margin, margin)) if margin else images)
