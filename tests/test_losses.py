"""Losses against torch's own functions, against autograd, and at the edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from seglab import losses

IGNORE = 255
unhurried = settings(deadline=None, max_examples=60)
CHANNELS = [1, 2, 3, 21]


def batch(channels, *, seed=0, dtype=torch.float64, ignored=0.2, scale=3.0):
    """Random logits (2, channels, 5, 7) that want a gradient, and a target with ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, channels, 5, 7, generator=generator, dtype=torch.float64) * scale
    target = torch.randint(0, max(2, channels), (2, 5, 7), generator=generator)
    target[torch.rand(2, 5, 7, generator=generator) < ignored] = IGNORE
    return logits.to(dtype).requires_grad_(), target


def two_channels(logits):
    """Binary logits as logits of two classes: softmax of (0, x) is sigmoid of x."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def assert_equal_with_gradient(loss, expected, logits):
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (other,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("channels", CHANNELS)
def test_cross_entropy_equals_torch(channels):
    logits, target = batch(channels)
    expected = F.cross_entropy(two_channels(logits), target, ignore_index=IGNORE)
    assert_equal_with_gradient(losses.cross_entropy(logits, target), expected, logits)


@pytest.mark.parametrize("channels", CHANNELS)
def test_weighted_cross_entropy_divides_by_the_sum_of_weights_as_torch_does(channels):
    logits, target = batch(channels)
    weight = torch.rand(max(2, channels), dtype=torch.float64) + 0.1
    expected = F.cross_entropy(two_channels(logits), target, weight, ignore_index=IGNORE)
    assert_equal_with_gradient(
        losses.cross_entropy(logits, target, weight=weight), expected, logits
    )


def test_binary_cross_entropy_equals_the_logistic_loss():
    logits, target = batch(1, ignored=0)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], target.double())
    assert_equal_with_gradient(losses.cross_entropy(logits, target), expected, logits)


def test_cross_entropy_by_hand():
    logits = torch.tensor([2.0, 0.0, -1.0]).reshape(1, 3, 1, 1)
    shares = np.exp([2, 0, -1]) / np.exp([2, 0, -1]).sum()
    for class_id in range(3):
        loss = losses.cross_entropy(logits, torch.tensor([[[class_id]]]))
        assert loss.item() == pytest.approx(-np.log(shares[class_id]))


@unhurried
@given(st.sampled_from(CHANNELS), st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.95, 1.0]))
def test_cross_entropy_is_the_mean_over_valid_pixels(channels, seed, ignored):
    logits, target = batch(channels, seed=seed, ignored=ignored)
    rows = two_channels(logits.detach()).movedim(1, -1).reshape(-1, max(2, channels))
    terms = [
        (row.logsumexp(0) - row[class_id]).item()
        for row, class_id in zip(rows, target.flatten().tolist(), strict=True)
        if class_id != IGNORE
    ]
    expected = sum(terms) / max(1, len(terms))
    assert losses.cross_entropy(logits, target).item() == pytest.approx(expected, abs=1e-9)


@unhurried
@given(st.sampled_from(CHANNELS), st.integers(0, 10**6))
def test_the_gradient_is_probability_minus_one_hot_over_the_number_of_pixels(channels, seed):
    logits, target = batch(channels, seed=seed)
    losses.cross_entropy(logits, target).backward()
    valid = target != IGNORE
    one_hot = F.one_hot(target.where(valid, 0), max(2, channels)).movedim(-1, 1)
    expected = (two_channels(logits.detach()).softmax(1) - one_hot) * valid[:, None]
    expected = expected[:, -channels:] / valid.sum().clamp(min=1)
    torch.testing.assert_close(logits.grad, expected, atol=1e-12, rtol=1e-9)


def binary(ignored=0.2, seed=0):
    """Binary logits and target, and the valid ones of both as flat rows, for other libraries."""
    logits, target = batch(1, seed=seed, ignored=ignored)
    valid = target != IGNORE
    return logits, target, logits[:, 0][valid], target[valid].double()


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 9.0])
def test_weighted_cross_entropy_of_binary_logits_is_the_logistic_loss_with_pos_weight(beta):
    logits, target, x, y = binary()
    pos_weight = torch.tensor(beta, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(x, y, pos_weight=pos_weight)
    assert_equal_with_gradient(
        losses.weighted_cross_entropy(logits, target, beta), expected, logits
    )


@pytest.mark.parametrize("channels", [2, 3, 21])
def test_weighted_cross_entropy_of_classes_is_torchs(channels):
    logits, target = batch(channels)
    beta = torch.rand(channels, dtype=torch.float64) + 0.1
    expected = F.cross_entropy(logits, target, beta, ignore_index=IGNORE)
    assert_equal_with_gradient(
        losses.weighted_cross_entropy(logits, target, beta), expected, logits
    )


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.9, 1.0])
def test_balanced_cross_entropy_is_torchvisions_focal_loss_without_focus(beta):
    logits, target, x, y = binary()
    expected = sigmoid_focal_loss(x, y, alpha=beta, gamma=0, reduction="mean")
    assert_equal_with_gradient(
        losses.balanced_cross_entropy(logits, target, beta), expected, logits
    )


def test_balanced_cross_entropy_takes_beta_from_the_share_of_negatives():
    logits, target, _, y = binary()
    explicit = losses.balanced_cross_entropy(logits, target, (y == 0).double().mean().item())
    assert_equal_with_gradient(losses.balanced_cross_entropy(logits, target), explicit, logits)


@pytest.mark.parametrize("channels", [2, 5])
def test_balanced_classes_weigh_one_minus_their_share(channels):
    logits, target = batch(channels)
    valid = target != IGNORE
    share = torch.bincount(target[valid], minlength=channels).double() / valid.sum()
    summed = F.cross_entropy(logits, target, 1 - share, ignore_index=IGNORE, reduction="sum")
    expected = summed / valid.sum()
    given = losses.balanced_cross_entropy(logits, target, 1 - share)
    torch.testing.assert_close(given, expected, atol=1e-9, rtol=1e-9)
    assert_equal_with_gradient(losses.balanced_cross_entropy(logits, target), expected, logits)


def test_two_balanced_channels_are_one_binary_channel():
    logits, target = batch(1)
    torch.testing.assert_close(
        losses.balanced_cross_entropy(two_channels(logits), target),
        losses.balanced_cross_entropy(logits, target),
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
def test_binary_focal_loss_is_torchvisions(gamma, alpha):
    logits, target, x, y = binary()
    off = -1 if alpha is None else alpha
    expected = sigmoid_focal_loss(x, y, alpha=off, gamma=gamma, reduction="mean")
    loss = losses.focal(logits, target, gamma=gamma, alpha=alpha)
    assert_equal_with_gradient(loss, expected, logits)


@pytest.mark.parametrize("channels", [2, 3, 21])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_loss_of_classes_weighs_cross_entropy_by_what_is_missing(channels, gamma, weighted):
    logits, target = batch(channels)
    alpha = torch.rand(channels, dtype=torch.float64) if weighted else None
    valid = target != IGNORE
    p = logits.softmax(1).movedim(1, -1)[valid]  # (pixels, K)
    p_t = p[torch.arange(len(p)), target[valid]]
    weights = torch.ones(channels).double() if alpha is None else alpha
    expected = (weights[target[valid]] * (1 - p_t) ** gamma * -p_t.log()).mean()
    loss = losses.focal(logits, target, gamma=gamma, alpha=alpha)
    assert_equal_with_gradient(loss, expected, logits)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("smooth", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
def test_dice_is_the_formula_for_every_class_and_image(channels, smooth, squared, per_image):
    logits, target = batch(channels)
    images = target.unbind() if per_image else [target]
    predictions = two_channels(logits).softmax(1)
    parts = predictions.unbind() if per_image else [predictions]
    terms = []
    for p, t in zip(parts, images, strict=True):
        p = p[None] if per_image else p
        t = t[None] if per_image else t
        for k in range(1 if channels == 1 else 0, max(2, channels)):
            q, y = p[:, k][t != IGNORE], (t[t != IGNORE] == k).double()
            size = (q * q).sum() if squared else q.sum()
            terms.append(1 - (2 * (q * y).sum() + smooth) / (size + y.sum() + smooth))
    expected = torch.stack(terms).mean()
    options = {"smooth": smooth, "squared": squared, "per_image": per_image}
    assert_equal_with_gradient(losses.dice(logits, target, **options), expected, logits)


def lectures_example(dtype=torch.float64):
    """The lecture's 4 x 4 prediction as binary logits, and its target."""
    p = [0.01, 0.03, 0.02, 0.02, 0.05, 0.12, 0.09, 0.07]
    p += [0.89, 0.85, 0.88, 0.91, 0.99, 0.97, 0.95, 0.97]
    target = torch.tensor([0] * 8 + [1] * 8).view(1, 4, 4)
    return torch.tensor(p, dtype=dtype).logit().view(1, 1, 4, 4), target


