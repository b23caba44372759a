"""Losses of a segmentation: logits first, mean over the valid pixels, pure functions.

Every loss takes K-class logits (N, K, H, W), or binary logits (N, 1, H, W) that mean
P(class 1) = sigmoid(logit), and a target (N, H, W) of class ids in which ``ignore_index`` marks
pixels that do not count. What the logits hold there does not matter, not even NaN. If every pixel
is ignored, the loss is 0 and so is its gradient. Half precision is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    ignore_index: int = 255,
) -> torch.Tensor:
    """-log p of the true class, averaged over the valid pixels.

    Parameters
    ----------
    logits : torch.Tensor
        (N, K, H, W), or (N, 1, H, W) for background and foreground (K = 2).
    target : torch.Tensor
        (N, H, W) class ids of an integer type.
    weight : torch.Tensor, optional
        (K,) weights of the classes. The sum is then divided by the sum of the pixels' weights,
        as `torch.nn.functional.cross_entropy` does, not by their number.
    ignore_index : int
        Target value of pixels that do not count.

    Returns
    -------
    torch.Tensor
        A scalar, at least 0.

    Raises
    ------
    TypeError, ValueError
        If a type or shape does not fit, or the target holds a class id outside 0 .. K-1.
    """
    log_p, target, valid = _log_probabilities(logits, target, ignore_index)
    per_pixel = -_of_true_class(log_p, target)  # (N, H, W)
    if weight is None:
        return _weighted_mean(per_pixel, valid.to(log_p.dtype))
    return _weighted_mean(per_pixel, _per_class(weight, log_p, "weight")[target] * valid)


_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": cross_entropy,
}


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_LOSSES)


def get(name: str) -> Callable[..., torch.Tensor]:
    """Return the loss function of a name; ValueError lists the names that exist."""
    if name not in _LOSSES:
        raise ValueError(f"unknown loss {name!r}, expected one of: {', '.join(names())}")
    return _LOSSES[name]


def _log_probabilities(
    logits: torch.Tensor, target: torch.Tensor, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check the arguments of a loss and bring binary and K-class logits into one form.

    Returns
    -------
    log_p : torch.Tensor
        (N, K, H, W) log probabilities, K = 2 for binary logits; float32 or float64. No gradient
        reaches the logits of ignored pixels.
    target : torch.Tensor
        (N, H, W) int64, 0 where ignored.
    valid : torch.Tensor
        (N, H, W) bool, False where ignored.
    """
    _check_types(logits, target)
    num_classes = max(2, logits.shape[1])
    target = target.to(torch.int64)
    valid = target != ignore_index
    outside = valid & ((target < 0) | (target >= num_classes))
    if outside.any():
        wrong = target[outside].unique().tolist()
        raise ValueError(
            f"target holds class id {', '.join(map(str, wrong[:5]))} "
            f"({int(outside.sum())} pixels), but logits {tuple(logits.shape)} know "
            f"0..{num_classes - 1} (and {ignore_index} = ignored)"
        )
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    logits = logits.where(valid[:, None], 0)  # cuts the gradient, NaN included
    if logits.shape[1] == 1:
        log_p = F.logsigmoid(torch.cat([-logits, logits], dim=1))
    else:
        log_p = F.log_softmax(logits, dim=1)
    return log_p, target.where(valid, 0), valid


def _check_types(logits: torch.Tensor, target: torch.Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be of a floating type, got {logits.dtype}")
    if target.is_floating_point() or target.is_complex():
        raise TypeError(f"target must hold integer class ids, got {target.dtype}")
    if logits.ndim != 4 or logits.shape[1] < 1:
        raise ValueError(f"expected logits (N, K, H, W), got {tuple(logits.shape)}")
    expected = (logits.shape[0], *logits.shape[2:])
    if target.shape != expected:
        raise ValueError(
            f"logits {tuple(logits.shape)} need a target {expected}, got {tuple(target.shape)}"
        )


def _of_true_class(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Pick the channel of the true class at every pixel: (N, K, H, W) -> (N, H, W)."""
    return values.gather(1, target[:, None]).squeeze(1)


def _per_class(values: torch.Tensor, log_p: torch.Tensor, name: str) -> torch.Tensor:
    """Check that there is one value a class, and bring it to the device and type of log_p."""
    if not isinstance(values, torch.Tensor) or values.shape != log_p.shape[1:2]:
        given = tuple(values.shape) if isinstance(values, torch.Tensor) else repr(values)
        raise ValueError(f"{name} must be a tensor of shape ({log_p.shape[1]},), got {given}")
    return values.to(log_p)


def _weighted_mean(per_pixel: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean over all pixels; 0 if no pixel has a weight."""
    total = weights.sum()
    return (per_pixel * weights).sum() / total.where(total > 0, 1)
