"""Pages that write themselves: fact sheets, status, back-links, links that wait for a chapter."""

import re

import pytest
import torch
from seglab_pages import back_links, chapters, sheets, status, written
from torch import nn

from seglab import losses, models, records


@pytest.fixture
def recorded(monkeypatch):
    """Give `seglab.records` other runs than those of the repository."""

    def replace(runs):
        monkeypatch.setattr(records, "names", lambda: sorted(runs))
        monkeypatch.setattr(records, "load", runs.__getitem__)

    return replace


# ---------------------------------------------------------------- fact sheets


def test_multiply_adds_are_those_of_the_formulas():
    height = width = 16
    with torch.device("meta"):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3, padding=2, dilation=2, groups=2),
            nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1),
            nn.Flatten(),
            nn.Linear(4 * height * width, 10),
        )
    by_hand = (
        (height // 2) * (width // 2) * 8 * 3 * 9  # an output is a sum over 3 x 3 x 3 products
        + (height // 2) * (width // 2) * 6 * (8 // 2) * 9
        + (height // 2) * (width // 2) * 6 * 4 * 16  # an input is stamped 4 x 4 times, 4 channels
        + 4 * height * width * 10
    )
    assert sheets.size(network, side=height).multiply_adds == by_hand


@pytest.mark.parametrize("name", [n for n in models.names() if not n.startswith("setr")])
def test_multiply_adds_of_a_network_are_those_of_its_layers(name):
    """Counted a second way: a filter is applied once for each position that it is moved to."""
    products = 0

    def count(layer, inputs, output):
        nonlocal products
        moved_over = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        products += moved_over[0, 0].numel() * layer.weight.numel()

    with torch.device("meta"):
        network = models.create(name).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    network(torch.empty(1, 3, sheets.SIZE, sheets.SIZE, device="meta"))
    assert sheets.size_of(name).multiply_adds == products


@pytest.mark.parametrize("name", models.names())
def test_every_architecture_has_a_row_and_a_sheet_with_its_size(name):
    with torch.device("meta"):
        parameters = sum(p.numel() for p in models.create(name).parameters())
    title = sheets.facts()["models"][name]["title"]
    assert re.search(rf"\n\| \[{re.escape(title)}\]\(#model-{name}\) \|", sheets.model_table())
    sheet = sheets.model_sheets().split(f"(model-{name})=")[1].split("\n### ")[1]
    assert f"{parameters:,}" in sheet


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_has_a_row_and_a_sheet(name):
    assert f"(#loss-{name})" in sheets.loss_table()
    assert f"(loss-{name})=" in sheets.loss_sheets()
    assert f"`seglab.losses.{name}`" in sheets.loss_sheets()


@pytest.mark.parametrize(
    ("name", "pixels"),
    # FCN-32s: the paper's Table 1. FCN-8s: enlarged twice from two neighbors each, a score stems
    # from up to three scores of FCN-32s, 32 pixels apart. PSPNet pools over the whole image.
    [("fcn32s", "404"), ("fcn8s", str(404 + 2 * 32)), ("pspnet", "all")],
)
def test_receptive_fields_are_those_of_the_score_map(name, pixels):
    assert f"| {pixels} |" in next(
        row for row in sheets.model_table().splitlines() if f"(#model-{name})" in row
    )


def test_what_does_not_exist_is_named_and_has_no_numbers(monkeypatch):
    monkeypatch.setattr(models, "names", lambda: ["fcn8s"])
    assert "To come in `seglab.models`, with the chapters: FCN-32s, FCN-16s, DeconvNet" in (
        sheets.model_table()
    )
    assert "(#model-setr_pup)" not in sheets.model_table()
    sheet = sheets.model_sheets().split("(model-setr_pup)=")[1].split("(model-")[0]
    assert "multiply-adds" not in sheet
    assert ": \n" not in sheet


@pytest.mark.parametrize("kind", ["models", "losses"])
def test_facts_name_references_and_chapters_that_exist(kind):
    for fact in sheets.facts()[kind].values():
        assert sheets.citation(fact["paper"]).startswith("[")
        assert fact["chapter"] in chapters.plan()


def test_every_architecture_and_loss_of_the_course_has_facts():
    assert list(sheets.facts()["models"]) == [
        *("fcn32s", "fcn16s", "fcn8s", "deconvnet", "segnet", "unet", "pspnet", "deeplabv1"),
        *("deeplabv2", "deeplabv3", "deeplabv3plus", "setr_naive", "setr_pup", "setr_mla"),
    ]
    assert list(sheets.facts()["losses"]) == [
        *("cross_entropy", "weighted_cross_entropy", "balanced_cross_entropy"),
        *("focal", "dice", "tversky"),
    ]
    assert set(models.names()) <= set(sheets.facts()["models"])
    assert set(losses.names()) <= set(sheets.facts()["losses"])


def test_an_unknown_reference_is_named():
    with pytest.raises(ValueError, match=r"references\.bib has no 'long2051'"):
        sheets.citation("long2051")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("otsu1979", "[Otsu, 1979](references.md#otsu1979)"),
        ("simonyan2015", "[Simonyan and Zisserman, 2015](references.md#simonyan2015)"),
        ("long2015", "[Long et al., 2015](references.md#long2015)"),
        ("everingham2010", "[Everingham et al., 2010](references.md#everingham2010)"),
        ("krahenbuhl2011", "[Krähenbühl and Koltun, 2011](references.md#krahenbuhl2011)"),
    ],
)
def test_citations_have_the_form_of_the_chapters(key, words):
    assert sheets.citation(key) == words


@pytest.mark.parametrize(("key", "year"), [("badrinarayanan2017", 2015), ("dice1945", 1945)])
def test_the_year_is_that_of_the_preprint_if_there_is_one(key, year):
    assert sheets.year(key) == year


def test_our_result_is_the_mean_over_the_recorded_seeds(recorded):
    scores = [0.5, 0.6, 0.7]
    runs = {
        f"04_fcn_seed{seed}": {"seed": seed, "scores": {"FCN-8s": {"mean_iou": share}}}
        for seed, share in enumerate(scores)
    }
    recorded(runs | {"05_deconvnet_seed0": {"seed": 0, "scores": {"FCN-8s": {"mean_iou": 0.1}}}})
    found = sheets.seeds({"title": "FCN-8s", "chapter": "04_fcn"})
    assert found == list(enumerate(scores))
    assert sheets.percent([share for _, share in found]) == "60.0 ± 10.0"
    assert sheets.percent([0.5]) == "50.0"


def test_a_chapter_with_one_network_may_record_its_scores_without_a_name(recorded):
    recorded({"07_unet_seed0": {"seed": 0, "scores": {"mean_iou": 0.6, "iou": {}}}})
    assert sheets.seeds({"title": "U-Net", "chapter": "07_unet"}) == [(0, 0.6)]


def test_a_network_that_no_chapter_trains_has_no_result(recorded):
    recorded({"13_setr_seed0": {"seed": 0, "scores": {"SETR-PUP": {"mean_iou": 0.5}}}})
    fact = {"title": "SETR-MLA", "chapter": "13_setr", "record": None}
    assert sheets.seeds(fact) == []


def test_a_recorded_run_without_the_score_of_a_sheet_is_an_error(recorded):
    recorded({"04_fcn_seed0": {"seed": 0, "scores": {"FCN-8": {"mean_iou": 0.1}}}})
    with pytest.raises(ValueError, match="expects a score 'FCN-8s' in 04_fcn_seed0"):
        sheets.seeds({"title": "FCN-8s", "chapter": "04_fcn"})


def test_a_recorded_training_is_on_the_sheet_of_its_architecture(recorded):
    training = {
        "model": {"name": "fcn8s", "preset": "small"},
        "data": {"name": "camvid", "size": [180, 240]},
        "seconds": {"train": 480.1, "evaluate": 2},
        "scores": {"mean_iou": 0.551},
        "hardware": "a processor",
    }
    evaluation = {key: training[key] for key in ("model", "scores", "hardware")}
    recorded({"training": training, "evaluation": evaluation, "claims": {"seconds": 12}})
    assert sheets.long_runs("fcn8s") == [
        "mean IoU 55.1 on camvid, 180 x 240, preset small, 8 minutes of training on a processor"
    ]
    assert sheets.long_runs("fcn16s") == []


def test_the_figure_says_in_words_what_it_shows():
    figure = sheets.model_figure()
    assert "FCN-8s 134 million and 111 billion" in figure
    assert figure.count("<svg") == 1


# ---------------------------------------------------------------- status


def test_seconds_are_listed_for_every_chapter_that_ran():
    table = status.chapter_seconds(
        {
            "notebooks/04_fcn": {"runtime": 12.4, "mtime": 0.0},
            "notebooks/01_segmentation": {"runtime": 30.1, "mtime": 0.0},
            "notebooks/03_learning": {},
            "book/index": {},
        }
    )
    rows = [line for line in table.splitlines() if "notebooks/" in line]
    assert [row.split("|")[2].strip() for row in rows] == ["30", "12"]
    assert "1970-01-01 00:00" in table
    assert "| all | 42 |" in table
    assert status.chapter_seconds({}) == "No chapter was run in this build."


def test_every_recorded_run_is_listed_with_its_command():
    table = status.recorded_runs()
    for name in records.names():
        assert f"| `{name}` |" in table
        assert records.load(name).get("command", "") in table


def test_a_claim_that_failed_shows_in_the_list(recorded):
    claims = [{"holds": True}, {"holds": False}, {"holds": True}]
    recorded({"run": {"command": "make record", "claims": claims}})
    assert "2 of 3" in status.recorded_runs()


def test_the_list_of_checks_is_that_of_the_makefile():
    makefile = (chapters.ROOT / "Makefile").read_text()
    stages = re.search(r"^STAGES := (.+)$", makefile, re.M)[1].split()
    lines = status.checks().splitlines()
    assert [re.search(r"`make (.+?)`", line)[1] for line in lines] == stages
    assert all(re.search(r"`: \w", line) for line in lines)


# ---------------------------------------------------------------- links


def test_a_link_waits_for_its_chapter(monkeypatch):
    text = "[Chapter 4](../notebooks/04_fcn.ipynb#look), [then](../notebooks/05_deconvnet.ipynb)."
    monkeypatch.setattr(chapters, "exists", lambda chapter: chapter == "04_fcn")
    assert chapters.wait_for_chapters(text) == (
        "[Chapter 4](../notebooks/04_fcn.ipynb#look), then (to come)."
    )
    monkeypatch.setattr(chapters, "exists", lambda chapter: True)
    assert chapters.wait_for_chapters(text) == text


def test_a_link_to_a_chapter_outside_of_the_plan_is_left_to_fail():
    text = "[typo](../notebooks/04_fnc.ipynb)"
    assert chapters.wait_for_chapters(text) == text
    with pytest.raises(ValueError, match="no chapter is called '04_fnc'"):
        chapters.link("04_fnc")


def test_every_chapter_is_in_the_plan_and_in_its_order():
    written_chapters = [p.removeprefix("notebooks/") for p in chapters.pages() if "notebooks/" in p]
    assert written_chapters == [name for name in chapters.plan() if name in written_chapters]
    assert written_chapters == [name for name in chapters.plan() if chapters.exists(name)]


def test_sections_have_the_anchors_of_the_book():
    code = "```\n# no heading\n```\n"
    text = f"# 4. A *title*\n{code}## The `fit` of it, 1 x 1\nsecond\n## Twice\n## Twice\n"
    found = chapters.sections("notebooks/04_fcn", text)
    assert [s.slug for s in found] == ["4-a-title", "the-fit-of-it-1-x-1", "twice", "twice-1"]
    assert [s.name for s in found[:2]] == ["Chapter 4", "Chapter 4, The fit of it, 1 x 1"]
    assert found[1].text.strip() == "second"


def test_back_links_name_each_page_once_with_its_first_section(monkeypatch):
    to_a = "[a](../book/glossary.md#term-a)"
    texts = {
        "book/glossary": "# Glossary\n[itself](glossary.md#term-a)",
        "notebooks/01_a": f"# 1. A\n## One\n{to_a}\n## Two\n{to_a}",
        "book/notation": "# Notation\n## Here\n[a](glossary.md#term-a), [b](glossary.md#term-b)",
    }
    monkeypatch.setattr(chapters, "pages", lambda: list(texts))
    monkeypatch.setattr(chapters, "markdown", texts.__getitem__)
    found = back_links("book/glossary")
    assert {anchor: [s.name for s in places] for anchor, places in found.items()} == {
        "term-a": ["Chapter 1, One", "Notation, Here"],
        "term-b": ["Notation, Here"],
    }


def test_a_page_that_asks_for_something_unknown_is_an_error():
    text = "before\n\n<!-- write: table -->\n"
    assert written(text, {"table": lambda: "| a |"}) == "before\n\n| a |\n"
    with pytest.raises(ValueError, match="nobody writes 'table'"):
        written(text, {})


# ---------------------------------------------------------------- in the built pages


def test_references_say_where_they_are_cited(site):
    from tests.book.test_pages import soup

    entry = soup(site / "book" / "references.html").find(id="long2015")
    targets = [a["href"] for a in entry.select(".back-links a")]
    assert any(target.startswith("../notebooks/04_fcn.html#") for target in targets)


def test_every_reference_has_a_link(site):
    from tests.book.test_pages import soup

    page = soup(site / "book" / "references.html")
    for key in sheets.bibliography().entries:
        entry = page.find(id=key)
        assert entry.select("a.external"), f"{key} has neither eprint nor doi nor url"


def test_terms_say_where_they_are_used(site):
    from tests.book.test_pages import soup

    page = soup(site / "book" / "glossary.html")
    linked = back_links("book/glossary")
    assert linked
    for anchor, places in linked.items():
        definition = page.find(id=anchor).find_next("dd")
        assert len(definition.select(".back-links a")) == len(places), anchor
