"""Sliders and quizzes that work in a page without a kernel, offline and by keyboard.

Sliders are core ipywidgets that are linked in the browser, or by the kernel in Colab. Quizzes are
plain HTML with a few lines of style and script: jupyterquiz (2.9.6) adds 30 kB of script to each
quiz, fetches MathJax from a server where the page has none, and its answers cannot be reached by
keyboard.
"""

import base64
import hashlib
import html
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import traitlets
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image

from seglab import svg
from seglab.runtime import to_array

BUDGET = 400_000  # bytes that one slider may add to a page
SIDE = 384  # CSS pixels; smaller arrays are magnified to this width


class _KernelStack(ipywidgets.Box):
    """The Stack that ipywidgets 7 does not have: here the kernel swaps the visible child."""

    selected_index = traitlets.Int()

    def __init__(self, children: Sequence[Any], **options: Any):
        self.pages = tuple(children)
        super().__init__(children=self.pages[:1], **options)

    @traitlets.observe("selected_index")
    def _turn(self, change: Any) -> None:
        self.children = (self.pages[change["new"]],)


# Colab has ipywidgets 7, a kernel at all times, and a history of links that fail in its pages.
if hasattr(ipywidgets, "Stack"):
    _Stack, _join = ipywidgets.Stack, ipywidgets.jslink
else:
    _Stack, _join = _KernelStack, ipywidgets.link


def slider(
    frames: Sequence[Any],
    label: str | tuple[str, str],
    values: Sequence[Any],
    *,
    alt: str | Sequence[Any],
    play: bool = False,
) -> ipywidgets.VBox:
    """Let the reader move through pictures that are computed already.

    Parameters
    ----------
    frames : list, or list of lists for two sliders
        Figures, drawings, or arrays ((H, W, 3) or (3, H, W) or (H, W), floats in [0, 1] or
        uint8). ``frames[i]`` belongs to ``values[i]``, ``frames[i][j]`` to ``values[0][i]`` and
        ``values[1][j]``. Figures are closed.
    label : str, or two
        Name of each slider.
    values : list, or two lists
        What each slider shows beside it.
    alt : str, or list (of lists) of str
        Alt text of every frame; a string with {} is filled with the frame's value, with {0} and
        {1} for two sliders.
    play : bool
        Whether a play button moves the (first) slider.

    Returns
    -------
    ipywidgets.VBox
        Last expression of a cell.

    Raises
    ------
    ValueError
        If numbers of frames, values and alt texts differ, or an alt text is empty.

    Warns
    -----
    UserWarning
        If the frames together exceed 400 kB.
    """
    if isinstance(label, str):
        texts = [_text(value) for value in values]
        alts = [alt.format(text) for text in texts] if isinstance(alt, str) else list(alt)
        stack, size = _stack(frames, alts, texts)
        controls = [_control(label, texts)]
        _link(controls[0], stack)
    else:
        first, second = ([_text(value) for value in part] for part in values)
        if len(frames) != len(first):
            raise ValueError(f"{len(frames)} rows of frames for {len(first)} values of {label[0]}")
        if isinstance(alt, str):
            alt = [[alt.format(one, two) for two in second] for one in first]
        rows = [_stack(row, list(words), second) for row, words in zip(frames, alt, strict=True)]
        size = sum(cost for _, cost in rows)
        stack = _Stack([row for row, _ in rows], selected_index=0, layout={"width": "100%"})
        controls = [_control(label[0], first), _control(label[1], second)]
        _link(controls[0], stack)
        for row, _ in rows:
            _link(controls[1], row)
    if size > BUDGET:
        warnings.warn(
            f"this slider costs {size / 1000:.0f} kB; draw fewer or smaller frames, "
            f"to stay under {BUDGET // 1000} kB",
            stacklevel=2,
        )
    if play:
        last = len(controls[0].options) - 1
        button = ipywidgets.Play(min=0, max=last, interval=700, show_repeat=False)
        _join((button, "value"), (controls[0], "index"))
        controls[0] = ipywidgets.HBox([button, controls[0]], layout={"flex_flow": "row wrap"})
    box = ipywidgets.VBox([*controls, stack])
    box.add_class("seglab-slider")
    return box