@pytest.mark.parametrize(
    ("options", "coefficient"),
    [
        ({"smooth": 0.0}, 14.82 / 15.82),
        ({"smooth": 0.0, "squared": True}, 14.82 / 14.9132),
        ({"smooth": 1.0}, 0.9405469678953626),
    ],
)
def test_the_lectures_worked_example_of_dice(options, coefficient):
    logits, target = lectures_example()
    assert 1 - losses.dice(logits, target, **options).item() == pytest.approx(coefficient, abs=1e-9)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 4.0])
def test_tversky_with_one_half_is_dice(channels, per_image, smooth):
    logits, target = batch(channels)
    options = {"smooth": smooth, "per_image": per_image}
    dice = losses.dice(logits, target, **options)
    assert_equal_with_gradient(losses.tversky(logits, target, **options), dice, logits)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.7, 1.0])
def test_beta_of_tversky_weighs_false_positives(beta):
    logits, target, x, y = binary()
    p = x.sigmoid()
    hit, false_positive, missed = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    index = (hit + 0.5) / (hit + beta * false_positive + (1 - beta) * missed + 0.5)
    assert_equal_with_gradient(losses.tversky(logits, target, beta=beta), 1 - index, logits)


EVERY = {
    "cross_entropy": {},
    "weighted_cross_entropy": {"beta": None},
    "balanced_cross_entropy": {},
    "focal": {},
    "dice": {},
    "tversky": {"beta": 0.3},
}
every_loss = pytest.mark.parametrize("name", losses.names())


