"""Fact sheets of the architectures and losses, as Markdown for ``book/models.md``.

Sizes are computed from the live models, results read from the recorded runs. What no program can
compute stands in ``book/facts.yml``, and citations come from ``book/references.bib``.
"""

import math
import statistics
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import torch
import yaml
from pybtex.database import BibliographyData, Entry, parse_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seglab import losses, models, plots, receptive_field, records, svg

from .chapters import ROOT, link, plan

SIZE = 512  # side of the image for which multiply-adds are counted
CLASSES = 21


@dataclass(frozen=True)
class Size:
    """What a network costs.

    Attributes
    ----------
    parameters : int
        Numbers that training sets.
    multiply_adds : int
        Of convolutions and matrix products, for one image of ``SIZE`` x ``SIZE``.
    """

    parameters: int
    multiply_adds: int


@cache
def facts() -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``book/facts.yml``: models and losses, each by name."""
    return yaml.safe_load((ROOT / "book" / "facts.yml").read_text())


@cache
def bibliography() -> BibliographyData:
    """Return ``book/references.bib``."""
    return parse_file(str(ROOT / "book" / "references.bib"))


def reference(key: str) -> Entry:
    """Return the entry of a paper; ValueError if there is none."""
    if key not in bibliography().entries:
        raise ValueError(f"book/references.bib has no {key!r}")
    return bibliography().entries[key]


def citation(key: str) -> str:
    """Return a link to a reference, in the book's form: Long et al., 2015."""
    entry = reference(key)
    names = [
        " ".join(map(str, (*person.rich_prelast_names, *person.rich_last_names)))
        for person in entry.persons["author"]
    ]
    authors = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"[{authors}, {entry.fields['year']}](references.md#{key})"


def year(key: str) -> int:
    """Return the year in which a paper was first public: that of its preprint, if it has one."""
    fields = reference(key).fields
    return 2000 + int(fields["eprint"][:2]) if "eprint" in fields else int(fields["year"])


