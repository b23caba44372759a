"""Checks must pass what is right, and say of what is wrong why it is."""

import numpy as np
import pytest
import torch
from torch import nn

from seglab import checks


def network(*, stride=1, width=4, activation=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=stride, padding=1),
        nn.BatchNorm2d(width),
        activation(),
        nn.Conv2d(width, 2, 1),
    )


class Named(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.features = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.score = nn.Conv2d(width, 2, 1)

    def forward(self, images):
        return self.score(self.norm(self.features(images)).relu())


def test_two_networks_that_name_their_layers_differently_are_the_same_function(capsys):
    a, b = network(), Named()
    before = [tensor.clone() for tensor in b.state_dict().values()]
    checks.same_function(a, b)
    out = capsys.readouterr().out
    assert out.startswith("✓ same function: 130 parameters, outputs (2, 2, 96, 128)")
    assert a.training
    assert b.training
    assert all(map(torch.equal, before, b.state_dict().values()))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Named(width=5), r"0\.weight is \(4, 3, 3, 3\).*features\.weight is \(5, 3, 3, 3\)"),
        (network(stride=2), r"outputs \(2, 2, 96, 128\) and \(2, 2, 48, 64\)"),
        (network(activation=nn.Tanh), "outputs differ by up to"),
        (nn.Sequential(*network(), nn.Conv2d(2, 2, 1)), r"4\.weight \(2, 2, 1, 1\).*second"),
    ],
)
def test_networks_that_differ_are_told_apart_by_the_first_difference(other, message):
    with pytest.raises(AssertionError, match=message):
        checks.same_function(network(), other)


def test_the_default_images_do_not_disturb_the_random_numbers():
    model = nn.Conv2d(3, 2, 1)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    checks.same_function(model, model)
    assert torch.equal(torch.rand(1), expected)


def test_a_claim_that_holds_prints_both_numbers(capsys, monkeypatch):
    monkeypatch.setenv("SEGLAB_PROFILE", "cpu")
    checks.claim("skips help", 0.62, ">", 0.55)
    assert capsys.readouterr().out == "✓ skips help: 0.62 > 0.55\n"


@pytest.mark.parametrize(
    ("left", "relation", "right"),
    [(1, ">", 2), (1, ">=", 2), (2, "<", 1), (2, "<=", 1), (1, "==", 2), (float("nan"), ">", 0)],
)
def test_a_false_claim_stops_the_book_and_warns_elsewhere(monkeypatch, left, relation, right):
    monkeypatch.setenv("SEGLAB_PROFILE", "cpu")
    with pytest.raises(AssertionError, match=f"^order: {left} {relation} {right} is false"):
        checks.claim("order", left, relation, right)
    for profile in ("fast", "gpu"):
        monkeypatch.setenv("SEGLAB_PROFILE", profile)
        with pytest.warns(UserWarning, match=f"{left} {relation} {right} does not hold.*{profile}"):
            checks.claim("order", left, relation, right)


def test_an_unknown_relation_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'=>'.*>=.*<="):
        checks.claim("order", 1, "=>", 2)


def said(capsys, *args, **kwargs):
    checks.answer(*args, **kwargs)
    return capsys.readouterr().out


@pytest.mark.parametrize("value", [None, ...])
def test_an_open_exercise_is_not_an_error(capsys, value):
    assert said(capsys, value, 3) == "Exercise not answered yet.\n"


@pytest.mark.parametrize(
    ("value", "correct"),
    [
        (3, 3),
        (3.0, 3),
        (1 / 3, 0.3333333333),
        (torch.tensor(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        ((1, 2), torch.tensor([1.0, 2.0])),
        ("Road ", "road"),
        (True, True),
        ([float("nan")], [float("nan")]),
    ],
)
def test_the_right_answer_is_right_in_any_type(capsys, value, correct):
    assert said(capsys, value, correct).startswith("✓ Correct")


def test_a_foreseen_mistake_is_named(capsys):
    mistakes = {0.25: "You divided by all pixels; ignored ones do not count.", (1, 2): "swapped"}
    assert "ignored ones do not count" in said(capsys, 0.25, 0.5, mistakes=mistakes)
    assert "swapped" in said(capsys, [1, 2], [2, 1], mistakes=mistakes)


def test_an_unforeseen_mistake_gets_the_hint(capsys):
    out = said(capsys, 7, 0.5, mistakes={0.25: "no"}, hint="Count the valid pixels.")
    assert "7 is not right" in out
    assert "Hint: Count the valid pixels." in out


@pytest.mark.parametrize(
    ("value", "correct", "message"),
    [
        ("half", 0.5, "Expected one number, got a text"),
        ([1, 2, 3], [1, 2], r"Expected numbers of shape (2,), got numbers of shape (3,)"),
        (object(), 0.5, "Expected one number, got an object of type object"),
        (0.5, "road", "Expected a text, got one number"),
        (len, 0.5, "builtin_function"),
        ([[1], [2, 3]], [1], "an object of type list"),
    ],
)
def test_an_answer_of_the_wrong_kind_says_which_kind_is_expected(capsys, value, correct, message):
    assert message in said(capsys, value, correct)


def mean_of_valid(values, valid):
    return sum(v for v, ok in zip(values, valid, strict=True) if ok) / sum(valid)


CASES = [([1.0, 2.0], [True, True]), ([1.0, 5.0], [True, False])]
MISTAKES = [
    (lambda values, valid: 1 / 0, "never fits"),
    (lambda values, valid: sum(values) / len(values), "You average ignored pixels too."),
]


def heard(capsys, student):
    checks.function(student, mean_of_valid, CASES, mistakes=MISTAKES)
    return capsys.readouterr().out


def test_a_function_is_judged_on_every_case(capsys):
    assert heard(capsys, mean_of_valid) == "✓ Correct on 2 inputs.\n"
    assert heard(capsys, lambda values, valid: None) == "Exercise not answered yet.\n"
    assert heard(capsys, lambda values, valid: ...) == "Exercise not answered yet.\n"


def test_a_wrong_function_is_shown_its_input_and_its_misconception(capsys):
    out = heard(capsys, lambda values, valid: sum(values) / len(values))
    assert "For [1., 5.], [1., 0.] you return 3, not 1." in out
    assert "You average ignored pixels too." in out
    assert "You average" not in heard(capsys, lambda values, valid: 9)


def test_a_function_that_stops_is_quoted_and_does_not_stop_the_notebook(capsys):
    assert "ZeroDivisionError: division by zero" in heard(capsys, lambda values, valid: 1 / 0)


def test_a_student_cannot_change_the_cases(capsys):
    def spoil(values, valid):
        values.clear()
        return 0

    heard(capsys, spoil)
    assert CASES[0] == ([1.0, 2.0], [True, True])
