"""Checks that say what is wrong: of a model, of a claim, of an answer to an exercise."""

import copy
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seglab import records, runtime
from seglab.models.running import device_of

_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}

NOT_ANSWERED = "Exercise not answered yet."


@torch.inference_mode()
def same_function(
    model_a: nn.Module, model_b: nn.Module, images: Tensor | None = None, *, atol: float = 1e-4
) -> None:
    """Assert that two models compute the same function once they have the same weights.

    The weights and buffers of the first are copied into a copy of the second, by name, or in
    order if the names differ but the shapes agree. Both then answer the same images in eval
    mode. Neither model is changed.

    Parameters
    ----------
    model_a, model_b : nn.Module
        For instance the notebook's network and ``models.create(...)``.
    images : Tensor, optional
        (N, 3, H, W); by default two random ones of 96 x 128.
    atol : float
        Largest difference allowed between two outputs.

    Raises
    ------
    AssertionError
        Naming the first tensor, or the output, in which the two differ.
    """
    device = device_of(model_a)
    a = copy.deepcopy(model_a).eval()
    b = copy.deepcopy(model_b).to(device).eval()
    b.load_state_dict(_matched(a.state_dict(), b.state_dict()))
    if images is None:
        images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    images = images.to(device)
    out_a, out_b = a(images), b(images)
    assert out_a.shape == out_b.shape, (
        f"the same images give outputs {tuple(out_a.shape)} and {tuple(out_b.shape)}"
    )
    difference = (out_a.double() - out_b.double()).abs().max().item()
    assert difference <= atol, (
        f"with equal weights the outputs differ by up to {difference:.3g} (allowed {atol:.3g}): "
        f"the layers have the same shapes but are applied differently"
    )
    parameters = sum(p.numel() for p in model_a.parameters())
    print(
        f"✓ same function: {parameters:,} parameters, outputs {tuple(out_a.shape)}, "
        f"largest difference {difference:.1e}"
    )


