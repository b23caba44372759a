"""Procedural street scenes: an endless data set that needs no download.

A scene is a list of things on flat ground, seen by a pinhole camera. Sizes follow perspective,
near things hide far ones, surfaces carry texture from scikit-image's bundled photographs, and
light, haze and sensor noise vary. Color alone does not give the class away: cars and clothes have
any color, buildings may be as gray as the road, the sky may be as gray as both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import skimage
from scipy import ndimage

from seglab.data.procedural import SPLITS, Procedural
from seglab.labels import LOOKALIKES, SCENES

SKY, BUILDING, ROAD, TREE, CAR, PERSON, WATER, BOAT = range(8)  # the last two: lookalikes

TEXTURE_SIDE = 512  # pixels


@cache
def _texture(name: str) -> np.ndarray:
    """A gray photograph as float32 (512, 512) with mean 0 and standard deviation 1."""
    photo = getattr(skimage.data, name)().astype(np.float32)
    photo -= ndimage.gaussian_filter(photo, 40, mode="wrap")  # even out its light
    return (photo / photo.std()).astype(np.float32)


@cache
def _clouds() -> np.ndarray:
    """Smooth noise, float32 (512, 512), mean 0 and standard deviation 1."""
    noise = np.random.default_rng(0).standard_normal((TEXTURE_SIDE, TEXTURE_SIDE))
    smooth = sum(
        sigma * ndimage.gaussian_filter(noise, (sigma / 2, sigma), mode="wrap")
        for sigma in (8, 16, 32)
    )
    return (smooth / smooth.std()).astype(np.float32)


@cache
def _noise() -> np.ndarray:
    """Independent normal numbers; drawing a stretch of them is faster than drawing new ones."""
    return np.random.default_rng(0).standard_normal(2**22, dtype=np.float32)


def _patch(texture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Texture values at the given rows and columns, which wrap around."""
    rows, columns = (axis.astype(np.int64) % TEXTURE_SIDE for axis in (rows, columns))
    return texture[rows[:, None], columns]


@dataclass
class Thing:
    """Something that stands on the ground.

    Attributes
    ----------
    label : int
        Class id.
    x, z : float
        Position in meters: to the right of the camera, away from it.
    width, height : float
        Size in meters.
    color : numpy.ndarray
        RGB, 0 to 1.
    offset : tuple of int
        Where its texture starts.
    speed : float
        Meters a second to the right; only a `sequence` moves things.
    """

    label: int
    x: float
    z: float
    width: float
    height: float
    color: np.ndarray
    offset: tuple[int, int]
    speed: float = 0.0


@dataclass
class Scene:
    """Everything that an image is rendered from.

    Attributes
    ----------
    things : list of Thing
        In any order; the renderer sorts by distance.
    horizon : float
        Row of the horizon as a share of the image height.
    camera_height : float
        Meters above the ground.
    focal : float
        Focal length as a share of the larger image side.
    vanishing : float
        Column of the vanishing point as a share of the image width.
    sky, ground : numpy.ndarray
        RGB, 0 to 1.
    light : numpy.ndarray
        Gain of each color channel.
    slope : tuple of float
        How much brighter the light gets from left to right and from top to bottom.
    haze : float
        Meters after which 63 % of a thing's color has turned into sky.
    noise : float
        Standard deviation of the sensor noise, 0 to 1.
    seed : int
        Seed of the noise and of the texture offsets of sky and ground.
    line : bool
        Whether a dashed line runs down the middle of the ground.
    lake : bool
        Whether the ground is water and what looks like a car is a boat.
    """

    things: list[Thing] = field(default_factory=list)
    horizon: float = 0.45
    camera_height: float = 2.0
    focal: float = 0.9
    vanishing: float = 0.5
    sky: np.ndarray = field(default_factory=lambda: np.array([0.6, 0.75, 0.9], np.float32))
    ground: np.ndarray = field(default_factory=lambda: np.array([0.4, 0.4, 0.42], np.float32))
    light: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))
    slope: tuple[float, float] = (0.0, 0.0)
    haze: float = 120.0
    noise: float = 0.02
    seed: int = 0
    line: bool = True
    lake: bool = False


def _color(rng: np.random.Generator, low: float, high: float, tint: float) -> np.ndarray:
    """A gray between low and high whose channels differ by up to tint."""
    gray = rng.uniform(low, high)
    return (gray + rng.uniform(-tint, tint, 3)).clip(0, 1).astype(np.float32)


