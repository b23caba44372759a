"""Your own data: a folder of images and a folder of label maps."""

import colorsys
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from seglab.data.transforms import Size, height_and_width, resize_image, resize_mask
from seglab.labels import CAMVID, Color, Labels

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IGNORE = 255
SHARE_OF_VALIDATION = 0.2

PathLike = str | os.PathLike


class Folder(Dataset):
    """Images and label maps from two folders, paired by file name up to the extension.

    Parameters
    ----------
    images : path
        Folder of images: PNG, JPEG, BMP, TIFF or WebP; gray, color, palette or 16 bit.
        Transparency is dropped, the orientation noted by a camera is applied.
    masks : path, optional
        Folder of label maps with one channel, gray or palette; the value of a pixel is its class
        id. Label maps without an image are left out. Without this folder the items are images
        alone, for prediction.
    classes : list of str
        Names; the position is the class id.
    size : int or (int, int), optional
        Resize to this height and width. Needed for batches if the files differ in size.
    ignore_index : int
        Value of the pixels that are to be ignored; 255 in the items, whatever it is in the files.
    colors : list of (int, int, int), optional
        RGB, 0 to 255, one per class, to paint with. Label maps may then be color images in
        exactly these colors; one color more at the end stands for ignored pixels.

    Items: image float32 (3, H, W) in [0, 1], mask int64 (H, W); without masks, the image alone.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or holds no image, or an image has no label map.
    ValueError
        If two files share a stem, or classes and colors do not fit each other; on access, if a
        file cannot be read, sizes differ, or a pixel belongs to no class.
    """

    def __init__(
        self,
        images: PathLike,
        masks: PathLike | None = None,
        classes: Sequence[str] = (),
        *,
        size: Size | None = None,
        ignore_index: int = IGNORE,
        colors: Sequence[Color] | None = None,
    ):
        self.size = None if size is None else height_and_width(size)
        self.ignore_index = ignore_index
        self.images = list(_files(images).values())
        self.masks = None if masks is None else _partners(self.images, Path(masks))
        self.labels = make_labels(classes, colors) if classes or masks is not None else None
        self._palette = None if colors is None else _palette(colors, len(classes))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = read_image(self.images[index])
        if self.size:
            image = resize_image(image, self.size)
        pixels = image.float() / 255
        return pixels if self.masks is None else (pixels, self._mask(index))

    def _mask(self, index: int) -> Tensor:
        assert self.masks is not None
        path = self.masks[index]
        ids = read_mask(path, self._palette)
        # The size of an image is known from the first bytes of its file.
        expected = image_size(self.images[index])
        if ids.shape != expected:
            raise ValueError(
                f"{path} has {ids.shape[0]} x {ids.shape[1]} pixels (height x width), its image "
                f"{self.images[index]} has {expected[0]} x {expected[1]}"
            )
        ids = np.where(ids == self.ignore_index, IGNORE, ids)
        known = [*range(self.labels.num_classes), IGNORE]  # type: ignore[union-attr]
        strange = np.setdiff1d(ids, known)
        if strange.size:
            raise ValueError(
                f"{path} holds class id {', '.join(map(str, strange[:5]))}; expected "
                f"{_listed(self.labels.names)}, or {self.ignore_index} for ignored"  # type: ignore[union-attr]
            )
        mask = torch.from_numpy(ids.astype(np.int64))
        return resize_mask(mask, self.size) if self.size else mask


def open_folder(root: PathLike, split: str, *, size: Size | None = None) -> Folder:
    """Open a folder as the command line expects it.

    Either split by hand, which is the only right way for frames of one video::

        root/classes.txt            root/train/images  root/train/masks
                                    root/val/images    root/val/masks     (root/test/...)

    or all in one::

        root/classes.txt            root/images        root/masks

    Then every fifth image, in the order of a hash of its name, is "val" and the others are
    "train", on every machine alike. ``classes.txt`` has one class name per line, that of class 0
    first.

    Parameters
    ----------
    root : path
        The folder.
    split : {"train", "val", "test"}
        "test" exists only where the folder was split by hand.
    size : int or (int, int), optional
        As in `Folder`.
    """
    root = Path(root)
    if split not in ("train", "val", "test"):
        raise ValueError(f"no split is called {split!r}; there are train, val, test")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    classes = read_classes(root / "classes.txt")
    if (root / "train").is_dir():
        where = root / split
        return Folder(where / "images", where / "masks", classes, size=size)
    if split == "test":
        raise FileNotFoundError(f"{root} has no folder test; only train and val can be drawn")
    folder = Folder(root / "images", root / "masks", classes, size=size)
    ranked = sorted(range(len(folder)), key=lambda i: _hash(folder.images[i].stem))
    held_out = set(ranked[: max(1, round(SHARE_OF_VALIDATION * len(folder)))])
    if len(held_out) == len(folder):
        raise ValueError(f"{root / 'images'} holds one image; it takes two to train and validate")
    kept = [i for i in range(len(folder)) if (i in held_out) == (split == "val")]
    assert folder.masks is not None
    folder.images = [folder.images[i] for i in kept]
    folder.masks = [folder.masks[i] for i in kept]
    return folder