def call(name, logits, target, **options):
    return losses.get(name)(logits, target, **EVERY[name], **options)


@every_loss
@pytest.mark.parametrize("channels", CHANNELS)
def test_all_pixels_ignored_gives_zero_with_zero_gradient(name, channels):
    logits, target = batch(channels, ignored=1.1)
    loss = call(name, logits, target)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf])
def test_junk_at_ignored_pixels_changes_neither_loss_nor_gradient(name, channels, junk):
    clean, target = batch(channels)
    ignored = (target == IGNORE)[:, None].expand_as(clean)
    dirty = clean.detach().masked_fill(ignored, junk).requires_grad_()
    for logits in (clean, dirty):
        call(name, logits, target).backward()
    assert torch.equal(dirty.grad, clean.grad)
    assert (dirty.grad[ignored] == 0).all()


@every_loss
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [100.0, -100.0])
def test_large_logits_stay_finite_and_right(name, channels, dtype, size):
    """Right is what the same loss says about slightly noisy logits in float64, up to rounding."""
    logits = torch.zeros(1, channels, 2, 2, dtype=dtype)
    logits[:, -1] = size
    logits.requires_grad_()
    target = torch.tensor([[[0, max(2, channels) - 1], [0, IGNORE]]])
    loss = call(name, logits, target)
    loss.backward()
    exact = logits.detach().double().requires_grad_()
    expected = call(name, exact, target)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(logits.grad.double(), exact.grad, atol=1e-3, rtol=1e-2)


