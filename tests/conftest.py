import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

DATA = Path(os.environ.get("SEGLAB_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"real data: no folder {name} in {DATA} (set SEGLAB_DATA)")
    return DATA / name


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """The real CamVid, where this machine has it."""
    return _real("camvid")


@pytest.fixture(scope="session")
def isbi_root() -> Path:
    """The real ISBI 2012 sections, where this machine has them."""
    return _real("isbi2012")


@pytest.fixture(scope="session")
def painted_colors() -> torch.Tensor:
    """One gray-free color per class id 0 to 4, far apart from each other and from black."""
    colors = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 250, 250)]
    return torch.tensor(colors, dtype=torch.uint8)


@pytest.fixture(scope="session")
def painted(painted_colors) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose colors are its label map: class k is painted in color k."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 5, (4, 6)))
    mask = coarse.repeat_interleave(16, 0).repeat_interleave(16, 1)
    return painted_colors[mask].permute(2, 0, 1).contiguous(), mask


@pytest.fixture
def own_folder(tmp_path) -> Path:
    """A small data set as a user brings it: images/, masks/, classes.txt."""
    root = tmp_path / "own"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "classes.txt").write_text("ground\nblob\n")
    rng = np.random.default_rng(0)
    for number in range(10):
        mask = np.zeros((64, 80), np.uint8)
        top, left = rng.integers(0, 40, 2)
        mask[top : top + 24, left : left + 24] = 1
        mask[0] = 255
        image = (60 + 120 * (mask == 1)[..., None] + rng.integers(0, 40, (64, 80, 3))).astype(
            np.uint8
        )
        Image.fromarray(image).save(root / "images" / f"photo{number}.jpg", quality=95)
        Image.fromarray(mask).save(root / "masks" / f"photo{number}.png")
    return root
