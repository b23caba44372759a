"""How much of an image one unit of a network sees: what can reach it, and what does.

`theoretical` runs the live model once on the meta device (shapes without numbers) and watches
every operation of torch: for each number of each feature map it keeps the first and the last
column of the image that it depends on. No table of layers is needed, so any model will do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from seglab.models.running import device_of, mode
from seglab.tracing import run_on_meta, tensors

_HEIGHT = 256  # pixels; columns alone are followed, so the images may be low
_WIDTHS = (2048, 4096, 16384)  # wide, so that the border does not cut the fields in the middle
_NOTHING = -math.inf  # depends on no pixel


@dataclass(frozen=True)
class ReceptiveField:
    """Which pixels the units of a feature map see along one axis.

    Unit ``i`` sees the pixels from ``offset + i stride - (size - 1) / 2`` to
    ``offset + i stride + (size - 1) / 2``; pixel 0 is the first of the image.

    Attributes
    ----------
    size : float
        Pixels from the first to the last that a unit sees, holes between them included; infinite
        if every unit sees the whole image, however large it is.
    stride : float
        Pixels from one unit to the next; NaN if the size is infinite.
    offset : float
        Center of what unit 0 sees, as if the image went on beyond its border; NaN if the size is
        infinite.
    """

    size: float
    stride: float
    offset: float


def theoretical(
    model: nn.Module, *, module: str | None = None, channels: int = 3
) -> ReceptiveField:
    """Find out how much of the image a unit can see.

    Exact for convolutions, transposed convolutions and poolings with any stride, padding and
    dilation, for interpolation, and for what moves, joins or cuts maps. Where several paths lead
    to a unit, the field reaches from the first to the last pixel of all of them. Where units
    differ, as behind an upsampling, the size is the largest; the centers lie on a line on
    average. Adaptive pooling sees the whole image. The statistics of layer and group
    normalization, which come from the whole map, do not count.

    Parameters
    ----------
    model : torch.nn.Module
        Takes images (N, channels, H, W); its weights do not matter, nor whether it trains.
    module : str, optional
        Name of the module whose output counts, as in ``model.named_modules()``; "" for the
        model's own output. By default the score map: the last map before the enlargements
        (interpolation, transposed convolution) and crops that end the network; for a network
        that ends otherwise, as U-Net and SegNet do, its output.
    channels : int
        Channels of the images.

    Returns
    -------
    ReceptiveField
        Of a unit far from the border.

    Raises
    ------
    ValueError
        If there is no such module or it did not run, if the model uses an operation that cannot
        be followed, or if the field is larger than 8,192 pixels but not the whole image.
    """
    whole = 0
    for width in _WIDTHS:
        first, last, width = _seen(model, module, channels, width)
        if (last == math.inf).any():
            return ReceptiveField(math.inf, math.nan, math.nan)
        size = (last - first).max() + 1
        if 2 * size <= width:
            # a unit that the left border cuts ends before pixel `size - 1`, and so on the right
            inner = ((last >= size - 1) & (first <= width - size)).nonzero()[:, 0]
            return _summary(first, last, inner)
        whole += bool(((first == 0) & (last == width - 1)).all())
        if whole == 2:  # even the units at the border, in a wide image and in a wider one
            return ReceptiveField(math.inf, math.nan, math.nan)
    raise ValueError(f"the receptive field is larger than {_WIDTHS[-1] // 2:,} pixels")


def effective(
    model: nn.Module, images: Tensor | None = None, *, module: str | None = None
) -> Tensor:
    """Measure how much each pixel of the image moves the central unit.

    The absolute gradient of the central unit's largest channel with respect to the image, summed
    over the image's channels, averaged over images, divided by its maximum. Luo et al.,
    "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016.

    Parameters
    ----------
    model : torch.nn.Module
        Takes images (N, C, H, W); runs in evaluation mode on its own device.
    images : Tensor, (N, C, H, W), optional
        By default eight images of 256 x 256 pixels of uniform noise in [0, 1], the same each time.
    module : str, optional
        As for `theoretical`.

    Returns
    -------
    Tensor
        (H, W) in [0, 1], on the CPU.

    Raises
    ------
    ValueError
        If there is no such module or it did not run, if its output is not (N, C, H, W), or if no
        gradient reaches the image.
    """
    if images is None:
        images = torch.rand(8, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    images = images.to(device_of(model)).clone().requires_grad_()
    with mode(model, training=False), torch.enable_grad():
        features = _features(model, module, lambda: model(images))
        if features.ndim != 4:
            raise ValueError(f"expected a map (N, C, H, W), got shape {tuple(features.shape)}")
        row, column = (side // 2 for side in features.shape[-2:])
        unit = features[:, :, row, column].amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(unit, images)
    found = gradient.abs().sum(dim=1).mean(dim=0).cpu()  # (H, W)
    if not found.max() > 0:
        raise ValueError("no gradient reaches the image: the central unit does not depend on it")
    return found / found.max()


def _seen(
    model: nn.Module, module: str | None, channels: int, width: int
) -> tuple[Tensor, Tensor, int]:
    """First and last column that each column of units sees, and the width of the image."""
    fitting: Callable[[int], int] = getattr(model, "fitting_size", int)
    width = fitting(width)
    watch = _Watch()
    with torch.inference_mode():
        features = _features(
            model,
            module,
            lambda: run_on_meta(model, (channels, fitting(_HEIGHT), width), watch.start, watch),
        )
    reach = watch.reaches.get(id(features))
    if reach is None:
        raise ValueError("the result does not depend on the image")
    axes = (0, 1, 2) if features.ndim == 4 else tuple(range(features.ndim))
    first, last = -reach[0].amax(axes).reshape(-1), reach[1].amax(axes).reshape(-1)
    return first, last, width


def _summary(first: Tensor, last: Tensor, inner: Tensor) -> ReceptiveField:
    """Size, stride and offset of the units that the border does not cut."""
    centers = ((first + last) / 2)[inner].double()
    size = float((last - first)[inner].max()) + 1
    for period in range(1, centers.numel()):  # behind an upsampling every so many units repeat
        steps = centers[period:] - centers[:-period]
        if (steps == steps[0]).all():
            stride = float(steps[0]) / period
            break
    else:
        raise ValueError("the units' receptive fields follow no rule")
    offset = (centers - stride * inner.double())[:period].mean()
    return ReceptiveField(size, stride, float(offset))


def _features(model: nn.Module, module: str | None, run: Callable[[], Any]) -> Tensor:
    """Run, and return the output of a module, or the map before the last enlargement."""
    if module is None:
        with _Enlargements() as enlargements:
            result = run()
        found = result.get("out", result) if isinstance(result, dict) else result
        return enlargements.before(next(tensors(found)))
    modules = dict(model.named_modules())
    if module not in modules:
        raise ValueError(f"no module {module!r}; the model has {', '.join(list(modules)[1:])}")
    seen: list[Tensor] = []
    hook = modules[module].register_forward_hook(lambda *call: seen.extend(tensors(call[2])))
    try:
        run()
    finally:
        hook.remove()
    if not seen:
        raise ValueError(f"module {module!r} did not run")
    return seen[0]


class _Enlargements(TorchFunctionMode):
    """Remembers from which map each enlarged or cropped map was made."""

    _NAMES = ("interpolate", "conv_transpose2d", "__getitem__")

    def __init__(self):
        super().__init__()
        self.made: dict[int, tuple[Tensor, Tensor]] = {}  # keeps both alive: ids stay unique

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in self._NAMES and isinstance(result, Tensor):
            self.made[id(result)] = result, next(tensors((args, kwargs)))
        return result

    def before(self, result: Tensor) -> Tensor:
        while id(result) in self.made:
            result = self.made[id(result)][1]
        return result


# What torch's operations do to the columns that a number depends on. A map's columns are two
# tensors of its own shape: minus the first column, and the last. Where numbers meet, both take the
# largest, so that every rule is written once, in maxima. Along axes where nothing varies (channels,
# mostly) these tensors are expanded, and cost nothing.


class _Watch(TorchDispatchMode):
    """Follows the columns of the image through every operation."""

    def __init__(self):
        super().__init__()
        self.reaches: dict[int, tuple[Tensor, Tensor]] = {}  # id of a tensor -> its columns
        self.alive: list[Tensor] = []  # an id stays unique while its tensor lives

    def start(self, images: Tensor) -> None:
        columns = torch.arange(images.shape[-1], dtype=torch.float)
        self._note(images, (-columns).expand(images.shape), columns.expand(images.shape))

    def _note(self, tensor: Tensor, first: Tensor, last: Tensor) -> None:
        self.reaches[id(tensor)] = first, last
        self.alive.append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1].rstrip("_")
        if name not in _RULES and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        made = list(tensors(result))
        given = [tensor for tensor in tensors((args, kwargs)) if id(tensor) in self.reaches]
        if given and made:
            rule = _rule(func, name)
            if rule is None:
                raise ValueError(f"cannot follow pixels through torch's operation {name!r}")
            if len(given) > 1 and made[0] is args[0] and _is_part(made[0]):
                raise ValueError(f"cannot follow pixels that {name!r} writes into part of a map")
            names = [argument.name for argument in func._schema.arguments]
            call = {**dict(zip(names, args, strict=False)), **kwargs}
            sides = [rule(func, self._columns(call, side), made[0].shape) for side in (0, 1)]
            several = isinstance(sides[0], (list, tuple))
            for k, tensor in enumerate(made):
                if several or tensor.shape == made[0].shape:
                    reach = (side[k] if several else side for side in sides)
                    self._note(tensor, *(part.expand(tensor.shape) for part in reach))
        return result

    def _columns(self, value: Any, side: int) -> Any:
        """Replace every tensor by its columns."""
        if isinstance(value, Tensor):
            nothing = torch.tensor(_NOTHING).expand(value.shape)
            return self.reaches.get(id(value), (nothing, nothing))[side]
        if isinstance(value, dict):
            return {key: self._columns(part, side) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._columns(part, side) for part in value]
        return value


def _rule(func: Any, name: str) -> Any:
    """Return the rule of an operation, by its name or by what its schema tells."""
    if name in _RULES:
        return _RULES[name]
    if name.startswith("new_") or name.endswith("_like"):
        return _nothing
    alias = func._schema.returns[0].alias_info
    if alias is not None and not alias.is_write:
        return _move
    return _meet if torch.Tag.pointwise in func.tags else None


def _is_part(tensor: Tensor) -> bool:
    return tensor.nbytes < tensor.untyped_storage().nbytes()


def _thin(reach: Tensor) -> Tensor:
    """Keep one number along every axis along which all are the same."""
    for axis, step in enumerate(reach.stride()):
        if step == 0:
            reach = reach.narrow(axis, 0, 1)
    return reach


def _move(func: Any, call: dict, size: Any) -> Any:
    """Numbers change places: so do their columns."""
    if func._schema.name in ("aten::view", "aten::_unsafe_view"):  # columns are not contiguous
        return _reshape(call["self"], list(size))
    return func(*call.values())


def _reshape(reach: Tensor, size: list[int]) -> Tensor:
    """Reshape without writing out axes along which nothing varies, at both ends if they stay."""
    common = min(reach.ndim, len(size))
    for axes in (range(common), range(-1, -common - 1, -1)):
        for axis in axes:
            if reach.shape[axis] != size[axis]:
                break
            if reach.stride(axis) == 0:
                reach, size[axis] = reach.narrow(axis, 0, 1), 1
    return reach.reshape(size)


def _meet(func: Any, call: dict, size: Any) -> Tensor:
    """Numbers at the same place meet."""
    reaches = [_thin(reach) for reach in tensors(call)]
    for reach in reaches[1:]:
        reaches[0] = torch.maximum(reaches[0], reach)
    return reaches[0]


def _join(func: Any, call: dict, size: Any) -> Tensor:
    axis, parts = call.get("dim", 0) % len(size), [_thin(part) for part in call["tensors"]]
    shape = torch.broadcast_shapes(*(part.narrow(axis, 0, 1).shape for part in parts))
    spans = [part.shape[axis] for part in call["tensors"]]
    return torch.cat(
        [
            part.expand(*shape[:axis], span, *shape[axis + 1 :])
            for part, span in zip(parts, spans, strict=True)
        ],
        axis,
    )


def _copy(func: Any, call: dict, size: Any) -> Tensor:
    return call["src"]


def _keep(func: Any, call: dict, size: Any) -> Tensor:
    """Statistics do not count."""
    return call["input"]


def _reduce(func: Any, call: dict, size: Any) -> Tensor:
    """All numbers along some axes meet."""
    reach, axes = call["self"], call.get("dim")
    axes = range(reach.ndim) if axes in (None, []) else [axes] if isinstance(axes, int) else axes
    return reach.amax(tuple(axes), keepdim=True).reshape(size)


def _along(func: Any, call: dict, size: Any) -> Tensor:
    return _thin(call["self"]).amax(call["dim"], keepdim=True)


def _product(func: Any, call: dict, size: Any) -> Tensor:
    """A row of the left matrix meets a column of the right one."""
    *bias, left, right = (_thin(reach) for reach in tensors(call))
    product = torch.maximum(left.amax(-1, keepdim=True), right.amax(-2, keepdim=True))
    return torch.maximum(product, bias[0]) if bias else product


def _attention(func: Any, call: dict, size: Any) -> Tensor:
    """Every token meets all of them."""
    query, key, value = (
        _thin(call[name]).amax(-1, keepdim=True) for name in ("query", "key", "value")
    )
    return torch.maximum(query, torch.maximum(key, value).amax(-2, keepdim=True))


def _windows(
    reach: Tensor, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any = 1
) -> Tensor:
    """All numbers in a window meet; windows may hang over the border, where there is nothing."""
    for axis in (-2, -1):
        k, s, p, d = (
            value if isinstance(value, int) else value[min(axis + 2, len(value) - 1)]
            for value in (kernel, stride, padding, dilation)
        )
        if reach.shape[axis] > 1:  # else nothing varies along it
            covered = (size[axis] - 1) * s + d * (k - 1) + 1
            margins = (p, covered - p - reach.shape[axis])
            shape, steps, rates = ((v, 1) if axis == -2 else (1, v) for v in (k, s, d))
            reach = _surround(reach, axis, margins)
            reach = F.max_pool2d(reach, shape, steps, 0, rates)
    return reach


def _surround(reach: Tensor, axis: int, margins: tuple[int, int]) -> Tensor:
    return F.pad(reach, margins if axis == -1 else (0, 0, *margins), value=_NOTHING)


def _convolution(func: Any, call: dict, size: Any) -> Tensor:
    reach, kernel, groups = call["input"], call["weight"].shape[2:], call["groups"]
    stride, padding, dilation = call["stride"], call["padding"], call["dilation"]
    if len(kernel) != 2:
        raise ValueError(f"cannot follow pixels through a convolution in {len(kernel)} dimensions")
    reach = _thin(reach.unflatten(1, (groups, -1))).amax(2)  # (N, groups, H, W)
    if call["transposed"]:  # numbers move apart by the stride, then a convolution fills the gaps
        reach = _apart(_apart(reach, -2, stride[0]), -1, stride[-1])
        padding = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        stride = 1
    reach = _windows(reach, size, kernel, stride, padding, dilation)
    return reach if reach.shape[1] == 1 else reach.repeat_interleave(size[1] // groups, 1)


def _apart(reach: Tensor, axis: int, stride: int) -> Tensor:
    """Put stride - 1 numbers that see nothing behind each."""
    if reach.shape[axis] == 1:
        return reach
    gaps = torch.full_like(reach, _NOTHING)
    return torch.stack([reach, *[gaps] * (stride - 1)], axis % 4 + 1).flatten(
        axis % 4, axis % 4 + 1
    )


def _pooling(func: Any, call: dict, size: Any) -> Tensor:
    kernel = call["kernel_size"]
    stride, padding = call.get("stride") or kernel, call.get("padding", 0)
    return _windows(_thin(call["self"]), size, kernel, stride, padding, call.get("dilation", 1))


def _adaptive(func: Any, call: dict, size: Any) -> Tensor:
    """The windows grow with the image: a unit sees a share of it, however large it is."""
    return call["self"] if call["self"].shape == size else torch.tensor(math.inf)


def _unpool(func: Any, call: dict, size: Any) -> Tensor:
    """A maximum may go to any place of its window."""
    reach = torch.maximum(_thin(call["self"]), _thin(call["indices"]))
    for axis in (-2, -1):
        if reach.shape[axis] > 1:
            places = torch.arange(size[axis]) * reach.shape[axis] // size[axis]
            reach = reach.index_select(axis, places)
    return reach


def _pad(func: Any, call: dict, size: Any) -> Tensor:
    reach, margins = _thin(call["self"]), call["pad"]
    for k in range(0, len(margins), 2):
        if reach.shape[-1 - k // 2] > 1:
            reach = F.pad(reach, (*[0] * k, *margins[k : k + 2]), value=_NOTHING)
    return reach


def _enlarge(func: Any, call: dict, size: Any) -> Tensor:
    """Interpolation: the two nearest numbers along each axis meet; four if it is bicubic."""
    reach, name = _thin(next(tensors(call))), func._schema.name
    scales = call.get("scale_factors") or (call.get("scales_h"), call.get("scales_w"))
    for axis, scale in zip((-2, -1), scales, strict=True):
        old, new = reach.shape[axis], size[axis]
        if old == 1:
            continue
        step = 1 / scale if scale else old / new
        places = torch.arange(new, dtype=torch.double)
        if "nearest" in name:
            taps = [(places + 0.5) * step if "exact" in name else places * step]
        else:
            corners = call["align_corners"]
            at = places * ((old - 1) / max(new - 1, 1)) if corners else (places + 0.5) * step - 0.5
            if "bilinear" in name:
                at = at.clamp(min=0)
            taps = [at, (at - 1e-9).ceil()]
            if "bicubic" in name:
                taps += [at.floor() - 1, at.floor() + 2]
        columns = [(tap + 1e-9).floor().long().clamp(0, old - 1) for tap in taps]
        reach = torch.stack([reach.index_select(axis, column) for column in columns]).amax(0)
    return reach


def _nothing(func: Any, call: dict, size: Any) -> Tensor:
    return torch.tensor(_NOTHING)


_RULES: dict[str, Any] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "max_unpool2d": _unpool,
    "constant_pad_nd": _pad,
    "cat": _join,
    "copy": _copy,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _product),
    **dict.fromkeys(("_softmax", "_log_softmax"), _along),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "logsumexp"), _reduce),
    **dict.fromkeys(("batch_norm", "native_layer_norm", "native_group_norm"), _keep),
    **dict.fromkeys(("hardswish", "_prelu_kernel", "_to_copy"), _meet),
    **dict.fromkeys(
        (
            "upsample_nearest2d",
            "_upsample_nearest_exact2d",
            "upsample_bilinear2d",
            "upsample_bicubic2d",
        ),
        _enlarge,
    ),
    **dict.fromkeys(
        (
            "stack",
            "roll",
            "flip",
            "repeat",
            "pixel_shuffle",
            "pixel_unshuffle",
            "reflection_pad2d",
            "replication_pad2d",
            "_unsafe_view",
        ),
        _move,
    ),
}