def _matched(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of ``a`` under the names of ``b``."""
    names = b if a.keys() == b.keys() else a  # by name, else in order
    pairs = list(zip(names, b, strict=False))
    for name_a, name_b in pairs:
        assert a[name_a].shape == b[name_b].shape, (
            f"{name_a} is {tuple(a[name_a].shape)} in the first model, {name_b} is "
            f"{tuple(b[name_b].shape)} in the second"
        )
    if len(a) != len(b):
        longer, where = (a, "first") if len(a) > len(b) else (b, "second")
        name = list(longer)[min(len(a), len(b))]
        raise AssertionError(
            f"{len(a)} tensors against {len(b)}: {name} {tuple(longer[name].shape)} exists in the "
            f"{where} model only"
        )
    return {name_b: a[name_a] for name_a, name_b in pairs}


def claim(text: str, left: Any, relation: str, right: Any) -> None:
    """Assert what the prose says.

    Under the profile ``cpu``, whose numbers the book prints, a claim that fails stops the
    notebook. Under the others it warns, for a handful of steps proves nothing. While a record is
    made (``seglab.records``) it warns too: the record shall say what happened.

    Parameters
    ----------
    text : str
        What is claimed, for instance "FCN-8s beats FCN-32s in mean IoU".
    left, right : numbers
        The two sides.
    relation : {">", ">=", "<", "<=", "=="}
        What holds between them.
    """
    if relation not in _RELATIONS:
        raise ValueError(f"relation is {relation!r}; expected one of {', '.join(_RELATIONS)}")
    numbers = f"{_shown(left)} {relation} {_shown(right)}"
    holds = bool(_RELATIONS[relation](left, right))
    sides = {"left": float(left), "relation": relation, "right": float(right)}
    records.note(claims=[{"text": text, **sides, "holds": holds}])
    if holds:
        print(f"✓ {text}: {numbers}")
    elif runtime.profile() == "cpu" and not records.recording():
        raise AssertionError(f"{text}: {numbers} is false")
    else:
        message = f"{text}: {numbers} does not hold under the profile {runtime.profile()!r}"
        warnings.warn(message, stacklevel=2)


def answer(
    value: Any,
    correct: Any,
    *,
    mistakes: Mapping[Any, str] | None = None,
    hint: str = "",
    tol: float = 1e-6,
) -> None:
    """Say whether the answer to an exercise is right, and if not, which thought led astray.

    Never raises, so that a notebook with open exercises runs to its end.

    Parameters
    ----------
    value : number, text, sequence, array or tensor
        The student's answer; None or ... means that there is none yet.
    correct : the same
        What it should be.
    mistakes : mapping, optional
        A wrong answer and the misconception behind it.
    hint : str
        Where to look if the answer is wrong in a way that nobody foresaw.
    tol : float
        Tolerance of numbers, relative for those above 1.
    """
    if value is None or value is ...:
        print(NOT_ANSWERED)
    elif _equal(value, correct, tol):
        print(f"✓ Correct: {_shown(value)}")
    else:
        print(f"✗ {_shown(value)} is not right. {_diagnosis(value, correct, mistakes or {}, tol)}")
        if hint:
            print(f"  Hint: {hint}")


def _diagnosis(value: Any, correct: Any, mistakes: Mapping[Any, str], tol: float) -> str:
    for wrong, message in mistakes.items():
        if _equal(value, wrong, tol):
            return message
    if _kind(value) != _kind(correct):
        return f"Expected {_kind(correct)}, got {_kind(value)}."
    return "Try again."


def function(
    student: Callable,
    correct: Callable,
    cases: Iterable,
    *,
    mistakes: Sequence[tuple[Callable, str]] = (),
    tol: float = 1e-6,
) -> None:
    """Say whether a student's function is right, and if not, on which input and why.

    Never raises.

    Parameters
    ----------
    student : function
        One that returns None or ... has not been written yet.
    correct : function
        What it should compute.
    cases : iterable
        Inputs: a tuple holds several arguments, anything else is one argument.
    mistakes : sequence of (function, str)
        Wrong functions and the misconception behind each; the first that agrees with the
        student's on every case is named.
    tol : float
        As for ``answer``.
    """
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    try:
        results = [student(*copy.deepcopy(case)) for case in cases]
    except Exception as error:
        print(f"✗ Your function stops with {type(error).__name__}: {error}")
        return
    if all(result is None or result is ... for result in results):
        print(NOT_ANSWERED)
        return
    expected = [correct(*copy.deepcopy(case)) for case in cases]
    wrong = [
        i for i, (r, e) in enumerate(zip(results, expected, strict=True)) if not _equal(r, e, tol)
    ]
    if not wrong:
        print(f"✓ Correct on {len(cases)} inputs.")
        return
    i = wrong[0]
    print(
        f"✗ For {_arguments(cases[i])} you return {_shown(results[i])}, not {_shown(expected[i])}."
    )
    for mistaken, message in mistakes:
        if all(_agrees(mistaken, case, r, tol) for case, r in zip(cases, results, strict=True)):
            print(f"  {message}")
            break


def _agrees(mistaken: Callable, case: tuple, result: Any, tol: float) -> bool:
    try:
        return _equal(mistaken(*copy.deepcopy(case)), result, tol)
    except Exception:
        return False


def _array(value: Any) -> np.ndarray | None:
    """Return numbers as a float64 array, anything else as None."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array


def _equal(value: Any, other: Any, tol: float) -> bool:
    if isinstance(value, str) or isinstance(other, str):
        same_type = isinstance(value, str) and isinstance(other, str)
        return same_type and value.strip().lower() == other.strip().lower()
    a, b = _array(value), _array(other)
    if a is None or b is None:
        return type(value) is type(other) and bool(value == other)
    return a.shape == b.shape and np.allclose(a, b, rtol=tol, atol=tol, equal_nan=True)


def _kind(value: Any) -> str:
    if isinstance(value, str | bool):
        return {str: "a text", bool: "True or False"}[type(value)]
    array = _array(value)
    if array is None:
        return f"an object of type {type(value).__name__}"
    return "one number" if array.ndim == 0 else f"numbers of shape {array.shape}"


def _shown(value: Any) -> str:
    """Write a value briefly, as prose would."""
    if isinstance(value, str | bool | int):
        return f"{value:,}" if type(value) is int and abs(value) > 9999 else str(value)
    array = _array(value)
    if array is None:
        return repr(value)
    if array.ndim == 0:
        return f"{array:.4g}"
    if array.size <= 9:
        return np.array2string(array, precision=4, separator=", ").replace("\n", "")
    return f"numbers of shape {array.shape}"


def _arguments(case: tuple) -> str:
    return ", ".join(_shown(argument) for argument in case)