@dataclass(frozen=True)
class Choice:
    """A question with several answers, one of them correct.

    Attributes
    ----------
    question : str
        Plain text; `code` in backticks; Unicode instead of TeX.
    answers : dict of str to str
        For every answer, why it is right or wrong.
    correct : int
        Position of the correct answer.
    """

    question: str
    answers: Mapping[str, str]
    correct: int = 0

    def __post_init__(self):
        if not 0 <= self.correct < len(self.answers):
            raise ValueError(f"correct={self.correct}, but there are {len(self.answers)} answers")
        for answer, why in self.answers.items():
            if not why.strip():
                raise ValueError(f"the answer {answer!r} needs an explanation")


@dataclass(frozen=True)
class Number:
    """A question whose answer is a number, typed as 1024, 1,024, 0.75, 3/4 or 75 %.

    Attributes
    ----------
    question : str
        Plain text; `code` in backticks; Unicode instead of TeX.
    answer : float
        The correct number.
    why : str
        Why it is this number; shown after a correct answer.
    mistakes : dict of float to str
        For wrong numbers that a misconception leads to, which misconception.
    hint : str
        Shown after any other number.
    tolerance : float
        Largest absolute difference that still counts.
    """

    question: str
    answer: float
    why: str
    mistakes: Mapping[float, str] = field(default_factory=dict)
    hint: str = "Not this number: try again."
    tolerance: float = 1e-6

    def __post_init__(self):
        if not self.why.strip():
            raise ValueError(f"the number {self.answer} needs an explanation")


def quiz(questions: Sequence[Choice | Number]) -> HTML:
    """Ask questions; every answer is explained, right or wrong.

    Parameters
    ----------
    questions : list of Choice or Number

    Returns
    -------
    IPython.display.HTML
        Last expression of a cell. The same questions give the same HTML.

    Raises
    ------
    TypeError
        If a question is of another kind.
    """
    parts = [_STYLE]
    for position, question in enumerate(questions, 1):
        key = "q" + hashlib.sha256(repr(question).encode()).hexdigest()[:10]
        if isinstance(question, Choice):
            parts.append(_choice(question, position, key))
        elif isinstance(question, Number):
            parts.append(_number(question, position, key))
        else:
            raise TypeError(f"expected Choice or Number, got {type(question).__name__}")
    # the attribute keeps JupyterLab from taking the keys for its own shortcuts
    start = '<div class="seglab-quiz" data-lm-suppress-shortcuts="true">'
    return HTML(f"{start}{''.join(parts)}</div>")


_STYLE = """<style>
.seglab-quiz fieldset {border: 1px solid #808080; border-radius: 6px; margin: 0 0 1em;
  padding: .8em 1em .6em; min-width: 0; color: inherit}
.seglab-quiz legend {font-weight: 600; font-size: 1em; padding: 0; margin: 0 0 .3em; float: left;
  width: 100%; color: inherit}
.seglab-quiz legend + * {clear: both}
.seglab-quiz div {margin: .45em 0}
.seglab-quiz label {cursor: pointer; color: inherit; margin: 0}
.seglab-quiz input[type=radio] {accent-color: #0072b2; width: 1.1em; height: 1.1em;
  margin: 0 .5em 0 0; vertical-align: -.15em}
.seglab-quiz input[type=text] {font: inherit; width: 9em; padding: .2em .4em; color: inherit;
  background: transparent; border: 1px solid #808080; border-radius: 4px}
.seglab-quiz button {font: inherit; padding: .2em .9em; color: inherit; background: transparent;
  border: 1px solid #808080; border-radius: 4px; cursor: pointer}
.seglab-quiz p {display: none; margin: .35em 0 .35em .2em; padding: .1em 0 .1em .8em;
  border-left: 4px solid #d55e00; color: inherit}
.seglab-quiz p.right {border-left-color: #009e73}
.seglab-quiz input:checked ~ [role=status] p, .seglab-quiz p.shown {display: block}
</style>"""

# Shows the explanation whose number is nearest to what was typed, else the hint (the last one).
# Reads 1,024 and 0,5 and 3/4; 75 % is 0.75, or 75 where percent are asked for.
_CHECK = (
    "var box=this.elements[0],text=box.value.replace(/\\s/g,'').replace('−','-')"
    ".replace(/,(?=\\d{3}(?!\\d))/g,'').replace(/,/g,'.'),parts=text.split('/');"
    "var number=parseFloat(parts[0])/(parts.length>1?parseFloat(parts[1]):1);"
    "var typed=/%$/.test(text)?[number/100,number]:[number];"
    "var all=this.querySelectorAll('p'),found=all[all.length-1];"
    "for(var i=all.length-2;i>=0;i--){if(typed.some(function(n){"
    "return Math.abs(n-all[i].dataset.value)<=all[i].dataset.tolerance}))found=all[i]}"
    "for(i=0;i<all.length;i++)all[i].className=all[i].className.replace(' shown','');"
    "box.setAttribute('aria-invalid',found.className=='wrong');"
    "found.className+=' shown';return false"
)