def test_large_logits_by_formula():
    """Far out, cross entropy and focal loss of a wrong pixel are the distance, 100."""
    logits = torch.tensor([[[[100.0, -100.0]]]], requires_grad=True)
    target = torch.tensor([[[0, 1]]])
    for name in ("cross_entropy", "focal"):
        loss = losses.get(name)(logits, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == pytest.approx(100)
        torch.testing.assert_close(gradient.flatten(), torch.tensor([0.5, -0.5]))


@pytest.mark.parametrize("gamma", [0.3, 0.5, 1.0])
def test_focal_loss_of_certain_pixels_has_a_gradient_of_zero_not_nan(gamma):
    logits = torch.tensor([[[[100.0, -100.0]]]], requires_grad=True)
    losses.focal(logits, torch.tensor([[[1, 0]]]), gamma=gamma).backward()
    assert logits.grad.abs().max() < 1e-12


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_loses_nothing_beyond_the_rounding_of_the_logits(name, dtype):
    logits, target = batch(6, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        loss = call(name, logits, target)
    expected = call(name, logits.detach().double(), target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@every_loss
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_gradients_agree_with_finite_differences(name, channels):
    logits, target = batch(channels, scale=1.0)
    assert torch.autograd.gradcheck(lambda x: call(name, x, target), logits)


@every_loss
@unhurried
@given(st.sampled_from(CHANNELS), st.integers(0, 10**6), st.floats(0, 1))
def test_losses_are_not_negative_and_overlaps_at_most_one(name, channels, seed, ignored):
    logits, target = batch(channels, seed=seed, ignored=ignored)
    value = call(name, logits, target).item()
    assert value >= -1e-12
    assert name not in ("dice", "tversky") or value <= 1


@every_loss
@unhurried
@given(st.permutations(range(4)), st.integers(0, 10**6))
def test_classes_have_no_order(name, order, seed):
    """Rename class order[k] to k in both logits and target: nothing changes."""
    logits, target = batch(4, seed=seed)
    renamed = torch.full_like(target, IGNORE)
    for new, old in enumerate(order):
        renamed[target == old] = new
    expected = call(name, logits, target)
    torch.testing.assert_close(call(name, logits[:, list(order)], renamed), expected)


@every_loss
@unhurried
@given(st.sampled_from(CHANNELS), st.integers(0, 10**6), st.floats(0.1, 5))
def test_more_score_for_the_true_class_of_a_pixel_lowers_the_loss(name, channels, seed, step):
    logits, target = batch(channels, seed=seed, ignored=0)
    logits = logits.detach()
    before = call(name, logits, target)
    true_class = target[0, 2, 3]
    if channels == 1:
        logits[0, 0, 2, 3] += step if true_class == 1 else -step
    else:
        logits[0, true_class, 2, 3] += step
    assert call(name, logits, target) < before + 1e-12


@pytest.mark.parametrize("name", ["dice", "tversky"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_empty_foreground_costs_nothing_when_nothing_is_predicted(name, channels):
    logits = torch.zeros(1, channels, 4, 4)
    logits[:, 0] = -200.0 if channels == 1 else 200.0
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    for smooth in (0.0, 1.0):
        logits = logits.detach().requires_grad_()
        loss = losses.get(name)(logits, target, smooth=smooth)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-6)
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_images_without_a_valid_pixel_do_not_count(name):
    logits, target = batch(3, ignored=0)
    alone = losses.get(name)(logits[:1], target[:1], per_image=True)
    target = target.index_fill(0, torch.tensor(1), IGNORE)
    torch.testing.assert_close(losses.get(name)(logits, target, per_image=True), alone)


@pytest.mark.parametrize("ignore_index", [-100, -1, 2])
def test_any_value_can_mark_ignored_pixels(ignore_index):
    logits, target = batch(3)
    target = target.masked_fill(target == IGNORE, ignore_index)
    expected = F.cross_entropy(logits, target, ignore_index=ignore_index)
    loss = losses.cross_entropy(logits, target, ignore_index=ignore_index)
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_small_integer_targets_are_welcome(dtype):
    logits, target = batch(2, ignored=0)
    expected = F.cross_entropy(logits, target)
    torch.testing.assert_close(losses.cross_entropy(logits, target.to(dtype)), expected)


LOGITS, TARGET = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("logits", "target", "weight", "error", "message"),
    [
        (LOGITS, TARGET + 3, None, ValueError, r"class id 3 \(40 pixels\).*0\.\.2"),
        (LOGITS, TARGET - 1, None, ValueError, "class id -1"),
        (LOGITS[:, :1], TARGET + 2, None, ValueError, r"class id 2.*0\.\.1"),
        (LOGITS, TARGET.float(), None, TypeError, "torch.float32"),
        (LOGITS.long(), TARGET, None, TypeError, "torch.int64"),
        (LOGITS, TARGET[:, :3], None, ValueError, r"\(2, 4, 5\), got \(2, 3, 5\)"),
        (LOGITS, TARGET[:, None], None, ValueError, r"got \(2, 1, 4, 5\)"),
        (LOGITS[0], TARGET[0], None, ValueError, r"\(3, 4, 5\)"),
        (LOGITS, TARGET, torch.ones(4), ValueError, r"weight.*\(3,\), got \(4,\)"),
        (LOGITS, TARGET, 2.0, ValueError, r"weight.*\(3,\), got 2.0"),
    ],
)
def test_bad_input_is_named(logits, target, weight, error, message):
    with pytest.raises(error, match=message):
        losses.cross_entropy(logits, target, weight=weight)


@every_loss
def test_every_loss_names_bad_input(name):
    with pytest.raises(ValueError, match=r"class id 3 \(40 pixels\)"):
        call(name, LOGITS, TARGET + 3)
    with pytest.raises(TypeError, match=r"torch\.float32"):
        call(name, LOGITS, TARGET.float())


@pytest.mark.parametrize(
    ("name", "channels", "options", "message"),
    [
        ("weighted_cross_entropy", 3, {"beta": 2.0}, r"beta must be a tensor of shape \(3,\)"),
        ("weighted_cross_entropy", 1, {"beta": torch.ones(2)}, "beta must be a number for binary"),
        ("weighted_cross_entropy", 1, {"beta": -1.0}, "no class may have a negative weight"),
        ("balanced_cross_entropy", 1, {"beta": 1.5}, "no class may have a negative weight"),
        ("balanced_cross_entropy", 3, {"beta": torch.ones(2)}, r"shape \(3,\), got \(2,\)"),
        ("focal", 3, {"gamma": -1.0}, "gamma is -1.0"),
        ("focal", 3, {"gamma": torch.nan}, "gamma is nan"),
        ("focal", 1, {"alpha": 1.1}, "no class may have a negative weight"),
        ("dice", 3, {"smooth": -1.0}, "smooth is -1.0"),
        ("tversky", 3, {"beta": 1.5}, "beta is 1.5; expected a number from 0 to 1"),
    ],
)
def test_impossible_options_are_named(name, channels, options, message):
    logits, target = batch(channels)
    with pytest.raises(ValueError, match=message):
        losses.get(name)(logits, target, **options)


def test_losses_are_found_by_name():
    assert losses.get("cross_entropy") is losses.cross_entropy
    assert "cross_entropy" in losses.names()
    for name in losses.names():
        assert losses.get(name) is getattr(losses, name)
    with pytest.raises(ValueError, match=r"'hinge'.*cross_entropy"):
        losses.get("hinge")