def sample(rng: np.random.Generator) -> Scene:
    """Draw a random street scene."""
    overcast = rng.random() < 0.4
    sky = rng.uniform(0.55, 0.85) + (
        rng.uniform(-0.03, 0.05) * np.array([-1, 0, 1])
        if overcast
        else rng.uniform(0.08, 0.2) * np.array([-1.2, 0.0, 1.0])
    )
    scene = Scene(
        horizon=rng.uniform(0.42, 0.58),
        camera_height=rng.uniform(1.7, 3.0),
        focal=rng.uniform(0.75, 1.05),
        vanishing=rng.uniform(0.35, 0.65),
        sky=np.clip(sky, 0, 1).astype(np.float32),
        ground=_color(rng, 0.25, 0.55, 0.03),
        light=(rng.uniform(0.7, 1.15) * (1 + rng.uniform(-0.06, 0.06, 3))).astype(np.float32),
        slope=(rng.uniform(-0.2, 0.2), rng.uniform(-0.1, 0.1)),
        haze=rng.uniform(70, 250),
        noise=rng.uniform(0.01, 0.035),
        seed=int(rng.integers(2**31)),
    )
    road = rng.uniform(4.5, 7.0)  # half of its width
    for side in (-1, 1):
        scene.things += _roadside(rng, side, road)
    for _ in range(rng.integers(1, 4)):  # cars, on the road or parked at its edge
        z = rng.uniform(6, 26)
        color = _color(rng, 0.1, 0.8, 0.35)
        x = rng.uniform(-road, road) * 0.85
        width, height = rng.uniform(1.7, 4.3), rng.uniform(1.35, 1.9)
        scene.things.append(Thing(CAR, x, z, width, height, color, _offset(rng)))
    for _ in range(rng.integers(2, 7)):  # people, thin and at any distance
        z = rng.uniform(4, 20)
        x = rng.uniform(-road, road) * 1.1
        height = rng.uniform(1.5, 1.95)
        thing = Thing(PERSON, x, z, 0.3 * height, height, _color(rng, 0.1, 0.8, 0.3), _offset(rng))
        scene.things.append(thing)
    return scene


def sample_lookalike(rng: np.random.Generator, lake: bool, across: float = 1.0) -> Scene:
    """Draw a random street or lake in fog, which only its shore tells apart.

    Ground and vehicles have the same colors, textures and shapes in both. At one edge of the
    image stands the evidence: buildings along a street, trees around a lake. The vehicles are at
    the other end. The same `rng` gives the same scene but for what stands at that edge. In a wide
    image (64 x 192, say) the evidence is far away.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of everything else.
    lake : bool
        False for a street.
    across : float
        Width of the image as a share of its larger side, so that the shore is in the picture.
    """
    scene = sample(rng)
    scene.things, scene.line, scene.lake = [], False, lake
    side = rng.choice([-1, 1])

    def place(share: float, z: float) -> float:  # share 0: the shore's edge, 1: the other edge
        column = share if side < 0 else 1 - share
        return (column - scene.vanishing) * across * z / scene.focal

    for share, z in ((0.02, rng.uniform(14, 18)), (0.08, rng.uniform(19, 26))):
        width, height = rng.uniform(2.5, 4.5), rng.uniform(5, 11)
        shade, offset = rng.uniform(0.3, 0.5), _offset(rng)
        warm, green = np.array([1.12, 1.0, 0.86]), np.array([0.8, 1.15, 0.65])
        label, tint = (TREE, green) if lake else (BUILDING, warm)
        color = (shade * tint).astype(np.float32)
        scene.things.append(Thing(label, place(share, z), z, width, height, color, offset))
    for _ in range(rng.integers(2, 5)):
        z, share = rng.uniform(12, 28), rng.uniform(0.7, 1)
        width, height = rng.uniform(2.5, 4.3), rng.uniform(1.35, 1.9)
        color, offset = _color(rng, 0.1, 0.8, 0.35), _offset(rng)
        scene.things.append(Thing(CAR, place(share, z), z, width, height, color, offset))
    return scene


def _offset(rng: np.random.Generator) -> tuple[int, int]:
    return divmod(int(rng.integers(TEXTURE_SIDE**2)), TEXTURE_SIDE)


