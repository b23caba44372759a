"""A slider of a chapter in a notebook with a kernel: what JupyterLab is told to show."""

import os
import sys
from pathlib import Path

import nbformat

from tests import kernels

ROOT = Path(__file__).parents[1]
CHAPTER = ROOT / "notebooks" / "01_segmentation.ipynb"


def up_to_the_first_slider(path, folder):
    notebook = nbformat.read(path, as_version=4)
    places = [i for i, cell in enumerate(notebook.cells) if "interactive.slider(" in cell.source]
    notebook.cells = notebook.cells[: places[0] + 1]
    nbformat.write(notebook, folder / "part.ipynb")
    return folder / "part.ipynb"


def test_a_slider_in_a_kernel_is_linked_to_one_picture_for_each_value(tmp_path):
    client = kernels.run(
        up_to_the_first_slider(CHAPTER, tmp_path),
        python=Path(sys.executable),
        folder=tmp_path,
        environment=os.environ | {"SEGLAB_PROFILE": "fast", "PYTHONPATH": str(ROOT)},
    )
    widgets = client.widget_state
    (output,) = client.nb.cells[-1].outputs
    shown = widgets[output["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]]
    slider, stack = (name.removeprefix("IPY_MODEL_") for name in shown["children"])
    assert widgets[slider]["_model_name"] == "SelectionSliderModel"
    assert widgets[stack]["_model_name"] == "StackModel"
    assert (widgets[slider]["index"], widgets[stack]["selected_index"]) == (0, 0)
    (link,) = (state for state in widgets.values() if state["_model_name"] == "LinkModel")
    assert link["source"] == [f"IPY_MODEL_{slider}", "index"]
    assert link["target"] == [f"IPY_MODEL_{stack}", "selected_index"]
    pictures = [widgets[name.removeprefix("IPY_MODEL_")] for name in widgets[stack]["children"]]
    values = widgets[slider]["_options_labels"]
    assert len(pictures) == len(values) > 1
    for picture, value in zip(pictures, values, strict=True):
        assert f"{value} pixels" in picture["value"]  # its alt text
