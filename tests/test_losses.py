"""Losses against torch's own functions, against autograd, and at the edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

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


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_all_pixels_ignored_gives_zero_with_zero_gradient(channels, weighted):
    logits, target = batch(channels, ignored=1.1)
    weight = torch.ones(max(2, channels)) if weighted else None
    loss = losses.cross_entropy(logits, target, weight=weight)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf])
def test_junk_at_ignored_pixels_changes_neither_loss_nor_gradient(channels, junk):
    clean, target = batch(channels)
    ignored = (target == IGNORE)[:, None].expand_as(clean)
    dirty = clean.detach().masked_fill(ignored, junk).requires_grad_()
    for logits in (clean, dirty):
        losses.cross_entropy(logits, target).backward()
    assert torch.equal(dirty.grad, clean.grad)
    assert (dirty.grad[ignored] == 0).all()


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [100.0, -100.0])
def test_large_logits_stay_finite_and_right(channels, dtype, size):
    logits = torch.zeros(1, channels, 2, 2, dtype=dtype)
    logits[:, -1] = size
    logits.requires_grad_()
    target = torch.tensor([[[0, max(2, channels) - 1], [0, IGNORE]]])
    loss = losses.cross_entropy(logits, target)
    loss.backward()
    expected = F.cross_entropy(two_channels(logits.detach().double()), target, ignore_index=IGNORE)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    assert logits.grad.isfinite().all()
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_loses_nothing_beyond_the_rounding_of_the_logits(dtype):
    logits, target = batch(6, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        loss = losses.cross_entropy(logits, target)
    expected = F.cross_entropy(logits.detach().double(), target, ignore_index=IGNORE)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


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


def test_losses_are_found_by_name():
    assert losses.get("cross_entropy") is losses.cross_entropy
    assert "cross_entropy" in losses.names()
    for name in losses.names():
        assert losses.get(name) is getattr(losses, name)
    with pytest.raises(ValueError, match=r"'hinge'.*cross_entropy"):
        losses.get("hinge")
