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


def weighted_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    beta: float | torch.Tensor | None,
    *,
    ignore_index: int = 255,
) -> torch.Tensor:
    """Cross entropy in which the positives count beta times.

    Binary: -(beta y log p + (1 - y) log(1 - p)), divided by the number of valid pixels; beta > 1
    raises recall, beta < 1 precision. K classes: the pixels of class c count beta[c] times, and
    the sum is divided by the sum of the weights. Source: the lecture's WCE, with p for the
    probability of the foreground.

    Parameters
    ----------
    logits, target, ignore_index
        As in `cross_entropy`.
    beta : float, (K,) tensor or None
        A number for binary logits, a tensor for K classes, not negative; None is plain cross
        entropy.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`, and for a beta of the wrong kind.
    """
    log_p, target, valid = _log_probabilities(logits, target, ignore_index)
    weight = _class_weights(beta, logits, log_p, "beta", negatives=lambda b: torch.ones_like(b))
    counted = valid.to(log_p.dtype)
    per_pixel = -_of_true_class(log_p, target)
    if logits.shape[1] == 1:
        return _weighted_mean(per_pixel * weight[target], counted)
    return _weighted_mean(per_pixel, weight[target] * counted)


def balanced_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    beta: float | torch.Tensor | None = None,
    *,
    ignore_index: int = 255,
) -> torch.Tensor:
    """Cross entropy in which positives count beta and negatives 1 - beta.

    Binary: -(beta y log p + (1 - beta)(1 - y) log(1 - p)); K classes: the pixels of class c count
    beta[c]. Divided by the number of valid pixels. Source: the lecture's BCE; Xie and Tu,
    "Holistically-Nested Edge Detection", ICCV 2015, equation 2.

    Parameters
    ----------
    logits, target, ignore_index
        As in `cross_entropy`.
    beta : float, (K,) tensor or None
        A number in [0, 1] for binary logits, a tensor for K classes. By default 1 minus the share
        of a class among the valid pixels of the batch; for binary logits the share of negatives.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`, and for a beta of the wrong kind.
    """
    log_p, target, valid = _log_probabilities(logits, target, ignore_index)
    if beta is None:
        counts = torch.bincount(target[valid], minlength=log_p.shape[1]).to(log_p)
        weight = 1 - counts / counts.sum().clamp(min=1)
    else:
        weight = _class_weights(beta, logits, log_p, "beta", negatives=lambda b: 1 - b)
    per_pixel = -_of_true_class(log_p, target) * weight[target]
    return _weighted_mean(per_pixel, valid.to(log_p.dtype))


