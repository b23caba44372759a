"""Metrics against scikit-learn, against loops over pixels, and against each other."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import find_boundaries
from sklearn import metrics as sk

from seglab.metrics import ConfusionMatrix, boundary_f1, boundary_iou

K, IGNORE = 5, 255
unhurried = settings(deadline=None, max_examples=60)


def label_maps(classes=K, side=8):
    """Pairs (prediction, target) of one random size; the target has ignored pixels."""
    shape = st.tuples(st.integers(1, side), st.integers(1, side))
    return shape.flatmap(
        lambda size: st.tuples(
            hnp.arrays(np.int64, size, elements=st.integers(0, classes - 1)),
            hnp.arrays(np.int64, size, elements=st.sampled_from([*range(classes), IGNORE])),
        )
    )


def count(prediction, target, classes=K):
    return ConfusionMatrix(classes).update(prediction, target)


@pytest.fixture
def pair():
    """Prediction and target without class 4 in either; class 3 is never predicted."""
    generator = np.random.default_rng(0)
    target = generator.integers(0, 4, (2, 30, 40))
    prediction = np.where(generator.random(target.shape) < 0.6, target, 0)
    prediction[prediction == 3] = 1
    target[:, :3] = IGNORE
    return prediction, target


# --- the confusion matrix


@unhurried
@given(label_maps())
def test_matrix_counts_every_valid_pixel_by_truth_and_prediction(maps):
    prediction, target = maps
    expected = np.zeros((K, K), int)
    for p, t in zip(prediction.flat, target.flat, strict=True):
        if t != IGNORE:
            expected[t, p] += 1
    np.testing.assert_array_equal(count(prediction, target).matrix, expected)


@unhurried
@given(label_maps(), st.randoms(use_true_random=False))
def test_what_is_predicted_at_ignored_pixels_does_not_matter(maps, random):
    prediction, target = maps
    other = prediction.copy()
    other[target == IGNORE] = random.choice([0, K - 1, K, 200, IGNORE, -7])
    assert torch.equal(count(prediction, target).matrix, count(other, target).matrix)


@unhurried
@given(label_maps(), label_maps())
def test_parts_add_up_to_the_whole(first, second):
    streamed = count(*first).update(*second)
    flat = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(first, second, strict=True)]
    assert torch.equal(streamed.matrix, (count(*first) + count(*second)).matrix)
    assert torch.equal(streamed.matrix, count(*flat).matrix)


@unhurried
@given(label_maps(), st.permutations(range(K)))
def test_renaming_the_classes_permutes_the_scores(maps, order):
    prediction, target = maps
    names = np.array([*order, *[IGNORE] * (256 - K)])
    before, after = count(prediction, target), count(names[prediction], names[target])
    torch.testing.assert_close(before.iou(), after.iou()[list(order)], equal_nan=True)
    assert before.mean_iou() == pytest.approx(after.mean_iou(), nan_ok=True)


def test_matrix_is_int64_and_exact_beyond_float32():
    cm = ConfusionMatrix(2)
    cm.matrix += 2**25
    cm.update(torch.tensor([0]), torch.tensor([0]))
    assert cm.matrix.dtype == torch.int64
    assert cm.matrix[0, 0] == 2**25 + 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_gives_the_same_counts(pair, dtype):
    target = torch.tensor(pair[1])
    target[target == IGNORE] = 100
    cm = ConfusionMatrix(K, ignore_index=100)
    cm.update(torch.as_tensor(pair[0]).to(dtype), target.to(dtype))
    assert torch.equal(cm.matrix, count(*pair).matrix)


@pytest.mark.parametrize("ignore_index", [-1, -100, 0, 2])
def test_any_value_can_mark_ignored_pixels(pair, ignore_index):
    prediction, target = pair
    target = np.where(target == IGNORE, ignore_index, target)
    cm = ConfusionMatrix(K, ignore_index=ignore_index).update(prediction, target)
    assert cm.matrix.sum() == (target != ignore_index).sum()


def test_logits_count_as_their_largest_channel(pair):
    _, target = pair
    logits = torch.randn(2, K, 30, 40)
    expected = count(logits.argmax(dim=1), target).matrix
    assert torch.equal(count(logits, target).matrix, expected)
    assert torch.equal(count(logits.half(), target).matrix.sum(), expected.sum())
    single = count(logits[0], target[0]) + count(logits[1], target[1])
    assert torch.equal(single.matrix, expected)


def test_one_channel_means_class_one_where_the_logit_is_positive():
    logits = torch.tensor([[[-3.0, 0.0, 0.2], [5.0, -0.1, 9.0]]])
    target = torch.tensor([[0, 0, 1], [1, 1, IGNORE]])
    assert count(logits, target, 2).matrix.tolist() == [[2, 0], [1, 2]]
    assert count(logits[None], target[None], 2).matrix.tolist() == [[2, 0], [1, 2]]


def test_logits_may_be_nan_where_ignored_and_only_there():
    logits, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    logits[0, 1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN at 1 of 4"):
        count(logits, target, 3)
    with pytest.raises(ValueError, match="NaN at 1 of 4"):
        count(logits[:, 1:2], target, 2)
    target[0, 0, 0] = IGNORE
    assert count(logits, target, 3).matrix[0, 0] == 3


# --- scores


def test_scores_equal_scikit_learn(pair):
    cm, valid = count(*pair), pair[1] != IGNORE
    truth, prediction = pair[1][valid], pair[0][valid]
    present = np.union1d(truth, prediction)
    np.testing.assert_array_equal(
        cm.matrix, sk.confusion_matrix(truth, prediction, labels=range(K))
    )
    macro = {"labels": present, "average": "macro", "zero_division": 0}
    assert cm.pixel_accuracy() == pytest.approx(sk.accuracy_score(truth, prediction))
    assert cm.mean_accuracy() == pytest.approx(sk.balanced_accuracy_score(truth, prediction))
    assert cm.mean_iou() == pytest.approx(sk.jaccard_score(truth, prediction, **macro))
    assert cm.frequency_weighted_iou() == pytest.approx(
        sk.jaccard_score(truth, prediction, average="weighted")
    )
    per_class = {"labels": present, "average": None}
    np.testing.assert_allclose(cm.iou()[present], sk.jaccard_score(truth, prediction, **per_class))
    np.testing.assert_allclose(cm.dice()[present], sk.f1_score(truth, prediction, **per_class))


@unhurried
@given(label_maps())
def test_iou_is_a_ratio_of_pixel_sets(maps):
    prediction, target = maps
    valid = list(zip(*np.nonzero(target != IGNORE), strict=True))
    for class_id, iou in enumerate(count(prediction, target).iou().tolist()):
        predicted = {xy for xy in valid if prediction[xy] == class_id}
        true = {xy for xy in valid if target[xy] == class_id}
        if predicted | true:
            assert iou == pytest.approx(len(predicted & true) / len(predicted | true))
        else:
            assert math.isnan(iou)


@unhurried
@given(label_maps())
def test_dice_follows_from_iou_and_all_scores_stay_in_range(maps):
    cm = count(*maps)
    iou = cm.iou()
    torch.testing.assert_close(cm.dice(), 2 * iou / (1 + iou), equal_nan=True)
    scores = [cm.pixel_accuracy(), cm.mean_accuracy(), cm.mean_iou()]
    scores.append(cm.frequency_weighted_iou())
    empty = cm.matrix.sum() == 0
    assert all(math.isnan(s) if empty else 0 <= s <= 1 for s in scores)
    assert empty or cm.mean_iou() <= cm.mean_accuracy() + 1e-12
    assert empty or cm.frequency_weighted_iou() <= cm.pixel_accuracy() + 1e-12


def test_a_class_absent_from_truth_and_prediction_is_left_out():
    cm = count(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    np.testing.assert_array_equal(cm.iou(), [0.5, 0.5, np.nan])
    assert cm.mean_iou() == 0.5


def test_a_class_predicted_but_absent_from_the_truth_counts_as_zero():
    cm = count(np.array([0, 2]), np.array([0, 0]), 3)
    np.testing.assert_array_equal(cm.iou(), [0.5, np.nan, 0.0])
    assert cm.mean_iou() == 0.25
    assert cm.mean_accuracy() == 0.5  # over the classes of the truth
    assert cm.frequency_weighted_iou() == 0.5


def test_without_a_valid_pixel_every_score_is_nan():
    cm = count(np.zeros((3, 3), int), np.full((3, 3), IGNORE))
    scores = [cm.pixel_accuracy(), cm.mean_accuracy(), cm.mean_iou(), cm.frequency_weighted_iou()]
    assert all(isinstance(score, float) and math.isnan(score) for score in scores)
    assert cm.iou().isnan().all()
    assert cm.dice().isnan().all()


def test_mean_iou_is_over_the_data_set_and_not_over_images():
    wrong, right = np.array([[0, 0, 0, 1]]), np.array([[1, 1, 0, 0]])
    target = np.array([[0, 0, 1, 1]]), np.array([[1, 1, 0, 0]])
    whole = count(wrong, target[0], 2).update(right, target[1]).mean_iou()
    images = count(wrong, target[0], 2).mean_iou(), count(right, target[1], 2).mean_iou()
    assert whole == pytest.approx((4 / 5 + 3 / 4) / 2)
    assert np.mean(images) == pytest.approx(((2 / 3 + 1 / 2) / 2 + 1) / 2)


# --- bad input


@pytest.mark.parametrize(
    ("prediction", "target", "error", "message"),
    [
        (torch.tensor([6]), torch.tensor([0]), ValueError, r"prediction holds class id 6 \(1 pix"),
        (torch.tensor([0]), torch.tensor([-1]), ValueError, "target holds class id -1"),
        (torch.tensor([0]), torch.tensor([77]), ValueError, r"target holds class id 77.*0\.\.4"),
        (torch.tensor([0]), torch.tensor([0.0]), TypeError, "float32"),
        (torch.zeros(2, 3).long(), torch.zeros(3, 2).long(), ValueError, r"\(2, 3\).*\(3, 2\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3).long(), ValueError, "labels must be integers"),
        (torch.zeros(1, 5, 2, 3), torch.zeros(1, 2, 2).long(), ValueError, r"\(1, 5, 2, 3\)"),
        (torch.zeros(7, 2, 3), torch.zeros(2, 3).long(), ValueError, "7 channels.*5 classes"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 3).long(), ValueError, "1 channels.*5 classes"),
    ],
)
def test_bad_input_is_named_and_nothing_is_counted(prediction, target, error, message):
    cm = ConfusionMatrix(K)
    with pytest.raises(error, match=message):
        cm.update(prediction, target)
    assert cm.matrix.sum() == 0


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="num_classes=1"):
        ConfusionMatrix(1)
    with pytest.raises(ValueError, match="3 and 4 classes"):
        ConfusionMatrix(3) + ConfusionMatrix(4)
    for measure in (boundary_f1, boundary_iou):
        with pytest.raises(ValueError, match=r"one image.*\(2, 4, 4\)"):
            measure(np.zeros((2, 4, 4), int), np.zeros((2, 4, 4), int))
        with pytest.raises(ValueError, match="class id 9"):
            measure(np.full((4, 4), 9), np.zeros((4, 4), int), num_classes=3)
        with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
            measure(np.zeros((4, 4), int), np.zeros((4, 5), int))
        with pytest.raises(TypeError, match="float64"):
            measure(np.zeros((4, 4), int), np.zeros((4, 4)))


# --- boundaries


def contour_by_hand(mask):
    height, width = mask.shape
    return [
        (y, x)
        for y, x in zip(*np.nonzero(mask), strict=True)
        if any(
            0 <= v < height and 0 <= u < width and not mask[v, u]
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        )
    ]


def boundary_f1_by_hand(prediction, target, class_id, tolerance):
    valid = target != IGNORE
    predicted = contour_by_hand((prediction == class_id) & valid)
    true = contour_by_hand(target == class_id)
    if not (target == class_id).any():
        return math.nan
    if not predicted and not true:
        return float(((prediction == class_id) & valid).any())
    if not predicted or not true:
        return 0.0
    radius = tolerance * math.hypot(*target.shape)

    def share(points, others):
        return np.mean([min(math.dist(p, q) for q in others) <= radius for p in points])

    precision, recall = share(predicted, true), share(true, predicted)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def border_by_hand(mask, width):
    """Pixels with a pixel outside of the mask, or of the image, in the (2d+1) x (2d+1) window."""
    height, length = mask.shape
    reach = range(-width, width + 1)
    return {
        (y, x)
        for y, x in zip(*np.nonzero(mask), strict=True)
        if any(
            not (0 <= y + v < height and 0 <= x + u < length) or not mask[y + v, x + u]
            for v, u in product(reach, reach)
        )
    }


@unhurried
@given(label_maps(3), st.sampled_from([0.0075, 0.1, 0.2, 0.5]))
def test_boundary_f1_equals_a_loop_over_contour_pixels(maps, tolerance):
    prediction, target = maps
    scores = boundary_f1(prediction, target, num_classes=3, tolerance=tolerance)
    expected = [boundary_f1_by_hand(prediction, target, c, tolerance) for c in range(3)]
    np.testing.assert_allclose(scores, expected)


@unhurried
@given(label_maps(3), st.sampled_from([0.02, 0.2, 0.4]))
def test_boundary_iou_equals_a_loop_over_windows(maps, distance):
    prediction, target = maps
    width = max(1, round(distance * math.hypot(*target.shape)))
    valid = target != IGNORE
    expected = []
    for class_id in range(3):
        predicted = border_by_hand((prediction == class_id) & valid, width)
        true = border_by_hand(target == class_id, width)
        union = predicted | true
        expected.append(len(predicted & true) / len(union) if union else math.nan)
    scores = boundary_iou(prediction, target, num_classes=3, distance=distance)
    np.testing.assert_allclose(scores, expected)


@unhurried
@given(label_maps())
def test_boundary_iou_becomes_the_mask_iou_as_the_distance_grows(maps):
    scores = boundary_iou(*maps, num_classes=K, distance=1.0)
    torch.testing.assert_close(scores, count(*maps).iou(), equal_nan=True)


@pytest.fixture
def square():
    target = np.zeros((200, 200), int)
    target[50:150, 50:150] = 1
    return target


def test_a_perfect_prediction_has_perfect_boundaries(square):
    square[45:50] = IGNORE
    assert boundary_f1(square, square).tolist() == [1, 1]
    assert boundary_iou(square, square).tolist() == [1, 1]


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, None)])
def test_boundary_f1_forgives_a_shift_up_to_the_tolerance(square, shift, expected):
    # 0.75 % of the diagonal of 200 x 200 are 2.12 pixels
    score = boundary_f1(np.roll(square, shift, axis=1), square)[1].item()
    assert score == expected if expected else 0.4 < score < 0.6  # two of four sides are off


def test_boundary_iou_falls_with_every_pixel_of_shift(square):
    scores = [boundary_iou(np.roll(square, shift, 1), square)[1].item() for shift in range(8)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    # The border is 6 pixels wide (2 % of the diagonal, rounded): 100^2 - 88^2 pixels; a shift by
    # one leaves 99 * 100 - 87 * 88 minus the two columns of the border that meet an inside.
    assert scores[1] == pytest.approx((2256 - 2 * 94) / (2256 + 2 * 94))


def test_the_same_error_in_the_middle_of_a_mask_costs_no_boundary_iou(square):
    prediction = square.copy()
    prediction[95:105, 95:105] = 2
    width_one = boundary_iou(prediction, square, distance=0.004)
    assert count(prediction, square, 3).iou()[1] == 0.99
    assert width_one[2] == 0
    assert width_one[1] < boundary_iou(square, square, distance=0.004)[1]


def test_the_contour_agrees_with_scikit_image(square):
    square[80:120, 150:170] = 1
    inner = find_boundaries(square, connectivity=1, mode="inner") & (square == 1)
    assert set(contour_by_hand(square == 1)) == set(zip(*np.nonzero(inner), strict=True))


def test_boundaries_of_absent_classes(square):
    extra = square.copy()
    extra[:4, :4] = 3
    np.testing.assert_array_equal(
        boundary_f1(extra, square, num_classes=5)[2:], [np.nan, np.nan, np.nan]
    )
    np.testing.assert_array_equal(
        boundary_iou(extra, square, num_classes=5)[2:], [np.nan, 0, np.nan]
    )
    assert boundary_f1(np.zeros_like(square), square)[1] == 0
    assert boundary_iou(np.zeros_like(square), square)[1] == 0


def test_ignored_pixels_do_not_change_boundary_scores(square):
    square[:, 140:160] = IGNORE
    other = square.copy()
    other[square == IGNORE] = 0
    other[100:, 150:160] = 1
    for measure in (boundary_f1, boundary_iou):
        assert measure(other, square, num_classes=2).tolist() == [1, 1]


def test_boundary_measures_take_logits(square):
    target = torch.as_tensor(square)
    logits = torch.stack([target == 0, target == 1]).float()
    assert boundary_f1(logits, target).tolist() == [1, 1]
    assert boundary_iou(logits[1:] - 0.5, target).tolist() == [1, 1]
