"""What a segmentation is worth: every count from one confusion matrix, and two boundary measures.

Definitions: mean IoU and pixel accuracy as in PASCAL VOC (Everingham et al., IJCV 2015) and
Long et al., CVPR 2015, section 5; boundary F1 by Csurka et al., BMVC 2013; boundary IoU by
Cheng et al., CVPR 2021.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage

Array = torch.Tensor | np.ndarray


class ConfusionMatrix:
    """Count pixels by true class (row) and predicted class (column), batch after batch.

    All scores are over every pixel counted so far, not means over images. A class that occurs
    neither in the truth nor in the prediction has no score: NaN, and means leave it out. With no
    valid pixel at all every score is NaN.

    Parameters
    ----------
    num_classes : int
        Number of classes K, at least 2; class ids are 0 .. K-1.
    ignore_index : int
        Target value of pixels that do not count, whatever is predicted there.

    Attributes
    ----------
    matrix : torch.Tensor
        (K, K) int64 on the CPU; ``matrix[t, p]`` pixels of class t were predicted as p.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 2:
            raise ValueError(
                f"a confusion matrix needs at least 2 classes, got num_classes={num_classes} "
                "(one-channel logits tell 2 classes apart: background and foreground)"
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, logits_or_labels: Array, target: Array) -> ConfusionMatrix:
        """Add the pixels of one image or batch, on any device; return the matrix object itself.

        Parameters
        ----------
        logits_or_labels : torch.Tensor or numpy.ndarray
            Floating point: logits (N, K, H, W) or (K, H, W), of which the largest wins; with one
            channel, class 1 where the logit is > 0. Integer or bool: class ids, shaped like target.
        target : torch.Tensor or numpy.ndarray
            Integer class ids, (N, H, W) or (H, W); ``ignore_index`` where a pixel does not count.

        Raises
        ------
        TypeError
            If the target is not of an integer type.
        ValueError
            If shapes or channels do not fit, or a valid pixel holds a class id outside 0 .. K-1
            or a NaN logit. Nothing is counted then.
        """
        prediction, target, valid = _label_maps(
            logits_or_labels, target, self.num_classes, self.ignore_index
        )
        pairs = (target * self.num_classes + prediction)[valid]
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.num_classes, self.num_classes).cpu()
        return self

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Join the counts of two parts of a data set, as if one matrix had seen both."""
        if self.num_classes != other.num_classes:
            raise ValueError(
                f"cannot add the counts of {self.num_classes} and {other.num_classes} classes"
            )
        total = ConfusionMatrix(self.num_classes, self.ignore_index)
        total.matrix = self.matrix + other.matrix
        return total

    def __repr__(self) -> str:
        return (
            f"ConfusionMatrix({self.num_classes} classes, {int(self.matrix.sum()):,} pixels, "
            f"mean IoU {self.mean_iou():.4f})"
        )

    def pixel_accuracy(self) -> float:
        """Share of valid pixels that got the right class, in [0, 1]."""
        return float(self._hits().sum() / self.matrix.sum())

    def mean_accuracy(self) -> float:
        """Mean over the classes present in the truth of the share found (recall), in [0, 1]."""
        return float(torch.nanmean(self._hits() / self._truth()))

    def iou(self) -> torch.Tensor:
        """Intersection over union of each class, TP / (TP + FP + FN): (K,) float64."""
        return self._hits() / (self._truth() + self._predicted() - self._hits())

    def mean_iou(self) -> float:
        """Mean of `iou` over the classes present in the truth or in the prediction."""
        return float(torch.nanmean(self.iou()))

    def frequency_weighted_iou(self) -> float:
        """Mean of `iou` weighted by the share of true pixels of each class."""
        present = self._truth() > 0
        weighted = (self._truth() * self.iou())[present]
        return float(weighted.sum() / self._truth().sum())

    def dice(self) -> torch.Tensor:
        """Dice coefficient (F1) of each class, 2 TP / (2 TP + FP + FN): (K,) float64."""
        return 2 * self._hits() / (self._truth() + self._predicted())

    def _hits(self) -> torch.Tensor:
        return self.matrix.diagonal().double()

    def _truth(self) -> torch.Tensor:
        return self.matrix.sum(dim=1).double()

    def _predicted(self) -> torch.Tensor:
        return self.matrix.sum(dim=0).double()


def boundary_f1(
    pred: Array,
    target: Array,
    *,
    num_classes: int | None = None,
    tolerance: float = 0.0075,
    ignore_index: int = 255,
) -> torch.Tensor:
    """How well contours agree, in one image: boundary F1 of each class.

    Precision is the share of predicted contour pixels that lie within the tolerance of a true
    contour pixel of the class, recall the reverse, F1 their harmonic mean. A contour pixel belongs
    to the class and has a 4-neighbor that does not; the edge of the image is no contour.

    Parameters
    ----------
    pred : torch.Tensor or numpy.ndarray
        Class ids (H, W), or logits (K, H, W) as in `ConfusionMatrix.update`.
    target : torch.Tensor or numpy.ndarray
        True class ids (H, W). Ignored pixels belong to no class, in truth and prediction alike.
    num_classes : int, optional
        K; by default the channels of the logits or one more than the largest class id.
    tolerance : float
        Euclidean distance that still counts as a hit, as a share of the image diagonal.
    ignore_index : int
        Target value of pixels that do not count.

    Returns
    -------
    torch.Tensor
        (K,) float64 in [0, 1]; NaN where the class is absent from the truth. Without a contour in
        both (the class fills the image) 1, without a contour in one of them 0.

    References
    ----------
    Csurka, Larlus, Perronnin: "What is a good evaluation measure for semantic segmentation?",
    BMVC 2013.
    """
    prediction, truth, num_classes = _masks_of_classes(pred, target, num_classes, ignore_index)
    radius = tolerance * math.hypot(*truth.shape)
    scores = torch.full((num_classes,), torch.nan, dtype=torch.float64)
    for class_id in np.unique(truth[truth >= 0]):
        predicted, true = _contour(prediction == class_id), _contour(truth == class_id)
        if predicted.any() and true.any():
            precision = np.mean(_distance_to(true)[predicted] <= radius)
            recall = np.mean(_distance_to(predicted)[true] <= radius)
            total = precision + recall
            scores[class_id] = 2 * precision * recall / total if total else 0.0
        elif predicted.any() or true.any():
            scores[class_id] = 0.0
        else:  # the class fills all valid pixels of the truth; of the prediction too, or none
            scores[class_id] = float((prediction == class_id).any())
    return scores


def boundary_iou(
    pred: Array,
    target: Array,
    *,
    num_classes: int | None = None,
    distance: float = 0.02,
    ignore_index: int = 255,
) -> torch.Tensor:
    """Intersection over union of the inner borders of each class, in one image.

    The border of a mask are its pixels that d erosions with a 3 x 3 square remove; beyond the
    edge of the image there is no mask. As d grows the border becomes the mask, and the score its
    IoU.

    Parameters
    ----------
    pred : torch.Tensor or numpy.ndarray
        Class ids (H, W), or logits (K, H, W) as in `ConfusionMatrix.update`.
    target : torch.Tensor or numpy.ndarray
        True class ids (H, W). Ignored pixels belong to no class, in truth and prediction alike.
    num_classes : int, optional
        K; by default the channels of the logits or one more than the largest class id.
    distance : float
        Border width as a share of the image diagonal: d = max(1, round(distance * diagonal)).
    ignore_index : int
        Target value of pixels that do not count.

    Returns
    -------
    torch.Tensor
        (K,) float64 in [0, 1]; NaN for classes absent from truth and prediction.

    References
    ----------
    Cheng et al.: "Boundary IoU: improving object-centric image segmentation evaluation",
    CVPR 2021.
    """
    prediction, truth, num_classes = _masks_of_classes(pred, target, num_classes, ignore_index)
    width = max(1, round(distance * math.hypot(*truth.shape)))
    scores = torch.full((num_classes,), torch.nan, dtype=torch.float64)
    for class_id in range(num_classes):
        predicted = _inner_border(prediction == class_id, width)
        true = _inner_border(truth == class_id, width)
        union = np.count_nonzero(predicted | true)
        if union:
            scores[class_id] = np.count_nonzero(predicted & true) / union
    return scores


def _contour(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a 4-neighbor outside of it; beyond the image edge counts as inside."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def _distance_to(pixels: np.ndarray) -> np.ndarray:
    """Euclidean distance of every pixel to the nearest of the given pixels."""
    return ndimage.distance_transform_edt(~pixels)


def _inner_border(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels of a mask at a chessboard distance of at most width from its outside."""
    depth = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return mask & (depth <= width)