def focal(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | torch.Tensor | None = None,
    ignore_index: int = 255,
) -> torch.Tensor:
    """(1 - p)^gamma (-log p) of the true class, averaged over the valid pixels.

    Easy pixels, whose true class has p near 1, count next to nothing. gamma = 0 is cross entropy,
    with alpha balanced cross entropy. K classes share a softmax. Source: Lin et al., "Focal Loss
    for Dense Object Detection", ICCV 2017, equation 5.

    Parameters
    ----------
    logits, target, ignore_index
        As in `cross_entropy`.
    gamma : float
        At least 0.
    alpha : float, (K,) tensor or None
        For binary logits a number in [0, 1]: positives count alpha, negatives 1 - alpha. For K
        classes a tensor of weights. None: all count 1.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`, and for an impossible gamma or alpha.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma is {gamma!r}; expected a number from 0")
    log_p, target, valid = _log_probabilities(logits, target, ignore_index)
    weight = _class_weights(alpha, logits, log_p, "alpha", negatives=lambda a: 1 - a)
    per_pixel = -_of_true_class(log_p, target) * weight[target]
    if gamma > 0:
        # log(1 - p) from the other classes: exact for p near 1, and its gradient never NaN
        others = log_p.scatter(1, target[:, None], -torch.inf).logsumexp(dim=1)
        per_pixel = per_pixel * (gamma * others).exp()
    return _weighted_mean(per_pixel, valid.to(log_p.dtype))


def dice(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    smooth: float = 1.0,
    squared: bool = False,
    per_image: bool = False,
    ignore_index: int = 255,
) -> torch.Tensor:
    """1 - (2 TP + smooth) / (P + G + smooth), averaged over the classes.

    TP sums the probability p of a class over its true pixels, P sums p over all valid pixels, G
    counts the true ones. Source: Milletari et al., "V-Net", 3DV 2016 (with squares); the
    lecture's DL with smooth = 1.

    Parameters
    ----------
    logits, target, ignore_index
        As in `cross_entropy`. Binary logits: the foreground alone is scored, not the background.
    smooth : float
        At least 0. A class that is neither there nor predicted costs nothing, with smooth = 0 too.
    squared : bool
        Sum p^2 in the denominator instead of p.
    per_image : bool
        Score every image and average, instead of one score for the sums over the batch; images
        without a valid pixel do not count.

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`, and for a negative smooth.
    """
    _check_smooth(smooth)
    overlap, predicted, true, counts = _sums(logits, target, ignore_index, per_image, squared)
    return _overlap_loss(2 * overlap + smooth, predicted + true + smooth, counts)


def tversky(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    beta: float = 0.5,
    smooth: float = 1.0,
    per_image: bool = False,
    ignore_index: int = 255,
) -> torch.Tensor:
    """1 - (TP + s/2) / (TP + beta FP + (1 - beta) FN + s/2), averaged over the classes.

    beta weighs false positives; a small beta punishes what was missed. beta = 1/2 is Dice.
    Source: Salehi et al., "Tversky Loss Function for Image Segmentation", MLMI 2017; the
    lecture's form with a single beta.

    Parameters
    ----------
    logits, target, smooth, per_image, ignore_index
        As in `dice`.
    beta : float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `dice`, and for a beta outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is {beta!r}; expected a number from 0 to 1")
    _check_smooth(smooth)
    overlap, predicted, true, counts = _sums(logits, target, ignore_index, per_image)
    mistakes = beta * (predicted - overlap) + (1 - beta) * (true - overlap)
    return _overlap_loss(overlap + smooth / 2, overlap + mistakes + smooth / 2, counts)


_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": cross_entropy,
    "weighted_cross_entropy": weighted_cross_entropy,
    "balanced_cross_entropy": balanced_cross_entropy,
    "focal": focal,
    "dice": dice,
    "tversky": tversky,
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
    target, valid : torch.Tensor
        As `_checked` returns them.
    """
    logits, target, valid = _checked(logits, target, ignore_index)
    if logits.shape[1] == 1:
        return F.logsigmoid(torch.cat([-logits, logits], dim=1)), target, valid
    return F.log_softmax(logits, dim=1), target, valid


def _checked(
    logits: torch.Tensor, target: torch.Tensor, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check the arguments of a loss and cut off what is ignored.

    Returns
    -------
    logits : torch.Tensor
        (N, K, H, W) or (N, 1, H, W), float32 or float64; 0 without gradient where ignored.
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
    if not valid.all():
        logits = logits.where(valid[:, None], 0)  # cuts the gradient, NaN included
        target = target.where(valid, 0)
    return logits, target, valid


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


def _per_class(values: object, log_p: torch.Tensor, name: str) -> torch.Tensor:
    """Check that there is one value a class, and bring it to the device and type of log_p."""
    if not isinstance(values, torch.Tensor) or values.shape != log_p.shape[1:2]:
        given = tuple(values.shape) if isinstance(values, torch.Tensor) else repr(values)
        raise ValueError(f"{name} must be a tensor of shape ({log_p.shape[1]},), got {given}")
    return values.to(log_p)


def _class_weights(
    given: float | torch.Tensor | None,
    logits: torch.Tensor,
    log_p: torch.Tensor,
    name: str,
    *,
    negatives: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return the weight of every class, (K,): all 1 for None.

    A number belongs to the positives of binary logits; `negatives` gives the background's weight.
    """
    if given is None:
        return log_p.new_ones(log_p.shape[1])
    if logits.shape[1] > 1:
        return _per_class(given, log_p, name)
    positive = torch.as_tensor(given, dtype=log_p.dtype, device=log_p.device)
    if positive.ndim != 0:
        shape = tuple(positive.shape)
        raise ValueError(f"{name} must be a number for binary logits, got shape {shape}")
    both = torch.stack([negatives(positive), positive])
    if not (both >= 0).all():
        raise ValueError(f"{name} is {given}: no class may have a negative weight")
    return both


def _sums(
    logits: torch.Tensor,
    target: torch.Tensor,
    ignore_index: int,
    per_image: bool,
    squared: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what overlap losses are made of, summed over the batch or over every image.

    Returns
    -------
    overlap, predicted, true : torch.Tensor
        (G, K): p over the true pixels, p (or its square) over all valid ones, the number of true
        ones; G = N images or 1, K = 1 for binary logits.
    counts : torch.Tensor
        (G,) bool: whether there is any valid pixel.
    """
    logits, target, valid = _checked(logits, target, ignore_index)
    if logits.shape[1] == 1:  # the foreground alone: whatever is not foreground is class 0
        p, classes = torch.cat([torch.zeros_like(logits), logits.sigmoid()], dim=1), slice(1, 2)
    else:
        p, classes = logits.softmax(dim=1), slice(None)
    counted = valid.to(p.dtype)
    if not valid.all():
        p = p * counted[:, None]
    # p of the true class, and 1, summed by class
    ids, empty = target.flatten(1), p.new_zeros(p.shape[:2])
    overlap = empty.scatter_add(1, ids, _of_true_class(p, target).flatten(1))  # (N, K)
    true = empty.scatter_add(1, ids, counted.flatten(1))
    predicted = (p.square() if squared else p).sum(dim=(2, 3))
    sums = [part[:, classes] for part in (overlap, predicted, true)]
    if per_image:
        return sums[0], sums[1], sums[2], valid.flatten(1).any(dim=1)
    overlap, predicted, true = (part.sum(dim=0, keepdim=True) for part in sums)
    return overlap, predicted, true, valid.any()[None]


def _overlap_loss(
    numerator: torch.Tensor, denominator: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Mean of 1 - numerator / denominator over classes and counted groups; 0 where both are 0."""
    some = denominator > 0
    ratio = numerator / denominator.where(some, 1)
    return _weighted_mean((1 - ratio.where(some, 1)).mean(1), counts.to(ratio))


def _check_smooth(smooth: float) -> None:
    if not smooth >= 0:
        raise ValueError(f"smooth is {smooth!r}; expected a number from 0")


def _weighted_mean(per_pixel: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean over all pixels; 0 if no pixel has a weight."""
    total = weights.sum()
    return (per_pixel * weights).sum() / total.where(total > 0, 1)