def _roadside(rng: np.random.Generator, side: int, road: float) -> Iterator[Thing]:
    """Buildings in a row, with gaps, and trees before them."""
    z = rng.uniform(9, 16)
    while z < 70:
        if rng.random() < 0.85:
            width, height = rng.uniform(7, 22), rng.uniform(5, 19)
            x = side * (road + rng.uniform(1.5, 4) + width / 2)
            warm = np.array([1.12, 1.0, 0.86]) if rng.random() < 0.5 else np.ones(3)
            color = np.clip(_color(rng, 0.3, 0.7, 0.04) * warm, 0, 1).astype(np.float32)
            yield Thing(BUILDING, x, z, width, height, color, _offset(rng))
        z *= rng.uniform(1.25, 1.8)
    for _ in range(rng.integers(0, 4)):
        height = rng.uniform(3, 8)
        x = side * (road + rng.uniform(-0.5, 2.5))
        green = np.array([0.8, 1.15, 0.65]) * rng.uniform(0.25, 0.5)
        z = rng.uniform(7, 40)
        color = green.astype(np.float32)
        yield Thing(TREE, x, z, rng.uniform(0.5, 0.8) * height, height, color, _offset(rng))


def render(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size : (int, int)
        Height and width of the image in pixels.

    Returns
    -------
    image : numpy.ndarray
        uint8, (H, W, 3).
    mask : numpy.ndarray
        uint8, (H, W), class ids of ``seglab.labels.SCENES``; of ``LOOKALIKES`` for a lake.
    """
    image, mask, _ = _render(scene, size)
    return image, mask


def _render(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw image and mask, and say whose each pixel is: its place in `scene.things`, or -1."""
    height, width = size
    rng = np.random.default_rng(scene.seed)
    image = np.empty((height, width, 3), np.float32)
    mask = np.empty((height, width), np.uint8)
    owner = np.full((height, width), -1, np.int16)
    horizon = scene.horizon * height
    _draw_sky(scene, image, mask, horizon, rng)
    _draw_ground(scene, image, mask, horizon, rng)
    scale = scene.focal * max(size)
    for place, thing in sorted(enumerate(scene.things), key=lambda pair: -pair[1].z):
        drawn = _draw_thing(scene, thing, image, mask, horizon, scale)
        if drawn is not None:
            rows, columns, shape = drawn
            np.copyto(owner[rows, columns], np.int16(place), where=shape)
    if scene.lake:
        mask[mask == ROAD], mask[mask == CAR] = WATER, BOAT
    _expose(scene, image, rng)
    return (image * 255 + 0.5).astype(np.uint8), mask, owner


def _draw_sky(scene, image, mask, horizon, rng):
    """A gradient that brightens toward the horizon, with clouds."""
    height, width, _ = image.shape
    rows = min(height, int(horizon) + 1)
    row, column = _offset(rng)
    step = 160 / max(height, width)
    clouds = _patch(_clouds(), row + np.arange(rows) * step, column + np.arange(width) * step)
    pale = 0.12 * np.linspace(0, 1, rows, dtype=np.float32)[:, None] + 0.04 * clouds
    image[:rows] = scene.sky + pale[..., None]
    mask[:rows] = SKY


def _draw_ground(scene, image, mask, horizon, rng):
    """Asphalt whose texture shrinks with distance, and a dashed line down the middle."""
    height, width, _ = image.shape
    first = min(height, int(horizon) + 1)
    below = (np.arange(first, height, dtype=np.float32) + 0.5 - horizon)[:, None]  # pixels
    depth = below / (height - horizon)  # 0 far, 1 near
    row, column = _offset(rng)
    rows = row + 60 / (depth[:, 0] + 0.15)
    columns = column + np.arange(width) * (200 / width)
    shade = _patch(_texture("gravel"), rows, columns) * (0.05 * depth)
    shade -= 0.08 * (1 - depth) ** 2  # darker far away
    z = scene.focal * max(height, width) * scene.camera_height / below  # meters
    dash = (z + row) % 6 < 3
    right = np.abs(np.arange(width, dtype=np.float32) - scene.vanishing * width)
    line = scene.line & (right < 0.08 * below / scene.camera_height) & dash  # 16 cm wide
    image[first:] = scene.ground + np.where(line, np.float32(0.25), shade)[..., None]
    mask[first:] = ROAD


def _draw_thing(scene, thing, image, mask, horizon, scale):
    """Project one thing, cut out its shape, color and shade it; return where, if in view."""
    height, width, _ = image.shape
    meter = scale / thing.z  # pixels
    foot = horizon + scene.camera_height * meter
    center = scene.vanishing * width + thing.x * meter
    top, left = foot - thing.height * meter, center - thing.width * meter / 2
    rows = slice(max(0, round(top)), min(height, max(round(foot), round(top) + 1)))
    columns = slice(
        max(0, round(left)),
        min(width, max(round(left + thing.width * meter), round(left) + 1)),
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    # v runs down from 0 at the top to 1 at the foot, u to the right from -1 to 1.
    v = ((np.arange(rows.start, rows.stop) + 0.5 - top) / (foot - top)).astype(np.float32)
    u = (np.arange(columns.start, columns.stop) + 0.5 - center) / (thing.width * meter / 2)
    u = u.astype(np.float32)
    shape, shade = _SHAPES[thing.label](thing, u, v)
    near = np.float32(np.exp(-thing.z / scene.haze))
    color = thing.color * near + (scene.sky + 0.1) * (1 - near)
    if thing.label in (CAR, PERSON):
        _draw_shadow(image, mask, rows.stop, columns)
    painted = color * (1 + near * shade[..., None])
    np.copyto(image[rows, columns], painted, where=shape[..., None])
    np.copyto(mask[rows, columns], np.uint8(thing.label), where=shape)
    return rows, columns, shape


def _draw_shadow(image, mask, foot, columns):
    """Darken the road under a thing; the road stays road."""
    depth = max(1, (columns.stop - columns.start) // 8)
    rows = slice(max(0, foot - depth), foot + depth)
    on_road = mask[rows, columns] == ROAD
    image[rows, columns] *= np.where(on_road, np.float32(0.6), np.float32(1))[..., None]


def _building(thing, u, v):
    """A facade of brick with a grid of windows."""
    row, column = thing.offset
    meters_up, meters_right = (1 - v) * thing.height, (u + 1) * thing.width / 2
    shade = 0.10 * _patch(_texture("brick"), row + 40 * meters_up, column + 40 * meters_right)
    floor, bay = meters_up % 3.0, meters_right % (2.2 + row % 3 * 0.6)
    window = ((floor > 1.0) & (floor < 2.3))[:, None] & ((bay > 0.6) & (bay < 1.6))
    lit = np.float32(0.45 if column % 4 == 0 else -0.5)
    return np.ones(shade.shape, bool), np.where(window, lit, shade)


def _tree(thing, u, v):
    """A trunk and a ragged crown."""
    row, column = thing.offset
    leaves = _patch(_texture("grass"), row + 90 * v, column + 60 * u)
    ragged = _patch(_clouds(), row + 60 * v, column + 40 * u)
    crown = u**2 + ((v[:, None] - 0.38) / 0.38) ** 2 + 0.22 * ragged + 0.08 * leaves < 0.95
    trunk = (v > 0.6)[:, None] & (np.abs(u) < 0.1)
    shade = np.where(crown, 0.22 * leaves, np.float32(-0.35))
    return crown | trunk, shade - 0.25 * v[:, None]


def _car(thing, u, v):
    """A body, a cabin with windows, wheels."""
    v = v[:, None]
    cabin = (v < 0.45) & (np.abs(u) < 0.45 + 0.5 * v)
    body = (v >= 0.4) & (v < 0.86) & (np.abs(u) < 1 - 0.3 * (0.9 - v) ** 2)
    wheels = (v >= 0.8) & (np.abs(np.abs(u) - 0.62) < 0.2)
    glass = (v > 0.08) & (v < 0.38) & (np.abs(u) < 0.35 + 0.5 * v)
    shade = np.where(glass, np.float32(-0.6), 0.25 - 0.4 * v)
    shade = np.where(wheels & (v > 0.8), np.float32(-0.8), shade)
    return cabin | body | wheels, shade


def _person(thing, u, v):
    """A head, a body, two legs."""
    v = v[:, None]
    head = (u / 0.42) ** 2 + ((v - 0.08) / 0.08) ** 2 < 1
    body = (v > 0.14) & (v < 0.56) & (np.abs(u) < 0.95 - 0.5 * np.abs(v - 0.35))
    legs = (v >= 0.55) & (np.abs(np.abs(u) - 0.35) < 0.3)
    shade = np.where(v < 0.15, np.float32(0.35), np.where(v > 0.55, np.float32(-0.45), 0.0))
    return head | body | legs, shade + 0.12 * u


_SHAPES = {BUILDING: _building, TREE: _tree, CAR: _car, PERSON: _person}


def _expose(scene, image, rng):
    """Apply light, the lens's blur and sensor noise, in place; the result is in [0, 1]."""
    height, width, _ = image.shape
    across = 1 + scene.slope[0] * np.linspace(-1, 1, width, dtype=np.float32)
    down = 1 + scene.slope[1] * np.linspace(-1, 1, height, dtype=np.float32)
    image *= (across * down[:, None])[..., None] * scene.light
    image[1:-1] = 0.25 * (image[:-2] + image[2:]) + 0.5 * image[1:-1]
    image[:, 1:-1] = 0.25 * (image[:, :-2] + image[:, 2:]) + 0.5 * image[:, 1:-1]
    start = rng.integers(_noise().size // 2)
    image += scene.noise * np.resize(_noise()[start : start + image.size], image.shape)
    np.clip(image, 0, 1, out=image)


@dataclass(frozen=True)
class MovingScene:
    """A short film, and what is true of it.

    Attributes
    ----------
    frames : numpy.ndarray
        uint8, (T, H, W, 3).
    masks : numpy.ndarray
        uint8, (T, H, W), class ids of ``seglab.labels.SCENES``.
    moving : numpy.ndarray
        bool, (T, H, W): the pixel shows something that moves through the world. A parked car does
        not, whatever the camera does, and neither does a shadow.
    flow : numpy.ndarray
        float32, (T-1, H, W, 2): by how many rows and columns what the pixel shows is displaced in
        the next frame, where it may be hidden or out of view.
    camera : numpy.ndarray
        int64, (T, 2): rows and columns by which the view has moved since the first frame.
    """

    frames: np.ndarray
    masks: np.ndarray
    moving: np.ndarray
    flow: np.ndarray
    camera: np.ndarray


def sequence(
    seed: int = 0,
    *,
    frames: int = 32,
    size: int | tuple[int, int] = 96,
    cars: int = 2,
    people: int = 3,
    pan: int = 0,
    shake: int = 0,
    light: float = 0.0,
    rate: float = 12.0,
) -> MovingScene:
    """Film a street that cars and people cross; parked cars stay where they are.

    Parameters
    ----------
    seed : int
        Another seed is another street.
    frames : int
        Number of frames, T.
    size : int or (int, int)
        Side, or height and width, in pixels.
    cars, people : int
        How many of each cross the view. They may hide each other.
    pan : int
        Pixels to the right by which the camera's view moves from frame to frame.
    shake : int
        Largest distance in pixels, up, down and to the sides, by which the camera trembles.
    light : float
        Share by which the light swells and fades in the course of the film, 0.1 for 10 %.
    rate : float
        Frames a second.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    sides = _sides(size)
    if frames < 1:
        raise ValueError(f"frames is {frames}; expected at least 1")
    for name, value in {"cars": cars, "people": people, "shake": shake, "light": light}.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}; expected a number from 0")
    if not rate > 0:
        raise ValueError(f"rate is {rate}; expected a positive number of frames a second")
    rng = np.random.default_rng([seed, len(SPLITS)])  # a street of no split
    scene = sample(rng)
    scene.things = [thing for thing in scene.things if thing.label != PERSON]
    for label in [CAR] * cars + [PERSON] * people:
        scene.things.append(_crossing(rng, label, scene, frames / rate))
    camera = np.arange(frames)[:, None] * np.array([0, pan])
    camera[1:] += rng.integers(-shake, shake + 1, (frames - 1, 2))
    wide, canvas, corners = _widen(scene, sides, camera)

    images, masks, owners = [], [], []
    for t, (row, column) in enumerate(corners):
        things = [replace(thing, x=thing.x + thing.speed * t / rate) for thing in wide.things]
        drawn = _render(replace(wide, things=things), canvas)
        view = slice(row, row + sides[0]), slice(column, column + sides[1])
        image, mask, owner = (part[view] for part in drawn)
        swell = 1 + light * np.sin(2 * np.pi * t / frames)
        grain = 255 * scene.noise * rng.standard_normal(image.shape)
        images.append(np.clip(swell * image + grain + 0.5, 0, 255).astype(np.uint8))
        masks.append(mask)
        owners.append(owner)

    scale = scene.focal * max(sides)
    speeds = [thing.speed / rate * scale / thing.z for thing in scene.things]  # columns a frame
    across = np.array([*speeds, 0.0], np.float32)[np.stack(owners)]  # owner -1: the last one
    flow = np.stack([np.zeros_like(across), across], axis=-1)[:-1]
    flow -= np.diff(camera, axis=0)[:, None, None]
    return MovingScene(np.stack(images), np.stack(masks), across != 0, flow, camera)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width, of which a street needs at least 8 pixels."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 8:
        raise ValueError(f"size is {size!r}; expected a side or (height, width) from 8 pixels")
    return sides


def _crossing(rng, label, scene, seconds):
    """Draw a car or a person that crosses the view and is well inside at some moment."""
    if label == CAR:
        z, speed = rng.uniform(7, 16), rng.uniform(3, 7)
        width, height = rng.uniform(3.2, 4.3), rng.uniform(1.35, 1.9)
        color = _color(rng, 0.1, 0.8, 0.35)
    else:
        z, speed = rng.uniform(5, 13), rng.uniform(0.9, 1.8)
        height = rng.uniform(1.5, 1.95)
        width, color = 0.3 * height, _color(rng, 0.1, 0.8, 0.3)
    speed *= rng.choice([-1, 1])
    share = rng.uniform(0.2, 0.8)  # of the view's width, and of the film
    x = (share - scene.vanishing) * z / scene.focal - speed * rng.uniform(0.2, 0.8) * seconds
    return Thing(label, x, z, width, height, color, _offset(rng), float(speed))


def _widen(scene, size, camera):
    """Return the scene on a canvas that holds all that the camera will see, without noise.

    Besides, the size of the canvas and the upper left corner of every frame in it.
    """
    corners = camera - camera.min(axis=0)
    canvas = tuple(int(side) for side in size + corners.max(axis=0))
    row, column = corners[0]
    wide = replace(
        scene,
        noise=0.0,
        focal=scene.focal * max(size) / max(canvas),
        horizon=(scene.horizon * size[0] + row) / canvas[0],
        vanishing=(scene.vanishing * size[1] + column) / canvas[1],
    )
    return wide, canvas, corners


def void_band(mask: np.ndarray, width: int, ignore_index: int = 255) -> np.ndarray:
    """Set pixels within `width` pixels of another class (a square around them) to ignore."""
    side = 2 * width + 1
    border = ndimage.maximum_filter(mask, side) != ndimage.minimum_filter(mask, side)
    return np.where(border, np.uint8(ignore_index), mask)


class Scenes(Procedural):
    """Street scenes drawn by seed: the same arguments always give the same images.

    Parameters
    ----------
    split : {"train", "val", "test"}
        The splits share no image.
    size : int or (int, int)
        Side, or height and width, in pixels.
    length : int, optional
        Number of images; 256 for train, 64 for val and test.
    seed : int
        Another seed is another data set.
    void : int
        Width in pixels of a band of ignored pixels along class boundaries, as annotators leave.
    lookalikes : bool
        Draw streets and lakes in fog instead, with two more classes, water and boat, that look
        like road and car: only what stands at the edge of the image, far away from most pixels,
        tells them apart.

    Items: image float32 (3, H, W) in [0, 1], mask int64 (H, W) with class ids 0 to 5 (or 7), 255 =
    ignore.
    """

    labels = SCENES

    def __init__(
        self,
        split: str,
        *,
        size: int | tuple[int, int] | None = None,
        length: int | None = None,
        seed: int = 0,
        void: int = 0,
        lookalikes: bool = False,
    ):
        sides = _sides(96 if size is None else size)
        super().__init__(split, size=sides, length=length, seed=seed)
        if void < 0:
            raise ValueError(f"void is {void}; expected a width from 0 pixels")
        self.void, self.lookalikes = void, lookalikes
        if lookalikes:
            self.labels = LOOKALIKES

    def scene(self, index: int) -> Scene:
        """Return what image `index` is rendered from."""
        rng = self.generator(index)
        if self.lookalikes:
            return sample_lookalike(rng, rng.random() < 0.5, self.size[1] / max(self.size))
        return sample(rng)

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image (H, W, 3) and mask (H, W), both uint8."""
        image, mask = render(self.scene(index), self.size)
        return image, void_band(mask, self.void) if self.void else mask
