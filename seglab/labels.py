"""Class names and colors: what the numbers of a label map mean."""

from dataclasses import dataclass

import numpy as np

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """Names and colors of the classes of a data set; the class id is the position.

    Attributes
    ----------
    names : tuple of str
        One name per class.
    colors : tuple of (int, int, int)
        One RGB color per class, each channel 0 to 255.
    ignore_index : int
        Label of pixels that count neither in a loss nor in a metric.
    ignore_color : (int, int, int)
        How such pixels are painted.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore_index: int = 255
    ignore_color: Color = (140, 140, 140)

    def __post_init__(self):
        if len(self.names) != len(self.colors):
            raise ValueError(f"{len(self.names)} names but {len(self.colors)} colors")

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.names)

    def colorize(self, mask) -> np.ndarray:
        """Paint a label map.

        Parameters
        ----------
        mask : array or tensor of integers, (H, W)
            Class ids 0 to K-1, or ``ignore_index``.

        Returns
        -------
        numpy.ndarray
            uint8, (H, W, 3).

        Raises
        ------
        ValueError
            If a pixel holds any other number.
        """
        ids = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)  # a tensor on any device
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise ValueError(f"expected an integer label map (H, W), got {ids.dtype} {ids.shape}")
        valid = ids != self.ignore_index
        strange = np.setdiff1d(np.unique(ids[valid]), np.arange(self.num_classes))
        if strange.size:
            raise ValueError(
                f"label map holds {strange.tolist()}; expected class ids 0 to "
                f"{self.num_classes - 1} or {self.ignore_index} (ignore)"
            )
        palette = np.array([*self.colors, self.ignore_color], dtype=np.uint8)
        return palette[np.where(valid, ids, self.num_classes)]


# Colors differ in lightness as well as in hue, so that they survive color-blind eyes and print.
SCENES = Labels(
    names=("sky", "building", "road", "tree", "car", "person"),
    colors=(
        (150, 205, 240),
        (125, 70, 45),
        (95, 95, 110),
        (70, 165, 85),
        (35, 70, 200),
        (240, 150, 20),
    ),
)

# Streets and lakes in fog: water looks like road, a boat like a car.
LOOKALIKES = Labels(
    names=(*SCENES.names, "water", "boat"),
    colors=(*SCENES.colors, (40, 150, 160), (225, 60, 120)),
)

CAMVID = Labels(
    names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    colors=(
        (150, 205, 240),
        (140, 85, 60),
        (250, 230, 110),
        (95, 95, 110),
        (205, 150, 175),
        (60, 150, 75),
        (200, 40, 50),
        (170, 160, 60),
        (35, 70, 200),
        (240, 150, 20),
        (20, 190, 190),
    ),
)

CELLS = Labels(
    names=("cell", "membrane"),
    colors=((225, 215, 190), (170, 60, 40)),
)

LESIONS = Labels(
    names=("tissue", "lesion"),
    colors=((225, 215, 190), (170, 60, 40)),
)