def _masks_of_classes(
    pred: Array, target: Array, num_classes: int | None, ignore_index: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Prediction and truth of one image as (H, W) NumPy label maps, -1 where ignored; and K."""
    pred, target = torch.as_tensor(pred), torch.as_tensor(target)
    if target.ndim != 2:
        raise ValueError(
            f"a boundary measure compares one image, target (H, W), got {tuple(target.shape)}; "
            "average over images yourself"
        )
    if num_classes is None:
        num_classes = _count_classes(pred, target, ignore_index)
    prediction, truth, valid = _label_maps(pred, target, num_classes, ignore_index)
    prediction, truth = prediction.where(valid, -1), truth.where(valid, -1)
    return prediction.cpu().numpy(), truth.cpu().numpy(), num_classes


def _count_classes(pred: torch.Tensor, target: torch.Tensor, ignore_index: int) -> int:
    """Channels of the logits (2 for one channel), else one more than the largest valid id."""
    if pred.is_floating_point():
        return max(2, pred.shape[0])
    valid = target != ignore_index
    if pred.shape != target.shape or not valid.any():
        return 1
    return int(max(pred[valid].max(), target[valid].max())) + 1


def _label_maps(
    prediction: Array, target: Array, num_classes: int, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check both, turn logits into labels; return int64 prediction and target, and what is valid.

    Outside of the valid pixels both hold anything.
    """
    prediction, target = torch.as_tensor(prediction), torch.as_tensor(target)
    if target.is_floating_point() or target.is_complex():
        raise TypeError(f"target must hold integer class ids, got {target.dtype}")
    target = target.to(prediction.device, torch.int64)
    valid = target != ignore_index
    if prediction.is_floating_point():
        prediction = _winners(prediction, target.shape, valid, num_classes)
    elif prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} "
            "must be label maps of one shape"
        )
    prediction = prediction.to(torch.int64)
    for name, labels in (("prediction", prediction), ("target", target)):
        outside = valid & ((labels < 0) | (labels >= num_classes))
        if outside.any():
            wrong = labels[outside].unique().tolist()
            raise ValueError(
                f"{name} holds class id {', '.join(map(str, wrong[:5]))} "
                f"({int(outside.sum())} pixels), expected 0..{num_classes - 1} "
                f"for {num_classes} classes, or a target of {ignore_index} to ignore the pixel"
            )
    return prediction, target, valid


def _winners(
    logits: torch.Tensor, size: torch.Size, valid: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Class with the largest logit at each pixel; of one channel, whether the logit is > 0."""
    fits = logits.ndim == len(size) + 1 and logits.shape[:-3] + logits.shape[-2:] == size
    if len(size) not in (2, 3) or not fits:
        raise ValueError(
            f"logits {tuple(logits.shape)} ({logits.dtype}) do not fit a target {tuple(size)}: "
            "expected (N, K, H, W) with (N, H, W), or (K, H, W) with (H, W); "
            "predicted labels must be integers"
        )
    channels = logits.shape[-3]
    if channels != num_classes and (channels, num_classes) != (1, 2):
        raise ValueError(f"logits have {channels} channels, expected {num_classes} classes")
    best, labels = logits.max(dim=-3)  # NaN wins every comparison
    if (best.isnan() & valid).any():
        raise ValueError(
            f"logits are NaN at {int((best.isnan() & valid).sum())} of {int(valid.sum())} "
            "valid pixels"
        )
    return best > 0 if channels == 1 else labels