def size(model: nn.Module, side: int = SIZE) -> Size:
    """Count parameters and multiply-adds of a network that was built on the meta device."""
    images = torch.empty(1, 3, side, side, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(images)
    parameters = sum(p.numel() for p in model.parameters())
    return Size(parameters, counter.get_total_flops() // 2)


@cache
def architecture(name: str) -> nn.Module:
    """Return an architecture as published, for ``CLASSES`` classes, on the meta device."""
    with torch.device("meta"):
        return models.create(name, CLASSES)


@cache
def size_of(name: str) -> Size:
    """Return the size of an architecture."""
    return size(architecture(name))


@cache
def sees(name: str) -> str:
    """Return how many pixels a unit of an architecture's score map depends on, along one axis."""
    field = receptive_field.theoretical(architecture(name))
    return "all" if math.isinf(field.size) else f"{field.size:,.0f}"


def seeds(fact: dict[str, Any]) -> list[tuple[int, float]]:
    """Return (seed, mean IoU) of the runs of a chapter that were recorded for a fact sheet.

    ``scores`` of a record are those of the chapter's one network, or of several by name.

    Raises
    ------
    ValueError
        If a run has no score of the name that the sheet gives.
    """
    name = fact.get("record", fact["title"])
    if name is None:
        return []
    found = []
    for record_name in records.names():
        if record_name.startswith(f"{fact['chapter']}_seed"):
            record = records.load(record_name)
            scores = record.get("scores", {})
            score = scores if "mean_iou" in scores else scores.get(name)
            if score is None:
                raise ValueError(
                    f"book/facts.yml expects a score {name!r} in {record_name}.json, which has "
                    f"{', '.join(scores) or 'none'}; set `record` to the one that is meant"
                )
            found.append((record["seed"], score["mean_iou"]))
    return sorted(found)


def percent(shares: list[float]) -> str:
    """Write a mean, with the standard deviation where there are several."""
    mean = f"{100 * statistics.mean(shares):.1f}"
    return f"{mean} ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else mean


def long_runs(name: str) -> list[str]:
    """Describe the recorded runs of ``seglab train`` with an architecture."""
    lines = []
    for record in map(records.load, records.names()):
        model, seconds = record.get("model"), record.get("seconds")
        if not (isinstance(model, dict) and isinstance(seconds, dict)):
            continue  # a chapter, an evaluation, a measurement
        if model["name"] == name:
            height, width = record["data"]["size"]
            lines.append(
                f"mean IoU {percent([record['scores']['mean_iou']])} "
                f"on {record['data']['name']}, {height} x {width}, preset {model['preset']}, "
                f"{seconds['train'] / 60:.0f} minutes of training on {record['hardware']}"
            )
    return lines


def published(result: dict[str, Any]) -> str:
    """Write one published result in words."""
    measure = result.get("measure", "mean IoU")
    note = f", {result['note']}" if "note" in result else ""
    return f"{measure} {result['result']} on {result['data']}{note}"


def model_table() -> str:
    """Compare the architectures that exist, one a row; name those to come below."""
    rows = [
        "| | year | parameters, millions | multiply-adds, billions | sees | paper | ours |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    for name in models.names():
        fact = facts()["models"][name]
        cost = size_of(name)
        first = fact["published"][0]
        shares = [share for _, share in seeds(fact)]
        rows.append(
            f"| [{fact['title']}](#model-{name}) | {year(fact['paper'])} "
            f"| {cost.parameters / 1e6:.1f} | {cost.multiply_adds / 1e9:.1f} | {sees(name)} "
            f"| {first['result']}, {first['data']} | {percent(shares) if shares else 'to come'} |"
        )
    return "\n".join(rows) + _to_come("models", models.names())


def loss_table() -> str:
    """List the losses, one a row."""
    rows = ["| | year | what it is for | chapter |", "|---|---|---|---|"]
    for name, fact in facts()["losses"].items():
        purpose = fact["purpose"].split(". ")[0]
        rows.append(
            f"| [{fact['title']}](#loss-{name}) | {year(fact['paper'])} | {purpose} "
            f"| {link(fact['chapter'])} |"
        )
    return "\n".join(rows) + _to_come("losses", losses.names())


def _to_come(kind: str, existing: list[str]) -> str:
    """Name what has a sheet and no code yet."""
    names = [fact["title"] for name, fact in facts()[kind].items() if name not in existing]
    if not names:
        return ""
    return f"\n\nTo come in `seglab.{kind}`, with the chapters: {', '.join(names)}."


def _entry(name: str, *values: str) -> str:
    """Return one line of a sheet, or nothing if there is nothing to say."""
    return "".join([f"\n{name}\n", *(f": {value}\n" for value in values)]) if values else ""


def model_sheets() -> str:
    """Write a sheet for every architecture of the course, with numbers for those that exist."""
    sheets = []
    for name, fact in facts()["models"].items():
        lines = [f"(model-{name})=\n### {fact['title']}\n\n{fact['idea']}\n\n{{.facts}}"]
        lines.append(_entry("paper", _paper(fact["paper"])))
        if name in models.names():
            cost = size_of(name)
            lines.append(_entry("parameters", f"{cost.parameters:,} for {CLASSES} classes"))
            lines.append(_entry("multiply-adds", f"{cost.multiply_adds / 1e9:.1f} billion"))
            field = sees(name)
            words = "the whole image" if field == "all" else f"{field} x {field} pixels"
            lines.append(_entry("receptive field", words))
        lines.append(_entry("published", *map(published, fact["published"])))
        lines.append(_entry("ours", *_ours(fact), *long_runs(name)))
        lines.append(_entry("chapter", link(fact["chapter"], _title(fact["chapter"]))))
        if name in models.names():
            lines.append(_entry("code", f'`seglab.models.create("{name}")`'))
        sheets.append("".join(lines))
    return "\n\n".join(sheets)


def loss_sheets() -> str:
    """Write a sheet for every loss of the course."""
    sheets = []
    for name, fact in facts()["losses"].items():
        lines = [
            f"(loss-{name})=\n### {fact['title']}\n\n{fact['purpose']}\n\n"
            f"$${fact['formula'].strip()}$$\n\n{{.facts}}"
        ]
        lines.append(_entry("paper", _paper(fact["paper"])))
        lines.append(_entry("ours", *_ours(fact)) if name in losses.names() else "")
        lines.append(_entry("chapter", link(fact["chapter"], _title(fact["chapter"]))))
        if name in losses.names():
            lines.append(_entry("code", f"`seglab.losses.{name}`"))
        sheets.append("".join(lines))
    return "\n\n".join(sheets)


def _paper(key: str) -> str:
    """Cite a paper, with the year of its preprint where that is another."""
    first = year(key)
    before = "" if str(first) == reference(key).fields["year"] else f", a preprint since {first}"
    return citation(key) + before


def _title(chapter: str) -> str:
    return f"Chapter {int(chapter[:2])}, {plan()[chapter]}"


def _ours(fact: dict[str, Any]) -> list[str]:
    """Describe what the chapter's recorded runs reached."""
    found = seeds(fact)
    if not found:
        return []
    settings = records.load(f"{fact['chapter']}_seed{found[0][0]}").get("settings", {})
    how = "".join(f"; {name} {value}" for name, value in settings.items())
    which = f"seed{'s' * (len(found) > 1)} {', '.join(str(seed) for seed, _ in found)}"
    return [f"mean IoU {percent([share for _, share in found])} in the chapter ({which}{how})"]


def model_figure() -> str:
    """Draw what the architectures cost, as a drawing for the page."""
    names = models.names()
    costs = [size_of(name) for name in names]
    titles = [facts()["models"][name]["title"] for name in names]
    columns = {
        "parameters (millions)": [cost.parameters / 1e6 for cost in costs],
        "multiply-adds (billions)": [cost.multiply_adds / 1e9 for cost in costs],
    }
    with plt.rc_context():
        plots.use_style()
        figure, grid = plt.subplots(1, 2, figsize=(5.6, 0.8 + 0.3 * len(names)), sharey=True)
        for axes, color, (label, values) in zip(grid, plots.CURVES, columns.items(), strict=False):
            axes.plot(values, range(len(names)), "o", color=color)
            low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
            axes.set(xlabel=label, xscale="log", xlim=(10**low, 10**high))
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.xaxis.set_minor_formatter("")
        grid[0].set_yticks(range(len(names)), titles)
        grid[0].set_ylim(len(names) - 0.5, -0.5)
    words = "; ".join(
        f"{title} {cost.parameters / 1e6:.0f} million and {cost.multiply_adds / 1e9:.0f} billion"
        for title, cost in zip(titles, costs, strict=True)
    )
    drawing = svg.from_figure(figure, f"Parameters and multiply-adds on two log scales: {words}.")
    plt.close(figure)
    return f"```{{raw}} html\n{drawing.html()}\n```"
