"""Images and their label maps: procedural images, public data sets, your own folders.

Every data set has a length, `labels`, and items ``image, mask``: float32 (3, H, W) in [0, 1] and
int64 (H, W) with class ids, 255 where a pixel is to be ignored.
"""

import inspect
from typing import Any

from torch.utils.data import Dataset

from seglab.data.cells import Cells
from seglab.data.folder import Folder
from seglab.data.lesions import Lesions
from seglab.data.public import ISBI2012, CamVid
from seglab.data.scenes import Scenes

__all__ = ["DATASETS", "Folder", "load", "names"]

DATASETS: dict[str, type[Dataset]] = {
    "scenes": Scenes,
    "cells": Cells,
    "lesions": Lesions,
    "camvid": CamVid,
    "isbi2012": ISBI2012,
}


def names() -> list[str]:
    """Return the names that `load` knows."""
    return list(DATASETS)


def load(
    name: str,
    split: str,
    *,
    size: int | tuple[int, int] | None = None,
    root: Any = None,
    **options: Any,
) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    name : str
        One of `names()`.
    split : {"train", "val", "test"}
        Which part of it.
    size : int or (int, int), optional
        Side, or height and width, in pixels; without it, the data set's own size.
    root : path, optional
        Folder of a public data set on this machine.
    **options
        Arguments of the data set's class, for example ``length=`` of the scenes.

    Raises
    ------
    ValueError
        If there is no such data set or split.
    TypeError
        If the data set has no such option.
    FileNotFoundError
        If files of a public data set are missing.
    """
    if name not in DATASETS:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(DATASETS)}")
    if root is not None:
        options["root"] = root
    known = [option for option in inspect.signature(DATASETS[name]).parameters if option != "split"]
    for option in options:
        if option not in known:
            raise TypeError(
                f"data set {name!r} has no option {option!r}; it has {', '.join(known)}"
            )
    return DATASETS[name](split, size=size, **options)  # type: ignore[call-arg]
