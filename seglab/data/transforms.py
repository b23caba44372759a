"""Change an image and its label map together, so that every pixel keeps its label.

A transform takes ``image, mask`` and returns both. An image, (3, H, W), is uint8 or float in
[0, 1] and is interpolated bilinearly; a label map, (H, W), takes the nearest pixel, because the
average of two class ids is a third class. The data loader wraps both in torchvision's tv_tensors,
so that any transform of ``torchvision.transforms.v2`` fits wherever these do.
"""

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

Pair = tuple[Tensor, Tensor]
Size = int | tuple[int, int]

PADDING = 0  # of images: black
IGNORE = 255  # of label maps


def height_and_width(size: Size) -> tuple[int, int]:
    """Return (height, width); one number is the side of a square.

    Raises
    ------
    ValueError
        If `size` is neither, or smaller than one pixel.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(not isinstance(side, int) or side < 1 for side in pair):
        raise ValueError(f"size is {size!r}; expected a side or (height, width) in pixels")
    return pair


def resize_image(image: Tensor, size: Size) -> Tensor:
    """Resize (3, H, W) bilinearly, with antialiasing; uint8 stays uint8."""
    return functional.resize(image, list(height_and_width(size)), antialias=True)


def resize_mask(mask: Tensor, size: Size) -> Tensor:
    """Resize (H, W) by the nearest pixel, measured between pixel centers as in `resize_image`.

    Torch's mode "nearest" measures from pixel corners, which moves a label map that shrinks by n
    up and to the left by (n - 1) / 2 pixels; "nearest-exact" does not.
    """
    exact = InterpolationMode.NEAREST_EXACT
    return functional.resize(mask[None], list(height_and_width(size)), interpolation=exact)[0]


def resize(image: Tensor, mask: Tensor, size: Size) -> Pair:
    """Bring image and label map to one size, whatever the aspect ratio.

    Parameters
    ----------
    image : Tensor
        (3, H, W), uint8 or float.
    mask : Tensor
        (H, W), integer.
    size : int or (int, int)
        New height and width in pixels.
    """
    return resize_image(image, size), resize_mask(mask, size)


def rescale(image: Tensor, mask: Tensor, factor: float) -> Pair:
    """Enlarge (factor above 1) or shrink both; the aspect ratio stays."""
    height, width = mask.shape
    return resize(image, mask, (max(1, round(height * factor)), max(1, round(width * factor))))


def horizontal_flip(image: Tensor, mask: Tensor) -> Pair:
    """Mirror both, left to right."""
    return functional.horizontal_flip(image), functional.horizontal_flip(mask)


def crop(image: Tensor, mask: Tensor, top: int, left: int, size: Size) -> Pair:
    """Cut the same window out of both; where it leaves the image, pad with black and ignore.

    Parameters
    ----------
    image : Tensor
        (3, H, W).
    mask : Tensor
        (H, W).
    top, left : int
        Row and column of the window's first pixel; may be negative.
    size : int or (int, int)
        Height and width of the window.
    """
    window = (top, left, *height_and_width(size))
    return _window(image, window, PADDING), _window(mask, window, IGNORE)


def color_jitter(image: Tensor, mask: Tensor, strength: float = 0.3) -> Pair:
    """Change brightness, contrast and saturation of the image by up to `strength` each.

    The label map stays as it is: a darker road is still road.
    """
    return v2.ColorJitter(strength, strength, strength)(image), mask


class Augment(nn.Module):
    """Random scale, crop, flip and color: what `train` returns.

    Scaling an image by s and then cutting out h x w pixels is the same as cutting out
    (h/s) x (w/s) pixels and resizing these, which never computes a pixel that is thrown away.
    """

    def __init__(self, size: Size, scale: tuple[float, float], flip: bool, color: bool):
        super().__init__()
        low, high = scale
        if not 0 < low <= high:
            raise ValueError(f"scale is {scale}; expected (smallest, largest), both above 0")
        self.size, self.scale = height_and_width(size), (float(low), float(high))
        self.flip, self.color = flip, color

    def forward(self, image: Tensor, mask: Tensor) -> Pair:
        """(3, H, W), (H, W) -> (3, h, w), (h, w) with `size` = (h, w)."""
        factor = float(torch.empty(()).uniform_(*self.scale))
        height, width = (max(1, round(side / factor)) for side in self.size)
        top = _anywhere(mask.shape[-2] - height)
        left = _anywhere(mask.shape[-1] - width)
        image, mask = crop(image, mask, top, left, (height, width))
        image, mask = resize(image, mask, self.size)
        if self.flip and torch.rand(()) < 0.5:
            image, mask = horizontal_flip(image, mask)
        if self.color:
            image, mask = color_jitter(image, mask)
        return image, mask


def train(
    size: Size,
    *,
    scale: tuple[float, float] = (0.5, 2.0),
    flip: bool = True,
    color: bool = True,
) -> Augment:
    """Return the random transform that networks are trained with.

    Its randomness is torch's: ``torch.manual_seed`` repeats it.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the result, whatever the size of the input.
    scale : (float, float)
        Smallest and largest enlargement, drawn uniformly. Below 1 the window may be larger than
        the image: the rest is black and ignored.
    flip : bool
        Mirror every second image.
    color : bool
        Change brightness, contrast and saturation.

    Returns
    -------
    Augment
        (image, mask) -> (image, mask).
    """
    return Augment(size, scale, flip, color)


def _anywhere(room: int) -> int:
    """Draw the start of a window; `room` is what it leaves free, negative if it sticks out."""
    return int(torch.randint(min(0, room), max(0, room) + 1, ()))


def _window(tensor: Tensor, window: tuple[int, int, int, int], fill: int) -> Tensor:
    top, left, height, width = window
    rows = slice(max(0, top), max(0, top + height))
    columns = slice(max(0, left), max(0, left + width))
    inside = tensor[..., rows, columns]
    h, w = inside.shape[-2:]
    if (h, w) == (height, width):
        return inside
    padded = tensor.new_full((*tensor.shape[:-2], height, width), fill)
    y, x = max(0, -top), max(0, -left)
    padded[..., y : y + h, x : x + w] = inside
    return padded
