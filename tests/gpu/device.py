"""A second device for machines without a GPU, on which a tensor in the wrong place shows.

Its memory is the CPU's memory and its arithmetic the CPU's arithmetic, but as on a GPU tensors
of the two devices do not mix, NumPy cannot look inside, and a generator of the CPU does not serve
here. Importing this module registers it with torch, as hardware makers register theirs.
"""

from functools import partial

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretended"


class _Module(_DummyBackendModule):
    """What torch asks a device for; its arithmetic is in float32."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float32]


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
DEVICE = torch.device(NAME, 0)

_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_SET = torch.ops.aten.set_.source_Storage_storage_offset
# Storage of this device, by its address -> that storage, weakly, and the CPU's storage beneath it.
_beneath: dict[int, tuple[StorageWeakRef, torch.UntypedStorage]] = {}

_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


def _compute(op, *args, **kwargs):
    """Compute any operation on the CPU's view of this device's memory."""
    name = op._schema.name
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if name in _INDEXING and args[0].device == DEVICE:  # the indices may be on the CPU
        tensors = [args[0], *args[2:3]]
    ours = [x for x in tensors if x.device == DEVICE]
    strangers = [x for x in tensors if x.device != DEVICE and x.ndim > 0]
    if ours and strangers:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {name} got "
            + ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
        )
    lowered: dict[int, tuple[Tensor, Tensor]] = {}  # address of a view -> it, what it is a view of

    def lower(x):
        if isinstance(x, torch.Generator):
            raise RuntimeError(f"Expected a {NAME!r} generator, but {name} got one of {x.device}")
        if isinstance(x, Tensor) and x.device == DEVICE:
            view = _view(x)
            lowered[id(view)] = view, x
            return view
        return torch.device("cpu") if isinstance(x, torch.device) else x

    def lift(x):
        if not isinstance(x, Tensor):
            return x
        if id(x) in lowered:
            return lowered[id(x)][1]
        # In inference mode a part of an ordinary tensor is an ordinary tensor.
        part = x.untyped_storage()._cdata in ordinary
        with torch.inference_mode(torch.is_inference_mode_enabled() and not part):
            new = torch._C._acc.create_empty_tensor([0], x.dtype)
        return _lay(new, x, storages)

    args, kwargs = pytree.tree_map(lower, (args, kwargs))
    storages = {view.untyped_storage()._cdata: x.untyped_storage() for view, x in lowered.values()}
    ordinary = {
        view.untyped_storage()._cdata for view, x in lowered.values() if not x.is_inference()
    }
    result = op(*args, **kwargs)
    for view, x in lowered.values():
        if view.shape != x.shape or view.stride() != x.stride():  # an output was resized
            _lay(x, view, {})
    return pytree.tree_map(lift, result)


def _convolution(*args):
    return _compute(torch.ops.aten.convolution.default, *args)


def _convolution_backward(gradient, images, weight, *args):
    backward = torch.ops.aten.convolution_backward.default
    return _compute(backward, gradient, images, weight, [gradient.shape[1]], *args)


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Copy within the device, to it, or from it."""
    source, view = (_view(x) if x.device == DEVICE else x for x in (source, target))
    view.copy_(source)
    return target


def _view(tensor: Tensor) -> Tensor:
    """Return the CPU's view of a tensor of this device."""
    _, storage = _beneath[tensor.untyped_storage()._cdata]
    place = tensor.storage_offset(), tensor.shape, tensor.stride()
    return torch.empty(0, dtype=tensor.dtype).set_(storage, *place)


def _lay(tensor: Tensor, view: Tensor, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    """Put a tensor of this device where a tensor of the CPU lies, in a storage given or new."""
    beneath = view.untyped_storage()
    storage = storages.get(beneath._cdata) or _storage(beneath)
    place = view.storage_offset(), view.shape, view.stride()
    return _SET.redispatch(_CPU, tensor, storage, *place)


def _storage(beneath: torch.UntypedStorage) -> torch.UntypedStorage:
    """Return a new storage of this device on memory of the CPU."""
    memory = beneath.data_ptr(), DEVICE, beneath.nbytes()
    storage = torch._C._construct_storage_from_data_pointer(*memory)
    if not len(_beneath) % 16:  # at times, look what may be forgotten
        for address in [a for a, (alive, _) in _beneath.items() if alive.expired()]:
            del _beneath[address]
    _beneath[storage._cdata] = StorageWeakRef(storage), beneath
    return storage


def _whole(tensor: Tensor, storage: torch.UntypedStorage) -> Tensor:
    """Let a tensor be all of a storage: what saving a model does."""
    return _SET.redispatch(_CPU, tensor, storage, 0, [storage.nbytes() // tensor.itemsize], [1])


def _clone(storage: torch.UntypedStorage, on_cpu=torch.UntypedStorage.clone):
    """Copy a storage: what deepcopy calls for a buffer."""
    if storage.device != DEVICE:
        return on_cpu(storage)
    return _storage(on_cpu(_beneath[storage._cdata][1]))


torch.UntypedStorage.clone = _clone
_everything = torch.library.Library("_", "IMPL")
_everything.fallback(_compute, "PrivateUse1")
_aten = torch.library.Library("aten", "IMPL")
_aten.impl("_copy_from", _copy, "PrivateUse1")
_aten.impl("set_.source_Storage_storage_offset", partial(_SET.redispatch, _CPU), "PrivateUse1")
_aten.impl("set_.source_Storage", _whole, "PrivateUse1")
_aten.impl("convolution_overrideable", _convolution, "PrivateUse1")
_aten.impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")


def pretend(put=setattr) -> None:
    """Let the package take this device for the GPU; `put` may be monkeypatch.setattr."""
    from seglab import runtime

    put(runtime, "device", lambda: DEVICE)
    put(runtime, "autocast_dtype", lambda where: torch.float32)