# JupyterLab lets the key arrive but not submit.
_ENTER = "if(event.key=='Enter'){event.preventDefault();this.requestSubmit()}"


def _choice(question: Choice, position: int, key: str) -> str:
    rows = []
    for k, (answer, why) in enumerate(question.answers.items()):
        right = k == question.correct
        rows.append(
            f'<div><input type="radio" name="{key}" id="{key}-{k}">'
            f'<label for="{key}-{k}">{_markup(answer)}</label>'
            f'<span role="status">{_explanation(why, right)}</span></div>'
        )
    return _fieldset(question.question, position, "".join(rows))


def _number(question: Number, position: int, key: str) -> str:
    tolerance = f'data-tolerance="{question.tolerance}"'
    rows = [_explanation(question.why, True, f'data-value="{question.answer}" {tolerance}')]
    rows += [
        _explanation(why, False, f'data-value="{value}" {tolerance}')
        for value, why in question.mistakes.items()
    ]
    rows.append(_explanation(question.hint, False))
    form = (
        f'<form onsubmit="{_CHECK}" onkeydown="{_ENTER}">'
        f'<div><label for="{key}">Your number: </label>'
        f'<input type="text" autocomplete="off" id="{key}" '
        f'aria-describedby="{key}-said"> '
        f'<button type="submit">Check</button></div>'
        f'<div role="status" id="{key}-said">{"".join(rows)}</div></form>'
    )
    return _fieldset(question.question, position, form)


def _fieldset(question: str, position: int, body: str) -> str:
    return f"<fieldset><legend>{position}. {_markup(question)}</legend>{body}</fieldset>"


def _explanation(why: str, right: bool, attributes: str = "") -> str:
    word, kind = ("Right.", "right") if right else ("Not quite.", "wrong")
    return f'<p class="{kind}" {attributes}><strong>{word}</strong> {_markup(why)}</p>'


def _markup(text: str) -> str:
    """Escape, and set `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _stack(frames: Sequence[Any], alts: list[str], texts: list[str]) -> tuple[Any, int]:
    """Return a stack of frames, of which one is visible, and its cost in bytes."""
    if not len(frames) == len(alts) == len(texts):
        raise ValueError(f"{len(frames)} frames, {len(texts)} values, {len(alts)} alt texts")
    pages = [_frame(frame, alt) for frame, alt in zip(frames, alts, strict=True)]
    children = [ipywidgets.HTML(page, layout={"width": "100%"}) for page in pages]
    stack = _Stack(children, selected_index=0, layout={"width": "100%"})
    return stack, sum(len(page) for page in pages)


def _frame(frame: Any, alt: str) -> str:
    """Return a frame as HTML with its alt text."""
    svg.check_alt(alt)
    if isinstance(frame, svg.Drawing):
        return frame.described(alt).html()
    if isinstance(frame, Figure):
        page = svg.from_figure(frame, alt).html()
        plt.close(frame)
        return page
    array = to_array(frame)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = np.moveaxis(array, 0, 2)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"expected a figure, (H, W, 3), (3, H, W) or (H, W), got {array.shape}")
    if array.dtype != np.uint8:
        array = np.round(255 * np.clip(array, 0, 1)).astype(np.uint8)
    kind, data = svg.compress(Image.fromarray(array).convert("RGB"))
    width = max(SIDE, array.shape[1])
    sharp = "image-rendering:pixelated;" if array.shape[1] < SIDE else ""
    style = f"display:block;width:{width}px;max-width:100%;margin:0 auto;{sharp}"
    return (
        f'<img alt="{html.escape(alt)}" style="{style}" '
        f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _control(label: str, texts: list[str]) -> Any:
    return ipywidgets.SelectionSlider(
        options=[(text, k) for k, text in enumerate(texts)],
        description=label,
        style={"description_width": "initial"},
        layout={"width": "min(100%, 30rem)"},
    )


def _link(control: Any, stack: Any) -> None:
    _join((control, "index"), (stack, "selected_index"))