def read_classes(path: PathLike) -> list[str]:
    """Read class names, one per line; the first is class 0."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: expected a text file with one class name per line, class 0 first"
        )
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise ValueError(f"{path} has an empty line or no name; expected one class name per line")
    return names


def read_image(path: PathLike) -> Tensor:
    """Decode an image of any mode to RGB.

    Sixteen bits become eight by the full range: 65535 is white.

    Returns
    -------
    Tensor
        uint8, (3, H, W).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, no image, or of floating-point numbers.
    """
    picture = _decoded(path)
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"{path} holds {deep.min()} to {deep.max()}; expected 8 or 16 bits")
        pixels = np.repeat(((deep + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    elif picture.mode == "F":
        raise ValueError(f"{path} holds floating-point numbers; expected 8 or 16 bits")
    else:
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(path: PathLike, palette: dict[Color, int] | None = None) -> np.ndarray:
    """Decode a label map.

    Parameters
    ----------
    path : path
        A file with one channel, gray or palette, whose values are class ids.
    palette : dict, optional
        RGB color -> class id, for label maps that are color images.

    Returns
    -------
    numpy.ndarray
        int64, (H, W).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or a color image without a palette or with a color outside it.
    """
    picture = _decoded(path)
    if picture.mode in ("1", "L", "P") or picture.mode.startswith("I"):
        return np.asarray(picture).astype(np.int64)
    if palette is None:
        raise ValueError(
            f"{path} is a label map of mode {picture.mode}; expected one channel whose values are "
            f"class ids (modes L and P), or colors=[...] of the classes"
        )
    rgb = np.array(picture.convert("RGB")).astype(np.int64)
    codes = rgb @ np.array([65536, 256, 1])
    ids = np.full(codes.shape, -1, np.int64)
    for (red, green, blue), class_id in palette.items():
        ids[codes == 65536 * red + 256 * green + blue] = class_id
    if (ids < 0).any():
        row, column = np.argwhere(ids < 0)[0]
        color = tuple(rgb[row, column].tolist())
        raise ValueError(f"{path} holds the color {color}, which belongs to no class")
    return ids


def make_labels(classes: Sequence[str], colors: Sequence[Color] | None = None) -> Labels:
    """Give every class its id, the position, and a color.

    Parameters
    ----------
    classes : list of str
        At most 255 names.
    colors : list of (int, int, int), optional
        RGB, 0 to 255, one per class; one more at the end stands for ignored pixels.
    """
    if isinstance(classes, str) or not classes:
        raise ValueError(f"classes is {classes!r}; expected a list of names, class 0 first")
    if len(classes) > IGNORE:
        raise ValueError(f"{len(classes)} classes; expected at most {IGNORE}, ids 0 to 254")
    if colors is None:
        return Labels(tuple(classes), _spread(len(classes)))
    if len(colors) not in (len(classes), len(classes) + 1):
        raise ValueError(f"{len(colors)} colors for {len(classes)} classes; expected one each")
    triples = tuple((int(r), int(g), int(b)) for r, g, b in colors)
    return Labels(tuple(classes), triples[: len(classes)])


def image_size(path: PathLike) -> tuple[int, int]:
    """Return height and width of an image as `read_image` gives them; decodes nothing."""
    with _opened(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(0x0112, 1) >= 5  # orientation: a quarter turn
    return (width, height) if turned else (height, width)


def _opened(path: PathLike) -> Image.Image:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file")
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _decoded(path: PathLike) -> Image.Image:
    with _opened(path) as picture:
        try:
            picture.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        return ImageOps.exif_transpose(picture)


def _files(folder: PathLike) -> dict[str, Path]:
    """Map stem to file, sorted by name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path.name} differ in their extension alone")
        found[path.stem] = path
    if not found:
        raise FileNotFoundError(f"{folder} holds no image; expected files {' '.join(SUFFIXES)}")
    return found


def _partners(images: list[Path], masks: Path) -> list[Path]:
    files = _files(masks)
    for image in images:
        if image.stem not in files:
            raise FileNotFoundError(
                f"{image} has no label map: expected {masks / image.stem}.png (or another "
                f"extension, but the same name)"
            )
    return [files[image.stem] for image in images]


def _palette(colors: Sequence[Color], num_classes: int) -> dict[Color, int]:
    ids = [*range(num_classes), IGNORE]
    return {(int(r), int(g), int(b)): k for (r, g, b), k in zip(colors, ids, strict=False)}


def _spread(number: int) -> tuple[Color, ...]:
    """Colors for any number of classes: CamVid's, then turns of the color circle."""
    turns = [k * 0.618034 % 1 for k in range(number)]
    wheel = [_from_hue(turn, 0.9 - 0.35 * (k % 2)) for k, turn in enumerate(turns)]
    return (*CAMVID.colors, *wheel[len(CAMVID.colors) :])[:number]


def _from_hue(hue: float, value: float) -> Color:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, value))
    return red, green, blue


def _listed(names: Sequence[str]) -> str:
    shown = [f"{k} {name}" for k, name in enumerate(names)]
    return ", ".join(shown if len(shown) <= 25 else [*shown[:24], "...", shown[-1]])


def _hash(stem: str) -> bytes:
    return hashlib.sha256(stem.encode()).digest()
